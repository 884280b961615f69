"""Sessions on disk: tokens with their keys and values.

A `.safetensors` file: "tokens", "blocks" with the memory of the engine, and metadata that say what
they were made with. Keys and values of another version of the library, or in another form, are left
out when they are read, and computed again, because their bits may differ.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ._version import __version__
from .engine.engine import Engine
from .engine.kv_cache import KVCache
from .errors import (
    CheckpointNotFoundError,
    ContextOverflowError,
    FormatError,
    SavedSessionError,
    SessionNotFoundError,
)
from .errors.request import LONGER_CONTEXT
from .formats import FileStamp, open_checkpoint
from .formats.new_file import NewFile, remove_leftovers
from .formats.safetensors_file import SafetensorsFile
from .formats.safetensors_writer import TensorPlan, encode_header, padded, write_data
from .interfaces.kv_layout import BLOCK_FORM, BLOCK_POSITIONS, KVLayout
from .validation import check_path, check_token_ids

__all__ = ["SessionKey", "no_session_if_not_found", "read_session", "write_session"]

FORMAT = "ryzanstein-llm session 1"
ALIGNMENT = 64


class SessionKey:
    """What a session must have been made with, to be continued with a model.

    Parameters
    ----------
    path : Path
        The checkpoint. It is opened again when the key is first needed.
    stamps : list of FileStamp
        Those of its files when the model was loaded.
    layout : KVLayout
    activations : str
        As in `BitNetModel`.
    """

    def __init__(
        self, path: Path, stamps: list[FileStamp], layout: KVLayout, activations: str
    ) -> None:
        self._path, self._stamps = path, stamps
        self.layout, self._activations = layout, activations

    @cached_property
    def metadata(self) -> dict[str, str]:
        """By name, what a file must say.

        Raises
        ------
        CheckpointNotFoundError, FormatError
            If the checkpoint is gone, or has changed since the model was loaded.
        """
        with open_checkpoint(self._path) as checkpoint:
            if [file.stamp for file in checkpoint.open_files] != self._stamps:
                problem = "the checkpoint has changed since the model was loaded; load it again"
                raise FormatError(f"{self._path}: {problem}")
            digest = checkpoint.sampled_digest()
        layout = self.layout
        shape = f"{layout.layers} layers, {layout.kv_heads} heads of {layout.head_dim}"
        return {
            "format": FORMAT,
            "model": digest,
            "kv_dtype": layout.kind,
            "layout": f"{shape}, blocks of {BLOCK_POSITIONS} positions",
            "activations": self._activations,
        }


def write_session(
    path: str | os.PathLike[str], key: SessionKey, engine: Engine, tokens: list[int]
) -> None:
    """Write tokens, and what is kept of their keys and values. See `Session.save`."""
    target = check_path("path", path)
    metadata = {**key.metadata, **_form()}
    cache = engine.exclusively(lambda: engine.store.shared(tokens))
    try:
        metadata |= {"positions": str(cache.length), "digest": "0" * 32}
        plans = [_plan("tokens", "I64", (len(tokens),), [np.array(tokens, np.int64)])]
        if cache.blocks:
            shape = (len(cache.blocks), key.layout.block_bytes)
            plans.append(TensorPlan("blocks", "U8", shape, lambda: _blocks(cache)))
        plans = padded(plans, ALIGNMENT)
        digest = hashlib.blake2b(metadata["positions"].encode("ascii"), digest_size=16)
        remove_leftovers(target)
        with NewFile(target, users_own=True) as file:
            file.write(np.frombuffer(encode_header(plans, metadata, ALIGNMENT), np.uint8))

            def write(block: NDArray[np.uint8]) -> None:
                digest.update(block.data)
                file.write(block)

            write_data(plans, write)
            metadata["digest"] = digest.hexdigest()
            file.overwrite_start(encode_header(plans, metadata, ALIGNMENT))
    finally:
        if not engine.closed:
            engine.exclusively(lambda: cache.free_from(0))


def read_session(
    path: str | os.PathLike[str], key: SessionKey, engine: Engine, vocab_size: int
) -> list[int]:
    """The tokens of a file; their keys and values are kept from now on. See
    `BitNetModel.load_session`."""
    target = check_path("path", path)
    with no_session_if_not_found():
        try:
            file = SafetensorsFile(target)
        except FormatError as error:  # of a form that the user of a session need not know
            raise FormatError(f"{target}: is no saved session, or a damaged one") from error
    try:
        found = file.metadata
        for name, value in key.metadata.items():
            if found.get(name) != value:
                has = "has none" if name not in found else f"has {found[name]!r}"
                what = "session of this library" if name == "format" else "session of this model"
                problem = f"it is no {what}: {name} should be {value!r}, and the file {has}"
                raise SavedSessionError(f"{file.path}: {problem}")
        positions = found.get("positions", "").encode("utf-8")
        digest = hashlib.blake2b(positions, digest_size=16)
        for name in file.infos:
            digest.update(file.array(name).reshape(-1).view(np.uint8).data)
        if digest.hexdigest() != found.get("digest") or "tokens" not in file.infos:
            raise FormatError(f"{file.path}: the data do not have the digest that the file gives")
        tokens = check_token_ids("tokens", file.array("tokens"), vocab_size)
        if len(tokens) > engine.context_length:
            reason = f"the saved session is too long; {LONGER_CONTEXT}"
            raise ContextOverflowError(len(tokens), engine.context_length, reason)
        if any(found.get(name) != value for name, value in _form().items()):
            return tokens
        blocks = _checked_blocks(file, key.layout, len(tokens))
        if blocks is not None:
            _restore(engine, tokens, int(found["positions"]), blocks)
        return tokens
    finally:
        file.close()


@contextmanager
def no_session_if_not_found() -> Iterator[None]:
    """While a file is opened or read that is no checkpoint but a session or a conversation: if that
    fails, it is a SessionNotFoundError."""
    try:
        yield
    except CheckpointNotFoundError as error:
        raise SessionNotFoundError(*error.args) from error.__cause__


def _form() -> dict[str, str]:
    """What keys and values must say to be used: who computed them, and what their bytes mean."""
    return {"library": __version__, "block_form": BLOCK_FORM}


def _restore(engine: Engine, tokens: list[int], positions: int, blocks: NDArray[np.uint8]) -> None:
    cache = engine.exclusively(engine.store.new_cache)
    engine.exclusively(lambda: engine.make_room(cache, positions))
    for block, data in zip(cache.blocks, blocks, strict=True):
        block.memory[:] = data
    cache.length = positions

    def keep() -> None:
        engine.store.keep(cache, tokens)
        cache.free_from(0)

    engine.exclusively(keep)


def _checked_blocks(
    file: SafetensorsFile, layout: KVLayout, tokens: int
) -> NDArray[np.uint8] | None:
    """The blocks of a file; None if it has none."""
    if "blocks" not in file.infos:
        return None
    positions, blocks = file.metadata.get("positions", ""), file.array("blocks")
    number = int(positions) if positions.isascii() and positions.isdecimal() else 0
    shape = (-(-number // BLOCK_POSITIONS), layout.block_bytes)
    if not 0 < number <= tokens or blocks.shape != shape or blocks.dtype != np.uint8:
        problem = f"{positions!r} positions of {tokens} tokens do not fit blocks {blocks.shape}"
        raise FormatError(f"{file.path}: {problem}")
    return blocks


def _blocks(cache: KVCache) -> Iterator[NDArray[np.uint8]]:
    """The memory of the blocks. What others had in the last one before is left out."""
    for index, block in enumerate(cache.blocks):
        filled = cache.length - index * BLOCK_POSITIONS
        if filled < BLOCK_POSITIONS:
            copied = block.memory.copy()
            cache.layout.clear_after(copied, filled)
            yield copied
        else:
            yield block.memory


def _plan(name: str, dtype: str, shape: tuple[int, ...], blocks: list[Any]) -> TensorPlan:
    return TensorPlan(name, dtype, shape, lambda: blocks)
