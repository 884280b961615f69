"""`create_completion` and `create_chat_completion` of llama-cpp-python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, Unpack, overload

from ..chat import ChatSource
from ..chat.format import checkpoint_name
from ..chat.messages import check_tools
from ..errors import InvalidParameterError, UnsupportedFeatureError
from ..options import GenerationArguments
from ..text.vocabulary import Prompt
from ..text_iterator import TextIterator
from ..text_source import TextSource
from ..validation import check_bool, check_token_ids
from .answers import ChatCompletionChunks, CompletionAnswer
from .arguments import ChatCompletionArguments, CompletionArguments, read_settings
from .stream import CompletionStream

__all__ = ["CompletionSource"]

Json = dict[str, Any]
Messages = Sequence[Mapping[str, Any]]


class CompletionSource(TextSource, ChatSource):
    """Completions in the form of OpenAI's API. Names, defaults and meanings of the arguments are
    those of llama-cpp-python 0.3.36, so that programs can move here."""

    @overload
    def create_completion(
        self,
        prompt: Prompt,
        *,
        stream: Literal[False] = False,
        **arguments: Unpack[CompletionArguments],
    ) -> Json: ...
    @overload
    def create_completion(
        self, prompt: Prompt, *, stream: Literal[True], **arguments: Unpack[CompletionArguments]
    ) -> CompletionStream: ...
    @overload
    def create_completion(
        self, prompt: Prompt, *, stream: bool, **arguments: Unpack[CompletionArguments]
    ) -> Json | CompletionStream: ...
    def create_completion(
        self, prompt: Prompt, *, stream: bool = False, **arguments: Unpack[CompletionArguments]
    ) -> Json | CompletionStream:
        """Continue a text. `model(prompt, …)` does the same.

        Parameters
        ----------
        prompt : str or sequence of int
            As in `generate`.
        stream : bool
            Return chunks as they are generated.
        max_tokens : int, optional
            The largest number of new tokens; default 16. None, 0 and less: up to the end of the
            context.
        temperature, top_k, top_p, min_p, typical_p, presence_penalty, frequency_penalty
            Fields of SamplingParams with other defaults: 0.8, 40, 0.95, 0.05, 1, 0, 0. A negative
            top_k is 0.
        repeat_penalty : float
            `repetition_penalty` of SamplingParams; default 1.
        seed : int, optional
            None and -1 draw a seed.
        stop : str or sequence of str, optional
        echo : bool
            The text begins with the prompt.
        logprobs, logit_bias, logits_processor, grammar
            Options of `generate`. Keys of logit_bias are token ids, also as texts.
        model : str, optional
            What the result calls the model. Default: the name of the checkpoint.
        stream_options : dict, optional
            `{"include_usage": True}`: the last chunk has the token counts.
        n : 1
        user, mirostat_tau, mirostat_eta
            Ignored.
        suffix, stopping_criteria, tfs_z, mirostat_mode
            Refused unless they have the default of llama-cpp-python.

        Returns
        -------
        dict or CompletionStream
            A `text_completion`, or an iterator of its chunks.

        Raises
        ------
        InvalidParameterError
            Also for an unknown argument.
        UnsupportedFeatureError
            If this version cannot do what an argument asks for.
        ContextOverflowError, CacheBudgetError, EmptyPromptError, TokenizerMissingError, ClosedError
        """
        in_chunks = check_bool("stream", stream)
        settings = read_settings(arguments, chat=False, stream=in_chunks, temperature=0.8)
        options: GenerationArguments = settings.options  # type: ignore[assignment]
        if not isinstance(prompt, str):  # once, because it may be an iterator
            prompt = check_token_ids("prompt", prompt, self.vocabulary.size, or_text=True)
        generation = self._start(prompt, options, needs_text=True)
        text = prompt if isinstance(prompt, str) else self.vocabulary.detokenize(prompt)
        name = settings.model or checkpoint_name(self.vocabulary.path)
        answer = CompletionAnswer(name, text, echo=settings.echo)
        if not in_chunks:
            return answer.whole(generation.run())
        pieces = TextIterator(generation)
        return CompletionStream(pieces, answer, include_usage=settings.include_usage)

    __call__ = create_completion

    @overload
    def create_chat_completion(
        self,
        messages: Messages,
        *,
        stream: Literal[False] = False,
        **arguments: Unpack[ChatCompletionArguments],
    ) -> Json: ...
    @overload
    def create_chat_completion(
        self,
        messages: Messages,
        *,
        stream: Literal[True],
        **arguments: Unpack[ChatCompletionArguments],
    ) -> CompletionStream: ...
    @overload
    def create_chat_completion(
        self, messages: Messages, *, stream: bool, **arguments: Unpack[ChatCompletionArguments]
    ) -> Json | CompletionStream: ...
    def create_chat_completion(
        self,
        messages: Messages,
        *,
        stream: bool = False,
        **arguments: Unpack[ChatCompletionArguments],
    ) -> Json | CompletionStream:
        """Answer the last message of a conversation.

        Parameters
        ----------
        messages : sequence of dict
            As in `chat`.
        stream : bool
            Return chunks as they are generated.
        max_tokens : int, optional
            The largest number of new tokens. None (the default), 0 and less: up to the end of the
            context.
        temperature : float
            Default 0.2. The other sampling arguments are those of `create_completion`; the
            checkpoint's generation_config.json is not used.
        tools : sequence of dict, optional
            Functions that the model may call.
        tool_choice : "auto" or "none", optional
            "none": the model does not learn of the tools.
        response_format, chat_template, chat_template_kwargs
            As in `chat`.
        logprobs : bool
            Report the log probability of each token.
        top_logprobs : int in 0..20
            Of how many of the likeliest tokens, too.
        functions, function_call : None
            Older names of `tools` and `tool_choice`.
        **arguments
            Those of `create_completion`, except `echo`, `suffix` and `stopping_criteria`.

        Returns
        -------
        dict or CompletionStream
            A `chat.completion`, or an iterator of its chunks.

        Raises
        ------
        ChatTemplateError, MissingExtraError
            As `chat`; the others as `create_completion`.
        """
        in_chunks = check_bool("stream", stream)
        settings = read_settings(arguments, chat=True, stream=in_chunks, temperature=0.2)
        options: Json = {
            **settings.options,
            "tools": _chosen_tools(arguments.get("tools"), arguments.get("tool_choice")),
            "response_format": arguments.get("response_format"),
            "chat_template": arguments.get("chat_template"),
            "chat_template_kwargs": arguments.get("chat_template_kwargs"),
        }
        name = settings.model or checkpoint_name(self.vocabulary.path)
        if not in_chunks:
            return replace(self.chat(messages, **options), model=name).to_dict()
        pieces = self.chat_stream(messages, **options)
        chunks = ChatCompletionChunks(name)
        return CompletionStream(pieces, chunks, include_usage=settings.include_usage)


def _chosen_tools(tools: Any, choice: Any) -> list[Json] | None:
    """The tools that the model learns of.

    Raises
    ------
    InvalidParameterError
        If the choice is none of OpenAI's, or needs tools that are not there.
    UnsupportedFeatureError
        If the choice is that the model has to call a tool.
    """
    checked = check_tools(tools)
    if choice is None or choice == "auto":
        return checked
    if choice == "none":
        return None
    name = _named(choice)
    if name is None and choice != "required":
        kinds = "'auto', 'none', 'required' or {'type': 'function', 'function': {'name': …}}"
        raise InvalidParameterError(f"must be {kinds}, not {choice!r}", "tool_choice")
    names = [tool["function"]["name"] for tool in checked or ()]
    if not names or (name is not None and name not in names):
        there = f"tools has {', '.join(map(repr, names))}" if names else "there are no tools"
        raise InvalidParameterError(f"is {choice!r}, but {there}", "tool_choice")
    raise UnsupportedFeatureError(
        f"tool_choice={choice!r}: this version cannot make a model call a tool; pass 'auto', and "
        "say in a message that it has to"
    )


def _named(choice: Any) -> str | None:
    """The name of the function in OpenAI's form of a choice; None if it has another form."""
    function = choice.get("function") if isinstance(choice, Mapping) else None
    name = function.get("name") if isinstance(function, Mapping) else None
    return name if isinstance(name, str) else None
