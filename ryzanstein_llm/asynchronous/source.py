"""What makes a model one that tasks of asyncio can wait for."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

from ..batch import (
    Batch,
    BatchSource,
    CallArguments,
    Progress,
    Prompts,
    ResultArguments,
    TextArguments,
    arranged,
)
from ..chat import ChatResult, ChatSource
from ..chat.source import Messages, Tools
from ..options import GenerationArguments, GenerationOptions
from ..results import GenerationResult
from ..text.vocabulary import Prompt
from ..validation import check_bool

if TYPE_CHECKING:
    import asyncio

    from .chat_stream import AsyncChatStream
    from .runner import Runner
    from .stream import AsyncTextIterator

__all__ = ["AsyncSource"]


class AsyncSource(BatchSource, ChatSource):
    """`agenerate`, `astream`, `achat` and `achat_stream`. A subclass has the attributes, and makes
    requests in `_start`.

    Cancelling a task ends what it waits for: within a long prompt soon, and if other requests
    share the pass, when the pass ends.
    """

    @overload
    async def agenerate(
        self, prompt: Prompt, *, n: None = None, **options: Unpack[TextArguments]
    ) -> str: ...
    @overload
    async def agenerate(
        self, prompt: Prompt, *, n: None = None, **options: Unpack[ResultArguments]
    ) -> GenerationResult: ...
    @overload
    async def agenerate(
        self, prompt: Prompt, *, n: int, **options: Unpack[TextArguments]
    ) -> list[str]: ...
    @overload
    async def agenerate(
        self, prompt: Prompt, *, n: int, **options: Unpack[ResultArguments]
    ) -> list[GenerationResult]: ...
    @overload
    async def agenerate(
        self,
        prompt: Prompt,
        *,
        return_result: bool,
        n: None = None,
        **options: Unpack[CallArguments],
    ) -> str | GenerationResult: ...
    @overload
    async def agenerate(
        self,
        prompt: Prompts,
        *,
        n: None = None,
        errors: Literal["raise"] = "raise",
        **options: Unpack[TextArguments],
    ) -> list[str]: ...
    @overload
    async def agenerate(
        self,
        prompt: Prompts,
        *,
        n: None = None,
        errors: Literal["raise"] = "raise",
        **options: Unpack[ResultArguments],
    ) -> list[GenerationResult]: ...
    @overload
    async def agenerate(
        self,
        prompt: Prompts,
        *,
        n: int,
        errors: Literal["raise"] = "raise",
        **options: Unpack[TextArguments],
    ) -> list[list[str]]: ...
    @overload
    async def agenerate(
        self,
        prompt: Prompts,
        *,
        n: int,
        errors: Literal["raise"] = "raise",
        **options: Unpack[ResultArguments],
    ) -> list[list[GenerationResult]]: ...
    @overload
    async def agenerate(
        self,
        prompt: Prompts,
        *,
        n: None = None,
        errors: Literal["return"],
        **options: Unpack[TextArguments],
    ) -> list[str | Exception]: ...
    @overload
    async def agenerate(
        self,
        prompt: Prompts,
        *,
        n: None = None,
        errors: Literal["return"],
        **options: Unpack[ResultArguments],
    ) -> list[GenerationResult | Exception]: ...
    @overload
    async def agenerate(
        self,
        prompt: Prompts,
        *,
        n: int,
        errors: Literal["return"],
        **options: Unpack[TextArguments],
    ) -> list[list[str] | Exception]: ...
    @overload
    async def agenerate(
        self,
        prompt: Prompts,
        *,
        n: int,
        errors: Literal["return"],
        **options: Unpack[ResultArguments],
    ) -> list[list[GenerationResult] | Exception]: ...
    async def agenerate(
        self,
        prompt: Any,
        *,
        return_result: bool = False,
        n: int | None = None,
        errors: Any = None,
        progress: Progress | None = None,
        **options: Unpack[GenerationArguments],
    ) -> Any:
        """Like `generate`, for asyncio: computed in a thread, while the event loop goes on.
        Requests of many tasks are computed together. `progress` is called in the event loop."""
        whole = check_bool("return_result", return_result)
        runner = self._runner()
        batch: Batch = await runner.prepare(
            partial(self._batch, prompt, options, whole, n, errors, progress)
        )
        await runner.run(batch)
        return arranged(batch, whole=whole, n=n)

    def astream(self, prompt: Prompt, **options: Unpack[GenerationArguments]) -> AsyncTextIterator:
        """Like `stream`, for asyncio. Options are checked at once, the prompt when the first piece
        is asked for."""
        from .stream import AsyncTextIterator

        GenerationOptions.from_arguments(options)
        return AsyncTextIterator(
            partial(self._start, prompt, options, needs_text=True), self._runner
        )

    async def achat(
        self,
        messages: Messages,
        *,
        tools: Tools | None = None,
        response_format: Mapping[str, Any] | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[GenerationArguments],
    ) -> ChatResult:
        """Like `chat`, for asyncio."""
        runner = self._runner()
        arguments = (messages, tools, response_format, chat_template, chat_template_kwargs)
        arguments = (messages, tools, response_format, chat_template, chat_template_kwargs)
        request = await runner.prepare(partial(self._ask, *arguments, options))
        await runner.run(Batch("", lambda *_: [request.generation]))
        assert request.generation.result is not None
        return request.answer(request.generation.result)

    def achat_stream(
        self,
        messages: Messages,
        *,
        tools: Tools | None = None,
        response_format: Mapping[str, Any] | None = None,
        chat_template: str | None = None,
        chat_template_kwargs: Mapping[str, Any] | None = None,
        **options: Unpack[GenerationArguments],
    ) -> AsyncChatStream:
        """Like `chat_stream`, for asyncio. Everything is checked when the first piece is asked
        for."""
        from .chat_stream import AsyncChatStream

        arguments = (messages, tools, response_format, chat_template, chat_template_kwargs)
        return AsyncChatStream(partial(self._ask, *arguments, options), self._runner)

    def _runner(self) -> Runner:
        """The runner of this event loop."""
        import asyncio  # programs without tasks need not wait for it

        from .runner import Runner

        _ = self.engine.graph  # ClosedError
        loop = asyncio.get_running_loop()
        runners: dict[asyncio.AbstractEventLoop, Runner] = self.__dict__.setdefault("_runners", {})
        for other in list(runners):
            if other.is_closed():
                runners.pop(other, None)
        return runners.setdefault(loop, Runner(self.engine, loop))
