"""The operations a profile tells apart, and what is known of each."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["KINDS", "TITLES", "Limits", "OperationTime", "Phase"]

# In the order of a pass. The first are steps of kernels/, the last three are Python around them.
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

# What its multiply-adds are; those of "int8" can be held against the int8 peak.
KINDS = {
    **dict.fromkeys(("qkv", "o", "gate_up", "gate", "up", "down", "head_screen"), "int8"),
    **dict.fromkeys(("attention", "head_rescore", "head"), "float"),
}


@dataclass(frozen=True)
class Limits:
    """What the machine can do at best with the same number of threads; `bench.measure_limits`.

    Attributes
    ----------
    bytes_per_second : float
        Streaming reads from memory.
    multiply_adds_per_second : float
        int8 multiply-adds on registers.
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
        Steps that ran; 0 for Python.
    seconds : float
        Of the calling thread, waiting included.
    wait_seconds : float
        Of these, what it waited for the other threads at the end of the steps.
    bytes : float
        Read and written, each array once a step: weights (without those that were skipped), cache
        and activations, be they in memory or in a CPU cache. 0 where they are not counted.
    multiply_adds : float
        Of matrix products and attention; 0 elsewhere.
    kind : "int8", "float" or ""
        What these multiply-adds are.
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
        """The name for people."""
        return TITLES[self.name]

    @property
    def bytes_per_second(self) -> float:
        """0 where bytes are not counted."""
        return self.bytes / self.seconds if self.seconds else 0.0

    @property
    def multiply_adds_per_second(self) -> float:
        """0 where there are none."""
        return self.multiply_adds / self.seconds if self.seconds else 0.0


@dataclass(frozen=True)
class Phase:
    """Passes of one kind.

    Attributes
    ----------
    name : "prompt" or "decode"
        Passes with several tokens of a sequence, and passes with one token of each.
    passes, tokens : int
    operations : tuple of OperationTime
        Those that ran, in the order of TITLES.
    """

    name: str
    passes: int
    tokens: int
    operations: tuple[OperationTime, ...]

    @property
    def seconds(self) -> float:
        """Of all operations."""
        return sum(operation.seconds for operation in self.operations)

    def operation(self, name: str) -> OperationTime:
        """The one of this name.

        Raises
        ------
        KeyError
            If it did not run.
        """
        for operation in self.operations:
            if operation.name == name:
                return operation
        raise KeyError(f"no operation {name!r} in this {self.name}")
