"""`ryzanstein-llm completion`: a script that lets a shell complete our commands and options."""

from __future__ import annotations

import click

from .command import Command
from .console import PROGRAM, write

__all__ = ["VARIABLE", "command", "complete"]

SHELLS = ("bash", "zsh", "fish")
VARIABLE = "_RYZANSTEIN_LLM_COMPLETE"
"""The script sets this variable when it asks the program for completions."""

HELP = """\
Print a script that completes commands, options and paths.

\b
bash, in ~/.bashrc:
  eval "$(ryzanstein-llm completion bash)"
zsh, in ~/.zshrc:
  eval "$(ryzanstein-llm completion zsh)"
fish, in config.fish:
  ryzanstein-llm completion fish | source
"""


def _shell(text: str) -> str:
    if text not in SHELLS:
        raise click.BadParameter(f"must be {', '.join(SHELLS[:-1])} or {SHELLS[-1]}, not {text!r}")
    return text


@click.command("completion", cls=Command, short_help="complete commands in a shell", help=HELP)
@click.argument(
    "shell",
    type=_shell,
    shell_complete=lambda context, param, begin: [s for s in SHELLS if s.startswith(begin)],
)
@click.pass_context
def command(context: click.Context, shell: str) -> int:
    from click.shell_completion import ShellComplete, get_completion_class

    kind = get_completion_class(shell)
    assert kind is not None
    # ShellComplete's own method: the one for bash first starts a bash, to warn of old versions.
    script = kind(context.find_root().command, {}, PROGRAM, VARIABLE)
    write(ShellComplete.source(script) + "\n")
    return 0


def complete(program: click.Group, instruction: str) -> int:
    """Answer a script's question, such as `bash_complete`. Returns the exit code."""
    from click.shell_completion import shell_complete

    return shell_complete(program, {}, PROGRAM, VARIABLE, instruction)
