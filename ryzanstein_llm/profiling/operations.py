"""The operations of a profile, and the figures for each."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KINDS", "PROJECTIONS", "TITLES", "Limits", "OperationTime", "Phase"]

# In the order of a pass. The last three are Python code, the others are steps of kernels/.
TITLES = {
    "norm_quantize": "RMSNorm and quantise",
    "qkv": "gemm q, k, v",
    "rope_append": "RoPE, append to cache",
    "attention": "attention, softmax",
    "attention_combine": "combine cache blocks",
    "o": "gemm o",
    "gate_up": "gemm gate, up; activation",
    "gate": "gemm gate",
    "up": "gemm up (open rows); activation",
    "down": "gemm down",
    "head_norm": "final norm",
    "head_screen": "head: screen",
    "head_rescore": "head: stored rows",
    "head": "head: all rows",
    "other": "other kernels",
    "fork": "fork of the threads",
    "layers_outside": "Python around the layers",
    "head_outside": "Python around the head",
    "sampling": "sampling",
}

PROJECTIONS = ("qkv", "o", "gate_up", "gate", "up", "down")
"""The operations that multiply with ternary weights."""

# The kind of multiply-adds of an operation. Those of kind "int8" are compared with the int8 peak.
KINDS = {
    **dict.fromkeys((*PROJECTIONS, "head_screen"), "int8"),
    **dict.fromkeys(("attention", "head_rescore", "head"), "float"),
}


@dataclass(frozen=True)
class Limits:
    """The limits of the machine with the same number of threads; see `bench.measure_limits`.

    Attributes
    ----------
    bytes_per_second : float
        Streaming reads from memory.
    multiply_adds_per_second : float
        int8 multiply-adds in registers.
    """

    bytes_per_second: float
    multiply_adds_per_second: float


@dataclass(frozen=True)
class OperationTime:
    """One operation over all passes of a phase.

    Attributes
    ----------
    name : a key of TITLES
    calls : int
        Number of steps; 0 for Python code.
    seconds : float
        Time of the calling thread, including waiting.
    wait_seconds : float
        The part of `seconds` in which it waited for the other threads at the end of steps.
    bytes : float
        Bytes read and written, each array once a step: weights (without skipped ones), cache and
        activations, whether they are in memory or in a CPU cache. 0 if they are not counted.
    multiply_adds : float
        Multiply-adds of matrix products and attention; 0 for other operations.
    kind : "int8", "float" or ""
        The kind of these multiply-adds.
    """

    name: str
    calls: int
    seconds: float
    wait_seconds: float
    bytes: float
    multiply_adds: float
    kind: str

    @property
    def title(self) -> str:
        """The name in reports."""
        return TITLES[self.name]

    @property
    def bytes_per_second(self) -> float:
        """0 if bytes are not counted."""
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def multiply_adds_per_second(self) -> float:
        """0 if there are no multiply-adds."""
        return self.multiply_adds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Phase:
    """Passes of one kind.

    Attributes
    ----------
    name : "prompt" or "decode"
        "prompt": passes with several tokens of a sequence. "decode": passes with one token of each
        sequence.
    passes, tokens : int
    operations : tuple of OperationTime
        The operations that ran, in the order of TITLES.
    """

    name: str
    passes: int
    tokens: int
    operations: tuple[OperationTime, ...]

    @property
    def seconds(self) -> float:
        """Time of all operations."""
        return sum(operation.seconds for operation in self.operations)

    def operation(self, name: str) -> OperationTime:
        """The operation with this name.

        Raises
        ------
        KeyError
            If it did not run.
        """
        for operation in self.operations:
            if operation.name == name:
                return operation
        raise KeyError(f"no operation {name!r} in this {self.name}")
