"""Profile: the result of `BitNetModel.profile()`."""

from __future__ import annotations

import time
from collections import defaultdict
from dataclasses import asdict, dataclass, field
from typing import Any

from ..errors import InvalidParameterError
from ..notebook import as_html
from ..text_table import Block, as_text, plural
from .costs import Cost
from .observed import Observable, Work
from .operations import KINDS, TITLES, Limits, OperationTime, Phase
from .text import blocks

__all__ = ["Profile"]


@dataclass
class _Sums:
    """Sums over one phase."""

    passes: int = 0
    tokens: int = 0
    # by operation: calls, seconds, seconds of waiting, bytes, multiply-adds
    operations: dict[str, list[float]] = field(default_factory=lambda: defaultdict(lambda: [0] * 5))

    def add(self, name: str, *amounts: float) -> None:
        sums = self.operations[name]
        for i, amount in enumerate(amounts):
            sums[i] += amount


class Profile:
    """Time, bytes and multiply-adds by operation, of all passes of a model within a `with` block,
    in any thread. Made by `BitNetModel.profile()`. Several profiles may overlap.

    While it runs, each pass takes some thirty microseconds longer, and a kilobyte or two of memory.
    Before and after it costs nothing. A cancelled pass counts as if it had run to its end.
    """

    def __init__(self, observed: Observable) -> None:
        self._observed = observed
        self._sums = {"prompt": _Sums(), "decode": _Sums()}
        self._phase = "prompt"
        self._pending: list[tuple[str, Work]] = []  # not in the sums yet
        self._start = self._end = 0.0

    def __enter__(self) -> Profile:
        self._observed.observe(self)
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        self._end = time.perf_counter()
        self._observed.ignore(self)
        self._add_up()  # work that is not added up would keep the model's weights alive

    # ---- called by the engine ------------------------------------------------------------------

    def worked(self, work: Work) -> None:
        """For the engine: a computation has ended."""
        if work.stage == "layers":
            self._phase = "decode" if work.decoding else "prompt"
            self._sums[self._phase].passes += 1
            self._sums[self._phase].tokens += work.tokens
        self._pending.append((self._phase, work))

    def sampled(self, seconds: float) -> None:
        """For the engine: a token was chosen."""
        self._sums[self._phase].add("sampling", 0, seconds)

    # ---- results ---------------------------------------------------------------------------

    @property
    def seconds(self) -> float:
        """Length of the `with` block."""
        return self._end - self._start

    @property
    def prompt(self) -> Phase:
        """Passes with several tokens of a sequence."""
        return self._found("prompt")

    @property
    def decode(self) -> Phase:
        """Passes with one token of each sequence."""
        return self._found("decode")

    @property
    def phases(self) -> list[Phase]:
        """The phases that had passes."""
        return [phase for phase in (self.prompt, self.decode) if phase.passes]

    @property
    def rest_seconds(self) -> float:
        """The part of `seconds` outside passes and sampling: making text from tokens, the loop over
        tokens, and everything else in the `with` block."""
        return max(0.0, self.seconds - sum(phase.seconds for phase in self.phases))

    def _add_up(self) -> None:
        while self._pending:
            phase, work = self._pending.pop()
            sums, costs, operations = self._sums[phase], work.costs(), work.operations
            for name, (calls, seconds, wait) in operations.items():
                cost = costs.get(name, Cost())
                sums.add(name, calls, seconds, wait, cost.bytes, cost.multiply_adds)
            inside = sum(seconds for _, seconds, _ in operations.values())
            sums.add(f"{work.stage}_outside", 0, max(0.0, work.seconds - inside))

    def _found(self, name: str) -> Phase:
        self._add_up()
        sums = self._sums[name]
        found = []
        for operation in TITLES:
            if operation in sums.operations:
                calls, seconds, wait, nbytes, products = sums.operations[operation]
                kind = KINDS.get(operation, "")
                found.append(
                    OperationTime(operation, int(calls), seconds, wait, nbytes, products, kind)
                )
        return Phase(name, sums.passes, sums.tokens, tuple(found))

    def to_dict(self) -> dict[str, Any]:
        """Everything, in types that JSON has."""
        return {
            "seconds": self.seconds,
            "rest_seconds": self.rest_seconds,
            "phases": [asdict(phase) | {"seconds": phase.seconds} for phase in self.phases],
        }

    def text(self, limits: Limits | None = None) -> str:
        """Tables of both phases; with `limits`, also the share of them that each operation
        reached. Raises InvalidParameterError if `limits` is something else than Limits."""
        if limits is not None and not isinstance(limits, Limits):
            raise InvalidParameterError(f"must be Limits or None, not {limits!r}", "limits")
        return as_text(self._blocks(limits))

    def _blocks(self, limits: Limits | None) -> list[Block]:
        return blocks(self.phases, self.seconds, self.rest_seconds, limits)

    def __repr__(self) -> str:
        if not self._start:
            return "Profile(not started)"
        if self._end < self._start:
            return "Profile(running)"
        counts = [f"{phase.name} {plural(phase.tokens, 'token')}" for phase in self.phases]
        return f"Profile({', '.join([f'{1e3 * self.seconds:.1f} ms', *counts])})"

    def _repr_html_(self) -> str:
        return as_html(repr(self), *(self._blocks(None) if self._end > self._start else []))
