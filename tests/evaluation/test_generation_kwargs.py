"""`generation_kwargs` of a task mean what they mean to lm-eval's `hf` model."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ryzanstein_llm import SamplingParams
from ryzanstein_llm.errors import FormatError, InvalidParameterError
from ryzanstein_llm.evaluation import TaskGeneration, cut, read_generation_kwargs

STORED = {"do_sample": True, "temperature": 0.7, "top_p": 0.9, "repetition_penalty": 1.1}


def read(given: Any, seed: int = 3, **stored: Any) -> TaskGeneration:
    model: Any = SimpleNamespace(path=Path("model"), generation_config=stored)
    return read_generation_kwargs(given, model, seed)


def test_a_task_that_says_nothing_is_greedy_with_256_tokens() -> None:
    assert read({}) == TaskGeneration((), 256, 0, SamplingParams())


@pytest.mark.parametrize(
    ("given", "until"),
    [(None, ()), ([], ()), ("\n", ("\n",)), (["\n\n", "Q:"], ("\n\n", "Q:")), (["", "."], (".",))],
)
def test_until_is_a_text_or_several(given: Any, until: tuple[str, ...]) -> None:
    assert read({"until": given}).until == until


@pytest.mark.parametrize(
    ("given", "length"),
    [
        ({"max_new_tokens": 9}, 9),
        ({"max_completion_tokens": 7}, 7),
        ({"max_tokens": 8, "max_completion_tokens": 7}, 8),
        ({"max_tokens": 8, "max_new_tokens": 9, "max_gen_toks": 10}, 10),
    ],
)
def test_the_number_of_tokens_has_four_names(given: dict[str, int], length: int) -> None:
    assert read(given).max_tokens == length


@pytest.mark.parametrize(
    ("given", "temperature"),
    [
        ({"do_sample": False}, 0.0),
        ({"do_sample": False, "temperature": 0.8}, 0.0),
        ({"temperature": 0.0}, 0.0),
        ({"temperature": 0.8}, 0.8),
        ({"do_sample": True, "temperature": 0.8}, 0.8),
        ({"do_sample": True}, 0.7),  # the checkpoint's
    ],
)
def test_a_temperature_or_do_sample_makes_it_sample(
    given: dict[str, Any], temperature: float
) -> None:
    found = read(given, **STORED)
    assert found.sampling.temperature == temperature
    assert found.sampled == (temperature > 0)


def test_what_the_task_leaves_open_is_the_checkpoints() -> None:
    """As in `generate` of transformers, whose own default for `top_k` is 50."""
    greedy, sampled = read({}, **STORED).sampling, read({"temperature": 1.0}, **STORED).sampling
    assert (greedy.temperature, greedy.repetition_penalty) == (0.0, 1.1)
    assert sampled == SamplingParams(
        temperature=1.0, top_k=50, top_p=0.9, repetition_penalty=1.1, seed=3
    )
    own = {"temperature": 1.0, "top_k": 7, "repetition_penalty": 1.0, "seed": 8}
    found = read(own, **STORED).sampling
    assert found == SamplingParams(temperature=1.0, top_k=7, top_p=0.9, seed=8)
    assert read({"temperature": 1.0}, **STORED, top_k=0).sampling.top_k == 0


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"num_beams": 4}, "num_beams must be 1.*4"),
        ({"best_of": 2}, "best_of is not known.*until"),
        ({"max_length": 99}, "max_length is not known"),
        ({"until": [3]}, r"until must be a str or a list of str, not \[3\]"),
        ({"max_new_tokens": 0}, "max_new_tokens must be in 1"),
        ({"max_gen_toks": "many"}, "max_gen_toks.*'many'"),
        ({"do_sample": "yes"}, "do_sample must be True or False, not 'yes'"),
        ({"temperature": -1}, r"temperature must be in \[0, 100\], not -1"),
        ({"temperature": 1, "top_p": 2}, "top_p.*2"),
        (["until"], "generation_kwargs must be a mapping"),
    ],
)
def test_what_is_wrong_is_named(given: Any, problem: str) -> None:
    with pytest.raises(InvalidParameterError, match=problem):
        read(given)


def test_a_wrong_value_of_the_checkpoint_counts_where_it_is_used() -> None:
    assert read({}, top_p=7).sampling == SamplingParams()
    with pytest.raises(FormatError, match=r"model: generation_config\.json: top_p"):
        read({"temperature": 1.0}, top_p=7)


def test_a_text_is_cut_at_one_after_the_other() -> None:
    """As in lm-eval, so that the order counts if they overlap."""
    assert cut("one\n\ntwo. three", ("\n\n", ".")) == "one"
    assert cut("one. two\n\n", ("\n\n", ".")) == "one"
    assert cut("x\n\ny", ("\n\n", "x\n")) == "x"
    assert cut("x\n\ny", ("x\n", "\n\n")) == ""
    assert cut("nothing", (".",)) == "nothing"
