"""Generations of every kind, one after the other: complete, cancelled, dropped, refused, failing.

Each kind is a method of `Mixture` that returns how many generations it began. What it does depends
on its number alone, so that a run can be repeated.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ryzanstein_llm import BitNetModel, errors

TURNS = (
    "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string", "maxLength": 6}, "age": {"enum": [1, 2, 3]}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
BEGINNINGS = ("Once upon a time", "The king", "", "A fox and a crow. " * 20, "Then she said:")


def has(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


class Mixture:
    """Works on `model`; writes its files into `folder`."""

    def __init__(self, model: BitNetModel, folder: Path) -> None:
        self.model, self.folder = model, folder
        self.kept: list[Any] = []
        self.kinds: list[Callable[[int], int]] = [
            self.plain,
            self.sampled,
            self.session,
            self.dropped_session,
            self.saved_session,
            self.cancelled,
            self.dropped_stream,
            self.cancelled_from_a_thread,
            self.threads,
            self.batch,
            self.refused,
            self.failing,
            self.tasks,
        ]
        if has("llguidance"):
            self.kinds += [self.structured, self.unfinished_form]
        if has("jinja2"):
            self.kinds.append(self.chat)

    def run(self, generations: int, first: int = 0) -> tuple[int, int]:
        """Begin at least so many, from the number `first` on, and the same number of each kind;
        return the next number, and how many began."""
        number, done = first, 0
        while done < generations:
            for kind in self.kinds:
                done += kind(number)
                number += 1
        return number, done

    @staticmethod
    def prompt(number: int) -> str:
        """Some prompts share a beginning with the one before, and some were never seen."""
        return f"{BEGINNINGS[number % len(BEGINNINGS)]} {number % 97 if number % 3 else number}"

    def plain(self, number: int) -> int:
        self.model.generate(self.prompt(number), max_tokens=8, stop=["king", "\n"])
        return 1

    def sampled(self, number: int) -> int:
        self.model.generate(
            self.prompt(number),
            max_tokens=8,
            temperature=1.2,
            top_p=0.9,
            top_k=(number % 3) * 20,
            repetition_penalty=1.1,
            seed=number,
            logprobs=number % 4,
            logit_bias={number % 4096: -5.0},
        )
        return 1

    def session(self, number: int) -> int:
        with self.model.session() as session:
            session.generate(self.prompt(number), max_tokens=5)
            mark = len(session.tokens)
            session.generate(" But", max_tokens=4)
            session.truncate(mark)
            with session.fork() as other:
                other.generate(" Then", max_tokens=4)
        return 3

    def dropped_session(self, number: int) -> int:
        """Nobody closes it, nor the stream that it is in the middle of."""
        session = self.model.session()
        session.generate(self.prompt(number), max_tokens=3)
        next(session.stream(" And", max_tokens=9))
        return 2

    def saved_session(self, number: int) -> int:
        path = self.folder / "kept.session"
        with self.model.session() as session:
            session.generate(self.prompt(number), max_tokens=3)
            session.save(path)
        with self.model.load_session(path) as session:
            session.generate(" And", max_tokens=3)
        return 2

    def cancelled(self, number: int) -> int:
        stream = self.model.stream(self.prompt(number), max_tokens=40)
        for count, _ in enumerate(stream):
            if count == number % 5:
                stream.cancel()
        return 1

    def dropped_stream(self, number: int) -> int:
        next(self.model.stream(self.prompt(number), max_tokens=40))
        return 1

    def cancelled_from_a_thread(self, number: int) -> int:
        with self.model.session() as session:
            stream = session.stream(self.prompt(number), max_tokens=100)
            next(stream)
            thread = threading.Thread(target=session.cancel)
            thread.start()
            for _ in stream:
                pass
            thread.join()
        return 1

    def threads(self, number: int) -> int:
        """Three callers at a time: one leads, and passes its turn on."""

        def generate(offset: int) -> None:
            self.model.generate(self.prompt(number + offset), max_tokens=4)

        callers = [threading.Thread(target=generate, args=(offset,)) for offset in range(3)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join()
        return 3

    def batch(self, number: int) -> int:
        prompts: list[Any] = [self.prompt(number), self.prompt(number + 1), 5]
        self.model.generate(
            prompts, n=2, temperature=0.8, seed=number, max_tokens=4, errors="return"
        )
        return 4

    def refused(self, number: int) -> int:
        for prompt, options in (
            (self.prompt(number), {"top_p": 2.0}),
            ([1, 2, 10**6], {}),
            ([1] * 600, {}),
        ):
            with contextlib.suppress(errors.RyzansteinError):
                self.model.generate(prompt, max_tokens=2, **options)
                raise AssertionError(f"{prompt!r} with {options} was not refused")
        return 3

    def failing(self, number: int) -> int:
        """An error of the user's in the middle of a text."""

        def processor(tokens: list[int], logits: Any) -> None:
            if len(tokens) % 3 == 0:
                raise ZeroDivisionError

        with contextlib.suppress(ZeroDivisionError):
            self.model.generate(self.prompt(number), max_tokens=9, logits_processor=processor)
            raise AssertionError("the error did not arrive")
        return 1

    def tasks(self, number: int) -> int:
        async def work() -> None:
            async with self.model.astream(self.prompt(number), max_tokens=9) as stream:
                async for _ in stream:
                    break
            task = asyncio.create_task(self.model.agenerate(self.prompt(number), max_tokens=40))
            await self.model.agenerate(self.prompt(number + 1), max_tokens=2)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        asyncio.run(work())
        return 3

    def structured(self, number: int) -> int:
        """One form that comes again, and one that never does."""
        text = self.model.generate(self.prompt(number), schema=SCHEMA, max_tokens=60)
        assert text[0] == "{"
        self.model.generate(self.prompt(number), choices=[f"yes {number}", "no"])
        return 2

    def unfinished_form(self, number: int) -> int:
        stream = self.model.stream(self.prompt(number), regex=f"[a-z]{{30}}{number}")
        next(stream)
        stream.close()
        with contextlib.suppress(errors.InvalidParameterError):
            self.model.generate("x", regex="(")
            raise AssertionError("a wrong expression was not refused")
        return 2

    def chat(self, number: int) -> int:
        session = self.model.chat_session(
            "Tell.", chat_template=TURNS, max_tokens=4, seed=number, temperature=1.0
        )
        session.send(self.prompt(number)[:100])
        session.send("And then?")
        session.retry(seed=number + 1)
        return 3

    def leaking(self, number: int) -> int:
        """Not one of `kinds`: shows that what is left is seen."""
        self.kept.append((open(__file__), self.model.stream(self.prompt(number), max_tokens=2)))  # noqa: SIM115
        return self.plain(number)
