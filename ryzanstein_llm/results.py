"""The result of a request."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .notebook import as_html
from .structured import OutputFormat
from .text_table import beginning, number, plural

__all__ = ["GenerationResult", "Timings", "TokenLogprob"]


@dataclass
class Timings:
    """Wall-clock seconds.

    Attributes
    ----------
    prefill : float
        From the start to the first token that was chosen.
    decode : list of float
        For each later token. Tokens that the form of a text forces, so that they are not chosen,
        take 0: they are read together with the next one. Tokens that were guessed right take hardly
        any time: they are chosen after the pass that the token before them took.
    masks : float
        How much of all that was spent on finding which tokens the form of a text allows.
    """

    prefill: float = 0.0
    decode: list[float] = field(default_factory=list)
    masks: float = 0.0

    @property
    def tokens_per_second(self) -> float:
        """Rate of the tokens after the first; 0 if there are none."""
        return len(self.decode) / sum(self.decode) if self.decode else 0.0


@dataclass(frozen=True)
class TokenLogprob:
    """How likely a token was at its place.

    Attributes
    ----------
    id : int
    logprob : float
        Natural logarithm of the probability that the model gives the token, before biases,
        penalties and temperature.
    bytes : bytes or None
        What the token stands for in the text, which may be a part of a character. None if the
        checkpoint has no tokenizer.
    top : tuple of TokenLogprob
        The likeliest tokens at this place, falling; the token itself is one of them or not.
    """

    id: int
    logprob: float
    bytes: bytes | None
    top: tuple[TokenLogprob, ...] = ()

    @property
    def text(self) -> str:
        """`bytes` as text. What is no UTF-8 becomes U+FFFD."""
        return "" if self.bytes is None else self.bytes.decode("utf-8", "replace")

    def to_dict(self) -> dict[str, Any]:
        """An item of `logprobs.content` in OpenAI's API; it can be written as JSON."""
        tops = [
            {key: value for key, value in each.to_dict().items() if key != "top_logprobs"}
            for each in self.top
        ]
        return {
            "token": self.text,
            "logprob": self.logprob,
            "bytes": None if self.bytes is None else list(self.bytes),
            "top_logprobs": tops,
        }


@dataclass(frozen=True, repr=False)
class GenerationResult:
    """The result of one request.

    Attributes
    ----------
    text : str or None
        The continuation, without the prompt; it ends before a stop string. None if the checkpoint
        has no tokenizer.
    ids : list of int
        Tokens of the continuation, without an end-of-text token.
    finish_reason : str
        "eos": the model ended the text, or its form is complete; "stop": a stop string or a stop
        token appeared; "length": max_tokens or the end of the context was reached; "cancelled": it
        was cancelled or closed before its end.
    prompt_tokens, reused_tokens : int
        Tokens in the context before generation, and how many of them were in the cache already.
    timings : Timings
    logprobs : list of TokenLogprob, or None
        One for each of `ids`, if they were asked for.
    forced_tokens : int
        How many tokens of the continuation were not chosen, because the form of the text leaves no
        choice there.
    drafted_tokens, accepted_tokens : int
        How many tokens were guessed and computed ahead (`prompt_lookup_num_tokens`), and how many
        of these were right. Wrong ones are no part of the continuation.
    dropped_tokens : int
        How many tokens were left out or dropped because of `overflow`.
    context_full : bool
        Whether it ended because the context (or `prefix_cache_bytes`) has no room for more tokens;
        `finish_reason` is "length" then.
    output : OutputFormat or None
        The form that was asked for.
    """

    text: str | None
    ids: list[int]
    finish_reason: str
    prompt_tokens: int
    reused_tokens: int
    timings: Timings
    logprobs: list[TokenLogprob] | None = None
    forced_tokens: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0
    dropped_tokens: int = 0
    context_full: bool = False
    output: OutputFormat | None = None

    @property
    def parsed(self) -> Any:
        """What the text means: with `schema`, the values of the JSON, or an instance of the class;
        with `regex`, `choices` and `grammar` the text. None if no form was asked for.

        Raises
        ------
        IncompleteOutputError
            The text ended before its form was complete.
        InvalidOutputError
            The class given as `schema` refuses the text.
        """
        if self.output is None:
            return None
        return self.output.read(self.text or "", self.finish_reason, self.context_full)

    @property
    def usage(self) -> dict[str, int]:
        """Token counts under the names of OpenAI's API."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": len(self.ids),
            "total_tokens": self.prompt_tokens + len(self.ids),
        }

    def __repr__(self) -> str:
        text = "no text" if self.text is None else beginning(self.text)
        return f"GenerationResult({text}, {plural(len(self.ids), 'token')}, {self.finish_reason!r})"

    def _repr_html_(self) -> str:
        facts = {
            "tokens": f"{len(self.ids):,}, {self.finish_reason}",
            "prompt": f"{plural(self.prompt_tokens, 'token')}, {self.reused_tokens} from the cache",
        }
        if self.timings.decode:
            first, rate = 1e3 * self.timings.prefill, self.timings.tokens_per_second
            facts["time"] = f"{number(first)} ms to the first token, then {number(rate)} tokens/s"
        if self.dropped_tokens:
            facts["dropped"] = f"{plural(self.dropped_tokens, 'token')} did not fit the context"
        if self.drafted_tokens:
            facts["guesses"] = f"{self.accepted_tokens:,} of {self.drafted_tokens:,} were right"
        return as_html("GenerationResult", str(self.ids) if self.text is None else self.text, facts)
