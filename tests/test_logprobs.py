"""Log probabilities, biases, bans and further ends of requests to a model."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from demo_model import DECIDED_PROMPTS, DEMO
from reference import BitNetReference
from reference.ops import log_softmax
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel, SamplingParams, errors
from ryzanstein_llm.kernels import cpu

TALE = "Once upon a time"


class Interrupted(BaseException):
    """What test libraries and timeouts raise."""


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel(n_threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitNetModel]:
    """A model without a tokenizer."""
    directory = write_small_model(tmp_path_factory.mktemp("small") / "model")
    with BitNetModel(directory, n_threads=1) as opened:
        yield opened


def run(model: BitNetModel, given: Any = TALE, **options: Any) -> Any:
    return model.generate(given, return_result=True, **{"max_tokens": 20, **options})


# ---- logprobs ------------------------------------------------------------------------------


def test_logprobs_are_those_of_the_float64_reference() -> None:
    reference = BitNetReference.open(DEMO)
    with BitNetModel(n_threads=1, kv_dtype="float32") as model:
        for text in DECIDED_PROMPTS[:3]:
            ids = model.tokenize(text)
            result = run(model, text, max_tokens=8, logprobs=5)
            rows = reference.forward([*ids, *result.ids[:-1]])[len(ids) - 1 :]
            expected = log_softmax(rows)
            for place, found in enumerate(result.logprobs):
                # activations round apart after some tokens: see reference.steady
                tolerance = 1e-4 if len(ids) + place < 12 else 0.2
                assert abs(found.logprob - expected[place, found.id]) < tolerance
                assert found.id == result.ids[place]


@pytest.mark.parametrize("count", [0, 1, 20])
def test_as_many_alternatives_as_asked_for_the_likeliest_first(
    model: BitNetModel, count: int
) -> None:
    result = run(model, logprobs=count)
    assert len(result.logprobs) == len(result.ids)
    ids = model.tokenize(TALE)
    logits = model.forward([*ids, *result.ids[:-1]])[len(ids) - 1 :]
    for row, found in zip(logits, result.logprobs, strict=True):
        order = np.argsort(-row, kind="stable")[:count].tolist()
        assert [each.id for each in found.top] == order
        assert all(not each.top for each in found.top)
        if count:
            assert found.top[0].logprob == found.logprob  # greedy


def test_without_logprobs_there_are_none(model: BitNetModel) -> None:
    assert run(model).logprobs is None


def test_logprobs_are_of_the_model_whatever_changes_the_choice(model: BitNetModel) -> None:
    """Before biases, penalties, temperature and filters, so that they add up to less than 1 and can
    be compared between requests."""
    options: dict[str, Any] = {
        "temperature": 1.5,
        "top_k": 3,
        "seed": 3,
        "repetition_penalty": 1.3,
        "logit_bias": {440: -100, 13: 2.0},
    }
    result = run(model, logprobs=2, **options)
    assert result.ids == run(model, **options).ids
    assert 440 not in result.ids
    scores = model.score(model.tokenize(TALE), [result.ids])
    assert [each.logprob for each in result.logprobs] == scores[0].logprobs


def test_logprobs_are_equal_bits_in_every_tier(tier: str) -> None:
    with BitNetModel(n_threads=1) as model:
        found = run(model, logprobs=5, temperature=1.0, seed=1).logprobs
    former = cpu.current_tier()
    cpu.use_tier("scalar")
    with BitNetModel(n_threads=1) as model:
        assert run(model, logprobs=5, temperature=1.0, seed=1).logprobs == found
    cpu.use_tier(former)


def test_the_bytes_of_tokens_are_those_of_the_text(model: BitNetModel) -> None:
    result = run(model, "The señor said “", temperature=1.5, seed=3, max_tokens=60, logprobs=1)
    assert (
        b"".join(each.bytes for each in result.logprobs).decode("utf-8", "replace") == result.text
    )


def test_a_token_may_be_a_part_of_a_character(model: BitNetModel) -> None:
    ids = model.tokenize("→", add_special_tokens=False)
    assert len(ids) > 1
    parts = [model.vocabulary.token_bytes(token) for token in ids]
    assert b"".join(part for part in parts if part is not None) == "→".encode()


def test_without_a_tokenizer_there_are_ids_and_numbers(small: BitNetModel) -> None:
    found = run(small, prompt(5), logprobs=1, max_tokens=3).logprobs
    assert [each.bytes for each in found] == [None] * len(found)
    assert all(each.logprob < 0 for each in found)


def test_streams_and_sessions_give_the_same(model: BitNetModel) -> None:
    expected = run(model, logprobs=3, max_tokens=12)
    stream = model.stream(TALE, logprobs=3, max_tokens=12)
    assert "".join(stream) == expected.text
    assert stream.result.logprobs == expected.logprobs
    with model.session() as session:
        first = session.generate(TALE, logprobs=3, max_tokens=6, return_result=True)
        rest = session.generate([first.ids[-1]], logprobs=3, max_tokens=6, return_result=True)
        assert first.logprobs == expected.logprobs[:6]
        assert len(rest.logprobs) == 6


def test_a_stream_that_is_closed_has_those_of_its_tokens(model: BitNetModel) -> None:
    with model.stream(TALE, logprobs=1) as stream:
        next(stream)
    assert stream.result.logprobs is not None
    assert len(stream.result.logprobs) == len(stream.result.ids)


def test_requests_that_run_together_get_their_own(model: BitNetModel) -> None:
    prompts = [TALE, "The fox said", "But the king", "In the garden"]
    alone = [run(model, text, logprobs=4) for text in prompts]
    found: dict[int, Any] = {}

    def work(index: int) -> None:
        found[index] = run(model, prompts[index], logprobs=4)

    threads = [threading.Thread(target=work, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[index].logprobs for index in range(4)] == [each.logprobs for each in alone]


def test_chat_gives_them_in_the_form_of_openai(model: BitNetModel) -> None:
    pytest.importorskip("jinja2", reason="extra chat")
    template = "{% for m in messages %}{{ m.content }}{% endfor %}"
    messages = [{"role": "user", "content": TALE}]
    options: dict[str, Any] = {"chat_template": template, "max_tokens": 4, "temperature": 0}
    answer = model.chat(messages, logprobs=2, **options).to_dict()
    content = answer["choices"][0]["logprobs"]["content"]
    assert json.loads(json.dumps(content)) == content
    assert len(content) == 4
    assert set(content[0]) == {"token", "logprob", "bytes", "top_logprobs"}
    assert [set(each) for each in content[0]["top_logprobs"]] == [{"token", "logprob", "bytes"}] * 2
    assert bytes(content[0]["bytes"]).decode() == content[0]["token"]
    assert model.chat(messages, **options).to_dict()["choices"][0]["logprobs"] is None


# ---- logit_bias ----------------------------------------------------------------------------


def test_a_text_and_its_id_name_the_same_token(model: BitNetModel) -> None:
    (there,) = model.tokenize(" there", add_special_tokens=False)
    banned = run(model, logit_bias={" there": -100})
    assert there not in banned.ids
    assert banned.ids == run(model, logit_bias={there: -100}).ids


def test_a_bias_of_few_tokens_stays_on_the_screened_head(model: BitNetModel) -> None:
    from ryzanstein_llm.sampling import Adjustments, Sampler

    adjustments = Adjustments(bias={440: -100, 7: 3.0}, ends=[1], min_tokens=9)
    query = Sampler(SamplingParams(), adjustments).query([0, 1], 1)
    assert model.graph.head.way(query) == "screen"


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 0.9, "top_k": 8},
        {"temperature": 1.3, "min_p": 0.1},
        {"frequency_penalty": 0.4},
        {"temperature": 0.8, "top_k": 40, "repetition_penalty": 1.2, "top_p": 0.9},
    ],
)
def test_the_screened_head_chooses_what_the_full_head_chooses(
    model: BitNetModel, options: dict[str, Any]
) -> None:
    given: dict[str, Any] = {
        **options,
        "seed": 5,
        "max_tokens": 40,
        "logit_bias": {440: -100, 260: 4.5, 13: -6, 1: 2},
    }
    # a function of the caller needs the full head, and this one changes nothing
    assert run(model, **given).ids == run(model, logits_processor=lambda t, x: None, **given).ids


@pytest.mark.parametrize(
    ("bias", "message"),
    [
        ({-1: 1}, "-1"),
        ({4096: 1}, "4096"),
        ({1.5: 1}, "1.5"),
        ({True: 1}, "True"),
        ({5: 100.5}, "100.5"),
        ({5: float("nan")}, "nan"),
        ({5: "1"}, "'1'"),
        ({"Once upon": 1}, "2:"),
        ({"": 1}, "0:"),
        ({" there": 1, 440: 2}, "440"),
        ([5], r"\[5\]"),
    ],
)
def test_biases_that_make_no_sense_are_refused_at_once(
    model: BitNetModel, bias: Any, message: str
) -> None:
    with pytest.raises(errors.InvalidParameterError, match=message) as caught:
        model.stream(TALE, logit_bias=bias)
    assert "logit_bias" in str(caught.value)


def test_texts_need_a_tokenizer(small: BitNetModel) -> None:
    with pytest.raises(errors.TokenizerMissingError):
        run(small, [5], logit_bias={"a": 1})


# ---- ends ----------------------------------------------------------------------------------


def test_a_stop_token_ends_the_text_and_is_no_part_of_it(model: BitNetModel) -> None:
    whole = run(model)
    ended = run(model, stop_token_ids=[whole.ids[3]], logprobs=0)
    assert ended.ids == whole.ids[:3]
    assert ended.finish_reason == "stop"
    assert len(ended.logprobs) == 3
    again = run(model, stop_token_ids=[whole.ids[3]], ignore_eos=True)
    assert again.ids == ended.ids


def test_no_token_ends_a_text_before_min_tokens(model: BitNetModel) -> None:
    whole = run(model)
    stops = [whole.ids[0], whole.ids[3]]
    longer = run(model, stop_token_ids=stops, min_tokens=5, max_tokens=30)
    assert len(longer.ids) >= 5
    assert not set(stops) & set(longer.ids[:5])
    forced = run(model, logit_bias={1: 100}, min_tokens=4)
    assert (len(forced.ids), forced.finish_reason) == (4, "eos")
    assert run(model, logit_bias={1: 100}).ids == []
    assert len(run(model, logit_bias={1: 100}, ignore_eos=True, max_tokens=3).ids) == 3


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("min_tokens", -1),
        ("min_tokens", True),
        ("min_tokens", 21),
        ("stop_token_ids", [4096]),
        ("stop_token_ids", 5),
        ("stop_token_ids", "x"),
        ("logprobs", 21),
        ("logprobs", -1),
        ("logprobs", True),
        ("logits_processor", 5),
        ("logits_processor", [len, "x"]),
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(
    model: BitNetModel, name: str, value: Any
) -> None:
    with pytest.raises(errors.InvalidParameterError, match=name):
        model.stream(TALE, **{"max_tokens": 20, name: value})  # type: ignore[arg-type]
    with model.session() as session, pytest.raises(errors.InvalidParameterError, match=name):
        session.generate(TALE, **{"max_tokens": 20, name: value})


def test_none_is_the_default(model: BitNetModel) -> None:
    nothing: dict[str, Any] = dict.fromkeys(
        ["min_tokens", "stop_token_ids", "logit_bias", "logits_processor", "logprobs"]
    )
    assert run(model, **nothing).ids == run(model).ids


# ---- logits_processor ----------------------------------------------------------------------


def test_an_error_of_a_processor_reaches_the_caller_and_leaves_everything_usable(
    model: BitNetModel,
) -> None:
    expected = run(model)

    def fails(tokens: list[int], logits: Any) -> None:
        if len(tokens) > 8:
            raise LookupError("no such luck")

    with model.session() as session:
        with pytest.raises(LookupError, match="no such luck"):
            session.generate(TALE, logits_processor=fails)
        assert session.tokens == []
        assert session.generate(TALE, max_tokens=20) == expected.text
    assert run(model).ids == expected.ids


@pytest.mark.parametrize("kind", [StopIteration, StopAsyncIteration])
def test_a_processor_cannot_end_a_loop_over_a_stream_as_if_the_text_were_complete(
    model: BitNetModel, kind: type[Exception]
) -> None:
    def fails(tokens: list[int], logits: Any) -> None:
        raise kind

    async def read() -> list[str]:
        return [piece async for piece in model.astream(TALE, logits_processor=fails)]

    for call in (
        lambda: list(model.stream(TALE, logits_processor=fails)),
        lambda: model.generate([TALE, "The fox"], logits_processor=fails),
        lambda: asyncio.run(read()),
        lambda: asyncio.run(model.agenerate(TALE, logits_processor=fails)),
    ):
        with pytest.raises(errors.InvalidParameterError, match=f"raised {kind.__name__}") as caught:
            call()
        assert caught.value.parameter == "logits_processor"


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, asyncio.CancelledError, Interrupted])
def test_a_processor_ends_no_thread_and_no_request_of_others(
    model: BitNetModel, kind: type[BaseException]
) -> None:
    """One thread computes for all requests, and an event loop has one for all of its tasks."""
    expected, found = run(model, max_tokens=60).ids, {}
    barrier = threading.Barrier(2)

    def fails(tokens: list[int], logits: Any) -> None:
        if len(tokens) > 12:
            raise kind

    def ask(name: str, **options: Any) -> None:
        barrier.wait()
        try:
            found[name] = run(model, max_tokens=60, **options).ids
        except BaseException as error:
            found[name] = error

    others = {"logits_processor": fails}
    for _ in range(5):
        threads = [threading.Thread(target=ask, args=("usual",)),
                   threading.Thread(target=ask, args=("failing",), kwargs=others)]  # fmt: skip
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found["usual"] == expected
        assert isinstance(found["failing"], errors.InvalidParameterError)
        assert isinstance(found["failing"].__cause__, kind)

    async def both() -> Any:
        usual = model.agenerate(TALE, max_tokens=60, return_result=True)
        failing = model.agenerate(TALE, max_tokens=60, logits_processor=fails)
        return await asyncio.wait_for(asyncio.gather(usual, failing, return_exceptions=True), 60)

    usual, failing = asyncio.run(both())
    assert usual.ids == expected
    assert isinstance(failing, errors.InvalidParameterError)


def test_in_the_main_thread_a_signal_handler_may_end_a_request_within_a_processor(
    model: BitNetModel,
) -> None:
    def fails(tokens: list[int], logits: Any) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        run(model, logits_processor=fails)


def test_a_processor_that_fails_does_no_harm_to_requests_beside_it(model: BitNetModel) -> None:
    expected = run(model, max_tokens=60).ids
    barrier = threading.Barrier(2)
    found: list[Any] = []

    def fails(tokens: list[int], logits: Any) -> None:
        raise LookupError

    def beside() -> None:
        barrier.wait()
        found.append(run(model, max_tokens=60).ids)

    thread = threading.Thread(target=beside)
    thread.start()
    barrier.wait()
    for _ in range(10):
        with pytest.raises(LookupError):
            run(model, "The fox", logits_processor=fails)
    thread.join()
    assert found == [expected]


def test_a_processor_cannot_ask_the_model_for_more(model: BitNetModel) -> None:
    with pytest.raises(errors.SessionBusyError):
        run(model, logits_processor=lambda tokens, logits: model.forward([1])[0])
    assert run(model).finish_reason == "length"


def test_a_processor_sees_each_token_once(model: BitNetModel) -> None:
    seen: list[list[int]] = []
    result = run(model, max_tokens=5, logits_processor=[lambda tokens, logits: seen.append(tokens)])
    ids = model.tokenize(TALE)
    assert seen == [[*ids, *result.ids[:count]] for count in range(5)]
