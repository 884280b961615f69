"""`ryzanstein-llm chat`: a conversation in a terminal or through a pipe."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import click

from ..errors import InvalidParameterError, RyzansteinError
from .command import Command, exclude, integer, option
from .console import say, write
from .line_reader import FENCE, MessageReader
from .model import model_options, open_model
from .sampling import RANDOM, SAMPLING, sampling_fields, sampling_options
from .talk import Answer, ChatTalk, TaleTalk, Talk

if TYPE_CHECKING:
    from .. import BitNetModel

__all__ = ["command"]

UNLIMITED = -1
TALE_TOKENS = 100
"""Tokens that a model without chat template writes at a time: such models rarely end a text."""

HELP = """\
Talk with a model. Type a message and press Enter; the answer appears while it is computed.

A model without chat template, such as the built-in demo model, goes on from what you write.

From a pipe, each line is a message or a command, and only the answers are on standard output.
"""

COMMANDS = f"""\
/help               show this text
/system TEXT        replace the system message
/set                show the options of answers
/set NAME VALUE     change one, such as: /set temperature 0.5
/retry              answer again, with another seed
/clear              begin anew
/save PATH          write the conversation as JSON
/load PATH          read it
/exit               end; so does Ctrl-D

Ctrl-C stops an answer. A line with {FENCE} begins and ends a message of several lines;
with prompt_toolkit installed, Alt-Enter begins a new line. //text says "/text".
"""


@click.command("chat", cls=Command, short_help="talk with a model", help=HELP)
@option("--system", metavar="TEXT", section="Conversation", help="the system message")
@option(
    "--chat-template",
    type=click.Path(),
    metavar="PATH",
    section="Conversation",
    help="a file with Jinja text to use instead of the checkpoint's chat template",
)
@option(
    "-n",
    "--max-tokens",
    "--n-predict",
    type=integer,
    default=None,
    metavar="N",
    section="Conversation",
    help="tokens of an answer at most (default: until it ends); "
    f"{UNLIMITED}: until the context is full",
)
@sampling_options
@model_options
@click.pass_context
def command(context: click.Context, /, **given: Any) -> int:
    exclude(context, "temperature", "greedy")
    options = sampling_fields(given)
    if given["max_tokens"] is not None:
        options["max_tokens"] = given["max_tokens"]
    _checked(options)
    template = _template(given["chat_template"])
    with open_model(given) as model:
        model.vocabulary.refuse_text(True)  # now, not after the first message
        talk: Talk
        if template is None and model.chat_template is None:
            if given["system"] is not None:
                raise InvalidParameterError("needs a model with a chat template", "system")
            talk = TaleTalk(model)
            options.setdefault("max_tokens", TALE_TOKENS)
        else:
            talk = ChatTalk(model, given["system"], template)
        if given["seed"] == RANDOM:
            say(f"seed {options['seed']}")
        return _Conversation(model, talk, options).run()


class _Conversation:
    """Reads messages and commands until there are no more."""

    def __init__(self, model: BitNetModel, talk: Talk, options: dict[str, Any]) -> None:
        self._model, self._talk, self._options = model, talk, options
        self._reader = MessageReader()
        self._retries = 0

    def run(self) -> int:
        if self._reader.interactive:
            write("/help shows the commands\n")
        while True:
            try:
                text = self._reader.read()
            except KeyboardInterrupt:
                if not self._reader.interactive:
                    raise
                write("\nCtrl-D or /exit ends\n")
                continue
            if text is None or text.strip() in ("/exit", "/quit"):
                return 0
            try:
                self._take(text)
            except (RyzansteinError, OSError) as error:
                if isinstance(error, BrokenPipeError) or not self._reader.interactive:
                    raise
                say(f"error: {error}")

    def _take(self, text: str) -> None:
        """One message or command."""
        if not text.strip():
            return
        if not text.startswith("/"):
            self._answer(lambda: self._talk.ask(text, self._given()))
            self._retries = 0
            return
        if text.startswith("//"):
            self._answer(lambda: self._talk.ask(text[1:], self._given()))
            return
        name, _, value = text[1:].partition(" ")
        value = value.strip()
        if name == "help":
            self._tell(COMMANDS)
        elif name == "retry":
            self._retries += 1
            self._answer(lambda: self._talk.retry(self._given()))
        elif name == "clear":
            self._talk.clear()
        elif name == "system":
            self._talk.set_system(value)
        elif name == "set":
            self._set(value)
        elif name in ("save", "load"):
            if not value:
                raise InvalidParameterError(f"/{name} needs a path")
            getattr(self._talk, name)(os.path.expanduser(value))
        else:
            raise InvalidParameterError(f"there is no command /{name}; /help shows all")

    def _given(self) -> dict[str, Any]:
        """The options of the next answer. Another try has another seed."""
        options = dict(self._options)
        options["seed"] = (options["seed"] + self._retries) % (1 << 64)
        if options.get("max_tokens") == UNLIMITED:
            options["max_tokens"] = None
        return options

    def _set(self, text: str) -> None:
        if not text:
            self._tell("".join(f"{name} {value}\n" for name, value in self._options.items()))
            return
        name, _, given = text.replace("=", " ", 1).partition(" ")
        kinds: dict[str, Callable[[str], Any]] = {
            "max_tokens": integer,
            **{field: kind for field, (_, kind, _, _) in SAMPLING.items()},
        }
        name = name.replace("-", "_")
        if name not in kinds:
            known = ", ".join(kinds)
            raise InvalidParameterError(f"there is no option {name!r}; the options are {known}")
        try:
            value = kinds[name](given.strip())
        except click.BadParameter as error:
            raise InvalidParameterError(f"{name} {error.message}") from None
        if value == RANDOM:
            value = int.from_bytes(os.urandom(4), "little")
        _checked({**self._options, name: value})
        self._options[name] = value

    def _tell(self, text: str) -> None:
        """Show what is no answer: through a pipe, only answers are on standard output."""
        if self._reader.interactive:
            write(text)
        else:
            sys.stderr.write(text)
            sys.stderr.flush()

    def _answer(self, begin: Callable[[], Answer]) -> None:
        answer = begin()
        styled = self._reader.interactive and _can_style()
        thinking, last, begun = False, "", False
        # from a pipe, Ctrl-C ends the program as usual
        stops = _interrupts(answer.cancel) if self._reader.interactive else contextlib.nullcontext()
        with stops:
            for reasoning, text in answer:
                if reasoning and styled:
                    write(("" if thinking else "\x1b[2m") + reasoning)
                    thinking = True
                if text:
                    text = text if begun else text.lstrip()
                    write(("\x1b[0m\n\n" if thinking else "") + text)
                    thinking, begun = False, begun or bool(text)
                    last = text or last
        write(("\x1b[0m" if thinking else "") + ("" if last.endswith("\n") else "\n"))
        if self._reader.interactive:
            self._report(answer)

    def _report(self, answer: Answer) -> None:
        run = answer.generation
        used = run.prompt_tokens + len(run.ids)
        rate = run.timings.tokens_per_second
        parts = [f"{rate:.1f} tokens/s"] if rate else []
        parts.append(f"{used:,} of {self._model.context_length:,} tokens of the context")
        if run.finish_reason in ("length", "cancelled"):
            parts.append({"length": "cut off", "cancelled": "stopped"}[run.finish_reason])
        sys.stderr.write(f"({', '.join(parts)})\n")
        sys.stderr.flush()


def _checked(options: dict[str, Any]) -> None:
    """Check options before anything is done with them."""
    from ..sampling import SamplingParams
    from ..validation import check_int

    fields = {name: value for name, value in options.items() if name != "max_tokens"}
    SamplingParams(**fields)
    if "max_tokens" in options:
        check_int("max_tokens", options["max_tokens"], UNLIMITED, 1 << 31)


def _template(path: str | None) -> str | None:
    if path is None:
        return None
    from pathlib import Path

    from ..formats.json_file import read_text

    return read_text(Path(path))


def _can_style() -> bool:
    return "NO_COLOR" not in os.environ and os.environ.get("TERM", "dumb") != "dumb"


@contextlib.contextmanager
def _interrupts(cancel: Callable[[], None]) -> Iterator[None]:
    """Within the block, Ctrl-C calls `cancel`; a second one interrupts as usual."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.getsignal(signal.SIGINT)

    def stop(*_: object) -> None:
        signal.signal(signal.SIGINT, former)
        cancel()

    signal.signal(signal.SIGINT, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, former)
