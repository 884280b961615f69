"""The documents tell the truth: examples run, printed output is what is printed, links lead
somewhere, shell lines are commands that exist, and no public name is forgotten.

A Python block runs unless `<!-- not run: reason -->` stands before it; all blocks of a document
share one namespace. A `text` block right after one is what it prints.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import logging
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest

import ryzanstein_llm
from benchmarks.batch import __main__ as batch_command
from benchmarks.history import __main__ as history_command
from benchmarks.peers import __main__ as peers_command
from benchmarks.performance import __main__ as performance_command
from benchmarks.versions import __main__ as versions_command
from ryzanstein_llm import (
    AsyncChatStream,
    AsyncTextIterator,
    BitNetModel,
    ChatDelta,
    ChatResult,
    ChatSession,
    ChatStream,
    Embedder,
    GenerationResult,
    KVCache,
    PerplexityResult,
    SamplingParams,
    Session,
    TextIterator,
    bench,
    cli,
    errors,
    testing,
)
from ryzanstein_llm.asynchronous import AsyncSource
from ryzanstein_llm.chat import ChatSource
from ryzanstein_llm.embedding import EmbeddingSource
from ryzanstein_llm.kernels import cpu
from ryzanstein_llm.openai import CompletionSource, CompletionStream
from ryzanstein_llm.testing import __main__ as testing_command
from training import command as training_command

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [
    *sorted(ROOT.glob("*.md")),
    *(ROOT / folder / "README.md" for folder in ("include/ryzanstein", "benchmarks", "training")),
    ROOT / "ryzanstein_llm" / "demo" / "README.md",
]
WITH_EXAMPLES = ("README.md", "API.md")

FENCE = re.compile(
    r"(?P<mark><!-- not run: [^\n]+ -->\n)?^```(?P<language>\w+)\n(?P<text>.*?)^```$", re.M | re.S
)
INSTALL_AND_RUN = (
    "python3 -m venv .venv && . .venv/bin/activate && pip install . "
    '&& ryzanstein-llm generate "Once upon a time"'
)
INSTALL_AND_TEST = (
    'python3 -m venv .venv && . .venv/bin/activate && pip install -e ".[test]" && python -m pytest'
)


@dataclasses.dataclass
class Block:
    """A fenced block of a document."""

    language: str
    text: str
    line: int
    marked: bool


def blocks(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [
        Block(
            found["language"],
            found["text"],
            text.count("\n", 0, found.start("text")),
            found["mark"] is not None,
        )
        for found in FENCE.finditer(text)
    ]


def shell_lines(*names: str) -> list[str]:
    return [
        line
        for name in names
        for block in blocks(ROOT / name)
        if block.language == "sh"
        for line in block.text.splitlines()
    ]


def commands(lines: list[str], program: str) -> Iterator[tuple[dict[str, str], list[str]]]:
    """(variables set in front, arguments) of each use of `program`."""
    for line in lines:
        for part in re.split(r"&&|[|>]", line):
            words = shlex.split(part, comments=True)
            variables = {}
            while words and re.fullmatch(r"[A-Z_]+=\S*", words[0]):
                name, _, variables[name] = words.pop(0).partition("=")
            if words[: len(program.split())] == program.split():
                yield variables, words[len(program.split()) :]


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_run_and_print_what_they_say(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = blocks(ROOT / name)
    space: dict[str, object] = {"__name__": "__main__"}
    with mock.patch.dict(os.environ), log_level_kept():
        for block, following in zip(found, [*found[1:], None], strict=True):
            if block.language != "python" or block.marked:
                continue
            # Blank lines in front, so that a traceback shows the document's line.
            code = compile("\n" * block.line + block.text, name, "exec", dont_inherit=True)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(code, space)
            expected = following.text if following and following.language == "text" else ""
            shown = "".join(line.rstrip() + "\n" for line in printed.getvalue().splitlines())
            assert shown == expected, f"{name}, example at line {block.line + 1}"


@contextlib.contextmanager
def log_level_kept() -> Iterator[None]:
    log = logging.getLogger("ryzanstein_llm")
    level = log.level
    yield
    log.setLevel(level)


def test_there_are_examples() -> None:
    """A fence that is written differently must not make the test above true of nothing."""
    for name, least in (("README.md", 3), ("API.md", 15)):
        assert sum(block.language == "python" for block in blocks(ROOT / name)) >= least
        fences = (ROOT / name).read_text(encoding="utf-8").count("\n```") / 2
        assert len(blocks(ROOT / name)) == fences


def test_readme_holds_the_two_commands() -> None:
    assert {INSTALL_AND_RUN, INSTALL_AND_TEST} <= set(shell_lines("README.md"))


def test_shell_lines_are_accepted() -> None:
    names = ("INSTALL.md", "CONTRIBUTING.md", "benchmarks/README.md", "training/README.md")
    lines = shell_lines(*WITH_EXAMPLES, *names)
    given = [arguments for _, arguments in commands(lines, "ryzanstein-llm")]
    assert given
    for arguments in given:
        assert understood(arguments), shlex.join(arguments)
    parsers = {
        "python -m ryzanstein_llm.testing": testing_command._parser(),
        "python -m benchmarks.batch": batch_command._parser(),
        "python -m benchmarks.history": history_command._parser(),
        "python -m benchmarks.peers": peers_command._parser(),
        "python -m benchmarks.performance": performance_command._parser(),
        "python -m benchmarks.versions": versions_command._parser(),
        "python -m training": training_command.parser(),
    }
    for program, parser in parsers.items():
        given = [arguments for _, arguments in commands(lines, program)]
        assert given
        for arguments in given:
            code: object = 0
            try:
                parser.parse_args(arguments)
            except SystemExit as stop:  # --version ends like this, too
                code = stop.code
            assert code == 0, f"{program} {shlex.join(arguments)}"


def understood(arguments: list[str]) -> bool:
    """Whether ryzanstein-llm knows the command and its options; nothing is run."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(io.StringIO()))
        for command in cli.program.commands.values():
            stack.enter_context(mock.patch.object(command, "callback", return_value=0))
        return cli.main(arguments) == 0


@pytest.mark.parametrize(
    ("variables", "arguments"),
    [
        pytest.param(variables, arguments, id=shlex.join(arguments))
        for variables, arguments in commands(shell_lines(*WITH_EXAMPLES), "ryzanstein-llm")
        if not {"--model", "-m", "-f", "checkpoint"} & set(arguments)
    ],
)
def test_shell_lines_run(variables: dict[str, str], arguments: list[str]) -> None:
    if variables.get("RYZANSTEIN_ISA", "scalar") not in cpu.available_tiers():
        pytest.skip("this CPU lacks the tier")
    result = subprocess.run(
        [sys.executable, "-m", "ryzanstein_llm", *arguments],
        env={**os.environ, "PYTHONIOENCODING": "utf-8", **variables},
        cwd=ROOT,
        capture_output=True,
        text=True,
        input="Long ago\n",
        timeout=120,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout


def test_every_public_name_is_in_the_api_document() -> None:
    text = (ROOT / "API.md").read_text(encoding="utf-8")
    names = [*ryzanstein_llm.__all__, *errors.__all__, *testing.__all__, *bench.__all__]
    names += ryzanstein_llm.cpu_info()
    for kind in (SamplingParams, GenerationResult, PerplexityResult, ChatResult, ChatDelta):
        names += [field.name for field in dataclasses.fields(kind)]
    chat = (ChatSource, ChatSession, ChatStream, CompletionSource, CompletionStream)
    embedding = (EmbeddingSource, Embedder)
    tasks = (AsyncSource, AsyncTextIterator, AsyncChatStream)
    for kind in (BitNetModel, KVCache, Session, TextIterator, *chat, *embedding, *tasks):
        names += [name for name in vars(kind) if not name.startswith("_") and name not in INNER]
    assert not [name for name in names if not re.search(rf"\b{name}\b", text)]


def test_every_extra_is_in_the_installation_document() -> None:
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    (section,) = re.findall(r"^\[project\.optional-dependencies\]\n(.*?)^\[", project, re.M | re.S)
    extras = set(re.findall(r"^(\w+) = \[", section, re.M))
    text = (ROOT / "INSTALL.md").read_text(encoding="utf-8")
    assert extras >= {"test", "parity"}
    assert not extras - set(re.findall(r"^\| `(\w+)` \|", text, re.M))


def test_extras_are_spelled_in_one_way() -> None:
    """As people copy it from documents and from messages. To pip, a hyphen would be the same."""
    sources = [*DOCUMENTS, *(ROOT / "ryzanstein_llm").rglob("*.py")]
    texts = [path.read_text(encoding="utf-8") for path in sources]
    found = {name for text in texts for name in re.findall(r"\b(ryzanstein.llm)\[\w", text)}
    assert found == {"ryzanstein_llm"}


def test_every_environment_variable_is_in_the_installation_document() -> None:
    sources = [*(ROOT / "ryzanstein_llm").rglob("*.py"), *(ROOT / "ryzanstein_llm").rglob("*.pyx")]
    named = r"\b(?:RYZANSTEIN|OMP|GOMP|XDG)_[A-Z_]+\b"
    found = {name for path in sources for name in re.findall(named, path.read_text("utf-8"))}
    assert "RYZANSTEIN_ISA" in found
    text = "".join((ROOT / name).read_text(encoding="utf-8") for name in ("INSTALL.md", "API.md"))
    assert not [name for name in found if name not in text]


# For the parts of the library among themselves, though without an underscore.
INNER = {"graph", "engine", "vocabulary", "layout", "reserve", "forget_from", "settle"}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", document.read_text(encoding="utf-8"), flags=re.M | re.S)
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)", text):
        if re.match(r"https?:", target):
            continue
        path = (document.parent / target) if target else document
        assert path.exists(), f"{document.name}: {target}"
        if anchor:
            assert anchor in anchors(path), f"{document.name}: {target}#{anchor}"


def anchors(document: Path) -> set[str]:
    """Headings as links name them: lower case, hyphens for spaces, no punctuation."""
    headings = re.findall(r"^#+ (.+)$", document.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_tree_is_the_tree() -> None:
    """Each line names something that is there; no folder or file of the top levels is left out."""
    (tree,) = [block.text for block in blocks(ROOT / "CONTRIBUTING.md") if block.language == "tree"]
    folder, named = ROOT, set()
    for line in tree.splitlines():
        name, gloss = line.split(maxsplit=1)
        path = (folder if line.startswith(" ") else ROOT) / name
        assert path.is_dir() if name.endswith("/") else path.is_file(), name
        assert gloss
        if not line.startswith(" "):
            folder = path
        named.add(path)
    package, include = ROOT / "ryzanstein_llm", ROOT / "include" / "ryzanstein"
    there = {path for folder in (package, include) for path in folder.iterdir()}
    sources = {path for path in there if path.is_dir() or path.suffix in (".py", ".h")}
    assert not {path for path in sources if path.name[0] != "_"} - named
