"""Rounds: each round runs every case once under every setting, so that other work of the machine
slows all of them alike. Outputs are compared as they come."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ..errors import BenchError
from .cases import Case, Measured
from .measured_engine import MeasuredEngine
from .plan import Setting
from .traffic import Densities

__all__ = ["Sample", "measure_rounds"]


@dataclass(frozen=True)
class Sample:
    """One repetition of one case, as measured.

    Attributes
    ----------
    case : str
    kind : as in `cases.Case`
    size : int
        Context, tokens of the prompt, or number of sequences; 0 for limits.
    tier, threads
        The setting.
    round : int
        Counted from 0.
    seconds : float
    amount : int
        Bytes, multiply-adds or tokens, of all sequences together.
    kernel_seconds : float or None
        Time within parallel regions. None for limits, which have no other time.
    head_rows : int
        Rows of the head whose stored floats were read after the screen.
    densities : Densities
        The shares that were read of matrices that may be skipped in part.
    """

    case: str
    kind: str
    size: int
    tier: str
    threads: int
    round: int
    seconds: float
    amount: int
    kernel_seconds: float | None = None
    head_rows: int = 0
    densities: Densities = field(default_factory=Densities)

    @property
    def rate(self) -> float:
        """`amount` per second."""
        return self.amount / self.seconds


def measure_rounds(
    cases: Sequence[Case],
    settings: Sequence[Setting],
    repetitions: int,
    use: Callable[[Setting], MeasuredEngine],
    step: Callable[[str], None],
    between: Callable[[], None],
) -> list[Sample]:
    """Measure all rounds. Each round goes through the cases, and each case through the settings.
    One more round before the first is not recorded.

    Parameters
    ----------
    use : callable
        Makes a setting the current one and returns its engine.
    step : callable
        Called with the name of each case that was measured, for progress.
    between : callable
        Called after each recorded round.

    Returns
    -------
    list of Sample
        In the order in which they were measured.

    Raises
    ------
    BenchError
        If an output differs between repetitions, settings or cases.
    """
    outputs = _Outputs()
    samples = []
    for number in range(-1, repetitions):
        for case, setting in _each(cases, settings):
            measured = case.measure(use(setting), setting.threads)
            outputs.compare(case, setting, measured)
            if number >= 0:
                samples.append(_sample(case, setting, number, measured))
            step(case.name)
        if number >= 0:
            between()
    return samples


def _each(cases: Sequence[Case], settings: Sequence[Setting]) -> Iterator[tuple[Case, Setting]]:
    return ((case, setting) for case in cases for setting in settings)


def _sample(case: Case, setting: Setting, number: int, measured: Measured) -> Sample:
    counters = measured.counters
    return Sample(
        case.name,
        case.kind,
        case.size,
        setting.tier,
        setting.threads,
        number,
        measured.seconds,
        measured.amount,
        None if counters is None else counters.kernel_seconds,
        0 if counters is None else counters.head_rows,
        Densities() if counters is None else counters.densities,
    )


class _Outputs:
    """The first value seen under each name."""

    def __init__(self) -> None:
        self._seen: dict[str, tuple[object, str]] = {}

    def compare(self, case: Case, setting: Setting, measured: Measured) -> None:
        where = f"{case.name} ({setting})"
        for name, value in measured.output.items():
            known, origin = self._seen.setdefault(name, (value, where))
            if value != known:
                raise BenchError(
                    f"output differs: {name}: {value!r} in {where}, {known!r} in {origin}"
                )
