"""The command line `ryzanstein-llm`: commands and exit codes.

Each command is a module with a `command`, whose function returns an exit code. Commands import the
engine when they run, so that `--help` and mistyped arguments answer at once. The progress bar is
our own (`progress.py`), because one bar is not worth a dependency of the base install.

Exit codes: 0 done; 1 out of memory, descriptors or threads, kernels that compute something else
here, outputs that differ (`bench`), or a damaged file (`cache verify`); 2 bad input, with one line
on standard error, and the usage before it if the command line has a wrong form; 130 interrupted by
Ctrl-C; 141 the reader of standard output went away.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import click

from ..errors import RyzansteinError
from . import bench, cache, chat, completion, convert, doctor, embed, eval, generate, info
from .command import Program
from .console import PROGRAM, abandon_stdout, say, say_error, standard_streams, write

__all__ = ["main", "program"]


def _show_version(context: click.Context, _: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        import ryzanstein_llm

        write(f"{PROGRAM} {ryzanstein_llm.__version__}\n")
        context.exit(0)


program = Program(
    PROGRAM,
    help="Run ternary (BitNet b1.58) language models on the CPU.",
    commands={
        module.command.name or "": module.command
        for module in (generate, chat, embed, eval, info, doctor, convert, bench, cache, completion)
    },
    params=[
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_show_version,
            help="print the version and exit",
        )
    ],
    subcommand_metavar="COMMAND ...",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `argv` defaults to `sys.argv[1:]`."""
    with standard_streams():
        try:
            code = _run(list(sys.argv[1:] if argv is None else argv))
            sys.stdout.flush()
            return code
        except KeyboardInterrupt:
            return 130
        except BrokenPipeError:
            abandon_stdout()
            return 141
        except click.UsageError as error:
            return _refuse(error)
        except (MemoryError, RyzansteinError, OSError) as error:
            return say_error(error)
        except ImportError as error:
            # Python's own have a name; those of the library say what to install or compile.
            if error.name is not None:
                raise
            return say_error(error)


def _run(arguments: list[str]) -> int:
    instruction = os.environ.get(completion.VARIABLE)
    if instruction:
        return completion.complete(program, instruction)
    try:
        with program.make_context(PROGRAM, arguments) as context:
            code: int = program.invoke(context)
            return code
    except click.exceptions.Exit as end:
        return end.exit_code


def _refuse(error: click.UsageError) -> int:
    from .usage import explain

    # The usage does not help with a wrong value of an option, which the message names.
    about_option = isinstance(error, click.BadParameter) and isinstance(error.param, click.Option)
    shown = None if about_option else error.ctx
    say(f"error: {explain(error)}", f"{shown.get_usage()}\n" if shown else "")
    return 2
