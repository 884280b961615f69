"""Models from one file format to another, without a change of any weight.

A conversion that would change the model is refused. Each result is opened once before it appears
under its name, and has to be planned like its source.
"""

from __future__ import annotations

from .lossless import TARGETS, convert

__all__ = ["TARGETS", "convert"]
