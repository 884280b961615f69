"""A `tokenizer.json` that would make the `tokenizers` library end the process, take much memory or
panic is refused before the library reads it."""

from __future__ import annotations

import base64
import json
import struct
from typing import Any

import pytest

from ryzanstein_llm.errors import FormatError
from ryzanstein_llm.formats.locate import DEMO_DIRECTORY
from ryzanstein_llm.text import tokenizer as module
from ryzanstein_llm.text.tokenizer_file import LARGEST_ID, check_tokenizer

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
    "a form that comes round with a replacement": (
        document(normalizer=sequence("normalizers", *[
            replace("a", "\ufdfa" * 40), {"type": "NFKD"}, replace("ل", "a")] * 4)),
        "one character may become 720 or more",
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

BOMB = sequence("normalizers", *[replace("o", "oo")] * 40)
LISTS = {
    "a list of steps": ({"normalizer": [[BOMB]]}, "normalizer"),
    "a list within steps": ({"normalizer": sequence("normalizers", [[BOMB]])}, "normalizer"),
    "a decoder": ({"decoder": [[replace("a", "aa")] * 40]}, "decoder"),
    "a piece of a template": (
        {"post_processor": template(*[{"Sequence": ["A", 0]}] * 30)}, "post_processor: single",
    ),
    "a special token": (
        {"post_processor": {**template(MARK, TEXT), "special_tokens": {"<s>": ["<s>", [3], []]}}},
        "post_processor: single",
    ),
    "a table of special tokens": (
        {"post_processor": {**template(TEXT), "special_tokens": [["<s>", {"ids": [3]}]]}},
        "post_processor: single",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", LISTS)
def test_a_list_in_the_place_of_an_object_is_refused(tmp_path, name):
    """The library would take it."""
    parts, where = LISTS[name]
    with pytest.raises(FormatError, match=rf"{where} holds .* in the place of an object"):
        read(tmp_path, document(**parts))


@pytest.mark.parametrize("kind", [None, 3, ["Replace"]])
def test_a_step_without_a_type_is_refused(tmp_path, kind):
    step = {**replace("o", "oo"), "type": kind}
    with pytest.raises(FormatError, match="normalizer: a step has no type"):
        read(tmp_path, document(normalizer=sequence("normalizers", step)))


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
    "forms, cases and blanks, one after the other": document(
        normalizer=sequence("normalizers", {"type": "NFKC"}, {"type": "NFD"},
                            {"type": "StripAccents"}, {"type": "Lowercase"},
                            replace(r"[ \t\r\n]+", " ", "Regex"), replace("^ $", "\ue000", "Regex"),
                            {"type": "Strip", "strip_left": True, "strip_right": True},
                            replace("\ue000", " ")),
        pre_tokenizer={"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True,
                       "use_regex": True},
    ),
    "ten expressions that replace what they match": document(
        normalizer=sequence("normalizers", {"type": "NFKC"},
                            charsmap(b"a", "صلى الله عليه وسلم".encode()),
                            *[replace(f"{mark}{{2,}}", mark, "Regex") for mark in "!,:;-_=~#' "]),
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
    "a table of replacements without padding": document(
        normalizer={"type": "Precompiled",
                    "precompiled_charsmap": charsmap(b"ab")["precompiled_charsmap"].rstrip("=")},
    ),
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
