"""How much longer a tokenizer's steps can make a text is never underrated, and is counted without
doing it."""

from __future__ import annotations

import random
import time
from typing import Any

import pytest
from tokenizers import Regex, decoders, normalizers

from ryzanstein_llm.text.growth import FORMS, REQUIRED, growth
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
    simple = {kind: getattr(normalizers, kind) for kind in FORMS}
    if step["type"] == "BertNormalizer":
        return normalizers.BertNormalizer(True, True, False, False)
    return simple.get(step["type"], normalizers.ByteLevel)()


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


LIGATURE = "\ufdfa"  # 18 characters in NFKD, four of them "ل"
CYCLES = {
    "a form": [replace("a", LIGATURE * 4), {"type": "NFKD"}, replace("ل", "a")],
    "lower case": [replace("i", "İİİ"), {"type": "Lowercase"}],
    "other spaces": [replace(" ", "\u2028" * 9), {"type": "Nmt"}],
    "spaces around a character": [
        {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
         "strip_accents": False, "lowercase": False},
        replace(" ", "一一"),
    ],
}  # fmt: skip
BLANK = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False}
BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
PAD = {"type": "CTC", "pad_token": "<p>", "word_delimiter_token": "|", "cleanup": True}
DECODER_CYCLES = {
    "blanks": [replace(" ", "▁▁▁"), BLANK],
    "bytes": [replace("á", "Ã¡" * 3), BYTES],
    "words": [replace(" ", "|||"), PAD],
}


def decoder(step: dict[str, Any]) -> decoders.Decoder:
    if step["type"] == "Replace":
        ((_, pattern),) = step["pattern"].items()
        return decoders.Replace(pattern, step["content"])
    if step["type"] == "Metaspace":
        return decoders.Metaspace("▁", "never", False)
    return decoders.CTC("<p>", "|", True) if step["type"] == "CTC" else decoders.ByteLevel()


@pytest.mark.parametrize("name", [*CYCLES, *DECODER_CYCLES])
def test_what_a_step_makes_of_characters_is_counted_when_they_come_round(name):
    """Each of these steps gives the replacement before it, or the next one, something to do."""
    steps = 3 * (CYCLES.get(name) or DECODER_CYCLES[name])
    text, found = {"spaces around a character": "一", "bytes": "á"}.get(name, "a b i"), 0
    for step in steps:
        if name in CYCLES:
            text = normalizer(step).normalize_str(text)
        else:
            text = decoder(step).decode([text])
        found = max(found, len(text))
    most = growth(steps, decoder=name in DECODER_CYCLES, most=1e12)
    assert 20 < found <= most * max(FORMS.values())
    assert growth(steps * 3, decoder=name in DECODER_CYCLES, most=MOST_GROWTH) > MOST_GROWTH


@pytest.mark.parametrize(
    "expression",
    [" {2,}", r"\s+", r"[ \t\r\n]+", r"\n", r"[^\w\s]", r"\p{Punct}+", "-{2,5}x*",
     r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"],
)  # fmt: skip
def test_an_expression_that_matches_no_empty_text_replaces_what_it_matches(expression):
    steps = [replace(expression, " ", "Regex")] * 9 + [replace(expression, "xyz", "Regex")]
    assert growth(steps, decoder=False, most=99) == 3
    assert normalizers.Replace(Regex(expression), "xyz").normalize_str("ab") == "ab"


def test_an_expression_that_may_match_an_empty_text_inserts():
    """The library is the judge: none that counts as required matches where nothing is."""
    chooser, required = random.Random(1), 0
    pieces = [*"ab []^{}()*+?|\\.$-&:12nstK", "{2,}", "{0}", r"\s+", "[^a]", "(?=", r"\K", "&&"]
    pieces += ["{2,0}", "(?#)", "(?i)", "(?x)", "{,1}"]
    for _ in range(40_000):
        expression = "".join(chooser.choices(pieces, k=chooser.randrange(1, 6)))
        try:
            step = normalizers.Replace(Regex(expression), "Z")
        except Exception:
            continue
        if REQUIRED.fullmatch(expression):
            required += 1
            for text in ("", "a", "b ", "2-&", "{2}"):
                assert len(step.normalize_str(text)) <= len(text), expression
    assert required > 1000
    optional = ["a*", "a?", "a{0,2}", "a{2}?", "a+*", "a|", "(a|)", r"a\K", "(?=a)", "^", ""]
    optional += ["a{1,0}", "[a]{2,0}", "a{1,00}", "a(?#)*", "a(?#b)?", r"\s+(?#){0}", "a{2}(?#)?"]
    assert not any(map(REQUIRED.fullmatch, optional))


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
