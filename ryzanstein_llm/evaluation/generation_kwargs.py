"""The `generation_kwargs` of a task, as options of this library. They mean what they mean to the
`hf` model of lm-eval, and to `generate` of transformers behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from ..errors import InvalidParameterError
from ..sampling import SamplingParams
from ..sampling.params import GREEDY_BELOW, Defaults, source_of
from ..validation import check_bool, check_float, check_int

__all__ = ["MAX_TOKENS", "TaskGeneration", "cut", "read_generation_kwargs"]

MAX_TOKENS = 256
"""What lm-eval generates at most if a task does not say it."""

TOP_K = 50
"""What transformers samples from if neither the task nor the checkpoint says it."""

# in the order in which they count, as in lm-eval
LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")

SAMPLING = (
    "top_k", "top_p", "min_p", "typical_p", "repetition_penalty", "presence_penalty",
    "frequency_penalty", "seed",
)  # fmt: skip

KNOWN = ("until", "do_sample", "temperature", *LENGTHS, "min_new_tokens", "num_beams", *SAMPLING)


@dataclass(frozen=True)
class TaskGeneration:
    """
    Attributes
    ----------
    until : tuple of str
        The text ends before the first of these.
    max_tokens : int
    min_tokens : int
    sampling : SamplingParams
        With the values of the checkpoint's generation_config.json where the task says nothing, as
        transformers takes them. Greedy decoding has the repetition_penalty of that file, too.
    """

    until: tuple[str, ...]
    max_tokens: int
    min_tokens: int
    sampling: SamplingParams

    @property
    def sampled(self) -> bool:
        """Whether repeating it gives other texts."""
        return self.sampling.temperature >= GREEDY_BELOW


def read_generation_kwargs(given: Mapping[str, Any], model: Defaults, seed: int) -> TaskGeneration:
    """Check the arguments of a task.

    Parameters
    ----------
    given : mapping
        `until`, `do_sample`, `temperature`, `max_gen_toks` (or one of its other names), and fields
        of SamplingParams. Without `do_sample`, a temperature above 0 samples. With `do_sample:
        false` it counts as 0.
    model : BitNetModel
    seed : int
        For a task that samples and names none.

    Raises
    ------
    InvalidParameterError
        If a name is unknown or a value wrong.
    FormatError
        If the checkpoint's generation_config.json has a wrong value that is needed.
    """
    if not isinstance(given, Mapping):
        problem = f"must be a mapping from names to values, not {given!r}"
        raise InvalidParameterError(problem, "generation_kwargs")
    values = {name: value for name, value in given.items() if value is not None}
    unknown = [name for name in values if name not in KNOWN]
    if unknown:
        problem = f"is not known; generation_kwargs may have {', '.join(KNOWN)}"
        raise InvalidParameterError(problem, str(unknown[0]))
    if values.get("num_beams", 1) != 1:
        problem = f"must be 1, because there is no beam search, not {values['num_beams']!r}"
        raise InvalidParameterError(problem, "num_beams")
    lengths = [(name, values[name]) for name in LENGTHS if name in values]
    name, length = lengths[0] if lengths else (LENGTHS[0], MAX_TOKENS)
    return TaskGeneration(
        _until(values.get("until", ())),
        check_int(name, length, 1, 1 << 31),
        check_int("min_new_tokens", values.get("min_new_tokens", 0), 0, 1 << 31),
        _sampling(values, model, seed),
    )


def cut(text: str, until: tuple[str, ...]) -> str:
    """The text before these, which are cut off one after the other, as lm-eval does."""
    for each in until:
        text = text.partition(each)[0]
    return text


def _until(given: Any) -> tuple[str, ...]:
    listed = (given,) if isinstance(given, str) else given
    if not isinstance(listed, (list, tuple)) or not all(isinstance(each, str) for each in listed):
        raise InvalidParameterError(f"must be a str or a list of str, not {given!r}", "until")
    return tuple(each for each in listed if each)


def _sampling(values: Mapping[str, Any], model: Defaults, seed: int) -> SamplingParams:
    fields = {name: values[name] for name in SAMPLING if name in values}
    temperature = values.get("temperature")
    if temperature is not None:
        temperature = check_float("temperature", temperature, 0, 100)
    do_sample = values.get("do_sample")
    sampled = bool(temperature) if do_sample is None else check_bool("do_sample", do_sample)
    source = source_of(model)
    config = {**model.generation_config, "do_sample": sampled}
    if not sampled:
        return SamplingParams.from_generation_config(config, source, **fields, temperature=0.0)
    config = {"top_k": TOP_K, **config}
    found = SamplingParams.from_generation_config(config, source, **fields, temperature=temperature)
    return found if found.seed is not None else replace(found, seed=seed)
