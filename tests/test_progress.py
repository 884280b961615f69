"""`progress=` as bars of tqdm."""

from __future__ import annotations

import io
import re

import pytest

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.progress import tqdm_progress


class Bar:
    """As little of tqdm as is used."""

    def __init__(self, made, total, desc):
        made.append(self)
        self.total, self.names, self.n, self.closed = total, [desc], 0, False

    def set_description(self, text):
        self.names.append(text)

    def update(self, n):
        assert not self.closed
        self.n += n

    def close(self):
        self.closed = True


class TestProgress:
    def drawn(self, *calls) -> list[Bar]:
        made: list[Bar] = []
        progress = tqdm_progress(lambda **options: Bar(made, **options))
        for call in calls:
            progress(*call)
        return made

    def test_one_count_is_one_bar_that_ends_closed(self):
        (bar,) = self.drawn((1, 3, "loading"), (2, 3, "loading"), (3, 3, "loading"))
        assert (bar.total, bar.n, bar.closed) == (3, 3, True)

    def test_another_count_is_another_bar(self):
        loading, scoring, again = self.drawn(
            (3, 3, "loading"), (2, 9, "scoring"), (5, 9, "scoring"), (1, 9, "again")
        )
        assert [bar.names[0] for bar in (loading, scoring, again)] == [
            "loading",
            "scoring",
            "again",
        ]
        assert [bar.n for bar in (loading, scoring, again)] == [3, 5, 1]
        assert [bar.closed for bar in (loading, scoring, again)] == [True, True, False]

    def test_steps_of_one_count_may_have_names_of_their_own(self):
        (bar,) = self.drawn((1, 3, "read"), (2, 3, "decode"))
        assert bar.names == ["read", "decode"]

    def test_a_count_of_nothing(self):
        (bar,) = self.drawn((0, 0, "nothing"))
        assert bar.closed

    def test_without_a_name(self):
        (bar,) = self.drawn((1, 2), (2, 2))
        assert (bar.n, bar.names[0]) == (2, "")

    def test_of_everything_that_takes_it(self):
        made: list[Bar] = []
        progress = tqdm_progress(lambda **options: Bar(made, **options))
        with BitNetModel(progress=progress) as model:
            model.perplexity("Once upon a time", progress=progress)
            model.perplexity("Once upon a time", progress=progress)
        assert [bar.names[0] for bar in made] == ["loading weights", "scoring", "scoring"]
        assert all(bar.closed and bar.n == bar.total for bar in made)

    def test_the_real_one(self):
        tqdm = pytest.importorskip("tqdm", reason="needs tqdm")
        drawn = io.StringIO()
        progress = tqdm_progress(lambda **options: tqdm.tqdm(file=drawn, **options))
        for done in range(1, 43):
            progress(done, 42, "loading weights")
        assert re.search(r"loading weights: 100%.*42/42", drawn.getvalue())
