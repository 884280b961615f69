"""The template filled in."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from .pictures import PICTURES
from .results import Results
from .tables import TABLES

__all__ = ["FOLDER", "MISSING", "TemplateError", "fill", "refill"]

FOLDER = Path(__file__).resolve().parent

PLACE = re.compile(r"\{\{(?P<kind>plot |include |)(?P<name>[\w.]+)\}\}")

SECTION = re.compile(r"\n\n(?=## )")

MISSING = "Not measured yet."
"""All of a document that the results have nothing for."""

BLOCK = re.compile(r"(<!-- begin (?P<name>\w+) -->\n).*?(<!-- end (?P=name) -->)", re.S)


class TemplateError(ValueError):
    """The template names something there is not."""


def fill(text: str, results: Results, plot: Callable[[str], str]) -> str:
    """The document.

    What the results are not enough for is left out: its placeholder, the paragraph before it if
    that ends with a colon, and the section if none of its placeholders has anything.

    Parameters
    ----------
    text : str
        The template: paragraphs with an empty line between them.
    results : Results
    plot : callable (name) -> Markdown of the picture
        Only called for pictures that the results have enough for.

    Raises
    ------
    TemplateError
        If a name is unknown, or a placeholder is no paragraph of its own.
    """
    before, body, after = text.partition(text.strip("\n"))
    written = [_section(section, results, plot) for section in SECTION.split(body)]
    return before + ("\n\n".join(filter(None, written)) or f"*{MISSING}*") + after


def _section(text: str, results: Results, plot: Callable[[str], str]) -> str:
    """A section of the template filled in; "" if it has placeholders, and nothing for any."""
    kept: list[str] = []
    places = filled = 0
    for paragraph in text.split("\n\n"):
        place = PLACE.fullmatch(paragraph)
        if place is None:
            if "{{" in paragraph:
                raise TemplateError(f"not understood: {paragraph[paragraph.index('{{') :]}")
            kept.append(paragraph)
            continue
        places += 1
        found = _content(place, results, plot)
        if found:
            filled += 1
            kept.append(found)
        elif kept and kept[-1].endswith(":"):
            kept.pop()
    return "\n\n".join(kept) if filled or not places else ""


def _content(place: re.Match[str], results: Results, plot: Callable[[str], str]) -> str:
    """What a placeholder stands for; "" if the results are not enough for it."""
    kind, name = place["kind"].strip(), place["name"]
    if kind == "plot" and name in PICTURES:
        return plot(name) if PICTURES[name].enough(results) else ""
    if kind == "include" and (FOLDER / name).is_file():
        return (FOLDER / name).read_text(encoding="utf-8").strip()
    if not kind and name in TABLES:
        return TABLES[name](results)
    raise TemplateError(f"nothing for {place[0]}")


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
