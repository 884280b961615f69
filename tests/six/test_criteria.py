"""Criteria of the six benchmarks: what passes, what fails, and what is only said."""

from __future__ import annotations

import pytest

from benchmarks.six.criteria import Criteria
from benchmarks.six.rounds import in_turns, ratio


def statuses(criteria: Criteria) -> list[str]:
    return [criterion.status for criterion in criteria]


def test_bounds_are_strict() -> None:
    found = Criteria("latency", reference=True)
    found.below("ms", 499.9, 500, "ms")
    found.below("ms", 500, 500, "ms")
    found.above("x", 4.1, 4, "x")
    found.above("x", 4, 4, "x")
    assert statuses(found) == ["pass", "fail", "pass", "fail"]


def test_one_that_failed_fails_the_benchmark_and_is_named() -> None:
    found = Criteria("latency", reference=True)
    found.above("fine", 5, 4, "x")
    found.above("times the baseline", 3, 4, "x")
    with pytest.raises(AssertionError, match=r"latency: times the baseline: 3 \(> 4 x\)") as error:
        found.check()
    assert "fine" not in str(error.value)


def test_criteria_of_2b_do_not_fail_another_model() -> None:
    """Its figure is shown, and that the criterion is not meant for it."""
    found = Criteria("latency", reference=False)
    found.below("a token, in ms", 900, 500, "ms")
    found.above("a ratio of the same run", 3, 4, "x", anywhere=True)
    assert statuses(found) == ["not applicable", "fail"]
    assert "900" in next(iter(found)).line()
    assert "2B-4T" in next(iter(found)).line()


def test_what_a_machine_cannot_show_is_said_and_fails_nothing() -> None:
    found = Criteria("threads", reference=True)
    found.not_shown("prefill on 8 cores", "2 physical cores", "> 6.5 x")
    found.check()
    (only,) = found
    assert only.line() == (
        "NOT SHOWN       threads: prefill on 8 cores (> 6.5 x); 2 physical cores"
    )


def test_a_benchmark_that_this_machine_cannot_show_is_skipped_and_says_why() -> None:
    found = Criteria("profile", reference=True)
    with pytest.raises(pytest.skip.Exception, match="perf is not installed"):
        found.skip("perf is not installed", {"L1 hits": "> 85 %", "branch misses": "< 5 %"})
    assert statuses(found) == ["not shown", "not shown"]
    assert "branch misses (< 5 %); perf is not installed" in list(found)[1].line()


def test_what_must_hold_holds_for_every_model() -> None:
    found = Criteria("correctness", reference=False)
    found.holds("bits are equal", True)
    found.check()
    found.holds("bits are equal", False)
    with pytest.raises(AssertionError):
        found.check()


def test_a_and_b_take_turns_and_the_first_round_is_not_recorded() -> None:
    order = []

    def call(name: str) -> float:
        order.append(name)
        return float(len(order))

    found = in_turns({"a": lambda: call("a"), "b": lambda: call("b")}, 3)
    assert "".join(order) == "abbaabba"
    assert found == {"a": [4, 5, 8], "b": [3, 6, 7]}


def test_ratios_are_taken_within_rounds() -> None:
    """A machine that is half as fast in the second round shows the same ratio."""
    assert ratio([4, 8, 9], [2, 4, 3]) == 2
