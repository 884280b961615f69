"""Skips what needs an optional extra of pyproject.toml, and says which one."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType

import pytest

__all__ = ["needs_extra"]


def needs_extra(extra: str, *modules: str) -> ModuleType:
    """Skip if one of `modules` cannot be imported; return the last of them.

    In a test or a fixture it skips the test. At the top of a file, where it must stand before the
    file's own import of these modules, it skips the file and every file that imports it.
    `test_optional_modules.py` watches over that.
    """
    __tracebackhide__ = True  # reports name the file that asked
    for name in modules:
        try:
            with warnings.catch_warnings():
                # Deprecations inside these packages are not ours to fail on.
                warnings.simplefilter("ignore")
                found = importlib.import_module(name)
        except ImportError:
            missing = f'{name} is not installed: pip install -e ".[{extra}]"'
            pytest.skip(missing, allow_module_level=True)
    return found
