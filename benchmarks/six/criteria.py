"""Success criteria: each is passed, failed, or does not apply, and says which and why."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, NoReturn

import pytest

__all__ = ["Criteria", "Criterion"]


@dataclass(frozen=True)
class Criterion:
    """
    Attributes
    ----------
    benchmark : str
        Of the six.
    what : str
        What is compared, in words.
    status : "pass", "fail", "not applicable" or "not shown"
        Not applicable: a figure, but the criterion is meant for another model. Not shown: this
        machine cannot give the figure.
    value : float or None
    bound : str
        As "< 500 ms"; empty where there is only a figure.
    why : str
        For the last two.
    """

    benchmark: str
    what: str
    status: str
    value: float | None = None
    bound: str = ""
    why: str = ""

    def line(self) -> str:
        """For people."""
        text = f"{self.status.upper():<14}  {self.benchmark}: {self.what}"
        if self.value is not None:
            text += f": {self.value:.4g}"
        if self.bound:
            text += f" ({self.bound})"
        return text + (f"; {self.why}" if self.why else "")


class Criteria:
    """Those of one benchmark, as they are found.

    Parameters
    ----------
    benchmark : str
    reference : bool
        Whether the model has the shapes that the criteria in seconds are meant for.
    """

    MEANT_FOR = "meant for the shapes of BitNet b1.58 2B-4T"

    def __init__(self, benchmark: str, reference: bool) -> None:
        self.benchmark, self._reference = benchmark, reference
        self._found: list[Criterion] = []

    def __iter__(self) -> Iterator[Criterion]:
        return iter(self._found)

    def below(
        self, what: str, value: float, bound: float, unit: str, anywhere: bool = False
    ) -> None:
        """`value` must be less than `bound`; `anywhere`: of any model, not of 2B-4T alone."""
        self._compare(what, value, value < bound, f"< {bound:g} {unit}".rstrip(), anywhere)

    def above(
        self, what: str, value: float, bound: float, unit: str, anywhere: bool = False
    ) -> None:
        """`value` must be more than `bound`."""
        self._compare(what, value, value > bound, f"> {bound:g} {unit}".rstrip(), anywhere)

    def holds(self, what: str, truth: bool) -> None:
        """Must be true of any model on any machine."""
        self._add(what, "pass" if truth else "fail")

    def not_shown(self, what: str, why: str, bound: str = "") -> None:
        """This machine cannot show it."""
        self._add(what, "not shown", None, bound, why)

    def skip(self, why: str, bounds: Mapping[str, str]) -> NoReturn:
        """Skips the benchmark: this machine cannot show these criteria (what is compared: bound).
        Called before anything is timed."""
        for what, bound in bounds.items():
            self.not_shown(what, why, bound)
        pytest.skip(why)

    def check(self) -> None:
        """Raises AssertionError if one failed."""
        failed = [criterion.line() for criterion in self if criterion.status == "fail"]
        if failed:
            raise AssertionError("\n".join(failed))

    def to_list(self) -> list[dict[str, Any]]:
        """For JSON."""
        return [asdict(criterion) for criterion in self]

    def _compare(self, what: str, value: float, met: bool, bound: str, anywhere: bool) -> None:
        if anywhere or self._reference:
            self._add(what, "pass" if met else "fail", value, bound)
        else:
            self._add(what, "not applicable", value, bound, self.MEANT_FOR)

    def _add(
        self, what: str, status: str, value: float | None = None, bound: str = "", why: str = ""
    ) -> None:
        self._found.append(Criterion(self.benchmark, what, status, value, bound, why))
