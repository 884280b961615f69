"""From the path that a user gives to the weight files of a checkpoint. Reads the index, no
weights."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

from ..errors import CheckpointNotFoundError, FormatError
from .gguf_file import MAGIC
from .inside import is_file, is_inside
from .json_file import read_json_object
from .other_formats import name_other_format
from .unreadable import unreadable

__all__ = ["DEMO_DIRECTORY", "INDEX_NAME", "SINGLE_NAME", "WeightFiles", "locate"]

SINGLE_NAME = "model.safetensors"
INDEX_NAME = "model.safetensors.index.json"
DEMO_DIRECTORY = Path(__file__).resolve().parent.parent / "demo"

_SHARD_NAME = re.compile(r"-(\d{5})-of-(\d{5})\.safetensors$")
_GGUF_SHARD_NAME = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")

# org/name or org/name:file; what ends like a file of weights is meant as a path
_REPOSITORY = re.compile(r"\w[\w.-]*/\w[\w.-]*(?<!\.gguf)(?<!\.safetensors)(:.+)?", re.ASCII)


@dataclass(frozen=True)
class WeightFiles:
    """Where the files of a checkpoint are.

    Attributes
    ----------
    path : Path
        The given path, made absolute. Symbolic links are not resolved: in a model cache, a file may
        be a link to a place that has no `config.json` beside it.
    directory : Path
        Where `config.json` and `tokenizer.json` are looked for.
    files : tuple[Path, ...]
        The `.safetensors` or GGUF files, in the order of their names.
    index : Path or None
        The index that lists them.
    tensor_files : dict[str, Path] or None
        The file of each tensor, as the index says.
    gguf : bool
        The files are GGUF, which need no `config.json`.
    """

    path: Path
    directory: Path
    files: tuple[Path, ...]
    index: Path | None = None
    tensor_files: dict[str, Path] | None = None
    gguf: bool = False


def locate(path: str | os.PathLike[str] | None) -> WeightFiles:
    """Find the weight files at `path`: a `.safetensors` or GGUF file, an index file, a directory,
    or None for the built-in demo model.

    A directory is searched for `model.safetensors`, then `model.safetensors.index.json`, then a
    single file `*.safetensors`, then a single file `*.gguf`. If the first two are both there,
    `model.safetensors` counts, because that is what transformers loads. A GGUF model in several
    files is one, and is found by any of them.

    Raises
    ------
    CheckpointNotFoundError
        Nothing is there, or a shard of the index is missing.
    FormatError
        It is not clear which files are meant, or the index is malformed.
    """
    given = DEMO_DIRECTORY if path is None else Path(os.fsdecode(path))
    if path is not None and not os.fsdecode(path):
        raise CheckpointNotFoundError("the path of the checkpoint is empty")
    try:
        absolute = Path(os.path.abspath(given))
        is_directory, is_single = absolute.is_dir(), absolute.is_file()
        exists = is_directory or is_single or absolute.exists()
    except (OSError, ValueError) as error:  # a name that is too long, or holds a NUL
        shown = str(given)[:200]
        raise CheckpointNotFoundError(f"{shown!r}: not a usable path: {error}") from error
    if is_directory:
        return _in_directory(absolute)
    if is_single:
        if absolute.name.endswith(".index.json"):
            return _from_index(absolute, absolute)
        start = _start(absolute)
        if absolute.name.endswith(".gguf") or start.startswith(MAGIC):
            return _gguf_files(absolute, absolute)
        # a safetensors file has the size of its header there, and then the header, which is JSON
        if start and start[8:9] != b"{" and not absolute.name.endswith(".safetensors"):
            kind = name_other_format(start)
            but = "" if kind is None else f" but {kind}"
            raise FormatError(f"{absolute}: not a safetensors or GGUF file{but}")
        return _single_file(absolute)
    if exists:
        raise FormatError(f"{absolute}: neither a file nor a directory")
    hint = "(nothing is downloaded for a path)"
    text = "" if path is None else os.fsdecode(path)
    if _REPOSITORY.fullmatch(text):
        hint = (
            f"(nothing is downloaded for a path; if it is a repository of the Hugging Face Hub, "
            f"open it with BitNetModel.from_pretrained({text!r}))"
        )
    raise CheckpointNotFoundError(f"{absolute}: no such file or directory {hint}")


def _single_file(path: Path) -> WeightFiles:
    shard = _SHARD_NAME.search(path.name)
    if shard and int(shard[2]) > 1:
        raise FormatError(
            f"{path}: shard {int(shard[1])} of {int(shard[2])}; give the directory instead"
        )
    return WeightFiles(path, path.parent, (path,))


def _in_directory(directory: Path) -> WeightFiles:
    single, index = directory / SINGLE_NAME, directory / INDEX_NAME
    if single.is_file():
        return WeightFiles(directory, directory, (single,))
    if index.is_file():
        return _from_index(directory, index)
    try:
        found = sorted(p for p in directory.glob("*.safetensors") if p.is_file())
        gguf = sorted(p for p in directory.glob("*.gguf") if p.is_file())
    except OSError as error:
        raise unreadable(directory, error) from error
    if not found and not gguf:
        raise CheckpointNotFoundError(
            f"{directory}: no .safetensors and no .gguf file in this directory"
        )
    if not found:
        located = _gguf_files(directory, gguf[0])
        if set(gguf) - set(located.files):
            raise FormatError(
                f"{directory}: {len(gguf)} .gguf files ({gguf[0].name}, {gguf[1].name}...); "
                "give the path of one"
            )
        return located
    if len(found) > 1:
        raise FormatError(
            f"{directory}: {len(found)} .safetensors files ({found[0].name}, {found[1].name}...) "
            f"but neither {SINGLE_NAME} nor {INDEX_NAME}"
        )
    located = _single_file(found[0])
    return WeightFiles(directory, directory, located.files)


def _start(path: Path) -> bytes:
    """The first bytes of a file; none if it cannot be read, which whoever opens it reports."""
    try:
        with path.open("rb") as file:
            return file.read(16)
    except OSError:
        return b""


def _gguf_files(path: Path, file: Path) -> WeightFiles:
    """One GGUF file, or all files of a model whose name says that it has several."""
    shard = _GGUF_SHARD_NAME.search(file.name)
    if not shard or int(shard[2]) <= 1:
        return WeightFiles(path, file.parent, (file,), gguf=True)
    stem, number, count = file.name[: shard.start()], int(shard[1]), int(shard[2])
    if not 1 <= number <= count:
        raise FormatError(f"{file}: part {number} of {count} cannot be")
    parts = []
    for index in range(1, count + 1):
        part = file.with_name(f"{stem}-{index:05}-of-{count:05}.gguf")
        if not part.is_file():  # at the first gap, so a wrong count costs nothing
            raise CheckpointNotFoundError(f"{part}: missing; the model has {count} files")
        parts.append(part)
    return WeightFiles(path, file.parent, tuple(parts), gguf=True)


def _from_index(path: Path, index: Path) -> WeightFiles:
    weight_map = read_json_object(index, unique=True).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise FormatError(f"{index}: weight_map is missing, empty or not an object")
    directory = index.parent
    shards: dict[str, Path] = {}
    for tensor, name in weight_map.items():
        if not isinstance(name, str) or not name.endswith(".safetensors") or not is_inside(name):
            raise FormatError(
                f"{index}: tensor {tensor!r}: {name!r} does not name a file in this directory"
            )
        shards.setdefault(name, directory / name)
    for name, shard in shards.items():
        try:
            missing = not is_file(shard)
        except OSError as error:  # a name that is too long
            raise FormatError(f"{index}: shard {name[:200]!r}: {error.strerror}") from error
        if missing:
            raise CheckpointNotFoundError(f"{shard}: missing, but {index.name} lists it as a shard")
    files = tuple(shards[name] for name in sorted(shards))
    tensor_files = {tensor: shards[name] for tensor, name in weight_map.items()}
    return WeightFiles(path, directory, files, index, tensor_files)
