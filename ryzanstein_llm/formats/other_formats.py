"""Files that people take for weights, by their first bytes."""

from __future__ import annotations

__all__ = ["name_other_format"]

_OTHER_FORMATS = {
    b"GGUF": "a GGUF file",
    b"PK\x03\x04": "a zip archive (a PyTorch .bin/.pt file?)",
    b"\x80\x02": "a Python pickle (a PyTorch .bin/.pt file?)",
    b"version ": "a Git LFS pointer: the real file was never fetched",
    b"<!DOCTYPE": "an HTML page",
    b"<html": "an HTML page",
}


def name_other_format(start: bytes) -> str | None:
    """What a file is that begins so, at least 9 bytes; None if it is nothing known."""
    return next((kind for magic, kind in _OTHER_FORMATS.items() if start.startswith(magic)), None)
