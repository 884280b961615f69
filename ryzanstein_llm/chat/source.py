"""What makes a model one that can be talked with."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Unpack

from ..engine.engine import Engine
from ..errors import InvalidParameterError
from ..models import refuse_embedding_model
from ..options import GenerationArguments, GenerationOptions
from ..sampling import SamplingParams
from ..text.chat_prompt import ChatPrompt
from ..text.vocabulary import Vocabulary
from .format import ChatFormat, choose_template
from .messages import check_messages, check_tools, check_variables, tool_names
from .overflow import Make, fitting_prompt
from .request import ChatRequest
from .response_format import read_response_format
from .result import ChatResult
from .session import ChatSession
from .stream import ChatStream

__all__ = ["ChatSource"]

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]


class ChatSource:
    """`chat`, `chat_stream` and `chat_session`. A subclass has the attributes."""

    engine: Engine
    vocabulary: Vocabulary
    path: Path
    generation_config: dict[str, Any]
    chat_template: str | None

    def chat(
        self,
        messages: Messages,
        *,
        tools: Tools | None = None,
        response_format: Mapping[str, Any] | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[GenerationArguments],
    ) -> ChatResult:
        """Answer the last message of a conversation. Without sampling options, the checkpoint's
        generation_config.json decides how (see `SamplingParams.from_checkpoint`).

        Text in messages never becomes a special token, whatever it says.

        Parameters
        ----------
        messages : sequence of dict
            As in OpenAI's API: `role` ("system", "developer", "user", "assistant", "tool") and
            `content`, a str or a list of text parts; also `tool_calls`, `tool_call_id`, `name`, and
            `reasoning_content`.
        tools : sequence of dict, optional
            Functions that the model may call, as in OpenAI's API.
        response_format : dict, optional
            As in OpenAI's API: `{"type": "json_schema", "json_schema": {"schema": {...}}}`,
            `{"type": "json_object"}` or `{"type": "text"}`. `schema` of `generate` does the same.
        chat_template : str, optional
            Jinja text to use instead of the checkpoint's template, or the name of one if the
            checkpoint has several.
        chat_template_kwargs : dict, optional
            Further variables of the template, such as `{"enable_thinking": False}`.
        **options
            Those of `generate`.

        Raises
        ------
        InvalidParameterError
            Names the index, the key and the value.
        ChatTemplateError
            If there is no template, or it does not accept the conversation.
        MissingExtraError
            If jinja2 is not installed, or llguidance for the form of an answer.
        UnsupportedFeatureError
            For tools together with the form of an answer, where the model writes calls without a
            tag, so that they could not be told from an answer.
        ContextOverflowError, CacheBudgetError, TokenizerMissingError, ClosedError
        """
        return self._ask(
            messages, tools, response_format, chat_template, chat_template_kwargs, options
        ).run()

    def chat_stream(
        self,
        messages: Messages,
        *,
        tools: Tools | None = None,
        response_format: Mapping[str, Any] | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[GenerationArguments],
    ) -> ChatStream:
        """Like `chat`, but in pieces (`ChatDelta`). Arguments are checked at once."""
        return ChatStream(
            self._ask(
                messages, tools, response_format, chat_template, chat_template_kwargs, options
            )
        )

    def chat_session(
        self,
        system: str | None = None,
        *,
        messages: Messages | None = None,
        tools: Tools | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[GenerationArguments],
    ) -> ChatSession:
        """A new conversation.

        Parameters
        ----------
        system : str, optional
            The system message that it begins with.
        messages : sequence of dict, optional
            What was said before.
        tools, chat_template, chat_template_kwargs, **options
            As in `chat`, for all answers of the session.
        """
        checked_tools = check_tools(tools)
        format = self._chat_format(chat_template, tools=checked_tools is not None)
        said = [] if messages is None else list(messages)
        if system is not None:
            said.insert(0, {"role": "system", "content": system})
        known = check_messages(said, format.roles) if said else []
        variables = check_variables(chat_template_kwargs)
        self._chat_options(options)

        def ask(
            make: Make, messages: Messages, left_out: int, arguments: Mapping[str, Any]
        ) -> ChatRequest:
            chosen, names = self._chat_options(arguments), tool_names(checked_tools)
            return self._chat_request(format, make, messages, chosen, names, left_out)

        return ChatSession(format, ask, known, checked_tools, variables, options)

    def _ask(
        self,
        messages: Messages,
        tools: Tools | None,
        response_format: Mapping[str, Any] | None,
        chat_template: str | None,
        variables: Mapping[str, Any] | None,
        options: Mapping[str, Any],
    ) -> ChatRequest:
        chosen = self._chat_options(options)
        asked = read_response_format(response_format)
        if asked is not None and chosen.output is not None:
            problem = f"cannot be given together with {chosen.output.argument}"
            raise InvalidParameterError(problem, "response_format")
        if asked is not None:
            chosen = replace(chosen, output=asked)
        checked_tools = check_tools(tools)
        format = self._chat_format(chat_template, tools=checked_tools is not None)
        checked = check_messages(messages, format.roles)
        given = check_variables(variables)

        def make(said: Messages) -> ChatPrompt:
            return format.prompt(said, checked_tools, given)

        names = tool_names(checked_tools)
        return self._chat_request(format, make, checked, chosen, names)

    def _chat_request(
        self,
        format: ChatFormat,
        make: Make,
        messages: Messages,
        options: GenerationOptions,
        tools: Collection[str] | None,
        left_out: int | None = None,
    ) -> ChatRequest:
        _ = self.engine.graph  # ClosedError
        capacity = self.engine.store.capacity
        prompt, dropped = fitting_prompt(make, messages, options, capacity, left_out)
        return ChatRequest(self.engine, format, prompt, options, tools=tools, dropped=dropped)

    def _chat_options(self, arguments: Mapping[str, Any]) -> GenerationOptions:
        given = dict(arguments)
        if given.get("sampling") is None:
            given["sampling"] = SamplingParams.from_checkpoint(self)
        return GenerationOptions.from_arguments(given)

    def _chat_format(self, wanted: str | None, *, tools: bool) -> ChatFormat:
        """The format of a template, compiled when it is first asked for. The last few are kept."""
        refuse_embedding_model(self.engine.graph, self.path)
        source = choose_template(self.vocabulary, self.chat_template, wanted, tools=tools)
        formats: dict[str, ChatFormat] = self.__dict__.setdefault("_chat_formats", {})
        found = formats.get(source)
        if found is None:
            found = ChatFormat(source, self.vocabulary)
            while len(formats) >= 8:
                formats.pop(next(iter(formats)), None)
            formats[source] = found
        return found
