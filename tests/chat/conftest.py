"""`ryzanstein-llm chat`, run with lines as its standard input."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from extras import needs_extra

from ryzanstein_llm.cli import main

TURNS = (
    "{% for m in messages %}{{ bos_token }}{{ m.role }}\n{{ m.content }}{{ eos_token }}\n"
    "{% endfor %}{% if add_generation_prompt %}{{ bos_token }}assistant\n{% endif %}"
)

Talk = Callable[..., tuple[int, str, str]]


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Talk:
    """Runs the command with these lines as standard input; gives exit code, stdout, stderr."""

    def run(lines: str, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines.encode("utf-8"))))
        code = main(["chat", *arguments])
        return code, *capsys.readouterr()

    return run


@pytest.fixture
def template(tmp_path: Path) -> str:
    needs_extra("chat", "jinja2")
    path = tmp_path / "turns.jinja"
    path.write_text(TURNS)
    return str(path)
