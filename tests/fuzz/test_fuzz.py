"""Readers of foreign bytes raise errors of this library and nothing else, whatever they are given:
some hundred inputs each, the same in every run. `python -m tests.fuzz` tries more."""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from random import Random

import pytest
from extras import needs_extra

from ryzanstein_llm.hub import transfer
from ryzanstein_llm.packed_cache import loading
from ryzanstein_llm.text import chat_template

from . import targets
from .check import check
from .mutate import mutate
from .target import KEPT, TARGETS, kept

needs_extra("chat", "jinja2")
needs_extra("structured", "llguidance")
needs_extra("hub", "huggingface_hub")

assert targets
INPUTS = 300
CHANGED = (
    (chat_template, "SECONDS"),
    (loading, "LEAST_BYTES"),
    (transfer, "PATIENCE"),
    (transfer, "PAUSE"),
)
ALL_ACCEPTED = ("answer", "packed_cache")
"""No input is wrong: an answer is text if it is nothing else, and a spoilt cache is not used."""


@pytest.fixture(autouse=True)
def _undone(monkeypatch: pytest.MonkeyPatch) -> None:
    """What targets change for themselves is put back, so that no other test sees it."""
    for module, name in CHANGED:
        monkeypatch.setattr(module, name, getattr(module, name))


@pytest.mark.parametrize(
    ("name", "what"), [(name, what) for name in TARGETS for what in kept(name)]
)
def test_what_was_found_before(
    name: str, what: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    check(TARGETS[name](tmp_path).read, kept(name)[what])


def test_inputs_are_kept_for_targets_that_there_are() -> None:
    assert {path.name for path in KEPT.iterdir()} <= set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_only_errors_of_this_library(
    name: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)
    ready = TARGETS[name](tmp_path)
    outcomes: Counter[str] = Counter()
    for number in range(INPUTS):
        random = Random(f"{name} {number}")
        seed = ready.seeds[number % len(ready.seeds)]
        data = seed if number < len(ready.seeds) else mutate(seed, random, ready.seeds, ready.words)
        outcomes[check(ready.read, data)] += 1
    assert outcomes["accepted"]
    if name not in ALL_ACCEPTED:
        assert len(outcomes) > 1
