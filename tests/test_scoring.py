"""`score` and `choose`: what they say, and that it does not depend on what is computed together."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from demo_model import DEMO, encode
from reference import BitNetReference, steady_prompts
from reference.ops import log_softmax
from small_model import prompt, write_small_model

from ryzanstein_llm import BitNetModel, Score, errors
from ryzanstein_llm.engine import branches, compute
from ryzanstein_llm.kernels import cpu

TALE = "Once upon a time"
OPTIONS = [
    " there was a king",
    " there was a queen",
    " there lived a fox",
    ", in",
    " a",
    " there was",
]


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel(n_threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitNetModel]:
    """A model without a tokenizer, with a context of five cache blocks."""
    directory = write_small_model(tmp_path_factory.mktemp("small") / "model")
    with BitNetModel(directory, n_threads=1) as opened:
        yield opened


def expected(model: BitNetModel, tokens: list[int], option: list[int]) -> list[float]:
    """From the logits of `forward`, in float64."""
    logits = model.forward([*tokens, *option[:-1]])[len(tokens) - 1 :].astype(np.float64)
    rows = log_softmax(logits)
    return [float(row[token]) for row, token in zip(rows, option, strict=True)]


# ---- what they say -------------------------------------------------------------------------


def test_scores_are_those_of_the_float64_reference() -> None:
    reference = BitNetReference.open(DEMO)
    (ids,) = steady_prompts(reference, 1, 8)
    tokens, option = ids[:5], ids[5:]
    rows = log_softmax(reference.forward(ids[:-1]))[4:]
    with BitNetModel(n_threads=1, kv_dtype="float32") as model:
        (found,) = model.score(tokens, [option])
    wanted = [rows[place, token] for place, token in enumerate(option)]
    np.testing.assert_allclose(found.logprobs, wanted, atol=1e-3, rtol=0)


def test_scores_follow_from_the_logits_of_forward(model: BitNetModel) -> None:
    tokens = model.tokenize(TALE)
    for found, text in zip(model.score(TALE, OPTIONS), OPTIONS, strict=True):
        assert found.text == text
        assert found.ids == encode(text)
        # a float32 sum over the vocabulary
        np.testing.assert_allclose(
            found.logprobs, expected(model, tokens, found.ids), atol=2e-6, rtol=0
        )
        assert found.logprob == found.normalized == sum(found.logprobs)


def test_greedy_is_what_greedy_decoding_gives(model: BitNetModel) -> None:
    text = model.generate(TALE, max_tokens=12)
    one, other = model.score(TALE, [text, text + " zebra"])
    assert one.greedy
    assert not other.greedy


def test_the_likelihood_of_a_text_is_its_perplexity(model: BitNetModel) -> None:
    text = "Once upon a time there was a king who had three sons."
    (found,) = model.score("", [text])
    assert -found.logprob == pytest.approx(model.perplexity(text).nll, rel=1e-12)


@pytest.mark.parametrize(
    ("normalize", "length"),
    [("none", 1), ("tokens", 3), ("characters", 10), ("bytes", 12)],
)
def test_what_scores_are_divided_by(model: BitNetModel, normalize: Any, length: int) -> None:
    (found,) = model.score("Who is it?", [" Señor “A”"[:10]], normalize=normalize)
    lengths = {"tokens": len(found.ids), "bytes": len((found.text or "").encode())}
    assert found.normalized == found.logprob / lengths.get(normalize, length)


def test_blanks_at_the_end_of_a_prompt_belong_to_the_continuation(model: BitNetModel) -> None:
    """As in lm-eval, whose `_encode_pair` does the same."""
    (spaced,), (plain,) = model.score(TALE + " ", ["there"]), model.score(TALE, [" there"])
    assert spaced.ids == plain.ids
    assert spaced.logprobs == plain.logprobs
    assert (spaced.text, plain.text) == ("there", " there")


def test_the_tokens_of_a_continuation_are_those_after_the_prompts_own(model: BitNetModel) -> None:
    """Also if the two would be encoded otherwise together: then a part of the first token is lost,
    as in lm-eval, which cannot score a continuation that has no token left either."""
    for text, option in [("Once upon a ti", "me there was a king"), (TALE, ", in")]:
        (found,) = model.score(text, [option])
        assert found.ids == model.tokenize(text + option)[len(model.tokenize(text)) :]
    with pytest.raises(errors.InvalidParameterError, match="'ng' has none"):
        model.score("The ki", ["ng"])


def test_after_an_empty_prompt_or_ids_a_text_is_encoded_alone(model: BitNetModel) -> None:
    ids = model.tokenize(" there was", add_special_tokens=False)
    assert model.score("", [" there was"]) == model.score([model.start_id], [" there was"])  # type: ignore[list-item]
    (found,) = model.score(model.tokenize(TALE), [" there was"])
    assert found.ids == ids
    assert [found] == model.score(TALE, [" there was"])
    assert model.score(TALE, [ids])[0].text == " there was"


def test_the_choice_is_the_likeliest_and_probabilities_are_the_softmax(model: BitNetModel) -> None:
    for normalize in ("none", "tokens", "characters", "bytes"):
        choice = model.choose(TALE, OPTIONS, normalize=normalize)  # type: ignore[arg-type]
        assert choice.scores == model.score(TALE, OPTIONS, normalize=normalize)  # type: ignore[arg-type]
        values = np.array([each.normalized for each in choice.scores])
        assert choice.index == int(np.argmax(values))
        assert choice.text == OPTIONS[choice.index]
        exact = np.exp(values - values.max())
        np.testing.assert_allclose(choice.probabilities, exact / exact.sum(), atol=1e-6)
        assert math.isclose(sum(choice.probabilities), 1)


def test_of_equal_options_the_first_is_chosen(model: BitNetModel) -> None:
    ids = model.tokenize(" there", add_special_tokens=False)
    choice = model.choose(TALE, [" zebra", " there", ids])  # type: ignore[list-item]
    assert choice.index == 1
    assert choice.probabilities[1] == choice.probabilities[2]
    assert model.choose(TALE, [" there"]).probabilities == [1.0]


# ---- what does not matter ------------------------------------------------------------------


def cases() -> dict[str, tuple[list[list[int]], list[list[int]]]]:
    """Prompts and options: with a common beginning that ends within, before and after a block of
    256, and without one."""
    options = [[7], [7, 8], [7, 8, 9, 10], [7, 11], [12, 8], prompt(40), [*prompt(40)[:30], 5]]
    common = {name: prompt(length) for name, length in [("within", 300), ("at", 256), ("two", 511)]}
    found = {
        name: ([[*start, *prompt(30 + index)] for index in range(12)], options)
        for name, start in common.items()
    }
    found["none"] = ([prompt(30 + 17 * index) for index in range(12)], options)
    found["nested"] = ([prompt(400)[:length] for length in (400, 260, 256, 255, 120)], options)
    return found


@pytest.mark.parametrize("name", list(cases()))
def test_together_gives_what_each_gives_alone(small: BitNetModel, name: str) -> None:
    prompts, options = cases()[name]
    together = small.score(prompts, options)
    small.engine.clear()
    assert together == [small.score(each, options) for each in prompts]
    small.engine.clear()
    alone = [[small.score(each, [option])[0] for option in options] for each in prompts]
    assert together == alone
    assert together[0][5].logprobs == pytest.approx(
        expected(small, prompts[0], options[5]), abs=2e-6
    )


@pytest.mark.parametrize("name", list(cases()))
def test_what_was_computed_before_does_not_matter(small: BitNetModel, name: str) -> None:
    prompts, options = cases()[name]
    small.engine.clear()
    fresh = small.score(prompts, options)
    for each in (prompts[3], prompts[0], [*prompts[1], *options[5]]):
        small.generate(each, max_tokens=300, ignore_eos=True, return_result=True)
    assert small.score(prompts, options) == fresh
    tokens = [*prompts[2], *options[3]]
    continued = small.generate(tokens, max_tokens=3, return_result=True).ids
    small.engine.clear()
    assert small.generate(tokens, max_tokens=3, return_result=True).ids == continued
    assert small.score(prompts, options) == fresh


@pytest.mark.parametrize("rows", [1, 7, 64])
def test_the_size_of_a_pass_does_not_matter(
    small: BitNetModel, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, options = [prompt(20 + index) for index in range(5)], cases()["none"][1]
    whole = small.score(prompts, options)
    monkeypatch.setattr(branches, "PASS_ROWS", rows)
    monkeypatch.setattr(branches, "HEAD_TOKENS", max(1, rows // 4))
    small.engine.clear()
    assert small.score(prompts, options) == whole


@pytest.mark.parametrize("name", list(cases()))
def test_each_prompt_may_have_continuations_of_its_own(small: BitNetModel, name: str) -> None:
    prompts, options = cases()[name]
    own = [options[index % 5 : index % 5 + 3] for index in range(len(prompts))]
    own[2] = []
    together = small.score_each(prompts, own)
    small.engine.clear()
    assert together == [small.score(each, few) for each, few in zip(prompts, own, strict=True)]
    assert small.score_each(prompts, [options] * len(prompts)) == small.score(prompts, options)


def test_tiers_threads_and_cache_kinds(
    tmp_path: Any, tier: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "SERIAL_BELOW", 0)
    checkpoint = write_small_model(tmp_path / "model")
    prompts, options = cases()["within"]
    for kind in ("bfloat16", "int8"):
        with BitNetModel(checkpoint, n_threads=3, kv_dtype=kind) as model:
            found = model.score(prompts[:4], options)
        cpu.use_tier("scalar")
        with BitNetModel(checkpoint, n_threads=1, kv_dtype=kind) as model:
            assert model.score(prompts[:4], options) == found
        cpu.use_tier(tier)


def test_a_small_budget_only_makes_it_slower(tmp_path: Any) -> None:
    checkpoint = write_small_model(tmp_path / "model")
    prompts, options = cases()["within"]
    with BitNetModel(checkpoint, n_threads=1) as model:
        expected_scores = model.score(prompts, options)
        block = model.engine.store.layout.block_bytes
    for blocks in (3, 4, 7):
        with BitNetModel(checkpoint, n_threads=1, prefix_cache_bytes=blocks * block) as model:
            assert model.score(prompts, options) == expected_scores
            assert model.engine.store.pool.nbytes <= blocks * block
    with (
        BitNetModel(checkpoint, n_threads=1, prefix_cache_bytes=block) as model,
        pytest.raises(errors.CacheBudgetError),
    ):
        model.score(prompts, options)


def test_a_prompt_is_computed_once_for_all_its_options(
    small: BitNetModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = []
    extend = small.engine.extend

    def counting(parts: Any, cancel: Any) -> Any:
        rows.append(sum(len(tokens) for *_, tokens in parts))
        return extend(parts, cancel)

    monkeypatch.setattr(small.engine, "extend", counting)
    small.engine.clear()
    common = prompt(300)
    small.score([[*common, *prompt(60 + index)] for index in range(3)], [[5, 6], [5, 7], [8, 9]])
    assert sum(rows) == 300 + (60 + 61 + 62) + 3 * 2  # 5 and 8 after each


def test_memory_is_given_back(small: BitNetModel) -> None:
    small.score(*cases()["within"])
    small.engine.clear()
    assert small.engine.store.pool.nbytes == 0


def test_requests_beside_it_get_their_turns(small: BitNetModel) -> None:
    prompts, options = cases()["none"]
    expected_scores, text = small.score(prompts, options), prompt(100)
    ids = small.generate(text, max_tokens=50, ignore_eos=True, return_result=True).ids
    found: list[Any] = []
    threads = [
        threading.Thread(target=lambda: found.append(small.score(prompts, options))),
        threading.Thread(
            target=lambda: found.append(
                small.generate(text, max_tokens=50, ignore_eos=True, return_result=True).ids
            )
        ),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert expected_scores in found
    assert ids in found


def test_an_interrupt_leaves_everything_usable(
    small: BitNetModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prompts, options = cases()["within"]
    fresh, extend, calls = small.score(prompts, options), small.engine.extend, []

    def interrupted(parts: Any, cancel: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return extend(parts, cancel)

    with monkeypatch.context() as patched:
        patched.setattr(small.engine, "extend", interrupted)
        small.engine.clear()
        with pytest.raises(KeyboardInterrupt):
            small.score(prompts, options)
    assert small.score(prompts, options) == fresh
    small.engine.clear()
    assert small.engine.store.pool.nbytes == 0


def test_progress_counts_prompts(small: BitNetModel) -> None:
    seen: list[tuple[int, int, str]] = []
    prompts = [prompt(20 + index) for index in range(40)]
    small.score(prompts, [[5, 6]], progress=lambda *given: seen.append(given))
    assert seen[-1] == (40, 40, "scoring")
    assert [done for done, _, _ in seen] == sorted(done for done, _, _ in seen)


# ---- what is refused -----------------------------------------------------------------------


def test_one_prompt_gives_one_list_and_several_give_several(model: BitNetModel) -> None:
    assert isinstance(model.score(TALE, [" there"])[0], Score)
    assert len(model.score([TALE, "The fox"], [" there"])) == 2
    assert len(model.score([[0, 5], [0, 6]], [" there"])) == 2
    assert len(model.choose([TALE], [" there"])) == 1  # type: ignore[arg-type]
    assert model.score(TALE, []) == []
    assert model.score([TALE, TALE], []) == [[], []]


@pytest.mark.parametrize("nothing", [[], ()])
def test_a_list_of_no_prompts_gives_a_list_of_no_answers(model: BitNetModel, nothing: Any) -> None:
    assert model.score(nothing, [" there"]) == []
    assert model.choose(nothing, [" there"]) == []  # type: ignore[comparison-overlap]
    assert model.score_each(nothing, nothing) == []
    with pytest.raises(errors.InvalidParameterError, match="continuations must be a list"):
        model.score(nothing, " there")
    with pytest.raises(errors.InvalidParameterError, match="options must hold at least one"):
        model.choose(nothing, [])


@pytest.mark.parametrize(
    ("options", "index", "first"),
    [
        (["yes", "no", "yes"], 2, 0),
        ([[5, 6], (5, 6)], 1, 0),
        ([" a", [5], np.array([5])], 2, 1),
    ],
)
def test_an_option_that_is_there_twice_is_refused(
    model: BitNetModel, options: Any, index: int, first: int
) -> None:
    with pytest.raises(errors.InvalidParameterError) as caught:
        model.choose(TALE, options)
    assert caught.value.parameter == f"options[{index}]"
    assert f"is the same as options[{first}]: {options[index]!r}" in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        ((TALE, " there"), "continuations", "' there'"),
        ((TALE, 5), "continuations", "5"),
        ((TALE, [5]), "continuations[0]", "5"),
        ((TALE, ["a", ""]), "continuations[1]", "''"),
        ((TALE, [[]]), "continuations[0]", "[]"),
        ((TALE, [[4096]]), "continuations[0][0]", "4096"),
        ((TALE, ["\ud800"]), "text", "\\ud800"),
        ((5, ["a"]), "prompt", "5"),
        (([TALE, 5], ["a"]), "prompt[1]", "5"),
        (([TALE, [7, 4096]], ["a"]), "prompt[1][1]", "4096"),
        (([0, 4096], ["a"]), "prompt[1]", "4096"),
        (([TALE, [7]], ["a", ""]), "continuations[1]", "after prompt[0]"),
    ],
)
def test_arguments_that_make_no_sense(
    model: BitNetModel, arguments: Any, name: str, value: str
) -> None:
    with pytest.raises(errors.InvalidParameterError) as caught:
        model.score(*arguments)
    assert caught.value.parameter == name
    assert value in str(caught.value)


def test_errors_name_the_prompt_of_a_list(model: BitNetModel) -> None:
    long = "the fox " * 1000
    with pytest.raises(errors.ContextOverflowError, match=r"^prompt\[2\]: "):
        model.choose([TALE, "The king", long], [" a"])
    with pytest.raises(errors.InvalidParameterError, match=r"^prompt\[1\]: text"):
        model.choose([TALE, "\ud800"], [" a"])
    with pytest.raises(errors.InvalidParameterError, match=r"options\[0\] .* after prompt\[1\]"):
        model.choose([TALE, "The ki"], ["ng"])
    with pytest.raises(errors.InvalidParameterError, match=r"options\[0\] .* after the prompt"):
        model.choose("The ki", ["ng"])
    with pytest.raises(errors.ContextOverflowError, match=r"^\d+ tokens do not fit"):
        model.choose(long, [" a"])


def test_options_of_choose_are_called_so(model: BitNetModel) -> None:
    for options, name in [([], "options"), ("ab", "options"), (["a", ""], "options[1]")]:
        with pytest.raises(errors.InvalidParameterError) as caught:
            model.choose(TALE, options)  # type: ignore[arg-type]
        assert caught.value.parameter == name
    with pytest.raises(errors.InvalidParameterError, match="normalize must be one of"):
        model.choose(TALE, ["a"], normalize="words")  # type: ignore[arg-type]


def test_what_does_not_fit_the_context_is_refused_before_any_work(
    model: BitNetModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model.engine, "extend", None)
    with pytest.raises(errors.ContextOverflowError) as caught:
        model.score([[5] * 10, [5] * 511], [[6], [6, 7, 8]])
    assert (caught.value.needed, caught.value.context_length) == (513, 512)
    assert "the prompt has 511, and a continuation 3" in str(caught.value)


def test_the_last_token_needs_no_place_in_the_context(model: BitNetModel) -> None:
    """Nothing is computed after it."""
    tokens, option = [5] * 300, prompt(213)
    (found,) = model.score(tokens, [option])
    np.testing.assert_allclose(found.logprobs, expected(model, tokens, option), atol=2e-6, rtol=0)


@pytest.mark.parametrize(
    ("prompts", "own", "name", "value"),
    [
        ([TALE, TALE], [[" there"]], "continuations", "each of 2 prompts, not 1"),
        ([TALE], [" there"], "continuations[0]", "' there'"),
        ([TALE, TALE], [[" there"], [" a", ""]], "continuations[1][1]", "''"),
        (TALE, [[" there"]], "prompts", repr(TALE)),
    ],
)
def test_wrong_continuations_are_named_with_their_prompt(
    model: BitNetModel, prompts: Any, own: Any, name: str, value: str
) -> None:
    with pytest.raises(errors.InvalidParameterError, match=re.escape(value)) as caught:
        model.score_each(prompts, own)
    assert caught.value.parameter == name


def test_without_a_tokenizer_ids_can_be_scored(small: BitNetModel) -> None:
    assert small.score([2, 3], [[4]])[0].text is None
    with pytest.raises(errors.TokenizerMissingError):
        small.score([2, 3], ["a"])
    with pytest.raises(errors.TokenizerMissingError):
        small.score([2, 3], [[4]], normalize="bytes")


def test_not_after_close_and_not_in_a_callback(model: BitNetModel) -> None:
    closed = BitNetModel(n_threads=1)
    closed.close()
    with pytest.raises(errors.ClosedError):
        closed.score(TALE, ["a"])
    with pytest.raises(errors.SessionBusyError):
        model.generate(TALE, max_tokens=2, logits_processor=lambda t, x: model.score(TALE, ["a"]))
