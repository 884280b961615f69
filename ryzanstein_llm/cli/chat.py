"""`ryzanstein-llm chat`: a conversation in a terminal or through a pipe."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from ..errors import ContextOverflowError, InvalidParameterError, RyzansteinError
from ..errors.suggestion import did_you_mean
from .answer_printer import AnswerPrinter
from .chat_settings import UNLIMITED, ChatSettings, check_settings
from .command import Command, exclude, integer, option
from .console import remark, say, say_error, terminal_columns, write
from .line_reader import FENCE, MessageReader
from .model import model_options, open_model
from .overflow import overflow_option
from .sampling import RANDOM, sampling_fields, sampling_options
from .talk import ChatTalk, TaleTalk, Talk

if TYPE_CHECKING:
    from .. import BitNetModel

__all__ = ["command"]

TALE_TOKENS = 100
"""Tokens that a model without chat template writes at a time: such models rarely end a text."""

HELP = """\
Talk with a model. Type a message and press Enter; the answer appears while it is computed.

A model without chat template, such as the built-in demo model, goes on from what you write.

From a pipe, each line is a message or a command, and only the answers are on standard output.
"""

COMMANDS = {
    "/help": "show this text",
    "/system TEXT": "replace the system message",
    "/set": "show the options of answers",
    "/set NAME VALUE": "change one, such as: /set temperature 0.5",
    "/retry": "answer again, with another seed, or what has no answer yet",
    "/clear": "begin anew",
    "/save PATH": "write the conversation as JSON",
    "/load PATH": "read it",
    "/exit": "end; so does Ctrl-D",
}
NOTES = f"""\
Ctrl-C stops an answer. A line with {FENCE} begins and ends a message of several lines; with \
prompt_toolkit installed, Alt-Enter begins a new line. //text says "/text"."""
NAMES_WIDTH = 18

BARE = ("help", "retry", "clear", "exit", "quit")
"""Commands with nothing after them."""


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
    check_settings(options)
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
        self._talk, self._settings = talk, ChatSettings(model, options)
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
        if self._settings.overflow == "error":
            return f"/set overflow {self._talk.overflow} leaves out the oldest, /clear begins anew"
        return "a message has to be shorter than the context (--context-length)"

    def _take(self, text: str) -> None:
        """One message or command."""
        if not text.strip():
            return
        if not text.startswith("/") or text.startswith("//"):
            self._retries = 0
            self._printer.show(self._talk.ask(text.removeprefix("/"), self._options))
            return
        name, _, value = text[1:].partition(" ")
        value = value.strip()
        if value and name in BARE:
            raise InvalidParameterError(f"/{name} takes nothing after it, and this is {value!r}")
        if name == "help":
            self._help()
        elif name == "retry":
            self._retries += 1
            self._printer.show(self._talk.retry(self._options))
        elif name == "clear":
            self._talk.clear()
            self._confirm("a new conversation")
        elif name == "system":
            self._talk.set_system(value)
            self._confirm("the system message is replaced" if value else "no system message")
        elif name == "set":
            self._set(value)
        elif name in ("save", "load"):
            if not value:
                raise InvalidParameterError(f"/{name} needs a path")
            path = os.path.expanduser(value)
            if name == "save":
                self._talk.save(path)
            else:
                self._talk.load(path, self._options)
            self._confirm(f"saved as {path}" if name == "save" else f"loaded from {path}")
        else:
            hint = did_you_mean(f"/{name}", dict.fromkeys(each.split()[0] for each in COMMANDS))
            raise InvalidParameterError(f"there is no command /{name}; {hint or '/help shows all'}")

    @property
    def _options(self) -> dict[str, Any]:
        """Those of the next answer."""
        return self._settings.for_answer(self._retries)

    def _set(self, text: str) -> None:
        name, value = [*text.replace("=", " ", 1).split(maxsplit=1), "", ""][:2]
        if name:
            name = self._settings.named(name)
        if value:
            self._settings.change(name, value)
            self._confirm(f"{name} {self._settings.in_effect()[name]}")
            return
        found = self._settings.in_effect()
        self._tell("".join(f"{each} {found[each]}\n" for each in ([name] if name else found)))

    def _help(self) -> None:
        from ..text_table import WIDTH, as_text, fields

        columns = terminal_columns(sys.stdout) if self._reader.interactive else WIDTH
        width = min(WIDTH, columns)
        self._tell(fields(COMMANDS, NAMES_WIDTH, width=width) + "\n" + as_text([NOTES], width))

    def _confirm(self, text: str) -> None:
        """Tell a person that something is done."""
        if self._reader.interactive:
            remark(text)

    def _tell(self, text: str) -> None:
        """Show what is no answer: through a pipe, only answers are on standard output."""
        if self._reader.interactive:
            write(text)
        else:
            sys.stderr.write(text)
            sys.stderr.flush()


def _template(path: str | None) -> str | None:
    if path is None:
        return None
    from pathlib import Path

    from ..formats.json_file import read_text

    return read_text(Path(path))
