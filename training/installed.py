"""What a run needs beside its own files: the compiled library, PyTorch and matplotlib.

After `pip install .` Python, started in the clone, would import the clone's sources of the library,
which hold no compiled modules. Compiling them again for training would take minutes and bring
nothing, so the installed library is used then.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import re
import sys
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from pathlib import Path

__all__ = ["check_installed", "prefer_compiled_library"]

LIBRARY = "ryzanstein_llm"
CLONE = Path(__file__).resolve().parent.parent
INSTALL = "pip install -r training/requirements.txt"
SPIN_ROUNDS = "1000"
NEEDED = {"torch": "PyTorch", "matplotlib.figure": "matplotlib"}


def prefer_compiled_library(clone: Path = CLONE) -> None:
    """Look for `ryzanstein_llm` in `clone` last, if nothing is compiled there.

    Changes `sys.path` only before the library is imported, and only if there is another one.
    """
    if LIBRARY in sys.modules or _compiled(clone / LIBRARY):
        return
    others = [entry for entry in sys.path if Path(entry).resolve() != clone]
    if PathFinder.find_spec(LIBRARY, others) is not None:
        sys.path[:] = [*others, str(clone)]


def _compiled(package: Path) -> bool:
    return any((package / "kernels" / f"threads{suffix}").exists() for suffix in EXTENSION_SUFFIXES)


def check_installed(clone: Path = CLONE) -> None:
    """
    Raises
    ------
    ImportError
        The library is not compiled or is another version than the clone's, or PyTorch or
        matplotlib is missing or too old. The message names the pip command.
    """
    library = importlib.import_module(LIBRARY)
    if not _compiled(Path(str(library.__file__)).parent):
        raise ImportError(f"{LIBRARY} is not compiled for this Python: pip install .")
    source = (clone / LIBRARY / "_version.py").read_text(encoding="utf-8")
    if not re.search(rf"= [\"']{re.escape(library.__version__)}[\"']", source):
        raise ImportError(
            f"{library.__file__}: is version {library.__version__}, not that of this clone: "
            "pip install ."
        )
    for module, name in NEEDED.items():
        try:
            with _short_spinning():
                importlib.import_module(module)
        except ImportError as error:
            if not isinstance(error, ModuleNotFoundError):
                raise
            raise ModuleNotFoundError(
                f"{name} is not installed: {INSTALL}", name=error.name
            ) from None
    torch = sys.modules["torch"]
    if not hasattr(torch.optim, "Muon"):
        raise ImportError(f"PyTorch {torch.__version__} is too old: {INSTALL}")


@contextlib.contextmanager
def _short_spinning() -> Iterator[None]:
    """For the import of PyTorch: its OpenMP runtime, which the library shares, reads it once.

    By default a waiting thread spins for milliseconds. On two cores that others used as well,
    training then fell from 2,800 tokens/s to below 1,000. See also the library's `kernels`.
    """
    if {"GOMP_SPINCOUNT", "OMP_WAIT_POLICY"} & set(os.environ):
        yield
        return
    os.environ["GOMP_SPINCOUNT"] = SPIN_ROUNDS
    try:
        yield
    finally:
        del os.environ["GOMP_SPINCOUNT"]
