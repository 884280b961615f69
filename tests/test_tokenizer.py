"""Text to ids and back; and ids to text one at a time, equal to decoding them all at once.

The reference for decoding is the `tokenizers` library itself.
"""

from __future__ import annotations

import json
import logging
import random
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from tokenizers import Tokenizer as RawTokenizer

from ryzanstein_llm.errors import FormatError, InvalidParameterError
from ryzanstein_llm.text import tokenizer as tokenizer_module
from ryzanstein_llm.text.library import LibraryErrors
from ryzanstein_llm.text.pipeline import BYTE_ALPHABET
from ryzanstein_llm.text.tokenizer import Tokenizer

BYTE_CHARACTERS = {byte: character for character, byte in BYTE_ALPHABET.items()}

REPLACE = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
REPLACE_REGEX = {"type": "Replace", "pattern": {"Regex": "▁+"}, "content": "_"}
FALLBACK = {"type": "ByteFallback"}
FUSE = {"type": "Fuse"}
BYTE_LEVEL = {
    "type": "ByteLevel",
    "add_prefix_space": True,
    "trim_offsets": True,
    "use_regex": True,
}


def strip(start, stop=0):
    return {"type": "Strip", "content": " ", "start": start, "stop": stop}


def metaspace(scheme):
    return {"type": "Metaspace", "replacement": "▁", "prepend_scheme": scheme, "split": True}


def sequence(*decoders):
    return {"type": "Sequence", "decoders": list(decoders)}


DECODERS = {
    "none": None,
    "byte_level": BYTE_LEVEL,
    "llama2": sequence(REPLACE, FALLBACK, FUSE, strip(1)),
    "gemma": sequence(REPLACE, FALLBACK, FUSE),
    "unfused": sequence(REPLACE, FALLBACK, strip(1)),
    "regex": sequence(REPLACE_REGEX, FALLBACK, FUSE),
    "nested": sequence(sequence(REPLACE, FALLBACK), sequence(FUSE, strip(3))),
    "fallback_alone": FALLBACK,
    "metaspace_always": metaspace("always"),
    "metaspace_first": metaspace("first"),
    "metaspace_never": metaspace("never"),
    "fallback_then_metaspace": sequence(FALLBACK, metaspace("always")),
    "byte_level_then_strip": sequence(BYTE_LEVEL, strip(2)),
    "wordpiece": {"type": "WordPiece", "prefix": "##", "cleanup": True},
    # No incremental form: held to the end, but exact all the same.
    "replace_after_fuse": sequence(FALLBACK, FUSE, REPLACE_REGEX, strip(1)),
    "byte_level_after_fuse": sequence(FUSE, BYTE_LEVEL),
    "ctc": {"type": "CTC", "pad_token": "a", "word_delimiter_token": "b", "cleanup": True},
}

WORDS = ["▁", "▁▁", "▁a", "b", "a▁", " ", "  ", "##c", "d", ".", " .", "é", "€", "�", "n't"]
BYTES = [f"<0x{byte:02X}>" for byte in (0x20, 0x41, 0xE2, 0x82, 0xAC, 0xC3, 0xA9, 0xFF, 0x80)]
ODD = ["<0xe2>", "<0x+5>", "<0x123>", "<0xG0>"]
PARTIAL = [bytes([byte]) for byte in b"\xf0\x9f\x98\x80\xe2\x82\xac\xed\xa0\xc0\xf4\xff A"]
LONGER = [b"\xe2\x82", b"\xac\xf0", b"\x9f\x98", b" the", b"\xff\xff", b"\xed\xa0\x80"]


def spell(data):
    """A byte string as a token of a byte-level vocabulary."""
    return "".join(BYTE_CHARACTERS[byte] for byte in data)


def build(decoder, *, post_processor=None, config=None):
    tokens = dict.fromkeys(WORDS + BYTES + ODD + [spell(data) for data in PARTIAL + LONGER])
    vocabulary = {token: index for index, token in enumerate(tokens)}
    size = len(vocabulary)
    names = [("<s>", True), ("</s>", True), ("two words", False), ("<tag>", False)]
    added = [
        {
            "id": size + index,
            "content": name,
            "special": special,
            "normalized": False,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
        }
        for index, (name, special) in enumerate(names)
    ]
    raw = {
        "version": "1.0",
        "added_tokens": added,
        "post_processor": post_processor,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
        "decoder": decoder,
    }
    return Tokenizer(RawTokenizer.from_str(json.dumps(raw)), config)


def template(*tokens):
    """A post-processor that puts these tokens in front."""
    return {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": token, "type_id": 0}} for token in tokens]
        + [{"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {
            token: {"id": token, "ids": [build(None).token_id(token)], "tokens": [token]}
            for token in tokens
        },
    }


def streamed(tokenizer, ids, **options):
    stream = tokenizer.stream(**options)
    return "".join([stream.push(token_id) for token_id in ids]) + stream.flush()


@pytest.mark.parametrize("name", DECODERS)
def test_streaming_equals_decoding_at_once_for_every_sequence(name):
    tokenizer = build(DECODERS[name])
    rng = random.Random(11)
    for _ in range(2000):
        # Few distinct tokens at a time, so that runs and repetitions are common; 3 unknown ids.
        some = rng.choices(range(tokenizer.vocab_size + 3), k=rng.randint(1, 6))
        ids = rng.choices(some, k=rng.randint(1, 12))
        for skip in (True, False):
            expected = tokenizer.decode(ids, skip_special_tokens=skip)
            assert streamed(tokenizer, ids, skip_special_tokens=skip) == expected, ids


@pytest.mark.parametrize("name", [name for name in DECODERS if name != "ctc"])
def test_streaming_nothing_gives_nothing(name):
    tokenizer = build(DECODERS[name])
    assert streamed(tokenizer, []) == tokenizer.decode([]) == ""


def test_bytes_in_any_order_decode_as_the_library_decodes_them():
    vocabulary = {spell(bytes([byte])): byte for byte in range(256)}
    raw = {"version": "1.0", "added_tokens": [], "decoder": BYTE_LEVEL}
    raw["model"] = {"type": "BPE", "vocab": vocabulary, "merges": []}
    tokenizer = Tokenizer(RawTokenizer.from_str(json.dumps(raw)))
    rng = random.Random(3)
    # The bytes at which the rules of UTF-8 change.
    edges = bytes.fromhex("41 7f 80 8f 90 9f a0 bf c1 c2 df e0 e1 ec ed ee ef f0 f1 f3 f4 f5 ff")
    for _ in range(20000):
        ids = rng.choices(edges, k=rng.randint(1, 8))
        assert streamed(tokenizer, ids) == tokenizer.decode(ids), bytes(ids)


def test_a_piece_never_ends_inside_a_character_and_never_waits_longer_than_needed():
    tokenizer = build(BYTE_LEVEL)
    stream = tokenizer.stream()
    data = [b"\xe2", b"\x82", b"\xac\xf0", b"\x9f\x98", b"\x80", b"A", b" the"]
    pieces = [stream.push(tokenizer.token_id(spell(one))) for one in data]
    assert pieces == ["", "", "€", "", "😀", "A", " the"]
    assert stream.flush() == ""


def test_incomplete_bytes_come_out_of_flush_as_replacement_characters():
    tokenizer = build(BYTE_LEVEL)
    stream = tokenizer.stream()
    assert stream.push(tokenizer.token_id(spell(b"\xe2\x82"))) == ""
    assert stream.flush() == "\ufffd"


def test_a_sentencepiece_text_streams_without_its_first_space():
    tokenizer = build(DECODERS["llama2"])
    stream = tokenizer.stream()
    tokens = ["▁a", "b", "<0xC3>", "<0xA9>", "▁a", "▁"]
    assert [stream.push(tokenizer.token_id(t)) for t in tokens] == ["a", "b", "", "", "é a", " "]
    assert stream.flush() == ""


@pytest.mark.parametrize("name", ["byte_level", "llama2"])
def test_time_is_linear_in_the_number_of_tokens(name):
    tokenizer = build(DECODERS[name])
    ids = random.Random(1).choices(range(tokenizer.vocab_size), k=30000)
    began = time.perf_counter()
    streamed(tokenizer, ids)
    assert time.perf_counter() - began < 5  # decoding all anew each time takes minutes


@pytest.mark.parametrize("name", DECODERS)
def test_a_continuation_is_the_rest_of_the_text_as_a_whole(name):
    tokenizer = build(DECODERS[name])
    rng = random.Random(13)
    visible = [
        n for n in range(tokenizer.vocab_size) if not tokenizer.is_special(tokenizer.token(n))
    ]
    single = {tokenizer.token_id(token) for token in BYTES + ODD}
    compared = 0
    for _ in range(2000):
        some = rng.choices(visible, k=rng.randint(1, 6))
        ids = rng.choices(some, k=rng.randint(1, 12))
        cut = rng.randint(0, len(ids))
        given, whole = tokenizer.decode(ids[:cut]), tokenizer.decode(ids)
        if not whole.startswith(given):
            continue  # what comes later changes the text before; see the test below
        if single.issuperset(ids[max(cut - 1, 0) : cut + 1]) and (
            "\ufffd" in whole or name in ("unfused", "fallback_then_metaspace")
        ):
            continue  # a run of bytes goes on, and is judged or stripped as a whole
        compared += 1
        stream = tokenizer.stream(before=ids[:cut])
        rest = "".join([stream.push(token_id) for token_id in ids[cut:]]) + stream.flush()
        assert given + rest == whole, (ids[:cut], ids[cut:])
    assert compared > 800


@pytest.mark.parametrize(
    ("decoder", "before", "after", "rest"),
    [
        # the first space of a continuation is not the first of the text
        ("llama2", ["▁a"], ["▁a"], " a"),
        ("llama2", ["<s>"], ["▁a"], "a"),
        ("llama2", ["▁a", "<s>"], ["▁a"], " a"),
        ("metaspace_first", ["▁a"], ["▁a"], " a"),
        ("wordpiece", ["d"], ["d"], " d"),
        # a character belongs to the text in which it ends
        ("byte_level", [b"\xe2\x82"], [b"\xac\xf0"], "€\ufffd"),
        ("byte_level", [b"\xe2", b"\x82"], [b"A"], "A"),
        ("byte_level", [b"\xe2\x82"], [], ""),
        ("llama2", ["<0xE2>", "<0x82>"], ["<0xAC>", "b"], "€b"),
        ("llama2", ["<0x41>", "<0xE2>"], ["<0x82>", "<0xAC>"], "€"),
        ("llama2", ["<0xE2>", "<0x82>"], ["b"], "b"),
        # a newline is a single byte there, and was given before
        ("llama2", ["▁a", "<0x41>"], ["<0x41>", "b"], "Ab"),
        ("llama2", ["▁a", "<0x41>"], ["▁a"], " a"),
        # bytes that spoil those before them spoil no text that was given
        ("llama2", ["<0x41>"], ["<0xFF>"], "\ufffd"),
    ],
)
def test_where_a_continuation_begins(decoder, before, after, rest):
    tokenizer = build(DECODERS[decoder])
    ids = [
        [tokenizer.token_id(spell(token) if isinstance(token, bytes) else token) for token in part]
        for part in (before, after)
    ]
    stream = tokenizer.stream(before=ids[0])
    assert "".join([stream.push(token_id) for token_id in ids[1]]) + stream.flush() == rest


@pytest.mark.parametrize("count", [1, 2, 33, 34, 35, 200])
def test_a_long_run_of_bytes_goes_on(count):
    tokenizer = build(DECODERS["llama2"])
    euro = [tokenizer.token_id(f"<0x{byte:02X}>") for byte in "€".encode()]
    ids = [tokenizer.token_id("b"), *euro * 100]
    stream = tokenizer.stream(before=ids[:count])
    rest = "".join([stream.push(token_id) for token_id in ids[count:]]) + stream.flush()
    assert rest == "€" * (100 - (count - 1) // 3)


def test_special_tokens_are_left_out_unless_asked_for():
    tokenizer = build(BYTE_LEVEL)
    ids = [tokenizer.token_id(token) for token in ("<s>", "two words", "<tag>", "</s>")]
    assert tokenizer.decode(ids) == streamed(tokenizer, ids) == "two words<tag>"
    assert tokenizer.decode(ids, skip_special_tokens=False) == "<s>two words<tag></s>"


def test_numpy_ids_decode():
    tokenizer = build(DECODERS["gemma"])
    ids = np.array([tokenizer.token_id("b"), tokenizer.token_id("d")], dtype=np.int32)
    assert tokenizer.decode(ids) == streamed(tokenizer, ids) == "bd"


@pytest.mark.parametrize("token_id", [-1, 2**32, "a", 1.5, None])
def test_what_is_no_token_id_is_refused_by_its_value(token_id):
    tokenizer = build(BYTE_LEVEL)
    with pytest.raises(InvalidParameterError, match=f"token_id must be .*, not {token_id!r}"):
        tokenizer.decode([token_id])
    with pytest.raises(InvalidParameterError, match=f"token_id must be .*, not {token_id!r}"):
        tokenizer.stream().push(token_id)


BOS = {"bos_token": "<s>", "add_bos_token": True}


@pytest.mark.parametrize(
    ("post_processor", "config", "text", "expected"),
    [
        (None, {}, "bd", ["b", "d"]),
        (None, BOS, "bd", ["<s>", "b", "d"]),
        (None, BOS, "", ["<s>"]),
        (None, {"bos_token": {"content": "<s>"}, "add_bos_token": True}, "b", ["<s>", "b"]),
        (None, {"bos_token": "<s>", "add_bos_token": False}, "b", ["b"]),
        (None, {"bos_token": "<none>", "add_bos_token": True}, "b", ["b"]),
        (None, {"bos_token": None, "add_bos_token": True}, "b", ["b"]),
        (None, BOS, "<s>b", ["<s>", "b"]),
        (template("<s>"), {}, "b", ["<s>", "b"]),
        (template("<s>"), BOS, "b", ["<s>", "b"]),
        (template("<s>"), {"bos_token": "<s>", "add_bos_token": False}, "b", ["<s>", "b"]),
    ],
)
def test_a_beginning_token_is_added_once_where_the_files_ask_for_it(
    post_processor, config, text, expected
):
    tokenizer = build(BYTE_LEVEL, post_processor=post_processor, config=config)
    assert [tokenizer.token(token_id) for token_id in tokenizer.encode(text)] == expected
    bare = [token for token in expected if token != "<s>" or "<s>" in text]
    plain = tokenizer.encode(text, add_special_tokens=False)
    assert [tokenizer.token(token_id) for token_id in plain] == bare


def test_a_beginning_token_written_in_the_text_as_well_is_warned_about(caplog):
    tokenizer = build(BYTE_LEVEL, post_processor=template("<s>"), config=BOS)
    with caplog.at_level(logging.WARNING, logger="ryzanstein_llm"):
        assert len(tokenizer.encode("<s>b")) == 3  # as the file says, as transformers does
    assert "two beginning-of-sequence tokens" in caplog.text


def test_truncation_and_padding_of_the_file_are_not_obeyed():
    raw = build(BYTE_LEVEL)._raw
    raw.enable_truncation(2)
    raw.enable_padding(length=8)
    assert len(Tokenizer(raw).encode("bdbdb")) == 5


@pytest.mark.parametrize(
    "model",
    [
        {"type": "BPE", "vocab": {"a": 0, "aa": 1}, "merges": [["a", "a"]], "dropout": 0.5},
        {
            "type": "Unigram",
            "unk_id": 0,
            "vocab": [["<unk>", 0.0], ["a", -1.0], ["aa", -2.0]],
            "alpha": 0.1,
            "nbest_size": 8,
        },
    ],
)
def test_settings_for_training_are_not_obeyed(model):
    raw = {"version": "1.0", "added_tokens": [], "model": model}
    tokenizer = Tokenizer(RawTokenizer.from_str(json.dumps(raw)))
    assert len({tuple(tokenizer.encode("a" * 50)) for _ in range(20)}) == 1


BPE = {"type": "BPE", "vocab": {"a": 0, "b": 1}, "merges": []}
SPECIAL_X = {"SpecialToken": {"id": "[X]", "type_id": 0}}
TEMPLATE = {
    "type": "TemplateProcessing",
    "single": [SPECIAL_X, {"Sequence": {"id": "A", "type_id": 0}}, SPECIAL_X],
    "pair": [],
    "special_tokens": {"[X]": {"id": "[X]", "ids": [0], "tokens": ["a"]}},
}
DAMAGED = {
    "no token for what is unknown": {"model": {"type": "WordLevel", "vocab": {}, "unk_token": "u"}},
    "an unknown token that is none": {"model": BPE | {"unk_token": "u"}},
    "a template after another one": {
        "model": BPE,
        "post_processor": {"type": "Sequence", "processors": [TEMPLATE, TEMPLATE]},
    },
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_what_the_library_fails_at_is_an_error_that_names_the_file(tmp_path, damage):
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps({"version": "1.0", "added_tokens": []} | DAMAGED[damage]))
    tokenizer = Tokenizer.from_file(path)
    with pytest.raises(FormatError, match=r"tokenizer\.json: the tokenizer cannot be used"):
        tokenizer.encode("a zz")


def test_a_decoder_that_panics_is_an_error_that_names_the_file(tmp_path):
    path = tmp_path / "tokenizer.json"
    decoder = {"type": "Strip", "content": "a", "start": 1, "stop": 1}
    path.write_text(
        json.dumps({"version": "1.0", "added_tokens": [], "model": BPE, "decoder": decoder})
    )
    tokenizer = Tokenizer.from_file(path)
    with pytest.raises(FormatError, match="the tokenizer cannot be used"):
        tokenizer.decode([0])
    with pytest.raises(FormatError, match="the tokenizer cannot be used"):
        streamed(tokenizer, [0])


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, SystemExit])
def test_what_is_not_the_library_s_passes(error):
    with pytest.raises(error), LibraryErrors("tokenizer.json"):
        raise error


def test_a_token_name_that_no_file_can_hold_is_not_found():
    tokenizer = build(
        BYTE_LEVEL, config={"bos_token": "\ud800", "eos_token": {"content": "\udfff"}}
    )
    assert tokenizer.bos_id is tokenizer.eos_id is tokenizer.token_id("\ud800") is None


@pytest.mark.parametrize("text", ["a\ud800b", "\udcff"])
def test_a_lone_surrogate_is_refused_by_its_place(text):
    with pytest.raises(InvalidParameterError, match=r"surrogate .* at index"):
        build(BYTE_LEVEL).encode(text)


@pytest.mark.parametrize("text", [None, b"a", 3, ["a"]])
def test_what_is_no_text_is_refused_by_its_type(text):
    with pytest.raises(InvalidParameterError, match=type(text).__name__):
        build(BYTE_LEVEL).encode(text)


def test_facts_about_the_vocabulary():
    tokenizer = build(BYTE_LEVEL, config={"bos_token": "<s>", "eos_token": "</s>"})
    assert tokenizer.bos_id == tokenizer.token_id("<s>")
    assert tokenizer.eos_id == tokenizer.token_id("</s>")
    assert tokenizer.token_id("no such token") is None
    assert tokenizer.token(tokenizer.vocab_size) is None
    assert tokenizer.token(tokenizer.vocab_size - 1) == "<tag>"


def test_a_checkpoint_without_a_tokenizer_has_none(tmp_path):
    checkpoint = SimpleNamespace(tokenizer_path=None, tokenizer_config={}, metadata=None)
    assert Tokenizer.from_checkpoint(checkpoint) is None


def test_a_checkpoint_hands_over_its_files(tmp_path):
    path = tmp_path / "tokenizer.json"
    build(BYTE_LEVEL)._raw.save(str(path))
    checkpoint = SimpleNamespace(tokenizer_path=path, tokenizer_config=BOS, metadata=None)
    tokenizer = Tokenizer.from_checkpoint(checkpoint)
    assert tokenizer.decode(tokenizer.encode("bd")) == "bd"
    assert tokenizer.encode("b")[0] == tokenizer.bos_id
    assert str(path) in repr(tokenizer)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": {"type": "Nonsense"}}', "\0\1"])
def test_a_file_that_is_no_tokenizer_is_named(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    with pytest.raises(FormatError, match=r"tokenizer\.json"):
        Tokenizer.from_file(path)


@pytest.fixture(scope="module")
def demo():
    directory = Path(tokenizer_module.__file__).parent.parent / "demo"
    config = json.loads((directory / "tokenizer_config.json").read_text())
    return Tokenizer.from_file(directory / "tokenizer.json", config)


class TestTheDemoTokenizer:
    def test_any_text_comes_back(self, demo):
        text = "Once, “a” naïve fox\t— 狐 🦊 —\r\n  said:\n\n\x00\x7f e\u0301 \ufffd"
        ids = demo.encode(text)
        assert ids[0] == demo.bos_id
        assert ids.count(demo.bos_id) == 1
        assert demo.decode(ids) == streamed(demo, ids) == text

    def test_any_ids_stream(self, demo):
        rng = random.Random(7)
        for _ in range(500):
            ids = rng.choices(range(demo.vocab_size), k=40)
            assert streamed(demo, ids) == demo.decode(ids)


def test_several_threads_share_one_tokenizer():
    tokenizer = build(BYTE_LEVEL)
    texts = ["bd." * 50, "€é" * 40, "dd b." * 30]
    wrong = []

    def work(text):
        for _ in range(50):
            ids = tokenizer.encode(text)
            if streamed(tokenizer, ids) != tokenizer.decode(ids):
                wrong.append(text)

    threads = [threading.Thread(target=work, args=(text,)) for text in texts * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
