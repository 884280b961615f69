"""Work is bounded before it begins: a prompt that cannot fit is refused at once, and while a long
text is tokenised, other threads run and Ctrl-C takes effect."""

from __future__ import annotations

import itertools
import signal
import threading
import time

import numpy as np
import pytest
from tokenizers import AddedToken, Regex, models, normalizers, pre_tokenizers, processors
from tokenizers import Tokenizer as RawTokenizer

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import ContextOverflowError, InvalidParameterError
from ryzanstein_llm.text import tokenizer as tokenizer_module
from ryzanstein_llm.text.longest_token import longest_token
from ryzanstein_llm.text.pipeline import BYTE_ALPHABET
from ryzanstein_llm.text.tokenizer import Tokenizer

LONGEST = "abcdefgh"


@pytest.fixture(scope="module")
def model() -> BitNetModel:
    return BitNetModel(n_threads=1)


def byte_level() -> RawTokenizer:
    """All bytes, and one token of eight of them."""
    names = [*BYTE_ALPHABET, *(LONGEST[:n] for n in range(2, 9))]
    merges = [(LONGEST[:n], LONGEST[n]) for n in range(1, 8)]
    raw = RawTokenizer(models.BPE({name: i for i, name in enumerate(names)}, merges))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return raw


def with_byte_tokens() -> RawTokenizer:
    """As SentencePiece's are."""
    names = [*(f"<0x{byte:02X}>" for byte in range(256)), *LONGEST, "\u2581"]
    vocabulary = {name: i for i, name in enumerate(names)}
    raw = RawTokenizer(models.BPE(vocabulary, [], byte_fallback=True, unk_token="a"))
    raw.normalizer = normalizers.Sequence(
        [normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")]
    )
    return raw


# ---- the bound ---------------------------------------------------------------------------------


def test_the_bound_is_the_longest_token() -> None:
    assert longest_token(byte_level()) == len(LONGEST)
    assert longest_token(with_byte_tokens()) == len("<0x00>")


@pytest.mark.parametrize("raw", [byte_level(), with_byte_tokens()], ids=["bytes", "fallback"])
def test_no_text_has_fewer_ids_than_the_bound_says(raw, monkeypatch) -> None:
    monkeypatch.setattr(tokenizer_module, "LONG_TEXT", 0)
    tokenizer = Tokenizer(raw)
    for text in (LONGEST * 50, " " * 100, "\u4e2d" * 70, "\U0001f600", "a\n\t\r\0", "e\u0301" * 9):
        assert 0 < tokenizer.fewest_ids(text) <= len(tokenizer.encode(text))
    assert tokenizer.fewest_ids("") == 0


def added(raw: RawTokenizer) -> None:
    raw.add_tokens([AddedToken("<x>", lstrip=True)])


def without_a_byte(raw: RawTokenizer) -> None:
    names = [name for name in raw.get_vocab() if name != "!" and len(name) == 1]
    raw.model = models.BPE({name: i for i, name in enumerate(names)}, [])


DROPPING = {
    "a token that takes blanks": added,
    "a byte without a token": without_a_byte,
    "characters that are stripped": lambda raw: setattr(raw, "normalizer", normalizers.Strip()),
    "characters that are composed": lambda raw: setattr(raw, "normalizer", normalizers.NFC()),
    "text that is replaced by a shorter one": lambda raw: setattr(
        raw, "normalizer", normalizers.Replace("long", "x")
    ),
    "a pattern": lambda raw: setattr(raw, "normalizer", normalizers.Replace(Regex(" +"), " ")),
    "blanks that are left out": lambda raw: setattr(
        raw, "pre_tokenizer", pre_tokenizers.WhitespaceSplit()
    ),
    "splits that are left out": lambda raw: setattr(
        raw,
        "pre_tokenizer",
        pre_tokenizers.Sequence([pre_tokenizers.Split(" ", "removed"), pre_tokenizers.ByteLevel()]),
    ),
    "another model": lambda raw: setattr(raw, "model", models.WordLevel({"a": 0}, unk_token="a")),
}


@pytest.mark.parametrize("change", DROPPING.values(), ids=DROPPING)
def test_there_is_no_bound_if_a_step_may_drop_characters(change) -> None:
    raw = byte_level()
    change(raw)
    assert longest_token(raw) is None
    assert Tokenizer(raw).fewest_ids("a" * 1_000_000) == 0


# ---- refused at once ---------------------------------------------------------------------------


def test_a_text_that_cannot_fit_is_not_tokenised(model: BitNetModel, monkeypatch) -> None:
    monkeypatch.setattr(Tokenizer, "_encoded", lambda self, text: pytest.fail("tokenised"))
    text = "once upon a time " * 600_000
    with model.session() as session:
        for ask in (model.generate, model.stream, session.generate, session.stream):
            with pytest.raises(ContextOverflowError) as caught:
                ask(text)
            assert model.context_length < caught.value.needed
    with pytest.raises(ContextOverflowError):
        model.chat([{"role": "user", "content": text}], chat_template="{{ messages[0].content }}")


def test_a_text_that_only_just_does_not_fit_is_counted(model: BitNetModel) -> None:
    text = "once upon a time " * 600
    with pytest.raises(ContextOverflowError) as caught:
        model.generate(text)
    assert caught.value.needed == len(model.tokenize(text))


def test_the_length_of_ids_is_looked_at_before_they_are_converted(model: BitNetModel) -> None:
    class Long:
        def __len__(self) -> int:
            return 10**12

        def __getitem__(self, index: int) -> int:
            pytest.fail("an id was looked at")

    for ids in (Long(), range(10**12), np.broadcast_to(np.int8(1), 10**12)):
        for ask in (model.generate, model.forward):
            with pytest.raises(ContextOverflowError) as caught:
                ask(ids)
            assert caught.value.needed == 10**12


def test_ids_without_an_end_are_refused(model: BitNetModel) -> None:
    with pytest.raises(ContextOverflowError) as caught:
        model.forward(itertools.repeat(5))
    assert caught.value.needed == model.context_length + 1
    with pytest.raises(InvalidParameterError, match=r"ids\[0\]"):
        model.forward(itertools.count(10**9))


def test_tokens_of_a_cache_count(model: BitNetModel) -> None:
    cache = model.new_cache()
    model.forward([1, 2, 3], cache)
    with pytest.raises(ContextOverflowError) as caught:
        model.forward([1] * (model.context_length - 2), cache)
    assert caught.value.needed == model.context_length + 1
    assert caught.value.context_length == model.context_length


# ---- a long text that is tokenised -------------------------------------------------------------


def test_a_long_text_has_the_ids_that_a_short_one_has(model: BitNetModel, monkeypatch) -> None:
    text = "Once upon a time, \u4e2d\n" * 300
    expected = model.tokenize(text)
    monkeypatch.setattr(tokenizer_module, "LONG_TEXT", 1)
    assert model.tokenize(text) == expected
    found: list[list[int]] = []
    thread = threading.Thread(target=lambda: found.append(model.tokenize(text)))
    thread.start()
    thread.join()
    assert found == [expected]


def test_a_text_is_tokenised_once_with_and_without_special_tokens() -> None:
    raw = byte_level()
    raw.add_special_tokens(["<s>", "</s>"])
    raw.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                "<s> $A </s>",
                None,
                [(name, raw.token_to_id(name)) for name in ("<s>", "</s>")],
            ),
        ]
    )
    tokenizer = Tokenizer(raw)
    for text in ("abc d", "", "<s>ab", "x</s>"):
        first, later = tokenizer.encode_prompt(text)
        assert first == raw.encode(text, add_special_tokens=True).ids
        assert later == raw.encode(text, add_special_tokens=False).ids


def test_where_a_thread_is_refused_the_text_is_tokenised_all_the_same(model, monkeypatch) -> None:
    def refuse(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    text = "Once upon a time " * 10
    expected = model.tokenize(text)
    monkeypatch.setattr(tokenizer_module, "LONG_TEXT", 1)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    assert model.tokenize(text) == expected


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs a timer signal")
def test_ctrl_c_and_other_threads_within_a_long_text(model: BitNetModel) -> None:
    text = "once upon a time " * 60_000
    ticks: list[float] = []
    stop = threading.Event()

    def tick() -> None:
        while not stop.wait(0.01):
            ticks.append(time.monotonic())

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    thread = threading.Thread(target=tick)
    thread.start()
    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        start = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        with pytest.raises(KeyboardInterrupt):
            model.tokenize(text)
        took = time.monotonic() - start
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        stop.set()
        thread.join()
    during = [t for t in ticks if t < start + took]
    assert took < 5
    assert during
