"""`ryzanstein-llm chat`: a conversation in a terminal or through a pipe."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ..errors import ContextOverflowError, InvalidParameterError, RyzansteinError
from .answer_printer import AnswerPrinter
from .command import Command, exclude, integer, option
from .console import say, say_error, write
from .line_reader import FENCE, MessageReader
from .model import model_options, open_model
from .overflow import overflow_option
from .sampling import RANDOM, SAMPLING, sampling_fields, sampling_options
from .talk import ChatTalk, TaleTalk, Talk

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
    f"{UNLIMITED}: no limit but the length of the context",
)
@overflow_option(
    "Conversation",
    "when the context is full: truncate (leave out the oldest turns; default with a chat "
    "template), shift (drop the older half, also within an answer; default without), or error",
)
@sampling_options
@model_options
@click.pass_context
def command(context: click.Context, /, **given: Any) -> int:
    exclude(context, "temperature", "greedy")
    options = sampling_fields(given)
    if given["max_tokens"] is not None:
        options["max_tokens"] = given["max_tokens"]
    if given["overflow"] is not None:
        options["overflow"] = given["overflow"]
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
        options.setdefault("overflow", talk.overflow)
        if given["seed"] == RANDOM:
            say(f"seed {options['seed']}")
        return _Conversation(model, talk, options).run()


class _Conversation:
    """Reads messages and commands until there are no more."""

    def __init__(self, model: BitNetModel, talk: Talk, options: dict[str, Any]) -> None:
        self._model, self._talk, self._options = model, talk, options
        self._reader = MessageReader()
        self._printer = AnswerPrinter(self._reader.interactive, model.context_length)
        self._retries, self._code = 0, 0

    def run(self) -> int:
        if self._reader.interactive:
            write("/help shows the commands\n")
        while True:
            text = self._read()
            if text is None or text.strip() in ("/exit", "/quit"):
                return 0 if self._reader.interactive else self._code
            try:
                self._take(text)
            except BrokenPipeError:
                raise
            except ContextOverflowError as error:
                self._code = 2
                say(
                    f"error: {error.needed} tokens do not fit the context of "
                    f"{error.context_length}; {self._remedy()}"
                )
            except (MemoryError, RyzansteinError, OSError) as error:
                self._code = say_error(error)

    def _read(self) -> str | None:
        try:
            return self._reader.read()
        except KeyboardInterrupt:
            if not self._reader.interactive:
                raise
            write("\nCtrl-D or /exit ends\n")
        except InvalidParameterError as error:  # no UTF-8
            self._code = say_error(error)
        return ""

    def _remedy(self) -> str:
        if self._options["overflow"] == "error":
            return f"/set overflow {self._talk.overflow} leaves out the oldest, /clear begins anew"
        return "a message has to be shorter than the context (--context-length)"

    def _take(self, text: str) -> None:
        """One message or command."""
        if not text.strip():
            return
        if not text.startswith("/"):
            self._printer.show(self._talk.ask(text, self._given()))
            self._retries = 0
            return
        if text.startswith("//"):
            self._printer.show(self._talk.ask(text[1:], self._given()))
            return
        name, _, value = text[1:].partition(" ")
        value = value.strip()
        if name == "help":
            self._tell(COMMANDS)
        elif name == "retry":
            self._retries += 1
            self._printer.show(self._talk.retry(self._given()))
        elif name == "clear":
            self._talk.clear()
        elif name == "system":
            self._talk.set_system(value)
        elif name == "set":
            self._set(value)
        elif name in ("save", "load"):
            if not value:
                raise InvalidParameterError(f"/{name} needs a path")
            path = os.path.expanduser(value)
            if name == "save":
                self._talk.save(path)
            else:
                self._talk.load(path, self._given())
        else:
            raise InvalidParameterError(f"there is no command /{name}; /help shows all")

    def _given(self) -> dict[str, Any]:
        """The options of the next answer. Another try has another seed."""
        options = dict(self._options)
        options["seed"] = (options["seed"] + self._retries) % (1 << 64)
        if options.get("max_tokens") == UNLIMITED:
            options["max_tokens"] = None
        if options.get("max_tokens") is None and options["overflow"] == "shift":
            options["max_tokens"] = self._model.context_length  # or it might never end
        return options

    def _set(self, text: str) -> None:
        if not text:
            self._tell("".join(f"{name} {value}\n" for name, value in self._options.items()))
            return
        name, _, given = text.replace("=", " ", 1).partition(" ")
        kinds: dict[str, Callable[[str], Any]] = {
            "max_tokens": integer,
            **{field: kind for field, (_, kind, _, _) in SAMPLING.items()},
            "overflow": str,
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


def _checked(options: dict[str, Any]) -> None:
    """Check options before anything is done with them."""
    from ..options import GenerationOptions
    from ..sampling import SamplingParams
    from ..validation import check_int

    own = ("max_tokens", "overflow")
    SamplingParams(**{name: value for name, value in options.items() if name not in own})
    if "overflow" in options:
        GenerationOptions(overflow=options["overflow"])
    if "max_tokens" in options:
        check_int("max_tokens", options["max_tokens"], UNLIMITED, 1 << 31)


def _template(path: str | None) -> str | None:
    if path is None:
        return None
    from pathlib import Path

    from ..formats.json_file import read_text

    return read_text(Path(path))
