"""`InvalidParameterError.parameter` is the name of the argument, whatever is wrong with it, and the
message names the value. Programs whose users know the argument by another name rely on it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ryzanstein_llm import BitNetModel, SamplingParams, bench
from ryzanstein_llm.errors import ContextOverflowError, InvalidParameterError
from ryzanstein_llm.profiling import Profile
from ryzanstein_llm.system.threads import choose_threads


@pytest.fixture(scope="module")
def demo() -> Iterator[BitNetModel]:
    with BitNetModel(n_threads=1) as opened:
        yield opened


def refuses(parameter: str, value: object, call: Callable[[], object]) -> None:
    with pytest.raises(InvalidParameterError) as caught:
        call()
    assert caught.value.parameter == parameter
    assert str(caught.value).startswith(f"{parameter} ")
    assert str(value) in str(caught.value)


OPENING = [
    ("n_threads", "two"),
    ("context_length", 0),
    ("kv_dtype", "float8"),
    ("skipping", "yes"),
    ("weight_format", 2),
    ("prefix_cache_bytes", -1),
    ("packed_cache", 5),
    ("packed_cache", ""),
    ("packed_cache", "a\0b"),
    ("progress", 5),
]


@pytest.mark.parametrize(("name", "value"), OPENING)
def test_opening_a_model(name: str, value: Any) -> None:
    refuses(name, repr(value), lambda: BitNetModel(**{name: value}))


GENERATING = [
    ("max_tokens", "x"),
    ("ignore_eos", 1),
    ("stop", 5),
    ("sampling", "x"),
    ("return_result", "x"),
    ("return_result", 1),
    ("temperature", bytearray(b"3")),
    ("temperature", np.True_),
    ("top_k", None.__class__),
    ("seed", "x"),
    ("n", 0),
    ("n", "2"),
    ("progress", 5),
    ("temprature", ""),
]


@pytest.mark.parametrize(("name", "value"), GENERATING)
def test_generating(demo: BitNetModel, name: str, value: Any) -> None:
    shown = repr(value) if value != "" else ""
    refuses(name, shown, lambda: demo.generate("Once", **{name: value}))


MISSPELT = [
    ("temprature", "temperature"),
    ("max_new_tokens", "max_tokens"),
    ("repeat_penalty", "repetition_penalty"),
    ("stop_token_id", "stop_token_ids"),
    ("json_schema", "schema"),
]


@pytest.mark.parametrize(("name", "meant"), MISSPELT)
def test_a_misspelt_option_is_told_the_nearest_one(
    demo: BitNetModel, name: str, meant: str
) -> None:
    options: Any = {name: 1}
    for call in (demo.generate, demo.stream):
        with pytest.raises(InvalidParameterError) as caught:
            call("Once", **options)
        assert str(caught.value) == f"{name} is no option; did you mean {meant}?"
        assert caught.value.parameter == name
    if meant in SamplingParams.__dataclass_fields__:
        with pytest.raises(InvalidParameterError, match=f"did you mean {meant}?"):
            SamplingParams().with_overrides({name: 1})


def test_an_option_of_another_method_is_told_where_it_is(demo: BitNetModel) -> None:
    with demo.session() as session:
        calls: list[tuple[Callable[..., Any], str, str]] = [
            (session.generate, "n", "fork() gives several continuations"),
            (demo.stream, "n", "generate of a model has it"),
            (session.generate, "errors", "generate of a model has it"),
            (session.stream, "progress", "generate of a model has it"),
            (demo.stream, "return_result", "as the attribute result"),
            (demo.generate, "stream", "the methods stream and chat_stream"),
            (session.generate, "stream", "the methods stream and chat_stream"),
        ]
        for call, name, hint in calls:
            options: Any = {name: 2}
            with pytest.raises(InvalidParameterError, match=f"^{name} is no option; ") as caught:
                call("Once", **options)
            assert hint in str(caught.value)
            assert caught.value.parameter == name


def test_an_option_like_no_other_is_told_all(demo: BitNetModel) -> None:
    options: Any = {"xyz": 1}
    with pytest.raises(
        InvalidParameterError, match="xyz is no option; the options are max_tokens,"
    ):
        demo.generate("Once", **options)


@pytest.mark.parametrize("value", ["ignore", 1, True])
def test_errors_of_a_batch(demo: BitNetModel, value: Any) -> None:
    refuses("errors", repr(value), lambda: demo.generate(["Once", "The"], errors=value))


@pytest.mark.parametrize("ids", [{}, {5: 3}, {5, 3}, frozenset([1]), memoryview(b"ab")])
def test_what_has_no_order_is_no_sequence_of_ids(demo: BitNetModel, ids: Any) -> None:
    kind = type(ids).__name__
    refuses("prompt", kind, lambda: demo.generate(ids, max_tokens=1))
    refuses("ids", kind, lambda: demo.forward(ids))
    refuses("ids", kind, lambda: demo.detokenize(ids))


def test_a_range_that_is_longer_than_memory_is_counted_and_not_converted(
    demo: BitNetModel,
) -> None:
    for call in (
        lambda: demo.forward(range(10**12)),
        lambda: demo.generate(range(10**12), max_tokens=1),
    ):
        with pytest.raises(ContextOverflowError) as caught:
            call()
        assert caught.value.needed == 10**12


def test_other_methods(demo: BitNetModel) -> None:
    refuses("ids", "", lambda: demo.forward([]))
    refuses("cache", "'x'", lambda: demo.forward([1], "x"))  # type: ignore[arg-type]
    refuses("text", "int", lambda: demo.tokenize(5))  # type: ignore[arg-type]
    refuses("text", "\\ud800", lambda: demo.tokenize("\ud800"))
    refuses("text", "0 tokens", lambda: demo.perplexity(""))
    refuses("progress", 5, lambda: demo.perplexity("Once", progress=5))  # type: ignore[arg-type]
    for flag in (1, "x", None):
        skip: Any = {"skip_special_tokens": flag}
        add: Any = {"add_special_tokens": flag}
        refuses("skip_special_tokens", repr(flag), lambda skip=skip: demo.detokenize([3], **skip))
        refuses("add_special_tokens", repr(flag), lambda add=add: demo.tokenize("a", **add))
    with demo.session() as session:
        refuses("n", "x", lambda: session.truncate("x"))  # type: ignore[arg-type]
    with BitNetModel(n_threads=1, context_length=1) as short:
        refuses("context_length", 1, lambda: short.perplexity("Once upon a time"))


def test_sampling_parameters(demo: BitNetModel) -> None:
    for given in (None, 3, "x", [("seed", 1)]):
        refuses(
            "overrides", repr(given), lambda given=given: SamplingParams().with_overrides(given)
        )
    refuses("3", "", lambda: SamplingParams().with_overrides({3: 1}))  # type: ignore[dict-item]
    for model in ("x", None, SamplingParams()):
        refuses("model", repr(model), lambda model=model: SamplingParams.from_checkpoint(model))
    refuses("top_k", "x", lambda: SamplingParams.from_checkpoint(demo, top_k="x"))


def test_a_profile(demo: BitNetModel) -> None:
    with demo.profile() as profile:
        demo.forward([1])
    assert isinstance(profile, Profile)
    refuses("limits", 5, lambda: profile.text(5))  # type: ignore[arg-type]


def test_a_benchmark(tmp_path: Path) -> None:
    refuses("preset", "there", lambda: bench.run("there", preset="tiny"))
    refuses("preset", "nine", lambda: bench.run(preset="nine"))
    refuses("preset", "keep", lambda: bench.run(keep=tmp_path))
    refuses("batches", "", lambda: bench.run(batches=[]))
    refuses("progress", 5, lambda: bench.run(progress=5))  # type: ignore[arg-type]
    assert [*tmp_path.iterdir()] == []


def test_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for value in ("x", "0"):
        monkeypatch.setenv("OMP_NUM_THREADS", value)
        refuses("OMP_NUM_THREADS", value, lambda: choose_threads(None))


def test_a_closed_model_still_tells_its_facts() -> None:
    model = BitNetModel(n_threads=1)
    facts = model.info()
    model.close()
    assert model.info() == facts


def test_the_log_counts_threads_as_people_do(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "ryzanstein_llm.model"):
        BitNetModel(n_threads=1).close()
    assert " 1 thread, " in caplog.text
