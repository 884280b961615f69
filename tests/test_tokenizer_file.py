"""A `tokenizer.json` that would make the `tokenizers` library end the process, take much memory or
panic is refused before the library reads it."""

from __future__ import annotations

import base64
import json
import random
import struct
import time
from typing import Any

import pytest
from tokenizers import Regex, normalizers

from ryzanstein_llm.errors import FormatError
from ryzanstein_llm.formats.locate import DEMO_DIRECTORY
from ryzanstein_llm.text import tokenizer as module
from ryzanstein_llm.text.growth import growth
from ryzanstein_llm.text.tokenizer_file import LARGEST_ID, MOST_GROWTH, check_tokenizer

BPE: dict[str, Any] = {
    "type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2, "<s>": 3}, "merges": ["a b"],
    "unk_token": None, "fuse_unk": False, "byte_fallback": False,
}  # fmt: skip


def document(**parts: Any) -> dict[str, Any]:
    names = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
    return {"version": "1.0", "added_tokens": [], **dict.fromkeys(names), "model": BPE, **parts}


def added(number: int, content: str = "<x>") -> dict[str, Any]:
    flags = ("single_word", "lstrip", "rstrip", "normalized")
    return {"id": number, "content": content, "special": True, **dict.fromkeys(flags, False)}


def replace(old: str, new: str, kind: str = "String") -> dict[str, Any]:
    return {"type": "Replace", "pattern": {kind: old}, "content": new}


def sequence(key: str, *steps: Any) -> dict[str, Any]:
    return {"type": "Sequence", key: list(steps)}


TEXT = {"Sequence": {"id": "A", "type_id": 0}}
MARK = {"SpecialToken": {"id": "<s>", "type_id": 0}}


def template(*single: Any, ids: tuple[int, ...] | None = (3,)) -> dict[str, Any]:
    known = {} if ids is None else {"<s>": {"id": "<s>", "ids": [*ids], "tokens": ["<s>"]}}
    return {
        "type": "TemplateProcessing", "single": list(single),
        "pair": [TEXT, {"Sequence": {"id": "B", "type_id": 0}}], "special_tokens": known,
    }  # fmt: skip


def charsmap(*texts: bytes, trie: bytes = bytes(1024)) -> dict[str, Any]:
    data = struct.pack("<I", len(trie)) + trie + b"".join(text + b"\0" for text in texts)
    return {"type": "Precompiled", "precompiled_charsmap": base64.b64encode(data).decode()}


def model(**changes: Any) -> dict[str, Any]:
    return document(model={**BPE, **changes})


HOSTILE = {
    "an id of the vocabulary": (
        model(vocab={**BPE["vocab"], "<s>": 2**31 - 1}),
        r"model\.vocab: the id of '<s>' is 2147483647, more than 4194303",
    ),
    "an id of another model": (
        document(model={"type": "WordLevel", "vocab": {"a": 1 << 30}, "unk_token": "a"}),
        r"model\.vocab: the id of 'a' is 1073741824",
    ),
    "an id of an added token": (
        document(added_tokens=[added(4), added(1 << 31, "<y>"), added(5, "<y>")]),
        r"added_tokens: the id of '<y>' is 2147483648",
    ),
    "merges without the prefix": (
        model(continuing_subword_prefix="##"),
        r"model\.merges\[0\] is 'a b', whose second piece does not begin with .* '##'",
    ),
    "merges in lists without the prefix": (
        model(continuing_subword_prefix="#", vocab={"a": 0, "é": 1, "aé": 2}, merges=[["a", "é"]]),
        r"model\.merges\[0\] is \['a', 'é'\]",
    ),
    "a normalizer that doubles forty times": (
        document(normalizer=sequence("normalizers", *[replace("o", "oo")] * 40)),
        "normalizer and pre_tokenizer: one character may become 512 or more, and at most 256",
    ),
    "a normalizer that writes a book": (
        document(normalizer=replace("o", "x" * 100_000)),
        "one character may become 100000 or more",
    ),
    "a normalizer that writes at every place": (
        document(normalizer=replace("", "x" * 300)),
        "one character may become 301 or more",
    ),
    "an expression that may match at every place": (
        document(normalizer=replace("o*", "x" * 300, "Regex")),
        "one character may become 301 or more",
    ),
    "a prefix of a book": (
        document(normalizer={"type": "Prepend", "prepend": "x" * 100_000}),
        "one character may become 100000 or more",
    ),
    "bytes of bytes": (
        document(pre_tokenizer=sequence("pretokenizers", *[{"type": "ByteLevel"}] * 40)),
        "one character may become 1024 or more",
    ),
    "a table of long replacements": (
        document(normalizer=charsmap(b"a", b"x" * 1000)),
        "one character may become 1000 or more",
    ),
    "a decoder that doubles forty times": (
        document(decoder=sequence("decoders", *[replace("a", "aa")] * 40)),
        "decoder: one character may become 512 or more",
    ),
    "a decoder that separates characters": (
        document(decoder=sequence("decoders", *[{"type": "BPEDecoder", "suffix": ""}] * 40)),
        "decoder: one character may become",
    ),
    "a damaged table of replacements": (
        document(normalizer={"type": "Precompiled", "precompiled_charsmap": "AAEC"}),
        "normalizer: the precompiled_charsmap of Precompiled is damaged",
    ),
    "a table of replacements that is no UTF-8": (
        document(normalizer=charsmap(b"\xff")),
        "normalizer: the precompiled_charsmap of Precompiled is damaged",
    ),
    "pieces of no length": (
        document(pre_tokenizer={"type": "FixedLength", "length": 0}),
        "pre_tokenizer: the length of FixedLength is 0",
    ),
    "a template with an unknown token": (
        document(post_processor=template(MARK, TEXT, ids=None)),
        "post_processor: single names '<s>', which is not in special_tokens",
    ),
    "a template with many ids": (
        document(post_processor=sequence("processors", template(MARK, TEXT, MARK, ids=(3,) * 999))),
        "post_processor: single adds 1998 ids to a text, more than 1024",
    ),
    "a template that repeats the text": (
        document(post_processor=template(*[TEXT] * 30)),
        "post_processor: single has the text 30 times",
    ),
    "a template with a second text": (
        document(post_processor=template({"Sequence": {"id": "B", "type_id": 0}})),
        "post_processor: single has the sequence 'B', but there is one text",
    ),
}  # fmt: skip

HARMLESS = {
    "the largest id": model(vocab={**BPE["vocab"], "<s>": LARGEST_ID}),
    "a prefix that all second pieces have": document(
        model={**BPE, "vocab": {"a": 0, "##b": 1, "ab": 2}, "merges": ["a ##b"],
               "continuing_subword_prefix": "##"},
    ),
    "spaces as SentencePiece has them": document(
        normalizer=sequence("normalizers", {"type": "Prepend", "prepend": "▁"}, replace(" ", "▁")),
        decoder=sequence("decoders", replace("▁", " "), {"type": "ByteFallback"}, {"type": "Fuse"},
                         {"type": "Strip", "content": " ", "start": 1, "stop": 0}),
    ),
    "quotes, blanks and marks as XLNet has them": document(
        normalizer=sequence("normalizers", replace("``", '"'), replace("''", '"'), {"type": "NFKD"},
                            {"type": "StripAccents"}, {"type": "Lowercase"},
                            replace(" {2,}", " ", "Regex")),
        pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always",
                       "split": True},
    ),
    "many replacements of one character": document(
        normalizer=sequence("normalizers", *[replace(chr(0x4E00 + i), "abc") for i in range(200)]),
    ),
    "a line break as a word": document(
        normalizer=replace("\n", "<|newline|>"),
        pre_tokenizer=sequence("pretokenizers", {"type": "Digits", "individual_digits": True},
                               {"type": "ByteLevel", "add_prefix_space": False,
                                "trim_offsets": True, "use_regex": True}),
    ),
    "a table of replacements": document(normalizer=charsmap(b"a", "صلى الله عليه وسلم".encode())),
    "marks around the text": document(post_processor=template(MARK, TEXT, MARK)),
}  # fmt: skip


def read(tmp_path, spec):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(spec), encoding="utf-8")
    return module.Tokenizer.from_file(path)


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_value_is_refused_by_name_and_the_library_never_sees_it(
    tmp_path, monkeypatch, capfd, name
):
    class Library:
        @staticmethod
        def from_str(text):
            raise AssertionError("the library was given the file")

    monkeypatch.setattr(module, "RawTokenizer", Library)
    spec, problem = HOSTILE[name]
    with pytest.raises(FormatError, match=problem) as caught:
        read(tmp_path, spec)
    assert str(caught.value).startswith(f"{tmp_path / 'tokenizer.json'}: ")
    assert len(str(caught.value)) < 600 + len(str(tmp_path))
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("name", HARMLESS)
def test_what_released_tokenizers_have_is_accepted(tmp_path, name):
    found = read(tmp_path, HARMLESS[name])
    assert found.raw.to_str()


def test_the_tokenizer_of_the_demo_is_accepted():
    check_tokenizer((DEMO_DIRECTORY / "tokenizer.json").read_text("utf-8"), "demo")


def test_a_key_that_is_given_twice_is_an_error_as_readers_differ(tmp_path):
    path = tmp_path / "tokenizer.json"
    text = json.dumps(document())
    path.write_text(text.replace('"normalizer": null', '"normalizer": null, "normalizer": null'))
    with pytest.raises(FormatError, match="the key 'normalizer' occurs twice"):
        module.Tokenizer.from_file(path)


def test_a_token_that_is_given_twice_has_its_last_id(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document()).replace('"<s>": 3', '"<s>": 3, "<s>": 5'))
    assert module.Tokenizer.from_file(path).token_id("<s>") == 5
    path.write_text(json.dumps(document()).replace('"<s>": 3', f'"<s>": 3, "<s>": {1 << 31}'))
    with pytest.raises(FormatError, match="the id of '<s>' is 2147483648"):
        module.Tokenizer.from_file(path)


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "[" * 100_000, '{"model": ' * 100_000])
def test_what_is_no_tokenizer_at_all_is_an_error(tmp_path, text):
    path = tmp_path / "tokenizer.json"
    path.write_text(text)
    with pytest.raises(FormatError, match=r"tokenizer\.json: the tokenizer cannot be used"):
        module.Tokenizer.from_file(path)


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
