"""Packed weights on disk: the same logits to the bit, whatever lies there; nothing is trusted that
is stale, damaged or somebody else's, and nothing that fails here keeps a model from loading."""

from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import safetensors
from packed_file import Header, logits, only_file, read_parts, write_parts
from small_model import CONFIG, prompt, write_small_model

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import InvalidParameterError
from ryzanstein_llm.formats import Checkpoint, new_file
from ryzanstein_llm.kernels.group_scales import check_group_scales, group_scale_bits
from ryzanstein_llm.kernels.packing import aligned_empty, storage_shape, unpack_scales
from ryzanstein_llm.kernels.ternary_matrix import TernaryMatrix
from ryzanstein_llm.models import matrices
from ryzanstein_llm.packed_cache import cache_directory, checksums, loading
from ryzanstein_llm.packed_cache import file as packed_file
from ryzanstein_llm.testing import make_checkpoint

MATRICES = 7 * CONFIG["num_hidden_layers"]


@pytest.fixture(autouse=True)
def small_models_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "LEAST_BYTES", 1)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A small packed checkpoint."""
    return write_small_model(tmp_path / "model")


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    """A cache directory that is not there yet."""
    return tmp_path / "cache" / "of" / "mine"


@pytest.fixture
def plain(path: Path) -> np.ndarray:
    """Logits without a cache."""
    return logits(path, False)


@pytest.fixture
def packings(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A number for each matrix that is packed from the checkpoint."""
    seen: list[int] = []

    def counting(function: Callable) -> Callable:
        return lambda *arguments: seen.append(len(seen)) or function(*arguments)

    monkeypatch.setattr(matrices, "pack_source", counting(matrices.pack_source))
    monkeypatch.setattr(matrices, "pack_float", counting(matrices.pack_float))
    return seen


# ---- what it is for ----------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["packed", "master"])
@pytest.mark.parametrize("tied", [True, False], ids=["tied", "separate"])
def test_logits_are_those_without_a_cache(tmp_path: Path, cache: Path, form: str, tied: bool):
    config = {**CONFIG, "tie_word_embeddings": tied}
    path = tmp_path / "model"
    make_checkpoint(path, config, form=form, dtype="F32", shards=2, tokenizer=False)
    plain = logits(path, False)
    assert np.array_equal(logits(path, cache), plain)  # packs, writes, and maps
    assert np.array_equal(logits(path, cache), plain)  # maps


def test_the_screened_head_comes_from_the_cache_too(path: Path, cache: Path) -> None:
    options = {"max_tokens": 40, "ignore_eos": True, "return_result": True}
    with BitNetModel(path, packed_cache=False) as model:
        expected = model.generate(prompt(5), **options).ids
    logits(path, cache)
    with BitNetModel(path, packed_cache=cache) as model:
        assert not model.graph.head.screen.blocks.flags.writeable  # a view of the file
        assert model.generate(prompt(5), **options).ids == expected


def test_the_second_load_packs_nothing(path: Path, cache: Path, packings: list[int]) -> None:
    logits(path, cache)
    assert len(packings) == MATRICES
    logits(path, cache)
    assert len(packings) == MATRICES


def test_the_second_load_reads_samples_of_the_packed_tensors_only(path, cache, plain, monkeypatch):
    logits(path, cache)
    monkeypatch.setattr(Checkpoint, "content_digest", lambda self: pytest.fail("reads all bytes"))
    assert np.array_equal(logits(path, cache), plain)


def test_the_first_load_maps_what_it_has_written(path: Path, cache: Path) -> None:
    with BitNetModel(path, packed_cache=cache) as model:
        assert model.packed_file == model.info()["packed_file"] == only_file(cache)
        for layer in model.graph.layers:
            for matrix in layer.matrices:
                assert not matrix.codes.flags.writeable


def test_progress_is_told_once_for_each_matrix(path: Path, cache: Path) -> None:
    for _ in range(2):
        seen: list[int] = []
        with BitNetModel(path, packed_cache=cache, progress=lambda n, total, what: seen.append(n)):  # noqa: B023
            assert seen == list(range(1, MATRICES + 1))


# ---- the file ----------------------------------------------------------------------------------


def test_it_is_a_safetensors_file_with_aligned_tensors(path: Path, cache: Path) -> None:
    logits(path, cache)
    found = only_file(cache)
    header, data = read_parts(found)
    with safetensors.safe_open(found, "numpy") as other:
        names = set(other.keys())
        assert other.metadata() == header.pop("__metadata__")
    assert names == set(header)
    begin = found.stat().st_size - len(data)
    assert begin % 4096 == 0
    ours = {name: entry for name, entry in header.items() if not name.startswith("padding.")}
    assert len(ours) == 2 * MATRICES + 2  # a scale each; the screen and its norms
    for entry in ours.values():
        assert (begin + entry["data_offsets"][0]) % 64 == 0


def test_there_is_one_file_a_checkpoint(path: Path, cache: Path, tmp_path: Path) -> None:
    logits(path, cache)
    logits(path / "model.safetensors", cache)  # the same one by another path
    (tmp_path / "link").symlink_to(path)
    logits(tmp_path / "link", cache)
    assert only_file(cache)
    other = write_small_model(tmp_path / "other", seed=6)
    assert np.array_equal(logits(other, cache), logits(other, False))
    assert len(list(cache.glob("*.packed.safetensors"))) == 2


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
@pytest.mark.parametrize(("given", "expected"), [(0o644, 0o644), (0o600, 0o600), (0o640, 0o600)])
def test_others_may_read_it_if_they_may_read_the_checkpoint(path, cache, given, expected):
    (path / "model.safetensors").chmod(given)
    logits(path, cache)
    mask = os.umask(0)
    os.umask(mask)
    assert stat.S_IMODE(only_file(cache).stat().st_mode) == expected & ~mask
    assert stat.S_IMODE(cache.stat().st_mode) & 0o077 == 0


# ---- when it is not used -----------------------------------------------------------------------


def renewed(path: Path, cache: Path, plain: np.ndarray, packings: list[int]) -> int:
    """Loads, with the right logits; how many matrices were packed. Then all comes from the file."""
    packings.clear()
    assert np.array_equal(logits(path, cache), plain)
    packed = len(packings)
    assert np.array_equal(logits(path, cache), plain)
    assert len(packings) == packed, "not written anew"
    return packed


def cut(count: int) -> Callable[[Path], object]:
    return lambda file: file.write_bytes(file.read_bytes()[:count])


def flip_header(file: Path) -> None:
    raw = bytearray(file.read_bytes())
    raw[20:30] = b"\xff" * 10
    file.write_bytes(raw)


def replace_by_link(file: Path) -> None:
    elsewhere = file.with_name("elsewhere")
    file.rename(elsewhere)
    file.symlink_to(elsewhere)


def replace_by_fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


DAMAGE = {
    "empty": cut(0),
    "only a length": cut(8),
    "cut in the header": cut(100),
    "cut in the data": cut(-1),
    "longer": lambda file: file.write_bytes(file.read_bytes() + bytes(64)),
    "noise": lambda file: file.write_bytes(np.random.default_rng(1).bytes(100_000)),
    "zeros": lambda file: file.write_bytes(bytes(file.stat().st_size)),
    "header overwritten": flip_header,
    "another format": lambda file: file.write_bytes(b"GGUF" + bytes(1000)),
    "a link": replace_by_link,
    "a FIFO": replace_by_fifo,
    "writable by all": lambda file: file.chmod(0o666),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_file_is_written_anew(path, cache, plain, packings, damage, caplog):
    logits(path, cache)
    damage(only_file(cache))
    assert renewed(path, cache, plain, packings) == MATRICES
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert str(only_file(cache)) in record.getMessage()


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="owners as POSIX has them")
def test_a_file_of_another_user_is_written_anew(path, cache, plain, packings, caplog, monkeypatch):
    logits(path, cache)
    if os.geteuid() == 0:
        os.chown(only_file(cache), 65534, -1)
        assert renewed(path, cache, plain, packings) == MATRICES
    else:  # somebody else finds it, and what he writes is not his either: he goes without
        packings.clear()
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
        assert np.array_equal(logits(path, cache), plain)
        assert len(packings) == MATRICES
    assert "owned by user" in caplog.text


def change(name: str, value: str | None) -> Callable[[Header], object]:
    def spoil(header: Header) -> None:
        header["__metadata__"][name] = value

    return spoil


def first(header: Header, ending: str) -> Header:
    return next(entry for name, entry in header.items() if name.endswith(ending))


def rename(ending: str) -> Callable[[Header], object]:
    def spoil(header: Header) -> None:
        name = next(name for name in header if name.endswith(ending))
        header["other"] = header.pop(name)

    return spoil


STALE = {
    "of another layout": change("layouts", "ternary 0, screen 0"),
    "of another version": change("library", "1.0"),
    "of another format": change("format", "packed weights 1"),
    "of another checkpoint": change("checkpoint_samples", 32 * "0"),
    "without a key": lambda header: header.pop("__metadata__"),
    "with a number for a key": change("library", 2),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("spoil", STALE.values(), ids=STALE)
def test_a_stale_file_is_written_anew(path, cache, plain, packings, spoil, caplog):
    caplog.set_level(logging.INFO, "ryzanstein_llm")
    logits(path, cache)
    header, data = read_parts(only_file(cache))
    spoil(header)
    write_parts(only_file(cache), header, data)
    assert renewed(path, cache, plain, packings) == MATRICES
    assert "out of date" in caplog.text


WRONG = {
    "a matrix of another shape": lambda header: first(header, ".weight:tiles")["shape"].reverse(),
    "a matrix of another type": lambda header: first(header, ".weight:tiles").update(dtype="I8"),
    "a matrix of floats": lambda header: first(header, ".weight:tiles").update(dtype="F8_E8M0"),
    "a scale of another type": lambda header: first(header, ".weight:scale").update(dtype="I32"),
}


@pytest.mark.parametrize("spoil", WRONG.values(), ids=WRONG)
def test_if_one_array_does_not_fit_nothing_of_the_file_is_used(
    path, cache, plain, packings, spoil
) -> None:
    logits(path, cache)
    header, data = read_parts(only_file(cache))
    spoil(header)
    write_parts(only_file(cache), header, data)
    assert renewed(path, cache, plain, packings) == MATRICES


@pytest.mark.parametrize("ending", [".q_proj.weight:tiles", ".up_proj.weight:scale"])
def test_what_is_missing_is_packed_and_the_file_written_anew(path, cache, plain, packings, ending):
    logits(path, cache)
    header, data = read_parts(only_file(cache))
    rename(ending)(header)
    write_parts(only_file(cache), header, data)
    assert renewed(path, cache, plain, packings) == 1


def test_what_is_written_again_has_been_checked_in_full(path, cache, plain, packings, monkeypatch):
    """Otherwise damage that no start has seen would get a new digest."""
    monkeypatch.setattr(checksums, "PIECE", 64)  # so that a matrix has several
    monkeypatch.setattr(checksums, "_below", lambda count: count - 1)  # not the first one
    logits(path, cache)
    header, data = read_parts(only_file(cache))
    rename(".q_proj.weight:tiles")(header)
    begin, _ = first(header, "down_proj.weight:tiles")["data_offsets"]
    write_parts(only_file(cache), header, data[:begin] + bytes(8) + data[begin + 8 :])
    assert renewed(path, cache, plain, packings) == 1 + MATRICES  # 1: what was missing


@pytest.mark.parametrize("ending", [".o_proj.weight:tiles", ":screen", ":screen_stats", ":scale"])
def test_a_flipped_bit_in_a_piece_that_is_looked_at_is_found(path, cache, plain, packings, ending):
    """Here arrays are so small that all of their pieces are looked at."""
    logits(path, cache)
    header, data = read_parts(only_file(cache))
    begin, end = first(header, ending)["data_offsets"]
    middle = (begin + end) // 2
    flipped = bytes([data[middle] ^ 1])
    write_parts(only_file(cache), header, data[:middle] + flipped + data[middle + 1 :])
    assert renewed(path, cache, plain, packings) == MATRICES


def test_a_file_without_checksums_is_not_used(path, cache, plain, packings) -> None:
    logits(path, cache)
    header, data = read_parts(only_file(cache))
    del header["__metadata__"]["checksums"]
    write_parts(only_file(cache), header, data)
    assert renewed(path, cache, plain, packings) == MATRICES


def with_checksums(header: Header, data: bytes, ending: str) -> None:
    """Make the checksums right again, as if the array had been written so."""
    name = next(name for name in header if name.endswith(ending))
    begin, end = header[name]["data_offsets"]
    written = json.loads(header["__metadata__"]["checksums"])
    written[name] = checksums.checksums(np.frombuffer(data[begin:end], np.uint8))
    header["__metadata__"]["checksums"] = json.dumps(written)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1.0, 3e38])
@pytest.mark.parametrize("row", [0, 1, 2], ids=["scale", "error", "norm"])
def test_statistics_of_a_screen_that_cannot_be_are_not_taken(
    path, cache, plain, packings, value, row
) -> None:
    logits(path, cache)
    header, data = read_parts(only_file(cache))
    begin, end = first(header, ":screen_stats")["data_offsets"]
    stats = np.frombuffer(data[begin:end], np.float32).reshape(3, -1).copy()
    stats[row, 7] = value
    data = data[:begin] + stats.tobytes() + data[end:]
    with_checksums(header, data, ":screen_stats")
    write_parts(only_file(cache), header, data)
    assert renewed(path, cache, plain, packings) == MATRICES


@pytest.mark.parametrize("byte", [0, 127, 255])
def test_a_screen_of_another_head_is_not_taken(path, cache, plain, packings, byte) -> None:
    logits(path, cache)
    header, data = read_parts(only_file(cache))
    begin, end = first(header, ":screen")["data_offsets"]
    data = data[:begin] + bytes([byte]) * (end - begin) + data[end:]
    with_checksums(header, data, ":screen")
    write_parts(only_file(cache), header, data)
    assert renewed(path, cache, plain, packings) == MATRICES


@pytest.mark.parametrize("bits", [0x7C00, 0x7E00, 0xBC00, 0xFC00], ids=["inf", "NaN", "-1", "-inf"])
@pytest.mark.parametrize("layout", ["groups64", "groups128"])
def test_scales_of_groups_that_cannot_be_are_refused(layout: str, bits: int) -> None:
    codes = aligned_empty(int(np.prod(storage_shape(20, 300, layout))))
    codes[:] = 0x55
    matrix = TernaryMatrix(codes.reshape(storage_shape(20, 300, layout)), 20, 300, 1.0, layout)
    scales = group_scale_bits(matrix)
    scales[:] = 0x3C00
    check_group_scales(matrix)
    assert (unpack_scales(matrix.codes, 20, 300, layout) == 1).all()
    scales[-1, -1, 3] = 0x8000  # -0
    check_group_scales(matrix)
    scales[-1, -1, 3] = bits
    with pytest.raises(ValueError, match="negative, NaN or infinite"):
        check_group_scales(matrix)


@pytest.mark.parametrize("name", [":screen", ":screen_stats"])
def test_a_screen_that_does_not_fit_is_not_taken(path, cache, plain, packings, name) -> None:
    logits(path, cache)
    header, data = read_parts(only_file(cache))
    first(header, name)["shape"].append(1)
    write_parts(only_file(cache), header, data)
    assert renewed(path, cache, plain, packings) == MATRICES
    assert len(first(read_parts(only_file(cache))[0], name)["shape"]) == 2


@pytest.mark.parametrize("scale", [np.nan, np.inf, 0.0, -1.0])
def test_an_impossible_scale_is_not_taken(path, cache, plain, packings, scale) -> None:
    logits(path, cache)
    header, data = read_parts(only_file(cache))
    begin, end = first(header, ":scale")["data_offsets"]
    data = data[:begin] + np.float32(scale).tobytes() + data[end:]
    with_checksums(header, data, ":scale")
    write_parts(only_file(cache), header, data)
    assert renewed(path, cache, plain, packings) == MATRICES


def test_tensors_at_odd_addresses_are_not_taken(path, cache, plain, packings) -> None:
    logits(path, cache)
    header, data = read_parts(only_file(cache))
    write_parts(only_file(cache), header, data, align=64)
    raw = only_file(cache).read_bytes()
    length = int.from_bytes(raw[:8], "little")
    moved = (length + 4).to_bytes(8, "little") + raw[8 : 8 + length] + b"    " + raw[8 + length :]
    only_file(cache).write_bytes(moved)
    assert renewed(path, cache, plain, packings) == MATRICES


def test_matrices_in_another_layout_are_packed_and_the_file_written_anew(
    path, cache, packings
) -> None:
    expected = logits(path, False, skipping=True)
    logits(path, cache, skipping=False)
    packings.clear()
    for _ in range(2):
        assert np.array_equal(logits(path, cache, skipping=True), expected)
        assert len(packings) == 2 * CONFIG["num_hidden_layers"]  # up and down; then none


# ---- when the checkpoint changes ---------------------------------------------------------------


def in_whole(monkeypatch) -> list[Path]:
    """A path for each time that all bytes of a checkpoint are read."""
    read: list[Path] = []
    real = Checkpoint.content_digest
    monkeypatch.setattr(
        Checkpoint, "content_digest", lambda self: read.append(self.path) or real(self)
    )
    return read


def touch(path: Path) -> None:
    os.utime(path / "model.safetensors", ns=(1, 1))


def copy(path: Path) -> None:
    weights_path = path / "model.safetensors"
    shutil.copy2(weights_path, path / "copy")
    os.replace(path / "copy", weights_path)


@pytest.mark.parametrize("happening", [touch, copy])
def test_a_checkpoint_that_was_touched_or_copied_is_compared_once(
    path, cache, plain, packings, monkeypatch, happening
) -> None:
    logits(path, cache)
    packings.clear()
    happening(path)
    read = in_whole(monkeypatch)
    for _ in range(3):
        assert np.array_equal(logits(path, cache), plain)
    assert read == [path]
    assert not packings


def test_a_note_of_another_user_or_for_another_file_is_not_believed(path, cache, monkeypatch):
    logits(path, cache)
    touch(path)
    logits(path, cache)
    (note,) = cache.glob("*.seen")
    read = in_whole(monkeypatch)
    for spoil in (lambda: note.chmod(0o666), lambda: note.write_text('["0", "0"]')):
        spoil()
        read.clear()
        logits(path, cache)
        assert read == [path]
        note.chmod(0o644)


@pytest.mark.parametrize("changed", ["all bytes", "a byte"])
def test_other_weights_of_the_same_header_size_and_time_are_noticed(
    path, cache, plain, packings, changed
) -> None:
    """As `cp -p`, container layers and reproducible archives make them."""
    weights_path = path / "model.safetensors"
    os.utime(weights_path, ns=(1, 1))
    logits(path, cache)
    packings.clear()
    header, data = read_parts(weights_path)
    spoilt = bytearray(data)
    begin, end = first(header, "q_proj.weight")["data_offsets"]
    if changed == "all bytes":
        spoilt[begin:end] = spoilt[begin:end][::-1]
    else:
        middle = next(i for i in range(begin + 1000, end) if data[i] & 3 == 1)
        spoilt[middle] ^= 1
    raw = weights_path.read_bytes()
    (path / "new").write_bytes(raw[: len(raw) - len(data)] + spoilt)
    os.utime(path / "new", ns=(1, 1))
    os.replace(path / "new", weights_path)
    now = logits(path, False)
    assert not np.array_equal(now, plain)
    packings.clear()
    assert np.array_equal(logits(path, cache), now)
    assert len(packings) == MATRICES


def test_a_checkpoint_with_other_weights_takes_the_place_of_the_old(path, cache, tmp_path, plain):
    logits(path, cache)
    other = write_small_model(tmp_path / "other", seed=6)
    os.replace(other / "model.safetensors", path / "model.safetensors")
    now = logits(path, False)
    assert not np.array_equal(now, plain)
    assert np.array_equal(logits(path, cache), now)
    assert np.array_equal(logits(path, cache), now)
    assert only_file(cache)


def test_a_config_that_reads_scales_otherwise_counts(path, cache, plain) -> None:
    logits(path, cache)
    config = json.loads((path / "config.json").read_text())
    config["quantization_config"]["linear_class"] = "bitlinear"
    (path / "config.json").write_text(json.dumps(config))
    now = logits(path, False)
    assert not np.array_equal(now, plain)
    assert np.array_equal(logits(path, cache), now)


def test_a_checkpoint_that_changes_meanwhile_is_not_kept(path, cache, plain, monkeypatch, caplog):
    real = matrices.pack_source

    def touched(*arguments):
        os.utime(path / "model.safetensors", ns=(1, 1))
        return real(*arguments)

    monkeypatch.setattr(matrices, "pack_source", touched)
    assert np.array_equal(logits(path, cache), plain)
    assert "changed while it was read" in caplog.text
    assert not list(cache.glob("*.safetensors"))


# ---- when it is deleted or replaced in use -----------------------------------------------------


@pytest.mark.parametrize("happening", ["deleted", "replaced"])
def test_a_model_keeps_the_file_it_has_mapped(path, cache, plain, tmp_path, happening) -> None:
    with BitNetModel(path, n_threads=1, packed_cache=cache) as model:
        if happening == "deleted":
            only_file(cache).unlink()
        else:
            os.replace(
                write_small_model(tmp_path / "other", seed=6) / "model.safetensors",
                path / "model.safetensors",
            )
            before = only_file(cache).stat().st_ino
            logits(path, cache)
            assert only_file(cache).stat().st_ino != before
        assert np.array_equal(model.forward(prompt(20)), plain)


# ---- when it cannot be written -----------------------------------------------------------------


def loads_with_one_warning(path, cache, plain, caplog, *mentioned: str) -> None:
    caplog.clear()
    with BitNetModel(path, n_threads=1, packed_cache=cache) as model:
        assert model.packed_file is None
        assert np.array_equal(model.forward(prompt(20)), plain)
    (record,) = [record for record in caplog.records if record.levelno >= logging.WARNING]
    for part in (str(path), *mentioned):
        assert part in record.getMessage()


def test_a_directory_that_cannot_be_made(path, tmp_path, plain, caplog) -> None:
    (tmp_path / "file").write_text("")
    cache = tmp_path / "file" / "cache"
    loads_with_one_warning(path, cache, plain, caplog, str(cache), os.strerror(errno.ENOTDIR))


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_directory_that_is_read_only(path, cache, plain, caplog) -> None:
    cache.mkdir(parents=True)
    cache.chmod(0o555)
    loads_with_one_warning(path, cache, plain, caplog, str(cache), os.strerror(errno.EACCES))
    assert not list(cache.iterdir())


def test_a_file_in_a_read_only_directory_is_used(path, cache, plain, packings) -> None:
    logits(path, cache)
    for lock in cache.glob("*.lock"):
        lock.unlink()
    cache.chmod(0o555)
    assert np.array_equal(logits(path, cache), plain)
    assert len(packings) == MATRICES
    assert [found.name for found in cache.iterdir()] == [only_file(cache).name]
    cache.chmod(0o755)


@pytest.mark.parametrize("after", [0, 1])
def test_a_disk_that_is_full(path, cache, plain, caplog, monkeypatch, after) -> None:
    """From the first byte, or later on."""
    monkeypatch.setattr(new_file, "BLOCK_BYTES", 4096)
    real, written = os.write, []

    def full(descriptor, data):
        if len(written) == after:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(len(data))
        return real(descriptor, data)

    monkeypatch.setattr(os, "write", full)
    message = os.strerror(errno.ENOSPC)
    loads_with_one_warning(path, cache, plain, caplog, str(cache), message)
    monkeypatch.undo()
    assert [found.suffix for found in cache.iterdir()] == [".lock"]


def test_a_disk_with_too_little_room_is_not_filled(path, cache, plain, caplog, monkeypatch) -> None:
    monkeypatch.setattr(packed_file, "SPARE_BYTES", 1 << 60)
    loads_with_one_warning(path, cache, plain, caplog, os.strerror(errno.ENOSPC))


def test_a_directory_in_the_way(path, cache, plain, caplog) -> None:
    logits(path, cache)
    found = only_file(cache)
    found.unlink()
    found.mkdir()
    with BitNetModel(path, n_threads=1, packed_cache=cache) as model:
        assert np.array_equal(model.forward(prompt(20)), plain)
    assert "not a regular file" in caplog.text
    assert sorted(file.suffix for file in cache.iterdir()) == [".lock", ".safetensors"]


def test_a_user_without_a_home(path, plain, caplog, monkeypatch, tmp_path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("RYZANSTEIN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("LOCALAPPDATA", raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    before = set(tmp_path.iterdir())
    loads_with_one_warning(path, True, plain, caplog, "no home directory")
    assert set(tmp_path.iterdir()) == before


# ---- where, and whether ------------------------------------------------------------------------


def test_the_users_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    home, xdg = tmp_path / "home", tmp_path / "xdg"
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.delenv("RYZANSTEIN_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert cache_directory() == home / ".cache" / "ryzanstein_llm"
    monkeypatch.setenv("XDG_CACHE_HOME", "relative/is/ignored")
    assert cache_directory() == home / ".cache" / "ryzanstein_llm"
    monkeypatch.setenv("XDG_CACHE_HOME", str(xdg))
    assert cache_directory() == xdg / "ryzanstein_llm"
    monkeypatch.setenv("RYZANSTEIN_CACHE", "~/there")
    assert cache_directory() == home / "there"
    assert cache_directory(tmp_path) == cache_directory(str(tmp_path)) == tmp_path
    assert cache_directory(False) is None


@pytest.mark.parametrize("value", ["0", "off", "OFF"])
def test_the_environment_switches_it_off(path, monkeypatch, tmp_path, value) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    monkeypatch.setenv("RYZANSTEIN_CACHE", value)
    with BitNetModel(path) as model:
        assert model.packed_file is None
    assert not (tmp_path / "xdg").exists()


def test_the_environment_says_where(path, cache, monkeypatch) -> None:
    monkeypatch.setenv("RYZANSTEIN_CACHE", str(cache))
    with BitNetModel(path) as model:
        assert model.packed_file == only_file(cache)


def test_an_argument_switches_it_off(path, cache, monkeypatch) -> None:
    monkeypatch.setenv("RYZANSTEIN_CACHE", str(cache))
    with BitNetModel(path, packed_cache=False) as model:
        assert model.packed_file is model.info()["packed_file"] is None
    assert not cache.exists()


def test_small_models_have_none(path, cache, monkeypatch) -> None:
    monkeypatch.undo()
    assert loading.LEAST_BYTES == 32 << 20
    with BitNetModel(path, packed_cache=cache) as model:
        assert model.packed_file is None
    assert not cache.exists()


@pytest.mark.parametrize("value", [3, None, "", b""])
def test_other_arguments_are_refused(path, value) -> None:
    with pytest.raises(InvalidParameterError, match="packed_cache must be"):
        BitNetModel(path, packed_cache=value)
