"""What a chat gives back, in the form of OpenAI's API."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass, field
from typing import Any

from ..notebook import as_html
from ..results import GenerationResult
from ..text_table import beginning, number, plural

__all__ = ["ChatDelta", "ChatResult", "finish_reason"]


@dataclass(frozen=True)
class ChatDelta:
    """A piece of an answer. `str(delta)` is its text.

    Attributes
    ----------
    text : str
        Of the answer.
    reasoning : str
        Of what the model thinks before it answers.
    tool_calls : list of dict
        Complete calls, as in `ChatResult.tool_calls`.
    """

    text: str = ""
    reasoning: str = ""
    tool_calls: list[dict[str, Any]] = field(default_factory=list)

    def __str__(self) -> str:
        return self.text

    def __bool__(self) -> bool:
        return bool(self.text or self.reasoning or self.tool_calls)


@dataclass(frozen=True, repr=False)
class ChatResult:
    """An answer.

    Attributes
    ----------
    text : str
        Without reasoning and tool calls; it ends before a stop string.
    reasoning : str or None
        What the model thought before it answered; None if it did not.
    tool_calls : list of dict
        Each has `id` (nine letters and digits), `type` ("function") and `function` with `name` and
        `arguments`, a str that holds a JSON object. Empty if no tools were given.
    finish_reason : str
        "stop": the model ended its answer, or a stop string appeared; "tool_calls": it ended, and
        there are tool calls; "length" and "cancelled" as in `GenerationResult`.
    generation : GenerationResult
        All of the text as the model wrote it, ids, timings, and how many tokens of the prompt were
        in the cache.
    model : str
        The name of the checkpoint.
    dropped_messages : int
        How many of the oldest messages were left out because of `overflow`.
    created : int
        The time of the result, in seconds since 1970.
    id : str
        For `to_dict`; drawn at random.
    """

    text: str
    reasoning: str | None
    tool_calls: list[dict[str, Any]]
    finish_reason: str
    generation: GenerationResult
    model: str
    dropped_messages: int = 0
    created: int = field(default_factory=lambda: int(time.time()))
    id: str = field(default_factory=lambda: f"chatcmpl-{uuid.uuid4().hex}")

    @property
    def parsed(self) -> Any:
        """What the answer means, as in `GenerationResult.parsed`. The reasoning is not part of it.
        None if the model calls tools instead.

        Raises
        ------
        IncompleteOutputError, InvalidOutputError
        """
        run = self.generation
        if run.output is None or self.tool_calls:
            return None
        return run.output.read(self.text, run.finish_reason, run.context_full)

    @property
    def message(self) -> dict[str, Any]:
        """The answer as a message, to be appended to the conversation."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text}
        if self.reasoning is not None:
            message["reasoning_content"] = self.reasoning
        if self.tool_calls:
            message["content"] = self.text or None
            message["tool_calls"] = [
                {**call, "function": dict(call["function"])} for call in self.tool_calls
            ]
        return message

    @property
    def usage(self) -> dict[str, Any]:
        """Token counts under the names of OpenAI's API."""
        cached = {"cached_tokens": self.generation.reused_tokens}
        return {**self.generation.usage, "prompt_tokens_details": cached}

    def to_dict(self) -> dict[str, Any]:
        """A `chat.completion` object of OpenAI's API; it can be written as JSON."""
        choice = {"index": 0, "message": self.message, "finish_reason": self.finish_reason}
        return {
            "id": self.id,
            "object": "chat.completion",
            "created": self.created,
            "model": self.model,
            "choices": [{**choice, "logprobs": self._logprobs()}],
            "usage": self.usage,
        }

    def _logprobs(self) -> dict[str, Any] | None:
        """Of all tokens that were generated, those of reasoning and tool calls included."""
        found = self.generation.logprobs
        if found is None:
            return None
        return {"content": [each.to_dict() for each in found], "refusal": None}

    def __repr__(self) -> str:
        parts = [beginning(self.text), plural(len(self.generation.ids), "token")]
        if self.tool_calls:
            parts.append(plural(len(self.tool_calls), "tool call"))
        return f"ChatResult({', '.join(parts)}, {self.finish_reason!r})"

    def _repr_html_(self) -> str:
        run = self.generation
        facts = {
            "tokens": f"{len(run.ids):,}, {self.finish_reason}",
            "prompt": f"{plural(run.prompt_tokens, 'token')}, {run.reused_tokens} from the cache",
        }
        for call in self.tool_calls:
            facts[f"tool {call['function']['name']}"] = call["function"]["arguments"]
        if run.timings.decode:
            facts["time"] = f"{number(run.timings.tokens_per_second)} tokens/s"
        return as_html("ChatResult", self.text, facts)


def finish_reason(reason: str, tool_calls: list[dict[str, Any]]) -> str:
    """OpenAI's word for the reason of a `GenerationResult`."""
    if reason in ("eos", "stop"):
        return "tool_calls" if tool_calls else "stop"
    return reason
