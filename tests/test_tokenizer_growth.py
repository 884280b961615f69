"""How much longer a tokenizer's steps can make a text is never underrated, and is counted without
doing it."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from tokenizers import Regex, normalizers

from ryzanstein_llm.text.growth import growth
from ryzanstein_llm.text.tokenizer_file import MOST_GROWTH


def replace(old: str, new: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: old}, "content": new}


def random_steps(chooser: random.Random) -> list[dict[str, Any]]:
    steps: list[dict[str, Any]] = []
    for _ in range(chooser.randrange(1, 5)):
        text = "".join(chooser.choices("abé ", k=chooser.randrange(4)))
        kind = chooser.randrange(5)
        if kind < 2:
            steps.append(replace("".join(chooser.choices("abé ", k=chooser.randrange(3))), text))
        elif kind == 2:
            steps.append(replace(chooser.choice(["a*", "[ab]", r"\s+", "(?=b)"]), text, "Regex"))
        elif kind == 3 and text:
            steps.append({"type": "Prepend", "prepend": text})
        elif kind == 4:
            steps.append({"type": "ByteLevel"})
    return steps


def normalizer(step: dict[str, Any]) -> normalizers.Normalizer:
    if step["type"] == "Replace":
        ((kind, pattern),) = step["pattern"].items()
        return normalizers.Replace(Regex(pattern) if kind == "Regex" else pattern, step["content"])
    if step["type"] == "Prepend":
        return normalizers.Prepend(step["prepend"])
    return normalizers.ByteLevel()


@pytest.mark.parametrize("seed", range(300))
def test_no_text_grows_more_than_is_counted(seed):
    """The library itself is the reference, step by step: a chain of them can make it panic."""
    chooser = random.Random(seed)
    steps = random_steps(chooser)
    most = growth(steps, decoder=False, most=1e9)
    for text in ("a", "b", "é", " ", *("".join(chooser.choices("abé z", k=9)) for _ in range(9))):
        found = text
        for step in steps:
            found = normalizer(step).normalize_str(found)
        assert len(found) <= most * (len(text) + 1)


def test_growth_is_not_overrated_where_steps_do_not_feed_each_other():
    assert growth([replace(a, b) for a, b in ("ab", "bc", "cd")], decoder=False, most=99) == 1
    assert growth([replace("a", "xy"), replace("b", "xyz")], decoder=False, most=99) == 3
    assert growth([replace("a", "bb"), replace("b", "ccc")], decoder=False, most=99) == 6
    assert growth([replace("abc", "x")], decoder=False, most=99) == 1


def test_a_chain_of_many_steps_is_counted_in_linear_time():
    harmless = [replace(chr(0x4E00 + index % 9999), "b") for index in range(200_000)]
    begin = time.process_time()
    assert growth(harmless, decoder=False, most=MOST_GROWTH) == 1
    inserting = [*harmless[:9999], *[replace("o*", "", "Regex")] * 200_000]
    assert growth(inserting, decoder=False, most=MOST_GROWTH) == 1
    assert time.process_time() - begin < 5
