"""The web server in API.md streams to its clients, and stops for those that have gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs the extra `test`")

from test_documents import ROOT, blocks

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.engine.scheduler import Scheduler

TALE = "Once upon a time"
NEVER = 1 << 30
PATIENCE = 60


def run_recipe(word: str) -> Iterator[dict[str, Any]]:
    """What the web server in API.md whose code has this word defines, until its model is closed."""
    (example,) = [
        block
        for block in blocks(ROOT / "API.md")
        if "import Starlette" in block.text and word in block.text
    ]
    assert example.marked
    space: dict[str, Any] = {"__name__": "recipe"}
    exec(compile("\n" * example.line + example.text, "API.md", "exec"), space)
    with space["model"]:
        yield space


def kept_streams(recipe: dict[str, Any], method: str, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A list of the streams that this method of the model begins from now on."""
    made: list[Any] = []
    begin = getattr(recipe["model"], method)
    monkeypatch.setattr(
        recipe["model"], method, lambda *a, **k: made.append(begin(*a, **k)) or made[-1]
    )
    return made


@pytest.fixture(scope="module")
def recipe() -> Iterator[dict[str, Any]]:
    """What the example defines."""
    yield from run_recipe("to_thread")


@pytest.fixture
def streams(recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Those that requests of this test have begun."""
    return kept_streams(recipe, "stream", monkeypatch)


class Client:
    """One that leaves after so many pieces, or when `gone` is set. Speaks ASGI with the app."""

    def __init__(self, recipe, prompt, leaves_after=NEVER, asgi="2.3"):
        self.app, self.prompt, self.leaves_after = recipe["app"], prompt, leaves_after
        self.asgi, self.gone, self.asked = asgi, asyncio.Event(), False
        self.status, self.pieces = 0, []

    async def visit(self) -> str:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": self.asgi},
            "http_version": "1.1",
            "method": "POST",
            "path": "/tell",
            "query_string": b"",
            "headers": [],
        }
        await asyncio.wait_for(self.app(scope, self.receive, self.send), PATIENCE)
        return "".join(self.pieces)

    async def receive(self):
        if not self.asked:
            self.asked = True
            return {"type": "http.request", "body": self.prompt.encode(), "more_body": False}
        await self.gone.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        if message["type"] == "http.response.start":
            self.status = message["status"]
            return
        if self.gone.is_set() and self.asgi >= "2.4":
            raise OSError("the client has gone")
        self.pieces.append(message["body"].decode())
        if len(self.pieces) == self.leaves_after:
            self.gone.set()


def test_a_client_gets_the_text(recipe, streams):
    async def visits() -> list[str]:
        return await asyncio.gather(*(Client(recipe, TALE).visit() for _ in range(3)))

    texts = asyncio.run(visits())
    with BitNetModel() as model:
        assert texts == [model.generate(TALE, max_tokens=200)] * 3
    assert {stream.result.finish_reason for stream in streams} == {"length"}


@pytest.mark.parametrize("asgi", ["2.3", "2.4"])
def test_the_stream_of_a_client_that_leaves_is_cancelled_and_no_other(recipe, streams, asgi):
    async def visits() -> tuple[str, str]:
        leaving, staying = Client(recipe, TALE, 3, asgi), Client(recipe, TALE, asgi=asgi)
        left, text = await asyncio.gather(
            leaving.visit(), staying.visit(), return_exceptions=asgi >= "2.4"
        )
        assert isinstance(left, Exception) is (asgi >= "2.4")  # so Starlette tells its server
        return "".join(leaving.pieces), text

    left, text = asyncio.run(visits())
    assert text.startswith(left)
    assert len(left) < len(text) / 2
    for stream in streams:
        stream.close()
    reasons = [stream.result.finish_reason for stream in streams]
    assert sorted(reasons) == ["cancelled", "length"]
    assert recipe["model"].generate(TALE, max_tokens=200) == text


def test_a_client_that_leaves_during_a_long_prompt(recipe, streams, monkeypatch):
    """The event loop hears of it while a worker thread computes, and no further pass begins."""
    model, passes = recipe["model"], []
    compute = model.engine._compute
    monkeypatch.setattr(model.engine, "_scheduler", Scheduler(prompt_rows=8))

    async def visit() -> str:
        client, loop = Client(recipe, "the fox " * 150), asyncio.get_running_loop()

        def slow_pass(*arguments):
            passes.append(arguments)
            loop.call_soon_threadsafe(client.gone.set)
            limit = time.monotonic() + PATIENCE
            while "cancelled" not in repr(streams[0]) and time.monotonic() < limit:
                time.sleep(0.001)
            return compute(*arguments)

        monkeypatch.setattr(model.engine, "_compute", slow_pass)
        return await client.visit()

    assert asyncio.run(visit()) == ""
    assert len(passes) == 1
    assert streams[0].result.finish_reason == "cancelled"


def test_a_prompt_that_is_too_long_is_a_bad_request(recipe):
    client = None

    async def visit() -> str:
        nonlocal client
        client = Client(recipe, "the fox " * 1000)
        return await client.visit()

    assert "do not fit a context of 512 tokens" in asyncio.run(visit())
    assert client.status == 400
