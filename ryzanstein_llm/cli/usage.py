"""Messages about a wrong command line. They are our own, because click's differ by version."""

from __future__ import annotations

import click

from ..errors.suggestion import did_you_mean
from .command import Program, spellings, takes_value

__all__ = [
    "explain",
]


def explain(error: click.UsageError) -> str:
    """The message for an error that click or a command has found."""
    context = error.ctx
    if isinstance(error, click.NoSuchOption):
        hint = "" if context is None else _nearest_option(context, error.option_name)
        return f"no option {error.option_name}{hint and '; '}{hint}"
    if isinstance(error, click.BadOptionUsage):
        params = [] if context is None else context.command.params
        values = any(error.option_name in param.opts and takes_value(param) for param in params)
        return f"{error.option_name} {'needs a' if values else 'takes no'} value"
    if isinstance(error, click.BadParameter) and error.param is not None and context is not None:
        name = spellings(context).get(error.param.name or "", error.param.human_readable_name)
        return f"{name} {error.message or 'is missing'}"
    return error.message


def _nearest_option(context: click.Context, name: str) -> str:
    own = [known for param in context.command.params for known in param.opts if known[0] == "-"]
    if name.startswith("--") and len(name) > 3 and (hint := did_you_mean(name, own)):
        return hint
    program = context.find_root().command
    assert isinstance(program, Program)
    owners = [
        command.name
        for command in program.commands.values()
        if any(name in param.opts for param in command.params)
    ]
    # what many commands have says nothing about which one was meant, unless none was named
    if len(owners) == 1 or (owners and context.command is program):
        return f"did you mean {context.find_root().info_name} {owners[0]} {name}?"
    return ""
