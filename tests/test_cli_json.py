"""What a command prints with --json is documented: each key stands in API.md."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from packed_file import logits
from small_model import write_small_model

from ryzanstein_llm.cli import main
from ryzanstein_llm.packed_cache import loading

DOCUMENT = (Path(__file__).resolve().parent.parent / "API.md").read_text(encoding="utf-8")

# Their keys are data: types of tensors, and variables of the environment.
OPEN = {"tensors", "environment"}


def keys_of(value: Any) -> set[str]:
    """All keys, at any depth."""
    if isinstance(value, list):
        return set().union(*map(keys_of, value))
    if not isinstance(value, dict):
        return set()
    inner = (keys_of(item) for name, item in value.items() if name not in OPEN)
    return set(value).union(*inner)


def documented_keys(command: str) -> set[str]:
    """The words in code style of the command's row in the table of --json."""
    (table,) = re.findall(r"^With `--json` .*?(?=^`cache`,)", DOCUMENT, re.M | re.S)
    (row,) = re.findall(rf"^\| `{re.escape(command)}`.*? \| (.*) \|$", table, re.M)
    return set(re.findall(r"`(\w+)`", row))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache directory with packed weights."""
    monkeypatch.setattr(loading, "LEAST_BYTES", 1)
    monkeypatch.setenv("RYZANSTEIN_CACHE", str(tmp_path / "cache"))
    logits(write_small_model(tmp_path / "model"), True)
    return tmp_path / "cache"


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("generate", ["generate", "Once", "-n", "3", "--profile"]),
        ("info", ["info"]),
        ("info PATH", ["info", ":demo:"]),
        ("doctor", ["doctor", ":demo:"]),
        ("bench", ["bench", "--quick", "-r", "1"]),
    ],
)
def test_every_key_is_documented(
    command: str, arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    check(command, arguments, capsys)


@pytest.mark.usefixtures("cache")
@pytest.mark.parametrize("arguments", ["list", "verify", "clear --yes"])
def test_every_key_of_the_cache_is_documented(
    arguments: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check(
        "cache clear --yes" if "clear" in arguments else "cache list",
        ["cache", *arguments.split()],
        capsys,
    )


def check(command: str, arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert not found.keys() - documented_keys(command)
    if command != "bench":  # the docstrings of the report describe what is in it
        assert not {key for key in keys_of(found) if not re.search(rf"\b{key}\b", DOCUMENT)}
