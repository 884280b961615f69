"""The web server of API.md whose answers are JSON: texts, clients that leave, and wrong prompts."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs the extra `test`")

from test_web_recipe import PATIENCE, TALE, Client, run_recipe

from ryzanstein_llm.engine.scheduler import Scheduler


@pytest.fixture(scope="module")
def recipe() -> Iterator[dict[str, Any]]:
    """What the example defines."""
    yield from run_recipe("agenerate")


def slowed(recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The times of all passes of the model, each of which takes 50 ms more from now on."""
    engine, passes = recipe["model"].engine, list[float]()
    compute = engine._compute

    def slow_pass(*arguments: Any) -> Any:
        passes.append(time.monotonic())
        time.sleep(0.05)
        return compute(*arguments)

    monkeypatch.setattr(engine, "_compute", slow_pass)
    return passes


def test_clients_get_their_texts(recipe: dict[str, Any]) -> None:
    prompts = [TALE, "The king", ""]

    async def visits() -> list[str]:
        return await asyncio.gather(*(Client(recipe, prompt).visit() for prompt in prompts))

    for prompt, body in zip(prompts, asyncio.run(visits()), strict=True):
        expected = recipe["model"].generate(prompt, max_tokens=200, return_result=True)
        assert json.loads(body) == {"text": expected.text, "usage": expected.usage}


@pytest.mark.parametrize("prompt", [TALE, "the fox " * 150])
def test_the_text_of_a_client_that_leaves_ends_also_within_a_long_prompt(
    recipe: dict[str, Any], prompt: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the loop, it would have 200 passes, or 38 of the prompt alone."""
    monkeypatch.setattr(recipe["model"].engine, "_scheduler", Scheduler(prompt_rows=8))
    recipe["model"].engine.clear()
    passes = slowed(recipe, monkeypatch)
    client = Client(recipe, prompt)

    async def visit() -> float:
        visiting = asyncio.create_task(client.visit())
        while not passes:
            await asyncio.sleep(0.01)
        client.gone.set()
        left = time.monotonic()
        await asyncio.wait_for(visiting, PATIENCE)
        return time.monotonic() - left

    assert asyncio.run(visit()) < PATIENCE / 10
    assert client.status == 499
    count = len(passes)
    time.sleep(0.3)
    assert len(passes) == count < 30


def test_a_server_that_stops_ends_the_text(
    recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes = slowed(recipe, monkeypatch)

    async def visit() -> None:
        visiting = asyncio.create_task(Client(recipe, TALE).visit())
        while not passes:
            await asyncio.sleep(0.01)
        visiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await visiting

    asyncio.run(visit())
    count = len(passes)
    time.sleep(0.3)
    assert len(passes) == count < 30


def test_a_prompt_that_is_too_long_is_a_bad_request(recipe: dict[str, Any]) -> None:
    client = Client(recipe, "the fox " * 1000)
    body = json.loads(asyncio.run(client.visit()))
    assert "do not fit a context of 512 tokens" in body["error"]
    assert client.status == 400
