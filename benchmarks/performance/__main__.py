"""`python -m benchmarks.performance build | add`"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from benchmarks.history.entries import FOLDER as HISTORY
from benchmarks.history.entries import FormatError

from .document import FOLDER, TemplateError, fill, refill
from .pictures import PICTURES
from .results import FOLDER as RESULTS
from .results import ResultError, Results, keep, load_results

__all__ = ["PLOT_FOLDER", "ROOT", "build", "link", "main", "rebuild"]

ROOT = FOLDER.parent.parent
PLOT_FOLDER = ROOT / "benchmarks" / "plots"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit status."""
    options = _parser().parse_args(arguments)
    try:
        status: int = options.run(options)
    except (FormatError, ResultError, TemplateError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    return status


def build(results: Results, output: Path, plots: Path, template: Path) -> str:
    """The document, whose pictures are drawn into `plots`; `output` is where it will stand."""
    return fill(template.read_text(encoding="utf-8"), results, _pictures(results, output, plots))


def rebuild(results: Results, document: Path, plots: Path) -> str:
    """A document with its blocks made anew; see `refill`."""
    return refill(
        document.read_text(encoding="utf-8"), results, _pictures(results, document, plots)
    )


def _pictures(results: Results, document: Path, plots: Path) -> Callable[[str], str]:
    def picture(name: str) -> str:
        try:
            from .plots import draw  # only here: everything else does without matplotlib
        except ImportError as error:
            raise TemplateError(f'{error}: pip install -e ".[plots]"') from None
        return link(draw(name, results, plots), document)

    return picture


def link(picture: Path, document: Path) -> str:
    """Markdown that shows a picture in a document."""
    path = picture.resolve().relative_to(document.resolve().parent).as_posix()
    return f"![{PICTURES[picture.stem].alternative}]({path})"


def _build(options: argparse.Namespace) -> int:
    results = load_results(options.results, options.history)
    texts = {options.output: build(results, options.output, options.plots, FOLDER / "template.md")}
    for document in options.blocks:
        texts[document] = rebuild(results, document, options.plots)
    for name, picture in PICTURES.items():
        if not picture.enough(results):  # of a former build
            (options.plots / f"{name}.svg").unlink(missing_ok=True)
    for path, text in texts.items():
        path.write_text(text, encoding="utf-8")
        sys.stdout.write(f"{path}\n")
    return 0


def _add(options: argparse.Namespace) -> int:
    for path in options.files:
        sys.stdout.write(f"{keep(path, options.name, options.results)}\n")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.performance")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of kept results")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    make = commands.add_parser(
        "build", help="write PERFORMANCE.md, its plots, and figures in README.md and CHANGELOG.md"
    )
    make.add_argument("--output", type=Path, default=ROOT / "PERFORMANCE.md")
    make.add_argument("--plots", type=Path, default=PLOT_FOLDER, help="folder of the plots")
    make.add_argument("--history", type=Path, default=HISTORY, help="folder of kept runs")
    make.add_argument("--blocks", type=Path, nargs="*", metavar="DOCUMENT",
                      default=[ROOT / "README.md", ROOT / "CHANGELOG.md"],
                      help="documents with blocks made from results")  # fmt: skip
    make.set_defaults(run=_build)
    add = commands.add_parser("add", help="keep reports of bench or peers, without samples")
    add.add_argument("files", type=Path, nargs="+", help="of --json")
    add.add_argument("--name", default="", help="of a report of bench beside the first")
    add.set_defaults(run=_add)
    return parser


if __name__ == "__main__":
    sys.exit(main())
