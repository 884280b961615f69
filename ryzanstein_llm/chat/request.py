"""One question: its prompt, its generation, and the answer."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from ..engine.engine import Engine
from ..errors import ContextOverflowError, UnsupportedFeatureError
from ..errors.request import LONGER_CONTEXT
from ..generation import Generation
from ..options import GenerationOptions
from ..results import GenerationResult
from ..text.chat_prompt import ChatPrompt
from ..text.vocabulary import PromptIds
from .answer import AnswerParser
from .format import ChatFormat
from .result import ChatResult, finish_reason

__all__ = ["ChatRequest"]


class ChatRequest:
    """A request that can begin.

    Parameters
    ----------
    engine : Engine
    format : ChatFormat
    prompt : ChatPrompt
    options : GenerationOptions
    tools : collection of str or None
        Names of the tools that the answer may call.
    dropped : int
        How many messages are not in the prompt because of `overflow`.

    Raises
    ------
    ContextOverflowError
        If the prompt does not fit the context.
    UnsupportedFeatureError
        For tools together with the form of an answer, if a call could not be told from an answer.
    """

    def __init__(
        self,
        engine: Engine,
        format: ChatFormat,
        prompt: ChatPrompt,
        options: GenerationOptions,
        *,
        tools: Collection[str] | None,
        dropped: int = 0,
    ) -> None:
        if len(prompt.ids) > engine.context_length:
            reason = (
                'the conversation is too long; shorten it, let overflow="truncate" leave out its '
                f"oldest turns, or {LONGER_CONTEXT}"
            )
            raise ContextOverflowError(len(prompt.ids), engine.context_length, reason)
        output = options.output
        self._instead: str | None = None
        if output is not None:
            if tools:
                self._instead = format.tool_call_tag
            if tools and self._instead is None:
                raise UnsupportedFeatureError(
                    f"tools together with {output.argument}: with this chat template the model "
                    "writes calls as JSON without a tag, so they could not be told from an answer"
                )
            # the prompt may have begun the reasoning, which has no form
            end = format.reasoning_end(prompt)
            options = replace(options, output=replace(output, after=end, unless=self._instead))
        self.prompt = prompt
        self._format, self._tools, self._dropped = format, tools, dropped
        ids = PromptIds(prompt.ids, prompt.ids)
        self.generation = Generation(engine, format.vocabulary, ids, options)

    def run(self) -> ChatResult:
        """Generate to the end. Raises what `BitNetModel.generate` raises."""
        return self.answer(self.generation.run())

    def parser(self) -> AnswerParser:
        """A new parser for the text of the generation."""
        return self._format.parser(self.prompt, tools=self._tools, instead=self._instead)

    def answer(self, generation: GenerationResult) -> ChatResult:
        """The answer that a finished generation holds."""
        parser = self.parser()
        deltas = [parser.push(generation.text or ""), parser.flush()]
        reasoning = "".join(delta.reasoning for delta in deltas)
        calls = [call for delta in deltas for call in delta.tool_calls]
        return ChatResult(
            text="".join(delta.text for delta in deltas),
            reasoning=reasoning or None,
            tool_calls=calls,
            finish_reason=finish_reason(generation.finish_reason, calls),
            generation=generation,
            model=self._format.name,
            dropped_messages=self._dropped,
        )
