"""How much memory a process can have, and refusing what cannot fit."""

from __future__ import annotations

import json
import logging
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from reference import write_random_checkpoint, write_random_family

import ryzanstein_llm
from ryzanstein_llm import BitNetModel, MemoryLimit, memory_limit
from ryzanstein_llm.errors import CacheBudgetError, MemoryLimitError
from ryzanstein_llm.interfaces.kv_layout import KVLayout
from ryzanstein_llm.models import room
from ryzanstein_llm.system import memory

MB = 1 << 20
V2 = "31 23 0:28 / /sys/fs/cgroup rw,relatime - cgroup2 cgroup2 rw\n"
V1 = "32 31 0:29 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
NO_V1_LIMIT = 9223372036854771712


class Tree:
    """A machine of files, with `MemTotal` 1000 MiB and no limit."""

    def __init__(self, root: Path, swap: int = 0) -> None:
        self.root = root
        kib = 1024
        self.write("proc/meminfo", f"MemTotal: {1000 * kib} kB\nSwapTotal: {swap * kib} kB\n")

    def write(self, name: str, text: object) -> Tree:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}\n")
        return self

    def v2(self, group: str, **limits: object) -> Tree:
        """The process is in `group`; limits by directory (`_` stands for `/`)."""
        self.write("proc/self/mountinfo", V2).write("proc/self/cgroup", f"0::{group}")
        for place, limit in limits.items():
            name = place.replace("_", "/").strip("/")
            self.write(f"sys/fs/cgroup/{name}/memory.max", limit)
        return self

    def limit(self) -> MemoryLimit:
        found = memory_limit(self.root)
        assert found is not None
        return found


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


class TestLimit:
    def test_without_groups_it_is_the_machine(self, tree: Tree) -> None:
        assert tree.limit() == MemoryLimit(1000 * MB, 0, "this machine")

    def test_swap_comes_on_top(self, tmp_path: Path) -> None:
        limit = Tree(tmp_path, swap=300).limit()
        assert (limit.nbytes, limit.swap, limit.total) == (1000 * MB, 300 * MB, 1300 * MB)

    def test_of_version_2(self, tree: Tree) -> None:
        tree.v2("/a/b", a_b=200 * MB, a="max")
        assert tree.limit() == MemoryLimit(200 * MB, 0, "/sys/fs/cgroup/a/b/memory.max")

    def test_of_nested_groups_the_tightest_counts(self, tree: Tree) -> None:
        tree.v2("/a/b", a_b=200 * MB, a=100 * MB)
        assert tree.limit() == MemoryLimit(100 * MB, 0, "/sys/fs/cgroup/a/memory.max")

    def test_a_group_larger_than_the_machine_is_no_limit(self, tree: Tree) -> None:
        assert tree.v2("/a", a=5000 * MB).limit().source == "this machine"

    @pytest.mark.parametrize(
        ("allowed", "swap"), [(0, 0), (50 * MB, 50), ("max", 300), (None, 300)]
    )
    def test_swap_of_a_group_of_version_2(self, allowed: object, swap: int, tmp_path: Path) -> None:
        tree = Tree(tmp_path, swap=300).v2("/a", a=200 * MB)
        if allowed is not None:
            tree.write("sys/fs/cgroup/a/memory.swap.max", allowed)
        assert (tree.limit().nbytes, tree.limit().swap) == (200 * MB, swap * MB)

    def test_of_version_1(self, tree: Tree) -> None:
        tree.write("proc/self/mountinfo", V1).write("proc/self/cgroup", "4:memory:/x/y")
        place = "sys/fs/cgroup/memory"
        tree.write(f"{place}/x/y/memory.limit_in_bytes", NO_V1_LIMIT)
        tree.write(f"{place}/x/memory.limit_in_bytes", 300 * MB)
        expected = MemoryLimit(300 * MB, 0, f"/{place}/x/memory.limit_in_bytes")
        assert tree.limit() == expected

    def test_swap_of_a_group_of_version_1(self, tmp_path: Path) -> None:
        tree = Tree(tmp_path, swap=300)
        tree.write("proc/self/mountinfo", V1).write("proc/self/cgroup", "4:memory:/x")
        place = "sys/fs/cgroup/memory/x"
        tree.write(f"{place}/memory.limit_in_bytes", 200 * MB)
        assert tree.limit().swap == 300 * MB
        tree.write(f"{place}/memory.memsw.limit_in_bytes", 220 * MB)
        assert tree.limit().swap == 20 * MB
        tree.write(f"{place}/memory.memsw.limit_in_bytes", NO_V1_LIMIT)
        assert tree.limit().swap == 300 * MB

    def test_of_both_versions(self, tree: Tree) -> None:
        mounts = V1 + V2.replace("/sys/fs/cgroup", "/sys/fs/cgroup/unified")
        tree.write("proc/self/mountinfo", mounts)
        tree.write("proc/self/cgroup", "1:memory:/\n0::/u")
        tree.write("sys/fs/cgroup/memory/memory.limit_in_bytes", 500 * MB)
        tree.write("sys/fs/cgroup/unified/u/memory.max", 400 * MB)
        assert tree.limit().nbytes == 400 * MB

    def test_what_cannot_be_understood_is_no_limit(self, tree: Tree) -> None:
        assert tree.v2("/a", a="lots").limit().source == "this machine"

    def test_nothing_known(self, tmp_path: Path) -> None:
        assert memory_limit(tmp_path / "nothing") is None

    @pytest.mark.skipif(not sys.platform.startswith("linux"), reason="sets a limit of Linux")
    @pytest.mark.parametrize("name", ["RLIMIT_AS", "RLIMIT_DATA"])
    def test_of_the_process_itself(self, name: str) -> None:
        code = f"""if True:
            import resource
            from ryzanstein_llm import memory_limit
            resource.setrlimit(resource.{name}, (3 << 30, 3 << 30))
            print(memory_limit("/nowhere"))
        """
        assert python(code) == f"MemoryLimit(nbytes={3 << 30}, swap=0, source='{name}')"


def python(code: str, *arguments: str, before: Any = None) -> str:
    """What Python prints for `code`, in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=True, capture_output=True, text=True, preexec_fn=before,
        cwd=Path(ryzanstein_llm.__file__).parent.parent,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    return done.stdout.strip()


@pytest.fixture
def allow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes the library believe in a limit."""

    def limit(nbytes: int, swap: int = 0) -> None:
        found = MemoryLimit(nbytes, swap, "/sys/fs/cgroup/a/memory.max")
        for module in (room, memory):
            monkeypatch.setattr(module, "memory_limit", lambda: found)

    return limit


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A few megabytes."""
    sizes = {"hidden_size": 512, "intermediate_size": 1536, "num_attention_heads": 8}
    return write_random_checkpoint(tmp_path / "model", **sizes)


def opening(path: Path, **options: Any) -> MemoryLimitError | None:
    """The refusal of a model, if it is refused."""
    try:
        BitNetModel(path, n_threads=1, **options).close()
    except MemoryLimitError as error:
        return error
    return None


class TestRefusal:
    def test_says_what_is_needed_and_what_there_is_and_who_says_so(
        self, checkpoint: Path, allow: Any
    ) -> None:
        allow(500_000)
        error = opening(checkpoint)
        assert error is not None
        assert (error.limit, error.source) == (500_000, "/sys/fs/cgroup/a/memory.max")
        assert error.needed > 1_000_000
        text = str(error)
        assert str(checkpoint) in text
        assert "/sys/fs/cgroup/a/memory.max allows 500 kB; raise that limit" in text

    def test_comes_before_any_weight_is_read(self, checkpoint: Path, allow: Any) -> None:
        seen: list[object] = []
        allow(500_000)
        assert opening(checkpoint, progress=lambda *given: seen.append(given))
        assert seen == []

    def test_what_just_fits_is_not_refused(self, checkpoint: Path, allow: Any) -> None:
        allow(500_000)
        error = opening(checkpoint)
        assert error is not None
        allow(error.needed)
        assert opening(checkpoint) is None
        allow(error.needed - 1)
        assert opening(checkpoint) is not None

    def test_swap_counts(self, checkpoint: Path, allow: Any) -> None:
        allow(500_000)
        error = opening(checkpoint)
        assert error is not None
        allow(500_000, swap=error.needed - 500_000)
        assert opening(checkpoint) is None
        allow(500_000, swap=1_000)
        assert "500 kB and 1.0 kB of swap" in str(opening(checkpoint))

    def test_names_a_format_that_fits(self, checkpoint: Path, allow: Any) -> None:
        allow(500_000)
        errors = [opening(checkpoint, weight_format=name) for name in ("2bit", "1.6bit")]
        large, small = (error.needed for error in errors if error is not None)
        assert small < large
        allow((small + large) // 2)
        assert "weight_format='1.6bit'" in str(opening(checkpoint, weight_format="2bit"))

    def test_keys_and_values_are_not_counted(self, checkpoint: Path, allow: Any) -> None:
        """They grow with the texts, and a short text fits."""
        allow(500_000)
        one, other = (opening(checkpoint, context_length=n) for n in (1, 512))
        assert one is not None
        assert other is not None
        assert one.needed == other.needed

    def test_the_error_is_a_memory_error_and_survives_pickling(
        self, checkpoint: Path, allow: Any
    ) -> None:
        allow(500_000)
        error = opening(checkpoint)
        assert isinstance(error, MemoryError)
        copy = pickle.loads(pickle.dumps(error))
        assert (str(copy), vars(copy)) == (str(error), vars(error))


class TestBudget:
    LAYOUT = KVLayout("bfloat16", 4, 2, 64)

    def test_a_full_context_that_fits_is_the_least(self, allow: Any) -> None:
        allow(1 << 40)
        assert memory.cache_budget(None, self.LAYOUT, 1024) >= 4 * self.LAYOUT.block_bytes

    def test_one_that_does_not_fit_is_cut_with_a_warning(
        self, allow: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        block = self.LAYOUT.block_bytes
        allow(10 * block)
        with caplog.at_level(logging.WARNING, "ryzanstein_llm"):
            assert memory.cache_budget(None, self.LAYOUT, 4096, taken=7 * block) == 3 * block
        (record,) = caplog.records
        assert "4,096 tokens" in record.getMessage()
        assert "texts of more than 768 tokens will be refused" in record.getMessage()

    def test_what_the_user_asked_for_is_obeyed(self, allow: Any) -> None:
        allow(1 << 20)
        assert memory.cache_budget(1 << 30, self.LAYOUT, 4096) == 1 << 30

    def test_a_text_that_cannot_fit_is_refused_before_any_work(
        self, checkpoint: Path, allow: Any
    ) -> None:
        allow(500_000)
        error = opening(checkpoint)
        assert error is not None
        allow(1 << 40)
        with BitNetModel(checkpoint, n_threads=1) as model:
            block = 256 * model.info()["kv_bytes_per_token"]
        allow(error.needed + block)
        with BitNetModel(checkpoint, n_threads=1) as model:
            assert model.generate([5, 6], max_tokens=2, ignore_eos=True, return_result=True).ids
            with pytest.raises(CacheBudgetError):
                model.generate([5] * 400, max_tokens=2, return_result=True)


GROUPS = Path("/sys/fs/cgroup")


@pytest.fixture
def group() -> Iterator[Path]:
    """A real control group that allows 80 MB."""
    own = Path("/proc/self/cgroup")
    lines = own.read_text().splitlines() if own.exists() else []
    memory_of = [line.split(":")[2] for line in lines if line.split(":")[1] == "memory"]
    place = GROUPS / "memory" if memory_of else GROUPS
    folder = place / f"ryzanstein-test-{os.getpid()}"
    try:
        folder.mkdir()
        name = "memory.limit_in_bytes" if memory_of else "memory.max"
        (folder / name).write_text(str(80_000_000))
    except OSError as error:
        if folder.exists():
            folder.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    yield folder
    folder.rmdir()


OPEN = """if True:
    import json, sys
    from ryzanstein_llm import BitNetModel, memory_limit
    from ryzanstein_llm.errors import MemoryLimitError
    cache = sys.argv[2] or False
    try:
        with BitNetModel(sys.argv[1], packed_cache=cache) as model:
            ids = model.generate([5, 6], max_tokens=3, ignore_eos=True, return_result=True).ids
            print(json.dumps(ids))
    except MemoryLimitError as error:
        print(json.dumps([error.needed, error.limit, error.source]))
"""


@pytest.mark.slow
def test_in_a_real_control_group_mapped_weights_fit_that_packed_ones_would_not(
    group: Path, tmp_path: Path
) -> None:
    path, cache = tmp_path / "model", tmp_path / "cache"
    write_random_family(
        path, "llama", "packed", hidden_size=2048, intermediate_size=5632, num_hidden_layers=8,
        num_attention_heads=16, num_key_value_heads=16, vocab_size=1000,
        max_position_embeddings=256,
    )  # fmt: skip

    def enter() -> None:
        (group / "cgroup.procs").write_text(str(os.getpid()))

    needed, limit, source = json.loads(python(OPEN, str(path), "", before=enter))
    assert needed > limit == 80_000_000 // 4096 * 4096
    assert source.startswith(str(group))
    ids = json.loads(python(OPEN, str(path), str(cache)))  # outside: packs and keeps the weights
    assert json.loads(python(OPEN, str(path), str(cache), before=enter)) == ids
    new = tmp_path / "new"  # inside: packed through the file, never all in memory
    assert json.loads(python(OPEN, str(path), str(new), before=enter)) == ids


def test_weights_that_only_fit_in_a_file_are_refused_where_none_can_be_written(
    tmp_path: Path, allow: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ryzanstein_llm.packed_cache.loading.LEAST_BYTES", 1)
    monkeypatch.setattr(room, "LEAST_BYTES", 1)
    path = write_random_checkpoint(tmp_path / "model")
    allow(1)
    error = opening(path, packed_cache=False)
    assert error is not None
    assert "name a directory as packed_cache that this process can write" in str(error)
    allow(error.needed - 1)
    assert opening(path, packed_cache=tmp_path / "cache") is None
    (tmp_path / "file").write_text("where a directory would have to be")
    refused = opening(path, packed_cache=tmp_path / "file" / "cache")
    assert refused is not None
    assert refused.needed == error.needed
