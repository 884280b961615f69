"""Sessions that are forked, saved and loaded go on as if nothing had happened."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from demo_model import DEMO
from safetensors.numpy import load_file, save_file
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel, Session, errors, saved_session
from ryzanstein_llm.formats import open_checkpoint

LENGTHS = (0, 1, 100, 256, 257, 600)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("small") / "model")


@pytest.fixture
def model(checkpoint: Path) -> Iterator[BitNetModel]:
    with BitNetModel(checkpoint, n_threads=1) as opened:
        yield opened


def go_on(session: Session, given: Any = (5, 6), count: int = 20) -> Any:
    return session.generate(list(given), max_tokens=count, ignore_eos=True, return_result=True)


def started(model: BitNetModel, length: int) -> Session:
    session = model.session()
    if length:
        go_on(session, prompt(length), 3 if length > 3 else 0)
    return session


# ---- fork ----------------------------------------------------------------------------------


@pytest.mark.parametrize("length", LENGTHS)
def test_a_fork_goes_on_as_the_session_itself(model: BitNetModel, length: int) -> None:
    session = started(model, length)
    other = session.fork()
    assert other.tokens == session.tokens
    one, two = go_on(session), go_on(other)
    assert one.ids == two.ids
    assert one.prompt_tokens == two.prompt_tokens
    assert go_on(session, [7]).ids == go_on(other, [7]).ids


@pytest.mark.parametrize("length", [100, 257, 600])
def test_neither_computes_again_what_both_have(model: BitNetModel, length: int) -> None:
    session = started(model, length)
    have = len(session.tokens) - 1  # the last token has not been through the model
    members = [session.fork(), session.fork(), session]
    found = [go_on(each, [8 + index]) for index, each in enumerate(members)]
    # the later ones also find the last token, which all have in common
    assert [each.reused_tokens for each in found] == [have, have + 1, have + 1]


def test_not_even_while_the_other_one_goes_on() -> None:
    with BitNetModel(n_threads=1) as demo:
        session = demo.session()
        session.generate("Once upon a time", max_tokens=100)
        have = len(session.tokens) - 1
        with session.fork().stream(" and", ignore_eos=True) as stream:
            next(stream)
            found = session.generate(" but", max_tokens=3, return_result=True)
        assert found.reused_tokens == stream.result.reused_tokens == have


def test_what_one_does_later_is_nothing_to_the_other(model: BitNetModel) -> None:
    session = started(model, 300)
    other = session.fork()
    before = other.tokens
    go_on(session)
    session.truncate(10)
    session.close()
    assert other.tokens == before
    assert go_on(other, [7, 8]).reused_tokens == len(before)


def test_full_blocks_are_shared(model: BitNetModel) -> None:
    session = started(model, 600)
    block = model.engine.store.layout.block_bytes
    before = model.engine.store.pool.nbytes
    forks = [session.fork() for _ in range(4)]
    for index, each in enumerate(forks):
        go_on(each, [9 + index])
    assert model.engine.store.pool.nbytes <= before + 5 * block  # one end each, and a spare one


def test_a_session_that_generates_or_is_closed_has_no_fork() -> None:
    with BitNetModel(n_threads=1) as demo:
        session = demo.session()
        stream = session.stream("Once upon a time")
        next(stream)
        with pytest.raises(errors.SessionBusyError):
            session.fork()
        with pytest.raises(errors.SessionBusyError):
            session.save("nowhere")
        stream.close()
        session.close()
        with pytest.raises(errors.ClosedError):
            session.fork()
        with pytest.raises(errors.ClosedError):
            session.save("nowhere")
        assert not Path("nowhere").exists()


# ---- save and load -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["float32", "bfloat16", "int8"])
@pytest.mark.parametrize("length", LENGTHS)
def test_a_session_that_was_saved_goes_on_as_before(
    checkpoint: Path, tmp_path: Path, tier: str, kind: str, length: int
) -> None:
    path = tmp_path / "session"
    with BitNetModel(checkpoint, n_threads=1, kv_dtype=kind) as model:
        session = started(model, length)
        tokens = session.tokens
        session.save(path)
        assert session.tokens == tokens
        expected = go_on(session)
    assert [each.name for each in tmp_path.iterdir()] == ["session"]
    with BitNetModel(checkpoint, n_threads=1, kv_dtype=kind) as model:
        session = model.load_session(path)
        assert session.tokens == tokens
        found = go_on(session)
        assert found.ids == expected.ids
        assert found.reused_tokens == expected.reused_tokens == max(0, len(tokens) - 1)


def test_without_its_keys_and_values_it_computes_them_again(
    checkpoint: Path, tmp_path: Path
) -> None:
    with BitNetModel(checkpoint, n_threads=1) as model:
        session = started(model, 400)
        model.engine.clear()
        session.save(tmp_path / "session")
        expected = go_on(session).ids
    assert (tmp_path / "session").stat().st_size < 10_000
    with BitNetModel(checkpoint, n_threads=1) as model:
        assert go_on(model.load_session(tmp_path / "session")).ids == expected


@pytest.mark.parametrize("name", ["__version__", "BLOCK_FORM"])
def test_another_version_of_the_library_or_of_its_blocks_computes_them_again(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    with BitNetModel(checkpoint, n_threads=1) as model:
        session = started(model, 300)
        session.save(tmp_path / "session")
        expected = go_on(session).ids
    monkeypatch.setattr(saved_session, name, "9.9")
    with BitNetModel(checkpoint, n_threads=1) as model:
        found = go_on(model.load_session(tmp_path / "session"))
    assert (found.ids, found.reused_tokens) == (expected, 0)


def test_keys_and_values_that_do_not_say_their_form_are_computed_again(
    checkpoint: Path, tmp_path: Path
) -> None:
    """As they were before blocks of int8 caches became panels, which may have another size."""
    path = tmp_path / "session"
    with BitNetModel(checkpoint, n_threads=1, kv_dtype="int8") as model:
        session = started(model, 300)
        session.save(path)
        expected = go_on(session).ids
    arrays, metadata = load_file(path), metadata_of(path)
    arrays["blocks"] = np.ascontiguousarray(arrays["blocks"][:, :-64])
    del metadata["block_form"]
    save_file(arrays, path, metadata)
    metadata["digest"] = digest_of(path, metadata["positions"])
    save_file(arrays, path, metadata)
    with BitNetModel(checkpoint, n_threads=1, kv_dtype="int8") as model:
        found = go_on(model.load_session(path))
    assert (found.ids, found.reused_tokens) == (expected, 0)


def test_nothing_of_other_sessions_is_written(checkpoint: Path, tmp_path: Path) -> None:
    """Blocks are used again, and copied whole."""
    with BitNetModel(checkpoint, n_threads=1, kv_dtype="float32") as model:
        go_on(model.session(), prompt(250), 0)
        session = model.session()
        go_on(session, prompt(250)[:20], 0)  # copies the block of the other one
        go_on(session, [5], 1)
        session.save(tmp_path / "session")
        layout, length = model.engine.store.layout, len(session.tokens) - 1
    (block,) = load_file(tmp_path / "session")["blocks"]
    for layer in block.reshape(layout.layers, layout.layer_bytes):
        keys = layer[: layout.v_offset].view(np.float32).reshape(-1, 256)
        values = layer[layout.v_offset :].view(np.float32).reshape(-1, 256, layout.head_dim)
        assert (keys[:, :length] != 0).any(axis=0).all()
        assert not keys[:, length:].any()
        assert (values[:, :length] != 0).any(axis=(0, 2)).all()
        assert not values[:, length:].any()


def test_saving_replaces_a_file_only_when_the_new_one_is_complete(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "session"
    with BitNetModel(checkpoint, n_threads=1) as model:
        session = started(model, 300)
        session.save(path)
        before = path.read_bytes()
        go_on(session)

        def full(*given: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched:
            patched.setattr(saved_session, "write_data", full)
            with pytest.raises(OSError, match="No space"):
                session.save(path)
        assert path.read_bytes() == before
        assert [each.name for each in tmp_path.iterdir()] == ["session"]
        session.save(path)
        assert path.read_bytes() != before
        assert model.load_session(path).tokens == session.tokens


# ---- what is refused -----------------------------------------------------------------------


@pytest.fixture(scope="module")
def saved(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "session"
    with BitNetModel(checkpoint, n_threads=1) as model:
        started(model, 300).save(path)
    return path


def test_other_cache_kinds_and_other_models(checkpoint: Path, saved: Path, tmp_path: Path) -> None:
    with (
        BitNetModel(checkpoint, n_threads=1, kv_dtype="int8") as model,
        pytest.raises(errors.SavedSessionError, match=r"kv_dtype .*'int8'.*'bfloat16'"),
    ):
        model.load_session(saved)
    other = write_small_model(tmp_path / "other", seed=6)
    for path in (other, DEMO):
        with (
            BitNetModel(path, n_threads=1) as model,
            pytest.raises(errors.SavedSessionError, match="model should be"),
        ):
            model.load_session(saved)


def test_a_copy_of_the_checkpoint_is_the_same_model(
    checkpoint: Path, saved: Path, tmp_path: Path
) -> None:
    shutil.copytree(checkpoint, tmp_path / "copy")  # with other times
    with BitNetModel(tmp_path / "copy", n_threads=1) as model:
        assert len(model.load_session(saved).tokens) == 303


def test_a_context_that_is_too_short(checkpoint: Path, saved: Path) -> None:
    with (
        BitNetModel(checkpoint, n_threads=1, context_length=200) as model,
        pytest.raises(errors.ContextOverflowError, match="the saved session is too long"),
    ):
        model.load_session(saved)


def test_files_that_are_no_saved_sessions(
    model: BitNetModel, checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(errors.SessionNotFoundError, match="nothing"):
        model.load_session(tmp_path / "nothing")
    for name in ("a\0b", "\ud800"):  # no file can have these
        with pytest.raises(errors.SessionNotFoundError):
            model.load_session(name)
    with pytest.raises(errors.SavedSessionError, match="format"):
        model.load_session(checkpoint / "model.safetensors")
    with pytest.raises(
        errors.FormatError, match=r"config\.json: is no saved session, or a damaged"
    ):
        model.load_session(checkpoint / "config.json")
    for path in (5, None, b"x"):
        with pytest.raises(errors.InvalidParameterError, match="path"):
            model.load_session(path)  # type: ignore[arg-type]


def test_every_changed_byte_is_noticed(model: BitNetModel, saved: Path, tmp_path: Path) -> None:
    data, path = saved.read_bytes(), tmp_path / "damaged"
    rng = np.random.default_rng(3)
    places = [*rng.integers(0, len(data), 60).tolist(), 0, 8, 9, len(data) - 1]
    text = data[8 : 8 + struct.unpack("<Q", data[:8])[0]].decode("ascii").rstrip()
    places += [8 + text.index(key) + len(key) + 3 for key in ('"positions"', '"digest"', '"model"')]
    for place in places:
        changed = bytearray(data)
        changed[place] ^= 1
        path.write_bytes(changed)
        if data[place : place + 1] == b" ":  # after the header
            continue
        with pytest.raises(errors.RyzansteinError, match="damaged"):
            model.load_session(path)
    for length in (0, 7, 8, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:length])
        with pytest.raises(errors.FormatError, match="damaged"):
            model.load_session(path)


def test_contents_that_contradict_each_other(
    model: BitNetModel, saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also if somebody gave such a file the right digest."""
    arrays = load_file(saved)
    metadata = metadata_of(saved)
    spoilt: list[tuple[dict[str, Any], dict[str, str]]] = [
        ({"tokens": np.array([0, 301])}, {}),
        ({"tokens": np.array([0, -1])}, {}),
        ({"tokens": arrays["tokens"][:100]}, {}),
        ({"tokens": arrays["tokens"].astype(np.float64)}, {}),
        ({"blocks": arrays["blocks"][:1]}, {}),
        ({"blocks": arrays["blocks"][:, :-64]}, {}),
        ({}, {"positions": "99999"}),
        ({}, {"positions": "-1"}),
        ({}, {"positions": "²"}),
    ]
    path = tmp_path / "spoilt"
    for changed, said in spoilt:
        told = {**metadata, **said}
        held = {name: np.ascontiguousarray(a) for name, a in {**arrays, **changed}.items()}
        save_file(held, path, told)
        told["digest"] = digest_of(path, told["positions"])
        save_file(held, path, told)
        with pytest.raises(errors.RyzansteinError):
            model.load_session(path)


def metadata_of(path: Path) -> dict[str, str]:
    data = path.read_bytes()
    found: dict[str, str] = json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])[
        "__metadata__"
    ]
    return found


def digest_of(path: Path, positions: str) -> str:
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    return hashlib.blake2b(positions.encode() + data[8 + length :], digest_size=16).hexdigest()


def test_a_checkpoint_that_has_changed_since_it_was_opened(
    checkpoint: Path, tmp_path: Path
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    with BitNetModel(copy, n_threads=1) as model:
        session = started(model, 20)
        weights = bytearray((copy / "model.safetensors").read_bytes())
        weights[-1] ^= 1
        (copy / "new").write_bytes(weights)
        (copy / "new").replace(copy / "model.safetensors")
        with pytest.raises(errors.FormatError, match="has changed"):
            session.save(tmp_path / "session")
        assert not (tmp_path / "session").exists()


# ---- the digest ----------------------------------------------------------------------------


def test_the_digest_of_samples_depends_on_every_tensor_and_the_config(
    checkpoint: Path, tmp_path: Path
) -> None:
    def digest(path: Path) -> str:
        with open_checkpoint(path) as opened:
            return opened.sampled_digest()

    copy = tmp_path / "copy"
    shutil.copytree(checkpoint, copy)
    expected = digest(checkpoint)
    assert digest(copy) == expected
    data = (copy / "model.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8 : 8 + length])
    seen = {expected}
    for name, info in header.items():
        if name == "__metadata__":
            continue
        begin, end = info["data_offsets"]
        for place in (begin, end - 1):
            changed = bytearray(data)
            changed[8 + length + place] ^= 1
            (copy / "model.safetensors").write_bytes(changed)
            found = digest(copy)
            assert found not in seen, name
            seen.add(found)
    (copy / "model.safetensors").write_bytes(data)
    assert digest(copy) == expected
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "rope_theta": 5000.0}))
    assert digest(copy) not in seen
