"""What a model asks of a kernel."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["KernelUse"]


class KernelUse(NamedTuple):
    """A kernel with the sizes that a model calls it with.

    Attributes
    ----------
    kernel : str
        A member of rz_kernels (kernels.h).
    which : str
        What the kernel is for, if there are several: the layout of a ternary matrix, "F32", "F16"
        or "BF16" for a float one, the kind of a KV cache, or the name of an activation.
    columns : int
        The width of what it reads: columns of a matrix, elements of a norm or of a head.
    rows : int
        Rows of the matrix, where a kernel reads whole columns.
    """

    kernel: str
    which: str = ""
    columns: int = 0
    rows: int = 0
