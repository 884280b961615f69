"""Pictures of PERFORMANCE.md: drawn where there is something to see, nothing cut or on top of
another. Needs the extra `plots`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("matplotlib", reason="needs the extra `plots`")

from benchmarks.performance.__main__ import build, main
from benchmarks.performance.document import FOLDER
from benchmarks.performance.pictures import PICTURES
from benchmarks.performance.plots import PLOTS
from benchmarks.performance.results import Results, load_results
from benchmarks.performance.style import STYLE, WIDTH, plt

TEMPLATE = FOLDER / "template.md"


@pytest.fixture
def drawn(request: pytest.FixtureRequest, results: Results) -> Iterator[Any]:
    """One picture, laid out."""
    with plt.rc_context(STYLE):
        figure = PLOTS[request.param](results)
        figure.canvas.draw()
        yield figure
        plt.close(figure)


def texts(figure: Any) -> list[tuple[str, Any]]:
    """(text, box in pixels) of all that is written, numbers at ticks too."""
    found = {id(text): text for text in figure.findobj(plt.Text) if text.get_visible()}
    written = [text for text in found.values() if text.get_text().strip()]
    hidden = {
        id(label)
        for axes in figure.axes
        for axis in (axes.xaxis, axes.yaxis)
        for tick in (*axis.get_major_ticks(), *axis.get_minor_ticks())
        for label in (tick.label1, tick.label2)
        if not (label.get_visible() and axis.get_view_interval().min() <= tick.get_loc()
                <= axis.get_view_interval().max())
    }  # fmt: skip
    return [
        (text.get_text(), text.get_window_extent()) for text in written if id(text) not in hidden
    ]


def test_every_picture_can_be_drawn() -> None:
    assert PLOTS.keys() == PICTURES.keys()


@pytest.mark.parametrize("drawn", PLOTS, indirect=True)
def test_nothing_is_cut_and_no_text_is_on_another(drawn: Any) -> None:
    found = texts(drawn)
    assert len(found) > 5
    whole = drawn.bbox
    for text, box in found:
        assert whole.x0 <= box.x0 <= box.x1 <= whole.x1, text
        assert whole.y0 <= box.y0 <= box.y1 <= whole.y1, text
    for place, (text, box) in enumerate(found):
        for other, beside in found[:place]:
            apart = (
                box.x1 <= beside.x0 or beside.x1 <= box.x0
                or box.y1 <= beside.y0 or beside.y1 <= box.y0
            )  # fmt: skip
            assert apart, f"{text!r} on {other!r}"


@pytest.mark.parametrize("drawn", PLOTS, indirect=True)
def test_all_are_as_wide_as_a_page(drawn: Any) -> None:
    assert drawn.get_figwidth() == WIDTH


@pytest.mark.parametrize("drawn", ["engines", "operations"], indirect=True)
def test_bars_begin_at_zero_and_use_the_width(drawn: Any) -> None:
    for axes in drawn.axes:
        assert axes.get_xscale() == "linear"
        left, right = axes.get_xlim()
        assert left == 0
        ends = [bar.get_x() + bar.get_width() for bar in axes.patches]
        ends += [axes.transData.inverted().transform(text.get_window_extent().p1)[0]
                 for text in axes.texts]  # fmt: skip
        assert 0.9 * right < max(ends) <= right


@pytest.mark.parametrize("drawn", ["engines"], indirect=True)
def test_bars_of_other_engines_say_who_is_faster(drawn: Any) -> None:
    said = [text for text, _ in texts(drawn)]
    for ratio in ("2.5", "4.2"):  # decoding and a prompt, on one thread and on two
        claim = f"(ryzanstein_llm is {ratio} \N{MULTIPLICATION SIGN} as fast)"
        assert sum(text.endswith(claim) for text in said) == 4


def test_pictures_are_linked_and_the_same_each_time(results: Results, tmp_path: Path) -> None:
    output, plots = tmp_path / "P.md", tmp_path / "pictures" / "plots"
    text = build(results, output, plots, TEMPLATE)
    first = {path.name: path.read_bytes() for path in plots.iterdir()}
    assert first.keys() == {f"{name}.svg" for name in PICTURES}
    for name in PICTURES:
        assert f"](pictures/plots/{name}.svg)" in text
        assert b"fill: #ffffff" in first[f"{name}.svg"]  # a ground of its own, for dark viewers
    assert build(results, output, plots, TEMPLATE) == text
    assert {path.name: path.read_bytes() for path in plots.iterdir()} == first


def test_two_points_are_no_curve(few: Results, tmp_path: Path) -> None:
    text = build(few, tmp_path / "P.md", tmp_path / "plots", TEMPLATE)
    assert "threads.svg" not in text
    assert "history.svg" not in text
    assert {path.stem for path in (tmp_path / "plots").iterdir()} == (
        PICTURES.keys() - {"threads", "history"}
    )


def test_points_stand_at_their_place_under_a_limit_with_its_range(results: Results) -> None:
    """Decoding, for each number of threads."""
    rows = [row for row in results.rows("decode") if row["threads"] == 2]
    rows.sort(key=lambda row: row["size"])
    with plt.rc_context(STYLE):
        figure = PLOTS["context"](results)
    (axes,) = figure.axes
    assert [line.get_xdata().tolist() for line in axes.get_lines() if line.get_marker() == "s"] == [
        [row["size"] for row in rows]
    ]
    band = axes.collections[-1].get_paths()[0].get_extents()
    assert (band.ymin, band.ymax) == (
        min(row["limit"]["low"] for row in rows), max(row["limit"]["high"] for row in rows)
    )  # fmt: skip
    plt.close(figure)


def test_products_of_a_run_with_other_limits_are_not_under_this_roof(results: Results) -> None:
    assert results.six is not None
    read, multiply = (results.row(kind, 2) for kind in ("read", "multiply"))
    assert read is not None
    assert multiply is not None
    for read_by, multiply_by, drawn in ((1, 1, True), (1.5, 1, False), (1, 1.5, False)):
        limits = {
            "limit_bytes_per_second": read_by * read["rate"]["median"],
            "limit_multiply_adds_per_second": multiply_by * multiply["rate"]["median"],
        }
        figures = {
            name: {**one, **limits} if "profile" in one else one
            for name, one in results.six.results.items()
        }
        six = dataclasses.replace(results.six, results=figures)
        with plt.rc_context(STYLE):
            figure = PLOTS["roofline"](dataclasses.replace(results, history=[six]))
        labels = [str(line.get_label()) for line in figure.axes[0].get_lines()]
        assert any("products alone" in label for label in labels) == drawn
        plt.close(figure)


def test_a_picture_of_a_former_build_is_not_left_behind(tmp_path: Path) -> None:
    """Of results that are not there; what is no picture of ours stays."""
    plots = tmp_path / "plots"
    plots.mkdir()
    for name in ("history.svg", "engines.svg", "mine.svg"):
        (plots / name).write_text("old")
    empty = ("--results", str(tmp_path / "none"), "build", "--history", str(tmp_path / "none"))
    where = ("--output", str(tmp_path / "P.md"), "--plots", str(plots), "--blocks")
    assert main([*empty, *where]) == 0
    assert [path.name for path in plots.iterdir()] == ["mine.svg"]


def test_bars_have_room_whatever_the_names(results: Results) -> None:
    """Of an engine that is far behind, or ahead."""
    assert results.peers is not None
    for ahead in (0.4, 123.0):
        rows = [
            row if row["ahead"] is None else row | {
                "ahead": dict.fromkeys(row["ahead"], ahead),
                "rate": {key: value / ahead for key, value in row["rate"].items()},
            }
            for row in results.peers["rows"]
        ]  # fmt: skip
        with plt.rc_context(STYLE):
            other = dataclasses.replace(results, peers={**results.peers, "rows": rows})
            figure = PLOTS["engines"](other)
            figure.canvas.draw()
            test_nothing_is_cut_and_no_text_is_on_another(figure)
            plt.close(figure)


def test_those_of_the_repository_are_those_its_results_have_enough_for() -> None:
    found = load_results()
    kept = {path.stem for path in (FOLDER.parent / "plots").iterdir()}
    assert kept == {name for name, picture in PICTURES.items() if picture.enough(found)}
