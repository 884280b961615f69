"""What things say of themselves in a line, and what notebooks show of them."""

from __future__ import annotations

import itertools
import re
import sys
import types
from collections.abc import Iterator
from html.parser import HTMLParser
from typing import Any

import pytest
from test_documents import ROOT, blocks

from ryzanstein_llm import (
    BitNetModel,
    GenerationResult,
    PerplexityResult,
    SamplingParams,
    Score,
    bench,
    errors,
    notebook,
)
from ryzanstein_llm.bench.text import blocks as blocks_of
from ryzanstein_llm.generation import Timings
from ryzanstein_llm.text_table import Table, as_text

TALE = "Once upon a time"
NASTY = "<script>alert('x')</script> & \"so\"\n  on"


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel(n_threads=1) as model:
        yield model


class Page(HTMLParser):
    """Texts of the cells, row by row, and all text. Fails where tags are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.text, self.styles, self._open = "", "", []
        self.feed(html)
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attributes):
        assert tag in ("div", "b", "table", "tr", "th", "td")
        self._open.append(tag)
        self.styles += "".join(value for _, value in attributes)
        if tag == "tr":
            self.rows.append([])
        if tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data
        if self._open[-1] in ("th", "td"):
            self.rows[-1][-1] += data


def page(thing: Any) -> Page:
    return Page(thing._repr_html_())


def same_but_for_spaces(first: str, second: str) -> bool:
    return "".join(first.split()) == "".join(second.split())


class TestHtml:
    def test_nothing_of_a_text_is_taken_for_html(self):
        table = Table(NASTY, [["a", NASTY], ["1", "2"]])
        found = Page(notebook.as_html(NASTY, NASTY, {NASTY: NASTY}, table))
        assert found.text == NASTY * 5 + f"a{NASTY}12"
        assert found.rows == [[NASTY, NASTY], ["a", NASTY], ["1", "2"]]

    def test_colours_are_left_to_the_page(self, model):
        with model.profile() as profile:
            result = model.generate(TALE, max_tokens=3, return_result=True)
        for thing in (model, profile, result, model.perplexity(TALE)):
            styles = page(thing).styles
            assert "text-align" in styles
            assert not re.search(r"color|background|#|font", styles)

    def test_a_table_without_a_title_has_no_empty_line_over_it(self):
        assert "<div></div>" not in notebook.as_html("", Table("", [["a"], ["1"]]))

    def test_line_breaks_and_spaces_of_a_text_stay(self):
        assert "white-space:pre-wrap" in notebook.as_html("", NASTY)


class TestOneLineAndItsTable:
    def test_a_model(self, model):
        assert repr(model) == (
            f"BitNetModel({str(model.path)!r}, bitnet, 5.8 M parameters, 4.1 MB, 1 thread)"
        )
        facts = dict(page(model).rows)
        assert facts["path"] == str(model.path)
        assert facts["layers"] == "6, hidden size 256"
        assert facts["memory"] == "4.1 MB of weights (2bit)"
        assert facts["threads"].startswith("1: ")

    def test_a_closed_model(self):
        with BitNetModel() as model:
            pass
        assert repr(model) == f"BitNetModel({str(model.path)!r}, closed)"
        assert page(model).rows == [["path", str(model.path)], ["state", "closed"]]

    def test_a_session(self, model):
        with model.session() as session:
            assert repr(session) == "Session(0 tokens, idle)"
            next(session.stream(TALE))
            stream = session.stream(" and", max_tokens=3)
            next(stream)
            assert repr(session).endswith("tokens, generating)")
            assert page(session).text == repr(session)
        assert repr(session) == "Session(closed)"

    def test_a_cache(self, model):
        cache = model.new_cache()
        model.forward([1, 2, 3], cache)
        assert repr(cache) == "KVCache(3 of 512 positions, bfloat16, 0.8 MB)"
        assert ["positions", "3 of 512"] in page(cache).rows

    def test_a_score(self, model):
        (score,) = model.score(TALE, [" <b>was"])
        said = f"{score.logprob:.4f}"
        assert repr(score) == f"Score(' <b>was', {len(score.ids)} tokens, {said})"
        assert " <b>was" in page(score).text
        assert page(score).rows == [["log probability", said], ["tokens", str(len(score.ids))]]

    def test_a_score_of_ids_without_a_text(self):
        score = Score(None, [5], [-1.5], -1.5, -1.5, greedy=True)
        assert repr(score) == "Score(no text, 1 token, -1.5000)"
        assert "[5]" in page(score).text

    def test_a_choice(self, model):
        choice = model.choose(TALE, [" there", " <b>was"])
        assert repr(choice) == "Choice(' there', 1.000 of 2 options)"
        assert page(choice).rows == [["0:  there", "1.000"], ["1:  <b>was", "0.000"]]

    def test_a_result(self):
        long = NASTY * 3
        result = GenerationResult(long, [5, 6], "stop", 4, 3, Timings(0.25, [0.1]))
        assert repr(result) == f"GenerationResult({long[:60]!r}..., 2 tokens, 'stop')"
        found = page(result)
        assert long in found.text
        assert found.rows == [
            ["tokens", "2, stop"],
            ["prompt", "4 tokens, 3 from the cache"],
            ["time", "250.0 ms to the first token, then 10.0 tokens/s"],
        ]

    def test_a_result_without_text_shows_its_ids(self):
        result = GenerationResult(None, [5], "length", 4, 0, Timings(0.25))
        assert repr(result) == "GenerationResult(no text, 1 token, 'length')"
        assert "[5]" in page(result).text
        assert "time" not in dict(page(result).rows)

    def test_perplexity(self):
        result = PerplexityResult(4.1372, 0.50312, 13, 18.5)
        assert repr(result) == "PerplexityResult(4.14, 0.503 bits per byte, 13 tokens)"
        assert ["bits per byte", "0.503"] in page(result).rows
        assert repr(PerplexityResult(4.1372, None, 1, 1.4)) == "PerplexityResult(4.14, 1 token)"

    def test_parameters_say_what_differs_from_the_defaults_and_can_be_typed_again(self):
        for params in (SamplingParams(), SamplingParams(temperature=0.8, top_k=3, seed=0)):
            assert eval(repr(params)) == params
        assert repr(SamplingParams(seed=0, top_p=1.0)) == "SamplingParams(seed=0)"
        assert page(SamplingParams(seed=0)).rows == [["seed", "0"]]
        assert "greedy" in page(SamplingParams()).text

    def test_a_profile(self, model):
        profile = model.profile()
        assert repr(profile) == "Profile(not started)"
        with profile:
            assert page(profile).text == repr(profile) == "Profile(running)"
            model.generate(TALE, max_tokens=3)
        assert re.fullmatch(
            r"Profile\([\d.]+ ms, (prompt 5 tokens, decode 2|decode 3) tokens\)", repr(profile)
        )
        assert same_but_for_spaces(page(profile).text, repr(profile) + profile.text())

    def test_a_report_of_bench(self):
        report = bench.run(
            n_threads=1, contexts=[16], prefill=[32], batches=[1], repetitions=1, quick=True
        )
        assert (
            repr(report) == f"BenchReport('demo', {len(report.rows)} rows, 1 setting, 1 repetition)"
        )
        whole = as_text(blocks_of(report), width=1000)  # HTML scrolls, so no table comes in parts
        assert same_but_for_spaces(page(report).text, repr(report) + whole)
        assert ["tier", "threads", "GB/s"] in page(report).rows

    @pytest.mark.parametrize(
        ("leave", "state"),
        [
            (lambda stream: None, "running with 1 token"),
            (list, "finished 'length' with 3 tokens"),
            (lambda stream: stream.close(), "closed with 1 token"),
            (lambda stream: stream.cancel(), "cancelled with 1 token"),
            (lambda stream: (stream.cancel(), list(stream)), "cancelled with 1 token"),
            (lambda stream: (stream.cancel(), stream.close()), "cancelled with 1 token"),
            (lambda stream: (stream.close(), stream.cancel()), "closed with 1 token"),
        ],
    )
    def test_a_stream(self, model, leave, state):
        stream = model.stream(TALE, max_tokens=3)
        assert repr(stream) == "TextIterator(not started)"
        next(stream)
        leave(stream)
        assert page(stream).text == repr(stream) == f"TextIterator({state})"

    def test_a_stream_that_failed(self, model, monkeypatch):
        stream = model.stream(TALE)
        monkeypatch.setattr(model.engine, "_compute", None)
        with pytest.raises(TypeError):
            next(stream)
        assert repr(stream) == "TextIterator(failed)"


class Shown:
    """In place of IPython's display: what was shown, and when by the clock of the test."""

    def __init__(self, monkeypatch, kernel: bool) -> None:
        self.time, self.bundles = 0.0, []
        shell = types.SimpleNamespace(kernel=None) if kernel else object()
        top, inner = types.ModuleType("IPython"), types.ModuleType("IPython.display")
        top.get_ipython, inner.display = lambda: shell, self.display
        monkeypatch.setitem(sys.modules, "IPython", top)
        monkeypatch.setitem(sys.modules, "IPython.display", inner)
        clock = types.SimpleNamespace(monotonic=lambda: self.time)
        monkeypatch.setattr(notebook, "time", clock)

    def display(self, bundle, raw, display_id):
        assert (raw, display_id, self.bundles) == (True, True, [])
        self.update(bundle, raw)
        return self

    def update(self, bundle, raw):
        assert raw
        self.bundles.append((self.time, bundle))

    def texts(self) -> list[str]:
        return [bundle["text/plain"] for _, bundle in self.bundles]


class TestDisplay:
    def test_a_text_grows_in_place_to_its_end(self, model, monkeypatch):
        shown = Shown(monkeypatch, kernel=True)
        result = model.stream(TALE, max_tokens=30).display()
        assert result.finish_reason == "length"
        assert shown.texts()[-1] == result.text == model.generate(TALE, max_tokens=30)
        assert Page(shown.bundles[-1][1]["text/html"]).text == result.text

    def test_fifteen_times_a_second_at_most(self, monkeypatch):
        shown = Shown(monkeypatch, kernel=True)

        def pieces():
            for _ in range(1000):  # in two seconds
                shown.time += 0.002
                yield "<"

        notebook.show_growing(pieces())
        assert 25 <= len(shown.bundles) <= 32
        times = [time for time, _ in shown.bundles[:-1]]
        assert min(b - a for a, b in itertools.pairwise(times)) >= 1 / 15
        assert shown.texts()[-1] == "<" * 1000

    def test_slow_pieces_are_shown_as_they_come(self, monkeypatch):
        shown = Shown(monkeypatch, kernel=True)

        def pieces():
            for piece in "abc":
                shown.time += 0.2
                yield piece

        notebook.show_growing(pieces())
        assert shown.texts() == ["a", "ab", "abc", "abc"]

    def test_what_was_there_stays_when_the_cell_is_stopped(self, monkeypatch):
        shown = Shown(monkeypatch, kernel=True)

        def pieces():
            yield "one"
            yield " two"
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            notebook.show_growing(pieces())
        assert shown.texts() == ["one", "one two"]

    def test_a_stream_that_is_cancelled_gives_its_result(self, model, monkeypatch):
        shown = Shown(monkeypatch, kernel=True)
        stream = model.stream(TALE, max_tokens=30)
        next(stream)
        stream.cancel()
        assert stream.display().finish_reason == "cancelled"
        assert shown.texts() == [""]

    def test_ipython_in_a_terminal_shows_the_end(self, monkeypatch):
        shown = Shown(monkeypatch, kernel=False)
        notebook.show_growing(["one", " two"])
        assert shown.texts() == ["one two"]

    @pytest.mark.parametrize("installed", [True, False])
    def test_outside_ipython_it_is_an_error_before_anything_is_computed(
        self, model, monkeypatch, installed
    ):
        if installed:
            Shown(monkeypatch, kernel=True)
            monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: None)
        else:
            monkeypatch.setitem(sys.modules, "IPython", None)
        stream = model.stream(TALE, max_tokens=3)
        with pytest.raises(errors.NotebookError, match="pip install ipykernel"):
            stream.display()
        assert repr(stream) == "TextIterator(not started)"

    def test_in_a_real_kernel(self):
        """The example of API.md, as Jupyter runs it. Needs ipykernel, nbclient and tqdm."""
        for name in ("ipykernel", "tqdm"):
            pytest.importorskip(name)
        client, nbformat = pytest.importorskip("nbclient"), pytest.importorskip("nbformat")
        (example,) = [block for block in blocks(ROOT / "API.md") if ".display()" in block.text]
        code = f"from ryzanstein_llm import BitNetModel\n{example.text}"
        cells = [nbformat.v4.new_code_cell(text) for text in (code, "model")]
        notebook = nbformat.v4.new_notebook(cells=cells)
        client.NotebookClient(notebook, timeout=120).execute()
        shown = [
            output["data"]["text/html"]
            for cell in notebook.cells
            for output in cell.outputs
            if "text/html" in output.get("data", {})
        ]
        with BitNetModel() as model:
            text = model.generate(TALE, max_tokens=200)
        assert [Page(html).text for html in shown[:1]] == [text]
        assert "BitNetModel" in shown[-1]
