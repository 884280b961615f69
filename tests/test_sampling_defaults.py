"""The table of defaults in API.md is true: of each call that it names, without sampling options."""

from __future__ import annotations

import asyncio
import io
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from extras import needs_extra
from test_documents import ROOT

from ryzanstein_llm import BitNetModel, SamplingParams
from ryzanstein_llm.cli import main
from ryzanstein_llm.generation import Generation
from ryzanstein_llm.options import GenerationOptions

needs_extra("chat", "jinja2")

TURNS = "{% for m in messages %}{{ m.content }}{% endfor %}"
ASKED: list[Any] = [{"role": "user", "content": "Once upon a time"}]
HEADER = "| without options |"


def rows() -> dict[str, dict[str, str]]:
    """By the name of a call, its row: the cell of each field."""
    text = (ROOT / "API.md").read_text(encoding="utf-8")
    table = text[text.index(HEADER) :].partition("\n\n")[0].splitlines()
    header, _, *body = [[cell.strip() for cell in line.strip("|").split("|")] for line in table]
    fields = [cell.strip("`") for cell in header[1:]]
    return {
        name: dict(zip(fields, cells, strict=True))
        for first, *cells in body
        for name in re.findall(r"`([^`]+)`", first)
    }


async def _all(stream: Any) -> None:
    async for _ in stream:
        pass


def _session(model: BitNetModel) -> None:
    with model.session() as session:
        session.generate("Once upon a time")


CALLS: dict[str, Callable[[BitNetModel], object]] = {
    "generate": lambda model: model.generate("Once upon a time"),
    "stream": lambda model: list(model.stream("Once upon a time")),
    "agenerate": lambda model: asyncio.run(model.agenerate("Once upon a time")),  # type: ignore[arg-type]
    "astream": lambda model: asyncio.run(_all(model.astream("Once upon a time"))),
    "Session": _session,
    "chat": lambda model: model.chat(ASKED, chat_template=TURNS),
    "chat_stream": lambda model: list(model.chat_stream(ASKED, chat_template=TURNS)),
    "achat": lambda model: asyncio.run(model.achat(ASKED, chat_template=TURNS)),
    "achat_stream": lambda model: asyncio.run(_all(model.achat_stream(ASKED, chat_template=TURNS))),
    "ChatSession": lambda model: model.chat_session(chat_template=TURNS).send("Once"),
    "create_completion": lambda model: model.create_completion("Once upon a time"),
    "create_chat_completion": lambda model: model.create_chat_completion(
        ASKED, chat_template=TURNS
    ),
    "ryzanstein-llm generate": lambda _: main(["generate", "Once upon a time"]),
    "ryzanstein-llm chat": lambda _: main(["chat"]),
}


@pytest.fixture
def model() -> Iterator[BitNetModel]:
    with BitNetModel(n_threads=1) as model:
        yield model


def test_the_table_names_all_of_them() -> None:
    assert rows().keys() == CALLS.keys()


@pytest.mark.parametrize("name", CALLS)
def test_the_table_is_true(model: BitNetModel, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[GenerationOptions] = []
    begin = Generation.__init__

    def recorded(
        self: Generation, engine: Any, vocabulary: Any, ids: Any, options: Any, *rest: Any
    ) -> None:
        begun.append(options)
        begin(self, engine, vocabulary, ids, options, *rest)

    monkeypatch.setattr(Generation, "__init__", recorded)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Once upon a time\n")))
    CALLS[name](model)
    (options,) = begun
    for field, cell in rows()[name].items():
        holder = options if field == "max_tokens" else options.sampling
        assert repr(expected(field, cell)) == repr(getattr(holder, field)), field


def expected(field: str, cell: str) -> object:
    """The value that a cell of the table means."""
    if cell == "stored":  # in the generation_config.json of the demo model
        stored = {"temperature": 0.7, "min_p": 0.1, "repetition_penalty": 1.1}
        return stored.get(field, getattr(SamplingParams(), field))
    if cell.startswith("no limit;"):  # the demo model has no chat template
        return int(cell.split()[2])
    if cell in ("drawn", "no limit"):
        return None
    kind = int if field in ("top_k", "seed", "max_tokens") else float
    return kind(cell.split()[0])
