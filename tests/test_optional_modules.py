"""`pip install -e ".[test]"` is enough to collect every test: modules of the other extras are
imported inside tests, or after a skip at the top of the file (`extras.needs_extra`).

Imports are followed from the test files into helpers and into our own packages.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent

# What the package and the extra `test` bring.
INSTALLED = {
    "click",
    "jinja2",
    "llguidance",
    "numpy",
    "safetensors",
    "starlette",
    "tokenizers",
    "pytest",
    "pytest_benchmark",
}


@dataclass
class Imports:
    """Of a file, and of what it imports of ours.

    Attributes
    ----------
    optional : dict of str to str
        Top names of modules imported before any skip for them, and `file:line`.
    skipped : set of str
        Top names of modules without which the file is skipped.
    """

    optional: dict[str, str] = field(default_factory=dict)
    skipped: set[str] = field(default_factory=set)


class Survey:
    """Imports at the top of files; `roots` are folders in which our modules are found."""

    def __init__(self, *roots: Path) -> None:
        self.roots = roots
        self._known: dict[Path, Imports] = {}

    def imports(self, path: Path) -> Imports:
        if path in self._known:
            return self._known[path]
        found = self._known[path] = Imports()  # already known to a circular import
        tree = ast.parse(path.read_text(encoding="utf-8"))
        for statement in top_statements(tree.body):
            if isinstance(statement, (ast.Expr, ast.Assign)):
                found.skipped |= skips(statement.value)
            for module in imported(statement, self._package(path)):
                self._note(module, f"{path.name}:{statement.lineno}", path.parent, found)
        return found

    def _note(self, module: str, place: str, folder: Path, found: Imports) -> None:
        top = top_name(module)
        ours = [*self._files(module, folder)]
        for file in ours:
            inner = self.imports(file)
            # What a helper skips for is decided before its own imports.
            found.skipped |= inner.skipped
            for name, where in inner.optional.items():
                if name not in found.skipped:
                    found.optional.setdefault(name, f"{place}, {where}")
        if ours or self._package_of_ours(top, folder):
            return
        if top not in INSTALLED | found.skipped | set(sys.stdlib_module_names):
            found.optional.setdefault(top, place)

    def _files(self, module: str, folder: Path) -> Iterator[Path]:
        """Files that `import module` runs: packages on the way, then the module."""
        for root in (folder, *self.roots):
            path = root
            files = []
            for part in module.split("."):
                path = path / part
                files += [f for f in (path / "__init__.py", path.with_suffix(".py")) if f.is_file()]
            if files:
                yield from files
                return

    def _package_of_ours(self, top: str, folder: Path) -> bool:
        return any((root / top).is_dir() for root in (folder, *self.roots))

    def _package(self, path: Path) -> list[str]:
        """Names that a relative import begins with."""
        names: list[str] = []
        while (path.parent / "__init__.py").is_file():
            path = path.parent
            names.insert(0, path.name)
        return names


def top_statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements that run on import, in order; not what only a type checker reads."""
    for statement in body:
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.dump(statement.test):
            yield from top_statements(statement.orelse)
            continue
        yield statement
        if isinstance(statement, (ast.If, ast.With, ast.Try)):
            for name in ("body", "handlers", "orelse", "finalbody"):
                for part in getattr(statement, name, []):
                    inner = part.body if isinstance(part, ast.ExceptHandler) else [part]
                    yield from top_statements(inner)


def skips(value: ast.expr) -> set[str]:
    """Top names of modules that `needs_extra` or `pytest.importorskip` ask for."""
    if not isinstance(value, ast.Call):
        return set()
    function = ast.unparse(value.func)
    asked = {"needs_extra": value.args[1:], "pytest.importorskip": value.args[:1]}
    return {top_name(ast.literal_eval(name)) for name in asked.get(function, [])}


def imported(statement: ast.stmt, package: list[str]) -> list[str]:
    """Absolute names of modules, and of what is imported from them, for it may be a module."""
    if isinstance(statement, ast.Import):
        return [alias.name for alias in statement.names]
    if not isinstance(statement, ast.ImportFrom):
        return []
    base = package[: len(package) + 1 - statement.level] if statement.level else []
    module = ".".join([*base, *([statement.module] if statement.module else [])])
    return [module, *(f"{module}.{alias.name}" for alias in statement.names)]


def top_name(module: str) -> str:
    """The package that must be installed."""
    return "torch" if module.startswith("safetensors.torch") else module.split(".")[0]


def test_every_test_is_collected_without_optional_modules() -> None:
    survey = Survey(TESTS, ROOT)
    files = [
        path
        for folder in (TESTS, ROOT / "benchmarks")
        for pattern in ("test_*.py", "bench_*.py", "conftest.py")
        for path in sorted(folder.rglob(pattern))
    ]
    assert len(files) > 50
    wrong = [
        f"{path.relative_to(ROOT)}: {name} ({where})"
        for path in files
        for name, where in survey.imports(path).optional.items()
    ]
    assert not wrong


def test_the_survey_sees_the_skips_there_are() -> None:
    """A helper that is renamed must not make the test above true of nothing."""
    survey = Survey(TESTS, ROOT)
    assert "torch" in survey.imports(TESTS / "recipe" / "test_training_run.py").skipped
    assert "torch" in survey.imports(ROOT / "training" / "run.py").optional
    assert not survey.imports(TESTS / "test_documents.py").skipped


@pytest.mark.parametrize(
    ("text", "missing"),
    [
        ("import torch\n", {"torch"}),
        ("from matplotlib import figure\n", {"matplotlib"}),
        ("from safetensors.torch import load_file\n", {"torch"}),
        ("with open('x'):\n    import torch\n", {"torch"}),
        ("try:\n    pass\nexcept OSError:\n    import torch\n", {"torch"}),
        ("import torch\nneeds_extra('parity', 'torch')\n", {"torch"}),
        ("needs_extra('parity', 'torch')\nimport torch, gguf\n", {"gguf"}),
        ("needs_extra('parity', 'torch')\nfrom safetensors.torch import load_file\n", set()),
        ("torch = pytest.importorskip('torch')\nimport torch.nn\n", set()),
        ("import ours\n", {"torch"}),
        ("from inner import ours\n", {"matplotlib"}),
        ("import skipping\nimport torch\n", set()),
        ("import torch\nimport skipping\n", {"torch"}),
        ("import numpy, json, safetensors.numpy\nfrom inner import something\n", set()),
        ("def test_it() -> None:\n    import torch\n", set()),
        ("if TYPE_CHECKING:\n    import torch\n", set()),
    ],
)
def test_imports_are_found_and_skips_are_heard(
    tmp_path: Path, text: str, missing: set[str]
) -> None:
    (tmp_path / "inner").mkdir()
    for name, content in {
        "ours.py": "import torch\n",
        "skipping.py": "needs_extra('parity', 'torch')\nimport torch\n",
        "inner/__init__.py": "",
        "inner/ours.py": "from . import deeper\n",
        "inner/deeper.py": "import matplotlib\n",
        "test_it.py": text,
    }.items():
        (tmp_path / name).write_text(content)
    assert set(Survey(tmp_path).imports(tmp_path / "test_it.py").optional) == missing
