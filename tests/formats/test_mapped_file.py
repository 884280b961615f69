"""The mapping that readers of tensor files share."""

from __future__ import annotations

from pathlib import Path

import pytest

from ryzanstein_llm.errors import FormatError
from ryzanstein_llm.formats.mapped_file import MappedFile


def test_a_file_that_shrank_since_its_size_was_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(bytes(100))
    with path.open("rb") as file, pytest.raises(FormatError, match=r"model\.gguf: it shrank"):
        MappedFile(path, file.fileno(), 101)


def test_the_mapping_outlives_the_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(b"abc")
    with path.open("rb") as file:
        mapped = MappedFile(path, file.fileno(), 3)
    assert mapped.bytes()[:] == b"abc"
