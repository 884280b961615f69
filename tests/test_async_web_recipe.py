"""The web server of API.md whose tasks stream: texts, clients that leave, and wrong prompts."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

pytest.importorskip("starlette", reason="needs the extra `test`")

from test_web_recipe import TALE, Client, kept_streams, run_recipe


@pytest.fixture(scope="module")
def recipe() -> Iterator[dict[str, Any]]:
    """What the example defines."""
    yield from run_recipe("astream")


@pytest.fixture
def streams(recipe: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Those that requests of this test have begun."""
    return kept_streams(recipe, "astream", monkeypatch)


def test_clients_get_their_texts(recipe: dict[str, Any], streams: list[Any]) -> None:
    prompts = [TALE, "The king", "", TALE]

    async def visits() -> list[str]:
        return await asyncio.gather(*(Client(recipe, prompt).visit() for prompt in prompts))

    expected = [recipe["model"].generate(prompt, max_tokens=200) for prompt in prompts]
    assert asyncio.run(visits()) == expected
    assert {stream.result.finish_reason for stream in streams} <= {"length", "eos"}


@pytest.mark.parametrize("asgi", ["2.3", "2.4"])
def test_the_stream_of_a_client_that_leaves_ends_and_no_other(
    recipe: dict[str, Any], streams: list[Any], asgi: str
) -> None:
    leaving, staying = Client(recipe, TALE, 3, asgi), Client(recipe, TALE, asgi=asgi)

    async def visits() -> Any:
        return await asyncio.gather(leaving.visit(), staying.visit(), return_exceptions=True)

    left, text = asyncio.run(visits())
    assert isinstance(left, Exception) is (asgi >= "2.4")  # so Starlette tells its server
    assert text == recipe["model"].generate(TALE, max_tokens=200)
    begun = "".join(leaving.pieces)
    assert text.startswith(begun)
    assert len(begun) < len(text) / 2
    assert sorted(stream.result.finish_reason for stream in streams) == ["cancelled", "length"]


def test_a_prompt_that_is_too_long_is_a_bad_request(recipe: dict[str, Any]) -> None:
    client = Client(recipe, "the fox " * 1000)
    assert "do not fit a context of 512 tokens" in asyncio.run(client.visit())
    assert client.status == 400
