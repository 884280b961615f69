"""Stop strings end a text at the same place however it was cut into pieces."""

from __future__ import annotations

import random

import pytest

from ryzanstein_llm.errors import InvalidParameterError
from ryzanstein_llm.text.stop_strings import StopStrings


def passed(stop, pieces):
    """Everything that comes out for these pieces, and what ended it."""
    stops = StopStrings(stop)
    out = "".join([stops.push(piece) for piece in pieces])
    return out + stops.flush(), stops.matched


def reference(stop, text):
    """By definition: the first prefix that ends with a stop string, without the longest such."""
    for end in range(1, len(text) + 1):
        complete = [one for one in stop if text[:end].endswith(one)]
        if complete:
            longest = max(complete, key=len)
            return text[: end - len(longest)], longest
    return text, None


@pytest.mark.parametrize(
    ("stop", "pieces", "text", "matched"),
    [
        ([], ["a", "b"], "ab", None),
        (None, ["a", "b"], "ab", None),
        ("end", ["the e", "nd of it"], "the ", "end"),
        (["\n\n"], ["one\n", "two\n", "\nthree"], "one\ntwo", "\n\n"),
        (["xyz"], ["xx", "yxy"], "xxyxy", None),
        (["aab"], ["a", "a", "a", "b"], "a", "aab"),
        (["abcd", "bc"], ["a", "b", "c", "d"], "a", "bc"),
        (["abcd", "bc"], ["abcd"], "a", "bc"),
        (["bc", "abc"], ["zabc"], "z", "abc"),
        (["ü", "ö"], ["Tür"], "T", "ü"),
    ],
)
def test_text_ends_before_the_stop_string_that_is_complete_first(stop, pieces, text, matched):
    assert passed(stop, pieces) == (text, matched)


def test_only_what_may_begin_a_stop_string_is_held_back():
    stops = StopStrings(["<end>", "nd."])
    assert stops.push("a <e") == "a "
    assert stops.push("n") == ""
    assert stops.push("x") == "<enx"
    assert stops.push("<<") == "<"
    assert stops.flush() == "<"
    assert stops.matched is None


def test_nothing_comes_after_a_match():
    stops = StopStrings("stop")
    assert stops.push("a stop b") == "a "
    assert (stops.push("more"), stops.flush(), stops.matched) == ("", "", "stop")


def test_any_cut_of_any_text_gives_the_same():
    rng = random.Random(5)
    for _ in range(3000):
        stop = ["".join(rng.choices("ab", k=rng.randint(1, 5))) for _ in range(rng.randint(1, 3))]
        pieces = ["".join(rng.choices("abc", k=rng.randint(0, 4))) for _ in range(8)]
        expected = reference(stop, "".join(pieces))
        assert passed(stop, pieces) == expected
        assert passed(stop, ["".join(pieces)]) == expected


@pytest.mark.parametrize("stop", ["", ["a", ""], [3], 7, [None], [b"a"]])
def test_what_cannot_be_a_stop_string_is_refused(stop):
    with pytest.raises(InvalidParameterError, match="stop"):
        StopStrings(stop)
