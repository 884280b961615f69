"""A checkpoint as files: JSON settings and named tensors. Knows no models."""

from __future__ import annotations

import copy
import json
import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from numpy.typing import NDArray

from ..errors import CheckpointNotFoundError, FormatError
from .embedding_settings import read_embedding_settings
from .gguf_file import GgufFile
from .gguf_floats import BLOCK_FLOATS, decode
from .gguf_parts import check_parts
from .json_file import read_bytes, read_json_object, read_text
from .locate import WeightFiles
from .mapped_file import FileStamp, TensorFile, TensorInfo
from .safetensors_file import SafetensorsFile
from .samples import SAMPLE_BYTES, SAMPLES, digest_of, digest_of_files

__all__ = ["Checkpoint", "Tensor"]

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tensor:
    """One tensor. `array` is read-only and has the type that `formats.dtypes.CARRIERS` gives: BF16
    is uint16 bit patterns, F16 is float16, U8 is uint8. A block type of GGUF, such as TQ2_0, is the
    bytes of the file, uint8 (nbytes,)."""

    name: str
    dtype: str
    array: NDArray[Any]


class Checkpoint:
    """An open checkpoint, and a context manager. `formats.open_checkpoint` makes one.

    Several threads may read at once. Arrays stay valid after `close()`, but asking for further
    tensors raises `ClosedError`.

    Attributes
    ----------
    path : Path
        The given path, made absolute.
    config, generation_config, tokenizer_config : dict[str, Any]
        The files `config.json` (required), `generation_config.json` ({} if absent or empty) and
        `tokenizer_config.json` ({} if absent). {} for GGUF, which has `metadata` instead.
    metadata : Mapping[str, Any] or None
        The key-value pairs of a GGUF file (see `gguf_metadata.Metadata`); None for other files.
    tokenizer_path : Path or None
        `tokenizer.json`, if there is one.
    chat_template : str or None
        From `chat_template.jinja`, else from `tokenizer_config.json` (if that has several, the one
        called `default`).
    embedding : EmbeddingSettings
        Of files of sentence-transformers beside the weights, and of GGUF metadata.
    files : list[Path]
        The weight files.
    """

    def __init__(self, located: WeightFiles) -> None:
        self.path = located.path
        self.files: list[Path] = list(located.files)
        self.config: dict[str, Any] = {}
        self.generation_config: dict[str, Any] = {}
        self.tokenizer_config: dict[str, Any] = {}
        self.chat_template: str | None = None
        self.tokenizer_path: Path | None = None
        self.metadata: Mapping[str, Any] | None = None
        self._open: list[TensorFile] = []
        self._holders: dict[str, tuple[TensorFile, str]] = {}  # file, and name in it
        try:
            if located.gguf:
                self._open_gguf()
            else:
                self._read_settings(located.directory)
                for path in located.files:
                    self._add(SafetensorsFile(path))
            self.embedding = read_embedding_settings(located.directory, self.metadata)
            if located.tensor_files is not None:
                self._compare_with_index(located)
        except BaseException:
            self.close()
            raise

    def _read_settings(self, directory: Path) -> None:
        if not (directory / "config.json").is_file():
            raise CheckpointNotFoundError(
                f"{directory / 'config.json'}: no such file (it belongs beside the weights)"
            )
        self.config = read_json_object(directory / "config.json")
        self.generation_config = _generation_config(directory / "generation_config.json")
        self.tokenizer_config = _optional_object(directory / "tokenizer_config.json")
        self.chat_template = _chat_template(directory, self.tokenizer_config)
        tokenizer = directory / "tokenizer.json"
        self.tokenizer_path = tokenizer if tokenizer.is_file() else None

    def _open_gguf(self) -> None:
        parts: list[GgufFile] = []
        for path in self.files:
            parts.append(GgufFile(path))
            self._add(parts[-1])
        check_parts(parts)
        self.metadata = parts[0].metadata

    def _add(self, file: TensorFile) -> None:
        self._open.append(file)
        for name in file.infos:
            if name in self._holders:
                other, _ = self._holders[name]
                raise FormatError(f"{file.path}: tensor {name!r} is also in {other.path.name}")
            self._holders[name] = file, name

    def _compare_with_index(self, located: WeightFiles) -> None:
        # Tensors that are in a shard but not in the index are accepted, as in transformers.
        assert located.tensor_files is not None
        for name, path in located.tensor_files.items():
            holder = self._holders[name][0] if name in self._holders else None
            if holder is None or holder.path != path:
                found = f"it is in {holder.path.name}" if holder else "no shard holds it"
                raise FormatError(
                    f"{located.index}: tensor {name!r} is listed in {path.name}, but {found}"
                )

    @property
    def names(self) -> Sequence[str]:
        """The names of all tensors, in the order of the files and of the data in them."""
        return list(self._holders)

    def __contains__(self, name: object) -> bool:
        return name in self._holders

    def info(self, name: str) -> TensorInfo:
        """Type, shape and file of a tensor. Raises `FormatError` if no tensor has this name."""
        file, stored = self._holder(name)
        return file.infos[stored]

    def tensor(
        self,
        name: str,
        *,
        dtypes: Collection[str] | None = None,
        shape: tuple[int, ...] | None = None,
    ) -> Tensor:
        """A tensor, as a view of the file if its alignment allows that.

        Parameters
        ----------
        dtypes, shape
            What the caller can use; anything else is an error. None accepts all.

        Raises
        ------
        FormatError
            There is no such tensor, or it has another dtype or shape. The message names the file,
            the tensor, and what was expected and found.
        ClosedError
            After `close()`.
        """
        file, stored = self._holder(name)
        info = file.infos[stored]
        if dtypes is not None and info.dtype not in dtypes:
            raise FormatError(
                f"{info.file}: tensor {stored!r}: expected dtype {' or '.join(sorted(dtypes))}, "
                f"found {info.dtype}"
            )
        if shape is not None and info.shape != tuple(shape):
            raise FormatError(
                f"{info.file}: tensor {stored!r}: expected shape {tuple(shape)}, found {info.shape}"
            )
        return Tensor(name, info.dtype, file.array(stored))

    def floats(self, name: str, *, shape: tuple[int, ...] | None = None) -> Tensor:
        """A tensor of floats: as it is stored if it is F32, F16 or BF16, and decoded to F32 if it
        is one of the block types of GGUF in `gguf_floats.BLOCK_FLOATS`.

        Raises
        ------
        FormatError, ClosedError
            As `tensor`.
        """
        stored = self.tensor(name, dtypes=("F32", "F16", "BF16", *BLOCK_FLOATS), shape=shape)
        if stored.dtype not in BLOCK_FLOATS:
            return stored
        return Tensor(name, "F32", decode(stored.dtype, stored.array, self.info(name).shape))

    def release(self, name: str) -> None:
        """Let the operating system drop the pages of a tensor that was copied elsewhere (best
        effort). Views of it stay valid, and are read from disk again."""
        file, stored = self._holder(name)
        file.release(stored)

    def sampled_digest(self) -> str:
        """A digest of the content, 32 hexadecimal digits: of the config, and of name, type, shape
        and some of the bytes of every tensor. It takes milliseconds if the files are in memory.
        Copies of the files have the same digest, and so have the same tensors in other shards.

        Two checkpoints with the same shapes that differ only where no sample is have the same
        digest. Training changes nearly all bytes of a tensor.

        Raises
        ------
        ClosedError
            After `close()`.
        """
        # that of a GGUF checkpoint, however renamed, follows from its header
        settings = self.config if self.metadata is None else {}
        headers = [] if self.metadata is None else [file.header for file in self._open]
        sampled = {}
        for file in self._open:
            for name, data in file.samples(SAMPLES, SAMPLE_BYTES):
                info = file.infos[name]
                sampled[name] = json.dumps([name, info.dtype, info.shape]).encode("ascii") + data
        tensors = (sampled[name] for name in sorted(sampled))
        return digest_of(json.dumps(settings, sort_keys=True).encode("ascii"), *headers, *tensors)

    def content_digest(self) -> str:
        """A digest of every byte of the weight files, 32 hexadecimal digits. Reads all of them.

        Raises
        ------
        OSError
            If a file cannot be read.
        """
        return digest_of_files(self.files)

    @property
    def open_files(self) -> Sequence[TensorFile]:
        """The readers of the weight files."""
        return self._open

    def is_unchanged(self) -> bool:
        """Whether the weight files have not been written to or replaced since they were opened."""
        try:
            return all(file.stamp == FileStamp.of(file.path.stat()) for file in self._open)
        except OSError:
            return False

    def renamed(
        self,
        names: Mapping[str, str],
        config: dict[str, Any],
        generation_config: dict[str, Any],
        chat_template: str | None,
    ) -> Checkpoint:
        """The same open files, with other names for tensors and with settings from elsewhere.

        Messages about a tensor still give its name in the file. Closing either closes both.

        Parameters
        ----------
        names
            From the name in the file to the new one. Tensors that are not in it keep their names.
        config, generation_config, chat_template
            Take the place of the attributes.

        Raises
        ------
        FormatError
            Two tensors would have the same name.
        """
        other = copy.copy(self)
        other.config, other.chat_template = config, chat_template
        other.generation_config = generation_config
        other._holders = {}
        for name, holder in self._holders.items():
            new = names.get(name, name)
            if new in other._holders:
                raise FormatError(
                    f"{holder[0].path}: tensor {holder[1]!r} is the same as "
                    f"{other._holders[new][1]!r}"
                )
            other._holders[new] = holder
        return other

    def _holder(self, name: str) -> tuple[TensorFile, str]:
        try:
            return self._holders[name]
        except KeyError:
            places = str(self.files[0]) if len(self.files) == 1 else f"{self.path} (no shard)"
            raise FormatError(f"{places}: tensor {name!r} is missing") from None

    def close(self) -> None:
        """Close the files. Arrays that were returned keep the mapping alive that they view."""
        for file in self._open:
            file.close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Checkpoint({str(self.path)!r}, {len(self._holders)} tensors)"


def _optional_object(path: Path) -> dict[str, Any]:
    return read_json_object(path) if path.is_file() else {}


def _generation_config(path: Path) -> dict[str, Any]:
    """An empty file is what an interrupted download leaves. Everything works without it, and what
    it says about end-of-text is usually in config.json too."""
    if path.is_file() and not read_bytes(path).strip():
        log.warning("%s: is empty; going on without it", path)
        return {}
    return _optional_object(path)


def _chat_template(directory: Path, tokenizer_config: dict[str, Any]) -> str | None:
    own_file = directory / "chat_template.jinja"
    if own_file.is_file():
        return read_text(own_file)
    found = tokenizer_config.get("chat_template")
    if found is None or isinstance(found, str):
        return found
    if isinstance(found, list):  # [{"name": ..., "template": ...}, ...]
        templates = [
            item.get("template")
            for item in found
            if isinstance(item, dict) and item.get("name") == "default"
        ]
        if not templates:
            return None
        if isinstance(templates[0], str):
            return templates[0]
    raise FormatError(
        f"{directory / 'tokenizer_config.json'}: chat_template: expected a string or a list of "
        f"named templates, found {type(found).__name__}"
    )
