"""How alike embeddings are."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import InvalidParameterError
from ..kernels.elementwise import divided, euclidean_length
from ..kernels.linear import norm_dense
from ..kernels.workspace import Workspace

__all__ = ["cosine_similarity", "unit_vectors"]

SHORTEST = 1e-12
"""A shorter vector is divided by this instead of by its length, as in PyTorch's `normalize`."""

Float32 = NDArray[np.float32]


def cosine_similarity(first: Any, second: Any) -> Float32:
    """The cosines of the angles between vectors, float32 (n, m), about -1 to 1. A vector of zeros
    has the cosine 0 with all others.

    Parameters
    ----------
    first, second : array_like of shapes (n, d) and (m, d)
        Or (d,), for one vector.

    Raises
    ------
    InvalidParameterError
        If they are no such arrays, or differ in d.
    """
    a, b = _matrix("first", first), _matrix("second", second)
    if a.shape[1] != b.shape[1]:
        problem = f"has vectors of {b.shape[1]} numbers, and first of {a.shape[1]}"
        raise InvalidParameterError(problem, "second")
    cosines = np.zeros((len(a), len(b)), np.float32)
    if cosines.size:
        norm_dense(unit_vectors(a), None, 0.0, unit_vectors(b), "F32", cosines, Workspace(1))
    return cosines


def unit_vectors(vectors: Float32) -> Float32:
    """Each vector divided by its length, float32 (n, d)."""
    scaled = np.empty_like(vectors)
    for row, vector in enumerate(vectors):
        scaled[row] = divided(vector, max(euclidean_length(vector), SHORTEST))
    return scaled


def _matrix(name: str, values: Any) -> Float32:
    try:
        array = np.asarray(values)
        if array.dtype.kind not in "fiu":
            raise TypeError
        with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
            array = np.array(array, np.float32, order="C")
    except (TypeError, ValueError):
        problem = f"must be an array of numbers, not {type(values).__name__}"
        raise InvalidParameterError(problem, name) from None
    if array.ndim not in (1, 2) or not array.shape[-1]:
        problem = f"must have the shape (n, d) or (d,), not {array.shape}"
        raise InvalidParameterError(problem, name)
    if not np.isfinite(array).all():
        raise InvalidParameterError("must hold finite numbers of float32", name)
    return np.atleast_2d(array)
