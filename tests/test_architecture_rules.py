"""Promises the tree makes: where things may stand, and where not.

Each test is one rule. A rule that has become wrong is changed here, on purpose and in
the open, not worked around.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "ryzanstein_llm"
KERNELS = PACKAGE / "kernels"
HEADERS = ROOT / "include" / "ryzanstein"
KERNEL_TESTS = ROOT / "tests" / "kernels"


def c_sources() -> list[Path]:
    """C of ours outside include/; not what Cython wrote."""
    return [path for path in PACKAGE.rglob("*.c") if not path.with_suffix(".pyx").exists()]


def cython_sources() -> list[Path]:
    return [path for suffix in ("*.pyx", "*.pxd") for path in PACKAGE.rglob(suffix)]


def python_sources() -> list[Path]:
    return [*PACKAGE.rglob("*.py"), ROOT / "setup.py"]


def without_comments(path: Path) -> str:
    """The text with comments (and Cython's docstrings) blanked, lines kept."""
    comment = r'"""[\s\S]*?"""|#.*' if path.suffix in (".pyx", ".pxd") else r"/\*[\s\S]*?\*/|//.*"
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return text
    return re.sub(comment, lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def named(paths: list[Path], pattern: str) -> list[str]:
    """`file:line` of every line whose code matches."""
    return [
        f"{path.relative_to(ROOT)}:{number}"
        for path in sorted(paths)
        for number, line in enumerate(without_comments(path).splitlines(), 1)
        if re.search(pattern, line)
    ]


def imports(path: Path) -> Iterator[tuple[str, str]]:
    """(absolute module, imported name or "") of every import of a Python file of the package."""
    parents = path.relative_to(ROOT).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((alias.name, "") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = parents[: len(parents) + 1 - node.level] if node.level else ()
            module = ".".join([*base, *([node.module] if node.module else [])])
            yield from ((module, alias.name) for alias in node.names)


def test_there_is_something_to_check() -> None:
    """A moved folder must not make the rules below true of nothing."""
    assert len(c_sources()) >= 5
    assert len(cython_sources()) >= 7
    assert len(list(PACKAGE.glob("models/*.py"))) >= 2
    assert len(list(HEADERS.rglob("*.h"))) >= 20


def test_intrinsics_only_under_include() -> None:
    outside = [*c_sources(), *cython_sources(), *python_sources()]
    assert not named(outside, r"_mm(256|512)?_\w+\s*\(|\b__m(128|256|512)i?\b")


def test_openmp_only_in_cython_modules_and_setup() -> None:
    headers = [*HEADERS.rglob("*.h"), *HEADERS.rglob("*.c")]
    python = [path for path in python_sources() if path.name != "setup.py"]
    elsewhere = [*headers, *c_sources(), *python]
    assert not named(elsewhere, r"#\s*pragma\s+omp|omp\.h|\bomp_\w+\(|\bprange\b|-fopenmp")


def test_one_wheel_serves_every_x86_64() -> None:
    """The baseline is plain x86-64; wider code has its own target regions."""
    setup = [ROOT / "setup.py"]
    architectures = re.findall(r"-march=([\w-]+)", setup[0].read_text(encoding="utf-8"))
    assert set(architectures) == {"x86-64"}
    fast = r"-ffast-math|-Ofast|-funsafe|-fassociative|/fp:fast|-m(avx|sse|fma)|/arch:|=native"
    assert not named([*setup, ROOT / "pyproject.toml"], fast)


def test_products_and_sums_are_never_fused() -> None:
    assert named([ROOT / "setup.py"], r"-ffp-contract=off")
    code = [*HEADERS.rglob("*.h"), *c_sources()]
    approximate = r"_(fmadd|fmsub|fnmadd|rcp\d*|rsqrt\d*|dpbf16)_\w+\(|\bfmaf?\("
    assert not named(code, approximate)


def test_no_libm_in_the_kernels() -> None:
    """Its bits differ between versions and CPUs. sqrt is exact, and one instruction."""
    code = [*HEADERS.rglob("*.h"), *c_sources(), *cython_sources()]
    functions = "expf?|exp2f?|expm1f?|logf?|log2f?|powf?|sinf?|cosf?|tanhf?|erff?|erfcf?|cbrtf?"
    # not a definition (elementwise.exp) and not a member of the table
    assert not named(code, rf"(?<!def )(?<![.>])\b({functions})\(")
    numpy = r"np\.(exp|log|sin|cos|tanh|power|sum|dot|einsum)\b"
    assert not named(cython_sources(), rf"libc\.math|{numpy}")


def test_the_library_never_prints() -> None:
    """Only the command lines do."""
    spoken = []
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE)
        if inside.parts[0] == "cli" or inside.name == "__main__.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                if node.func.id in ("print", "input"):
                    spoken.append(f"{inside}:{node.lineno}")
            elif isinstance(node, ast.Attribute) and node.attr in ("stdout", "stderr"):
                spoken.append(f"{inside}:{node.lineno}")
    assert not spoken
    assert not named([*cython_sources(), *c_sources(), *HEADERS.rglob("*.h")], r"\bf?printf?\(")


def test_models_know_checkpoints_but_no_file_format() -> None:
    interface = {"Checkpoint", "Tensor", "TensorInfo"}
    for path in PACKAGE.glob("models/*.py"):
        for module, name in imports(path):
            if module.startswith("ryzanstein_llm.formats") or module == "safetensors":
                assert (module, name in interface) == ("ryzanstein_llm.formats", True), (
                    f"{path.name} imports {name or module} from {module}"
                )
    assert not named(list(PACKAGE.glob("models/*.py")), r"\.safetensors|\.gguf\b|avx|vnni")


def test_formats_know_no_models() -> None:
    for path in PACKAGE.glob("formats/*.py"):
        for module, _ in imports(path):
            assert not module.startswith(("ryzanstein_llm.models", "ryzanstein_llm.kernels"))


def test_kernels_know_neither_models_nor_files() -> None:
    imported = r"^\s*(from|import|cimport)\s+(ryzanstein_llm)?\.*(?!kernels|errors)\b"
    upwards = rf"{imported}(models|formats|session|model|runner|generation|kv_cache|cli)\b"
    assert not named(cython_sources(), upwards)
    outside = named(cython_sources(), r"ryzanstein_llm\.(?!kernels|errors)\w+")
    assert not outside


# From top to bottom: each imports only what stands below it, types too.
FLOORS = (
    "_pyinstaller", "__main__", "cli", "diagnosis", "integrations", "evaluation", "bench",
    "testing", "progress", "embedder", "conversion", "inspection", "memory", "model", "hub",
    "openai", "asynchronous", "batch", "chat", "session", "saved_session", "text_source",
    "text_iterator", "generation", "overflow", "claim", "perplexity", "scoring", "embedding",
    "facts", "engine", "loading", "profiling", "options", "results", "structured", "text",
    "sampling", "models", "packed_cache", "formats", "system", "kernels", "notebook", "text_table",
    "public_class", "interfaces", "validation", "errors", "_version",
)  # fmt: skip


def own_imports(path: Path) -> set[str]:
    """Modules of the package that a file imports, as `engine.blocks`."""
    found = set()
    for module, name in imports(path):
        if module.split(".")[0] != "ryzanstein_llm":
            continue
        inside = module.split(".")[1:]
        below = PACKAGE.joinpath(*inside, name)
        if name and (below.with_suffix(".py").exists() or (below / "__init__.py").exists()):
            inside = [*inside, name]
        found.add(".".join(inside))
    return found - {"", module_name(path)}


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def test_every_part_has_its_floor() -> None:
    parts = {
        path.relative_to(PACKAGE).parts[0].removesuffix(".py") for path in python_sources()[:-1]
    }
    assert parts - {"__init__"} == set(FLOORS)


def test_imports_go_downward_only() -> None:
    upward = []
    for path in PACKAGE.rglob("*.py"):
        name = module_name(path)
        part = name.split(".")[0]
        for imported in own_imports(path) if name else ():
            other = imported.split(".")[0]
            if other != part and FLOORS.index(other) < FLOORS.index(part):
                upward.append(f"{name} imports {imported}")
    assert not upward


def test_no_circle_of_imports() -> None:
    """Not within a folder either, nor of types alone."""
    found = {module_name(path): own_imports(path) for path in PACKAGE.rglob("*.py")}
    graph = {name: below & set(found) for name, below in found.items()}  # no compiled modules
    order: list[str] = []
    while ready := [name for name, below in graph.items() if below <= set(order)]:
        order += ready
        for name in ready:
            del graph[name]
    assert not {name: below - set(order) for name, below in graph.items()}


def test_files_are_short_enough_to_read_whole() -> None:
    python = [path for path in PACKAGE.rglob("*.py") if path.parent.name != "kernels"]
    kernels = [*cython_sources(), *HEADERS.rglob("*.h")]
    long = [*(p for p in python if lines(p) > 350), *(p for p in kernels if lines(p) > 420)]
    assert not [f"{path.relative_to(ROOT)}: {lines(path)} lines" for path in long]


def lines(path: Path) -> int:
    return path.read_text(encoding="utf-8").count("\n")


def test_the_top_needs_only_its_dependencies() -> None:
    """PyTorch and transformers are never imported by the library; IPython by what notebooks show,
    jinja2 by what renders chat templates, llguidance by what knows grammars, and huggingface_hub by
    what downloads, only in the functions that need them; lm-eval by its integration alone."""
    allowed = {"numpy", "safetensors", "tokenizers", "ryzanstein_llm"}
    optional = {
        ("notebook.py", "IPython"),
        ("bounded_jinja.py", "jinja2"),
        ("grammars.py", "llguidance"),
        ("line_reader.py", "prompt_toolkit"),
        ("settings.py", "huggingface_hub"),
        ("requests.py", "certifi"),
        ("schemas.py", "pydantic"),  # for its own dataclasses
        ("__init__.py", "lm_eval"),  # of integrations/lm_eval, and there alone
        ("__main__.py", "lm_eval"),
        ("adapter.py", "lm_eval"),
        ("adapter.py", "tqdm"),
        ("task_files.py", "lm_eval"),
        ("hook-ryzanstein_llm.py", "PyInstaller"),  # which runs it
    }
    foreign = {True: set(), False: set()}  # by: is it of the command line?
    for path in PACKAGE.rglob("*.py"):
        for module, _ in imports(path):
            if (path.name, module.split(".")[0]) not in optional:
                foreign[path.parent.name == "cli"].add(module.split(".")[0])
    assert foreign[False] - set(sys.stdlib_module_names) <= allowed
    assert foreign[True] - set(sys.stdlib_module_names) <= {"click", "ryzanstein_llm"}
    assert not named([PACKAGE / "notebook.py"], r"^(from|import) IPython")
    assert not named([*PACKAGE.rglob("*.py")], r"^(from|import) [\w.]*bounded_jinja")
    outside = [p for p in PACKAGE.rglob("*.py") if "integrations" not in p.parts]
    assert not named(outside, r"^\s*(from|import) (lm_eval|tqdm)|^(from|import) .*integrations")


@pytest.mark.parametrize("name", sorted(p.stem for p in HEADERS.glob("ops/*.h")))
def test_every_operation_has_a_test_file_of_its_name(name: str) -> None:
    test = KERNEL_TESTS / f"test_{name}.py"
    assert test.exists()
    assert re.search(r"\btier\b", test.read_text(encoding="utf-8")), "not run under every tier"


@pytest.mark.parametrize("name", sorted(p.name for p in HEADERS.glob("ternary/*.h")))
def test_every_ternary_header_belongs_to_a_tier(name: str) -> None:
    """test_ternary.py runs under every tier, so a header a tier includes is tested."""
    users = [*KERNELS.glob("tiers/*.c"), *HEADERS.glob("ternary/*.h")]  # test_amx.py: the amx tier
    assert named(users, rf'#include "ryzanstein/ternary/{re.escape(name)}"')
    assert '"tier"' in (KERNEL_TESTS / "test_ternary.py").read_text(encoding="utf-8")


def test_every_tier_has_its_probe_and_its_file() -> None:
    tiers = {path.stem for path in KERNELS.glob("tiers/*.c")}
    probes = {path.stem for path in HEADERS.glob("probes/*.c")}
    assert tiers == probes | {"scalar"}
    text = (KERNELS / "dispatch.c").read_text(encoding="utf-8")
    assert set(re.findall(r'\{"(\w+)"', text)) == tiers


def test_every_table_entry_is_filled() -> None:
    """A member of rz_kernels that table.h forgets would be a null pointer in every tier."""
    contract = without_comments(HEADERS / "kernels.h")
    body = contract.partition("typedef struct rz_kernels {")[2].partition("} rz_kernels;")[0]
    members = set(re.findall(r"\(\*(\w+)(?:\[\w+\])?\)\(|^ *(?:const )?\w+ \*?(\w+);", body, re.M))
    names = {function or plain for function, plain in members}
    filled = set(re.findall(r"^\s*\.(\w+) =", (HEADERS / "table.h").read_text("utf-8"), re.M))
    assert {"tier", "rms_norm", "attend_block"} <= names
    assert filled == names
