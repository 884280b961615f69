"""`ryzanstein-llm doctor`: what it finds, what it advises, and how it says so."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kernels.table_copy import TableCopy, entries

import ryzanstein_llm.diagnosis as diagnosis
from ryzanstein_llm.cli import main
from ryzanstein_llm.diagnosis import speed
from ryzanstein_llm.diagnosis.advice import advise
from ryzanstein_llm.diagnosis.load import Load
from ryzanstein_llm.diagnosis.machine import cache_bytes, huge_pages, openmp_runtimes
from ryzanstein_llm.diagnosis.packed import packed_files
from ryzanstein_llm.kernels import cpu
from ryzanstein_llm.system.memory import memory_limit
from ryzanstein_llm.system.threads import choose_threads
from ryzanstein_llm.testing import make_checkpoint

SPREAD = {"median": 40e9, "low": 39e9, "high": 41e9}
CACHE = {"directory": "/c", "files": {"current": 1}, "nbytes": 5, "writable": True, "free": 9}

WELL: dict[str, Any] = {
    "cpu": {
        "name": "AMD EPYC", "cache_bytes": 32 << 20, "features": ["avx2", "f16c"], "tier": "avx2",
        "reason": "the best of this build", "available_tiers": ["avx2", "scalar"],
        "compiled_tiers": ["avx2", "scalar"], "os": "Linux-6.1", "python": "3.12.1",
        "version": "2.1.0",
    },
    "threads": {
        "count": 4, "reason": "4 physical cores", "affinity": 8, "quota": None, "physical_cores": 4,
        "requested": False, "oversubscribed": False, "environment": {},
    },
    "memory": {"nbytes": 16 << 30, "swap": 0, "source": "this machine"},
    "huge_pages": {"mode": "madvise", "in_use": 5 << 20},
    "openmp": ["/usr/lib/libgomp.so.1"],
    "self_test": [
        {"tier": "avx2", "seconds": 0.05, "kernels": 128, "failing": []},
        {"tier": "scalar", "seconds": 0.0, "kernels": 0, "failing": []},
    ],
    "limits": {"rounds": 5, "by_threads": [{"threads": 4, "read": SPREAD, "multiply": SPREAD}]},
    "load": {"seconds": 4.0, "other_cpus": 0.01, "stolen_cpus": 0.0},
    "cache": CACHE,
    "model": None,
    "advice": [],
}  # fmt: skip


def changed(**parts: Any) -> dict[str, Any]:
    """WELL with some parts; a dict changes only its own keys."""
    return WELL | {
        name: WELL[name] | part if isinstance(part, dict) and WELL[name] is not None else part
        for name, part in parts.items()
    }


def advice(**parts: Any) -> list[tuple[str, str]]:
    return [(one.problem, one.remedy) for one in advise(changed(**parts))]


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Any:
    """What `doctor` prints for findings, with its exit code."""
    monkeypatch.setattr(shutil, "get_terminal_size", lambda: os.terminal_size((80, 24)))

    def say(found: dict[str, Any], *arguments: str) -> tuple[int, str]:
        monkeypatch.setattr(diagnosis, "diagnose", lambda *args, **given: found)
        code = main(["doctor", *arguments])
        return code, capsys.readouterr().out

    return say


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Short measurements, whose figures mean nothing."""
    monkeypatch.setattr(speed, "READ_BYTES", 4 << 20)
    monkeypatch.setattr(speed, "LIMIT_SECONDS", 0.002)
    monkeypatch.setattr(speed, "ROUNDS", 2)
    monkeypatch.setattr(speed, "PROMPT", 16)


class TestAdvice:
    def test_none_where_all_is_well(self) -> None:
        assert advice() == []

    def test_broken_kernels_come_first_and_name_a_tier_that_works(self) -> None:
        tests = [
            {"tier": "avx512vnni", "seconds": 1, "kernels": 9, "failing": ["rope of 128 columns"]},
            *WELL["self_test"],
        ]
        (problem, remedy), *_ = advice(self_test=tests, load={"other_cpus": 2.0})
        assert problem == "kernels of avx512vnni give wrong results here: rope of 128 columns"
        assert remedy.startswith("export RYZANSTEIN_ISA=avx2;")

    def test_a_forced_tier_that_is_not_the_best(self) -> None:
        assert advice(cpu={"tier": "scalar"}) == [
            ("scalar is in use, and this CPU can run avx2", "unset RYZANSTEIN_ISA")
        ]

    def test_a_cpu_without_vectors(self) -> None:
        ((problem, _),) = advice(cpu={"tier": "scalar", "available_tiers": ["scalar"]})
        assert "portable C is slow" in problem

    def test_threads_that_wait_for_each_other(self) -> None:
        ((problem, _),) = advice(threads={"oversubscribed": True, "reason": "OMP_NUM_THREADS=4"})
        assert problem == "4 threads (OMP_NUM_THREADS=4) wait for each other's CPU time"

    def test_cores_left_idle(self) -> None:
        threads = {"count": 1, "environment": {"OMP_NUM_THREADS": "1"}}
        ((problem, remedy),) = advice(threads=threads)
        assert problem == "OMP_NUM_THREADS=1 leaves cores idle: there are 4"
        assert remedy == "unset OMP_NUM_THREADS"

    @pytest.mark.parametrize(
        "variables", [{"OMP_WAIT_POLICY": "active"}, {"GOMP_SPINCOUNT": "INFINITY"}]
    )
    def test_threads_that_spin_for_ever(self, variables: dict[str, str]) -> None:
        ((problem, _),) = advice(threads={"environment": variables})
        assert "spin for ever" in problem

    def test_several_openmp_runtimes(self) -> None:
        ((problem, _),) = advice(openmp=["/a/libgomp.so.1", "/b/libiomp5.so"])
        assert problem.startswith("this process has 2 OpenMP runtimes")

    def test_no_huge_pages(self) -> None:
        ((_, remedy),) = advice(huge_pages={"mode": "never"})
        assert remedy.startswith("echo madvise")

    def test_no_cache_of_packed_weights(self) -> None:
        ((problem, _),) = advice(cache=None)
        assert problem.startswith("the packed cache is off")
        ((problem, _),) = advice(cache={"writable": False})
        assert problem == "packed weights cannot be kept: /c cannot be written"

    def test_packed_weights_of_no_use(self) -> None:
        ((problem, remedy),) = advice(cache={"files": {"current": 1, "orphaned": 2}})
        assert problem.endswith("some are of no use: 2 orphaned")
        assert "cache clear" in remedy

    def test_noise_is_said(self) -> None:
        noisy = {"median": 1.0, "low": 0.5, "high": 1.5}
        found = advice(
            load={"other_cpus": 1.2, "stolen_cpus": 0.5},
            limits={"by_threads": [{"threads": 4, "read": noisy, "multiply": SPREAD}]},
        )
        assert [problem.split(":")[0] for problem, _ in found] == [
            "other processes kept 1.2 CPUs busy",
            "the hypervisor gave 0.5 CPUs to other machines meanwhile",
            "the limits differ by 100% from round to round",
        ]

    def test_nothing_is_said_of_what_is_not_known(self) -> None:
        unknown = {"other_cpus": None, "stolen_cpus": None}
        assert advice(huge_pages=None, openmp=None, memory=None, load=unknown) == []


class TestMachine:
    def test_a_system_without_proc_and_sys(self, tmp_path: Path) -> None:
        assert huge_pages(tmp_path) is None
        assert openmp_runtimes(tmp_path) is None
        assert cache_bytes(tmp_path) is None
        load = Load(tmp_path).since()
        assert load["seconds"] > 0
        assert (load["other_cpus"], load["stolen_cpus"]) == (None, None)

    def test_huge_pages(self, tmp_path: Path) -> None:
        folder = tmp_path / "sys/kernel/mm/transparent_hugepage"
        folder.mkdir(parents=True)
        (folder / "enabled").write_text("always [madvise] never\n")
        assert huge_pages(tmp_path) == {"mode": "madvise", "in_use": None}
        (tmp_path / "proc").mkdir()
        (tmp_path / "proc/meminfo").write_text("MemTotal: 5 kB\nAnonHugePages:   2048 kB\n")
        assert huge_pages(tmp_path) == {"mode": "madvise", "in_use": 2 << 20}

    def test_openmp_runtimes_each_once(self, tmp_path: Path) -> None:
        (tmp_path / "proc/self").mkdir(parents=True)
        (tmp_path / "proc/self/maps").write_text(
            "7f0-7f1 r--p 00000000 08:01 1   /usr/lib/libgomp.so.1.0.0\n"
            "7f1-7f2 r-xp 00001000 08:01 1   /usr/lib/libgomp.so.1.0.0\n"
            "7f3-7f4 rw-p 00000000 00:00 0 \n"
            "7f5-7f6 r-xp 00000000 08:01 2   /opt/my torch/lib/libiomp5.so\n"
            "7f7-7f8 r-xp 00000000 08:01 3   /x/ryzanstein_llm.libs/libgomp-24e2ab19.so.1.0.0\n"
            "7f9-7fa r-xp 00000000 08:01 4   /usr/lib/libgompertz.txt\n"
        )
        assert openmp_runtimes(tmp_path) == [
            "/usr/lib/libgomp.so.1.0.0",
            "/opt/my torch/lib/libiomp5.so",
            "/x/ryzanstein_llm.libs/libgomp-24e2ab19.so.1.0.0",
        ]

    def test_the_largest_cache(self, tmp_path: Path) -> None:
        for index, size in enumerate(("48K", "1024K", "32M", "?")):
            file = tmp_path / f"sys/devices/system/cpu/cpu0/cache/index{index}/size"
            file.parent.mkdir(parents=True)
            file.write_text(f"{size}\n")
        assert cache_bytes(tmp_path) == 32 << 20

    def test_other_processes_are_told_from_this_one(self, tmp_path: Path) -> None:
        stat = tmp_path / "proc/stat"
        stat.parent.mkdir()
        stat.write_text("cpu  100 0 50 900 0 0 0 0 0 0\n")
        load = Load(tmp_path)
        ticks = os.sysconf("SC_CLK_TCK")
        stat.write_text(f"cpu  {100 + 30 * ticks} 0 50 900 0 0 0 {6 * ticks} 0 0\n")
        found = load.since()
        assert found["other_cpus"] == pytest.approx(30 / found["seconds"], rel=0.05)
        assert found["stolen_cpus"] == pytest.approx(6 / found["seconds"], rel=0.05)

    def test_packed_files(self, tmp_path: Path) -> None:
        assert packed_files(None) is None
        found = packed_files(tmp_path / "not" / "there")
        assert found is not None
        assert (found["files"], found["nbytes"], found["writable"]) == ({}, 0, True)


class TestReport:
    def test_all_is_well(self, said: Any) -> None:
        code, text = said(WELL)
        assert code == 0
        assert text.endswith("\n\nNothing to mend.\n")
        titles = [line for line in text.splitlines() if line and line[0] != " "]
        assert titles == [
            "machine", "threads", "memory", "self-test", "limits", "Nothing to mend.",
        ]  # fmt: skip
        assert "  tier            avx2: the best of this build\n" in text
        assert "  count           4: 4 physical cores\n" in text
        assert "  4 threads       reads 40.0 (39.0 to 41.0) GB/s, multiplies 40.0" in text
        assert all(len(line) <= 80 for line in text.splitlines())

    def test_of_a_system_that_says_little(self, said: Any) -> None:
        unknown = {"seconds": 1.0, "other_cpus": None, "stolen_cpus": None}
        found = WELL | {
            "memory": None, "huge_pages": None, "openmp": None, "cache": None, "load": unknown,
        }  # fmt: skip
        code, text = said(found)
        assert code == 0
        assert "packed cache    off\n" in text
        assert "None" not in text

    def test_of_a_model(self, said: Any) -> None:
        rate, limit, share = (
            {"median": m, "low": m * 0.9, "high": m * 1.1} for m in (30.0, 40.0, 0.75)
        )
        figures = {"rate": rate, "limit": limit, "share": share}
        model = {
            "path": "/m", "family": "bitnet", "parameters": 2_410_000_000, "threads": 2,
            "threads_reason": "2 physical cores", "weight_format": "1.6bit", "kv_dtype": "bfloat16",
            "packed_file": "/c/x", "load_seconds": 0.2, "weight_bytes": 1_300_000_000,
            "in_memory": None, "rounds": 1,
            "decode": {"bytes_per_token": 548e6, **figures},
            "prompt": {"tokens": 128, "multiply_adds_per_token": 2_084_000_000, **figures},
        }  # fmt: skip
        _, text = said(WELL | {"model": model})
        words = " ".join(text.split())
        assert "bitnet, 2.41 billion parameters" in words
        assert (
            "30.0 (27.0 to 33.0) tokens/s, 75% of the 40.0 that this machine allows if it reads "
            "548 MB for each"
        ) in words
        assert "caches" not in words
        assert "of 1 round, each with limits of its own" in words
        small = model | {"weight_bytes": 4 << 20}
        assert "its weights fit the CPU's caches" in " ".join(
            said(WELL | {"model": small})[1].split()
        )
        embedding = model | {"decode": None, "prompt": None}
        assert "not measured: it embeds texts" in said(WELL | {"model": embedding})[1]

    def test_advice_has_a_number_and_a_command(self, said: Any) -> None:
        _, text = said(WELL | {"advice": [{"problem": "too slow", "remedy": "run faster"}]})
        assert text.endswith("what could be better\n  1. too slow\n       run faster\n")

    def test_the_exit_code_is_1_if_a_kernel_is_wrong(self, said: Any) -> None:
        tests = [{"tier": "avx2", "seconds": 1, "kernels": 9, "failing": ["exp"]}]
        code, text = said(WELL | {"self_test": tests})
        assert code == 1
        assert "avx2            WRONG RESULTS: exp\n" in text
        assert said(WELL | {"self_test": tests}, "--json")[0] == 1

    def test_json_is_what_was_found(self, said: Any) -> None:
        code, text = said(WELL, "--json")
        assert (code, json.loads(text)) == (0, WELL)


class TestArguments:
    @pytest.fixture
    def asked(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
        found: list[Any] = []
        monkeypatch.setattr(
            diagnosis, "diagnose", lambda *args, **given: found.append((*args, given)) or WELL
        )
        return found

    def test_defaults(self, asked: list[Any]) -> None:
        assert main(["doctor"]) == 0
        ((path, given),) = asked
        assert path is None
        assert given.pop("progress")
        assert given == {
            "with_model": False, "n_threads": None, "kv_dtype": None, "weight_format": None,
            "packed_cache": True,
        }  # fmt: skip

    def test_options_of_a_model(self, asked: list[Any]) -> None:
        line = "doctor dir -t 3 --kv-dtype int8 --weight-format 2bit --no-cache"
        assert main(line.split()) == 0
        ((path, given),) = asked
        del given["progress"]
        assert (path, given) == (
            "dir",
            {
                "with_model": True, "n_threads": 3, "kv_dtype": "int8", "weight_format": "2bit",
                "packed_cache": False,
            },
        )  # fmt: skip

    def test_demo_is_the_built_in_model(self, asked: list[Any]) -> None:
        main(["doctor", ":demo:"])
        assert (asked[0][0], asked[0][1]["with_model"]) == (None, True)

    def test_without_its_colons_it_is_a_path(
        self, asked: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
    ) -> None:
        monkeypatch.chdir(tmp_path)
        assert main(["doctor", "demo"]) == 2
        assert "the built-in demo model is :demo:" in capsys.readouterr().err
        Path("demo").mkdir()
        assert main(["doctor", "demo"]) == 0
        assert asked[0][0] == "demo"

    @pytest.mark.parametrize("option", ["--kv-dtype int8", "--weight-format 2bit", "--revision x"])
    def test_options_of_a_model_need_one(
        self, option: str, asked: list[Any], capsys: pytest.CaptureFixture[str]
    ) -> None:
        assert main(["doctor", *option.split()]) == 2
        assert f"{option.split()[0]} needs MODEL" in capsys.readouterr().err
        assert asked == []


@pytest.mark.usefixtures("quick")
class TestTogether:
    def test_this_machine(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["doctor", "--json", "-t", "1"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found.keys() == WELL.keys()
        for name in ("cpu", "threads", "load", "cache"):
            assert found[name].keys() == WELL[name].keys()
        assert found["cpu"]["tier"] == cpu.current_tier()
        assert [test["tier"] for test in found["self_test"]] == cpu.available_tiers()
        assert all(test["failing"] == [] for test in found["self_test"])
        limit = memory_limit()
        assert found["memory"]["nbytes"] == (limit and limit.nbytes)
        assert found["threads"]["affinity"] == choose_threads().affinity
        (row,) = found["limits"]["by_threads"]
        assert row["threads"] == 1
        for kind in ("read", "multiply"):
            assert 0 < row[kind]["low"] <= row[kind]["median"] <= row[kind]["high"]

    def test_the_demo_model(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["doctor", ":demo:", "--json"]) == 0
        model = json.loads(capsys.readouterr().out)["model"]
        assert (model["family"], model["threads"]) == ("bitnet", 1)
        for part in ("decode", "prompt"):
            for kind in ("rate", "limit", "share"):
                spread = model[part][kind]
                assert 0 < spread["low"] <= spread["median"] <= spread["high"]
        assert 1e6 < model["decode"]["bytes_per_token"] < model["weight_bytes"]
        assert main(["doctor", ":demo:"]) == 0
        assert "\nmodel\n" in capsys.readouterr().out

    def test_a_model_with_a_short_context_is_not_measured(
        self, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        make_checkpoint(tmp_path / "model", "tiny")
        config = tmp_path / "model" / "config.json"
        values = json.loads(config.read_text()) | {"max_position_embeddings": 40}
        config.write_text(json.dumps(values))
        assert main(["doctor", str(tmp_path / "model"), "--json"]) == 0
        assert json.loads(capsys.readouterr().out)["model"]["decode"] is None

    def test_a_broken_kernel_is_named_and_no_model_is_opened(
        self, capsys: pytest.CaptureFixture[str]
    ) -> None:
        def wrap(original: Any) -> Any:
            return lambda x, heads, head_dim, cosine, sine: None

        table = TableCopy(cpu.current_tier())
        table.replace(entries()["rope"], 0, wrap)
        with table.in_use():
            assert main(["doctor", ":demo:", "--json"]) == 1
        found = json.loads(capsys.readouterr().out)
        assert found["model"] is None
        failing = {test["tier"]: test["failing"] for test in found["self_test"]}
        assert failing.pop(cpu.current_tier()) == ["rope of 128 columns", "rope of 82 columns"]
        assert not any(failing.values())
        assert "give wrong results here" in found["advice"][0]["problem"]

    def test_a_path_that_does_not_exist(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["doctor", "/nowhere"]) == 2
        assert "/nowhere" in capsys.readouterr().err
