"""Tables and facts of reports, and how they keep to a width."""

from __future__ import annotations

import pytest

from ryzanstein_llm.text_table import Table, aligned, aligned_parts, as_text, fields

TABLE = [["case", "size", "first", "second"], ["one", "1", "11", "222222"], ["two", "22", "3", ""]]


def test_cells_stand_under_each_other() -> None:
    assert aligned(TABLE) == (
        "  case  size  first  second\n"
        "  one      1     11  222222\n"
        "  two     22      3\n"
    )  # fmt: skip


def test_a_table_that_fits_is_one() -> None:
    assert aligned_parts(TABLE, 2, 27) == aligned(TABLE)


def test_a_table_that_does_not_fit_comes_in_parts_with_its_keys() -> None:
    assert aligned_parts(TABLE, 2, 26) == (
        "  case  size  first\n"
        "  one      1     11\n"
        "  two     22      3\n"
        "\n"
        "  case  size  second\n"
        "  one      1  222222\n"
        "  two     22\n"
    )  # fmt: skip


def test_a_column_that_never_fits_has_a_part_of_its_own() -> None:
    parts = aligned_parts(TABLE, 1, 3).split("\n\n")
    assert [part.split("\n")[0].split() for part in parts] == [
        ["case", "size"],
        ["case", "first"],
        ["case", "second"],
    ]


def test_values_wrap_under_themselves() -> None:
    facts = {"name": "one two three", "other": "/a/path/that/is/longer-than/the/line", "none": ""}
    assert fields(facts, 5, indent=1, width=15) == (
        " name  one two\n"
        "       three\n"
        " other /a/path/that/is/longer-than/the/line\n"
        " none\n"
    )  # fmt: skip


@pytest.mark.parametrize("width", [1, 20, 80])
def test_nothing_is_lost(width: int) -> None:
    value = "words of several lengths, incomprehensibilities among them"
    assert " ".join(fields({"fact": value}, 4, width=width).split()) == f"fact {value}"


def test_a_report_has_an_empty_line_between_its_parts() -> None:
    blocks = [{"model": "demo", "weights": "4 MB"}, Table("speed", [["a", "b"], ["1", "22"]]), "ok"]
    assert as_text(blocks) == (
        "model          demo\nweights        4 MB\n\nspeed\n  a   b\n  1  22\n\nok\n"
    )


def test_every_part_of_a_report_keeps_to_its_width() -> None:
    text = "one two three four five six\nseven"
    blocks = [{"words": text.replace("\n", " ")}, Table("size", TABLE, 2), Table("", TABLE), text]
    assert as_text(blocks, 26) == (
        "words          one two\n"
        "               three four\n"
        "               five six\n"
        "               seven\n"
        "\n"
        f"size\n{aligned_parts(TABLE, 2, 26)}"
        "\n"
        f"{aligned_parts(TABLE, 1, 26)}"
        "\n"
        "one two three four five\n"
        "six\n"
        "seven\n"
    )
