"""The base of all commands: click's classes, with help in sections, options that take several
values, text that begins with a hyphen, and a record of how each option was spelled."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import click

from ..errors import ContextOverflowError, InvalidParameterError
from .console import log_messages
from .help_formatter import HelpContext

__all__ = [
    "Command",
    "Decorated",
    "Option",
    "Program",
    "decimal",
    "exclude",
    "integer",
    "option",
    "spellings",
    "takes_value",
    "verbose_option",
]

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

GENERAL = "Options"
_SPELLINGS = f"{__name__}.spellings"


class Option(click.Option):
    """An option with a section in the help. It has the name of the library's parameter, so that
    errors about the parameter can name the option.

    Parameters
    ----------
    section : str
        The heading above it.
    several : bool
        One or more values may follow it, as in `--threads 1 2`.
    """

    def __init__(
        self, *names: Any, section: str = GENERAL, several: bool = False, **attributes: Any
    ) -> None:
        attributes["multiple"] = several or attributes.get("multiple", False)
        super().__init__(*names, **attributes)
        self.section, self.several = section, several

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        """The first short and the first long spelling. Others are accepted, but not shown."""
        if self.hidden:
            return None
        short = [name for name in self.opts if not name.startswith("--")][:1]
        long = [name for name in self.opts if name.startswith("--")][:1]
        value = [self.metavar] if self.metavar and takes_value(self) else []
        return " ".join([", ".join(short + long), *value]), self.help or ""


def option(*names: str, **attributes: Any) -> Callable[[Decorated], Decorated]:
    """`click.option` for an `Option`."""
    return click.option(*names, cls=Option, **attributes)


class _Page(click.Command):
    """Help in the style of our other output."""

    context_class = HelpContext

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        pieces = " ".join(self.collect_usage_pieces(ctx))
        formatter.write_usage(ctx.command_path, pieces, prefix="usage: ")

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = None if isinstance(param, click.Argument) else param.get_help_record(ctx)
            if record is not None:
                sections.setdefault(getattr(param, "section", GENERAL), []).append(record)
        width = max(len(names) for records in sections.values() for names, _ in records)
        for title, records in sections.items():
            with formatter.section(title):
                formatter.write_dl([(names.ljust(width), text) for names, text in records])

    def get_help_option(self, ctx: click.Context) -> click.Option | None:
        found = super().get_help_option(ctx)
        if found is not None:
            found.help = "show this text"
        return found


class Program(_Page, click.Group):
    """The commands, in the order in which they were added."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args and not ctx.resilient_parsing:
            raise click.UsageError(f"a command is missing; {self._listed()}", ctx)
        return super().parse_args(ctx, args)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        self.format_commands(ctx, formatter)
        super().format_options(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands and not ctx.resilient_parsing:
            from ..errors.suggestion import did_you_mean

            hint = did_you_mean(args[0], self.commands) or self._listed()
            raise click.UsageError(f"no command {args[0]!r}; {hint}", ctx)
        return super().resolve_command(ctx, args)

    def _listed(self) -> str:
        return f"the commands are {', '.join(self.commands)}"


class Command(_Page):
    """One command. Its function returns the exit code."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        ctx.allow_extra_args = True
        try:
            super().parse_args(ctx, self._prepared(ctx, args))
        except click.UsageError as error:
            error.ctx = error.ctx or ctx  # click's parser leaves it out
            raise
        if ctx.args and not ctx.resilient_parsing:
            raise click.UsageError(f"unexpected argument {ctx.args[0]!r}", ctx)
        return ctx.args

    def invoke(self, ctx: click.Context) -> Any:
        with log_messages(ctx.params.pop("verbose", 0)):
            try:
                return super().invoke(ctx)
            except InvalidParameterError as error:
                arguments = {
                    param.name or "": param.human_readable_name.strip("[]")
                    for param in self.params
                    if isinstance(param, click.Argument)
                }
                spelling = (arguments | spellings(ctx)).get(error.parameter or "")
                if spelling is None:
                    raise
                raise InvalidParameterError(error.problem, spelling) from None
            except ContextOverflowError as error:
                spelling = spellings(ctx).get("context_length")
                if spelling is None:
                    raise
                problem = (
                    f"{error.context_length} is too small for {error.needed} tokens: {error.reason}"
                )
                raise InvalidParameterError(problem, spelling) from None

    def _prepared(self, ctx: click.Context, args: Sequence[str]) -> list[str]:
        """`args` for click's parser. To click, an option has one value, and everything that begins
        with a hyphen is an option. So values are put one behind each option, and a text, which has
        blanks (as in "- eggs"), goes behind `--`."""
        known = {
            name: param
            for param in self.get_params(ctx)
            if isinstance(param, click.Option)
            for name in param.opts
        }
        rest = deque(args)
        prepared: list[str] = []
        texts: list[str] = []
        while rest:
            argument = rest.popleft()
            if argument == "--":
                return [*prepared, "--", *texts, *rest]
            found = _options_in(argument, known)
            if not found and argument[:1] == "-" and _has_blank(argument.partition("=")[0]):
                texts.append(argument)
                continue
            prepared.append(argument)
            for spelling, param, value_follows in found:
                spellings(ctx)[param.name or ""] = spelling
                if not value_follows or not rest:
                    continue
                if rest[0] in known and not ctx.resilient_parsing:
                    problem = f"{spelling} needs a value, and {rest[0]} is an option"
                    raise click.UsageError(problem, ctx)
                prepared.append(rest.popleft())
                while getattr(param, "several", False) and rest and rest[0][:1] != "-":
                    prepared += [spelling, rest.popleft()]
        return [*prepared, "--", *texts] if texts else prepared


def spellings(ctx: click.Context) -> dict[str, str]:
    """How each option that was given was spelled on the command line, by its parameter's name."""
    found: dict[str, str] = ctx.meta.setdefault(_SPELLINGS, {})
    return found


def exclude(ctx: click.Context, *parameters: str) -> None:
    """Refuse two of these options at once."""
    given = [spellings(ctx)[name] for name in parameters if name in spellings(ctx)]
    if len(given) > 1:
        raise click.UsageError(f"{given[0]} and {given[1]} exclude each other", ctx)


def verbose_option(function: Decorated) -> Decorated:
    """`-v`, which `Command` handles and does not pass to the function."""
    return option("-v", "--verbose", count=True, help="show what is done; -vv shows more")(function)


def _options_in(
    argument: str, known: Mapping[str, click.Option]
) -> list[tuple[str, click.Option, bool]]:
    """The options in an argument like `--temp`, `--temp=1`, `-n5` or `-vn`, each as (spelling,
    option, whether its value is the next argument). Empty if one of them is unknown."""
    name, equals, _ = argument.partition("=")
    if name in known:
        return [(name, known[name], takes_value(known[name]) and not equals)]
    found = []
    if argument[:1] == "-" and argument[:2] != "--":
        for length, letter in enumerate(argument[1:], 2):
            param = known.get(f"-{letter}")
            if param is None:
                return []
            found.append((f"-{letter}", param, takes_value(param) and length == len(argument)))
            if takes_value(param):
                break
    return found


def _has_blank(text: str) -> bool:
    return any(map(str.isspace, text))


def takes_value(param: click.Parameter) -> bool:
    return isinstance(param, click.Option) and not (param.is_flag or param.count)


def integer(text: str) -> int:
    """For options: an integer. The library checks its range."""
    try:
        return int(text)
    except ValueError:
        raise click.BadParameter(f"must be an integer, not {text!r}") from None


def decimal(text: str) -> int | float | str:
    """For options: a number, as int or float, so that errors show it as it was typed. Other text is
    returned unchanged; the library refuses it and names the range."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text
