"""`ryzanstein-llm eval`: scores of tasks of lm-evaluation-harness in files on this machine."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from typing import Any

import click

from .command import Command, integer, option, spellings
from .console import write
from .model import model_options, open_model
from .progress import ProgressBar

__all__ = ["command"]

HELP = """\
Run tasks of lm-evaluation-harness on a model, and print the scores.

MODEL is what --model names elsewhere. A task file is YAML, as lm-eval documents it, with its data
in files on this machine. Needs the extra eval: pip install "ryzanstein_llm[eval]". For tasks whose
data are on the hub, use the command of lm-eval:
python -m ryzanstein_llm.integrations.lm_eval --model ryzanstein --tasks ...
"""


@click.command("eval", cls=Command, short_help="score a model with tasks of lm-eval", help=HELP)
@click.argument("model", metavar="[MODEL]", required=False, type=click.Path())
@option(
    "--tasks",
    several=True,
    type=click.Path(),
    metavar="FILE...",
    section="Tasks",
    help="task files (YAML)",
)
@option("--limit", type=integer, metavar="N", section="Tasks", help="only N documents of each task")
@option(
    "--num-fewshot",
    type=integer,
    metavar="N",
    section="Tasks",
    help="examples in front of each question, except in tasks whose file says 0 (default: what "
    "the file says)",
)
@option(
    "--apply-chat-template",
    is_flag=True,
    section="Tasks",
    help="turn questions into conversations",
)
@option("--json", "as_json", is_flag=True, section="Output", help="one JSON object")
@model_options
@click.pass_context
def command(context: click.Context, /, model: str | None, **given: Any) -> int:
    if model is not None:
        if "path" in spellings(context):
            problem = f"MODEL and {spellings(context)['path']} exclude each other"
            raise click.UsageError(problem, context)
        given["path"] = model
    if not given["tasks"]:
        raise click.UsageError("--tasks is missing: name one task file or more", context)
    with contextlib.closing(ProgressBar(sys.stderr)) as bar:
        with _quiet():
            from ..integrations import lm_eval

            tasks = lm_eval.load_tasks(given["tasks"])
        with open_model(given) as opened, _quiet():
            report = lm_eval.evaluate(
                lm_eval.RyzansteinLM(opened, progress=bar.update),
                tasks,
                limit=given["limit"],
                num_fewshot=given["num_fewshot"],
                apply_chat_template=given["apply_chat_template"],
            )
    if given["as_json"]:
        import json

        write(json.dumps(report.to_dict(), ensure_ascii=False) + "\n")
        return 0
    import shutil

    write(report.text(shutil.get_terminal_size().columns))
    return 0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """lm-eval and datasets print, and draw bars of their own."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield
