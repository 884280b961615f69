"""The template filled in."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from .pictures import MISSING, PICTURES
from .results import Results
from .tables import TABLES

__all__ = ["FOLDER", "TemplateError", "fill", "refill"]

FOLDER = Path(__file__).resolve().parent

PLACE = re.compile(r"^\{\{(?P<kind>plot |include |)(?P<name>[\w.]+)\}\}$", re.M)

BLOCK = re.compile(r"(<!-- begin (?P<name>\w+) -->\n).*?(<!-- end (?P=name) -->)", re.S)


class TemplateError(ValueError):
    """The template names something there is not."""


def fill(text: str, results: Results, plot: Callable[[str], str]) -> str:
    """The document.

    Parameters
    ----------
    text : str
        The template.
    results : Results
    plot : callable (name) -> Markdown of the picture
        Only called for pictures that the results have enough for.

    Raises
    ------
    TemplateError
        If a name is unknown, or a placeholder does not stand on a line of its own.
    """

    def found(match: re.Match[str]) -> str:
        kind, name = match["kind"].strip(), match["name"]
        if kind == "plot" and name in PICTURES:
            lacking = PICTURES[name].lacking(results)
            return f"*{lacking}*" if lacking else plot(name)
        if kind == "include" and (FOLDER / name).is_file():
            return (FOLDER / name).read_text(encoding="utf-8").strip()
        if not kind and name in TABLES:
            return TABLES[name](results) or f"*{MISSING}*"
        raise TemplateError(f"nothing for {match[0]}")

    filled = PLACE.sub(found, text)
    left = re.search(r"\{\{.*", filled)
    if left:
        raise TemplateError(f"not understood: {left[0]}")
    return filled


def refill(text: str, results: Results, plot: Callable[[str], str]) -> str:
    """A document written by hand, with what stands between `<!-- begin NAME -->` and
    `<!-- end NAME -->` made anew from `NAME.md` of this folder.

    Raises
    ------
    TemplateError
        If there is no such file, or nothing to make.
    """

    def block(match: re.Match[str]) -> str:
        try:
            template = (FOLDER / f"{match['name']}.md").read_text(encoding="utf-8")
        except OSError:
            raise TemplateError(f"no {match['name']}.md for the block {match['name']}") from None
        return match[1] + fill(template, results, plot) + match[3]

    filled, blocks = BLOCK.subn(block, text)
    if not blocks:
        raise TemplateError("no block <!-- begin NAME -->")
    return filled
