"""GGUF models in several files, as `llama-gguf-split` writes them. The first part has the metadata
of the model; all parts say which one they are."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import FormatError
from .gguf_file import GgufFile
from .gguf_metadata import shortened

__all__ = ["check_parts"]


def check_parts(parts: Sequence[GgufFile]) -> None:
    """Check that these files, in the order of their names, are all parts of one model.

    Raises
    ------
    FormatError
        A file says that it is another part, or that there are more; or tensors are missing.
    """
    for index, part in enumerate(parts):
        count, number = _integer(part, "split.count", 1), _integer(part, "split.no", 0)
        # Some programs write a count of 0 into files that stand alone.
        if count in (0, 1) and len(parts) == 1:
            continue
        if count != len(parts):
            raise FormatError(
                f"{part.path}: one of {count} parts (split.count), by its name one of "
                f"{len(parts)}; the names of parts end in -00001-of-00002.gguf and so on"
            )
        if number != index:
            raise FormatError(
                f"{part.path}: part {number} (split.no), by its name part {index}, counted from 0"
            )
    found = sum(len(part.infos) for part in parts)
    wanted = _integer(parts[0], "split.tensors.count", found)
    if len(parts) > 1 and wanted != found:
        raise FormatError(
            f"{parts[0].path}: {wanted} tensors in all parts (split.tensors.count), found {found}"
        )


def _integer(part: GgufFile, key: str, default: int) -> int:
    value = part.metadata.get(key, default)
    if type(value) is not int:
        raise FormatError(
            f"{part.path}: metadata {key!r} must be an integer, not {shortened(value)}"
        )
    return value
