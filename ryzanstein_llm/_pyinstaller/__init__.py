"""For PyInstaller, which finds this folder through the entry point `pyinstaller40`."""

from __future__ import annotations

import os

__all__ = ["get_hook_dirs"]


def get_hook_dirs() -> list[str]:
    """The directories that have hooks."""
    return [os.path.dirname(__file__)]
