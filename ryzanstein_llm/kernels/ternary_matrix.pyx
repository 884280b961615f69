# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""A ternary weight matrix in a layout of the kernels."""
import numpy as np

from libc.stdint cimport int64_t
from ryzanstein_llm.kernels.cpu cimport (
    RZ_LINE_BYTES, RZ_LINE_CODES, RZ_LINE_TRITS, RZ_MAX_COLUMNS, RZ_TERNARY_LAYOUT_VERSION)
from ryzanstein_llm.kernels.packing cimport describe_matrix

from ryzanstein_llm.kernels import packing

MAX_COLUMNS = RZ_MAX_COLUMNS
TERNARY_LAYOUT_VERSION = RZ_TERNARY_LAYOUT_VERSION
QUANTIZATIONS = {"token": BY_TOKEN, "group": BY_GROUP, "none": NOT_QUANTIZED}


cdef class TernaryMatrix:
    """A ternary weight matrix in one of the kernels' layouts, with one scale or one for each group of columns.

    Parameters
    ----------
    codes : uint8 array of `packing.storage_shape(rows, columns, layout)`, 64-byte aligned
    rows, columns : int
        Number of output and of input features.
    scale : float > 0
        The value of a weight of +1. 1 for the layouts of groups, whose codes include their scales.
    layout : a key of packing.LAYOUTS or of packing.GROUP_LAYOUTS
        "tiles", "trits" and "tables" for products that need all weights; "rows", "columns", "trit_rows" and
        "trit_columns" if skipping.pyx may skip some rows or columns; "groups64" and "groups128" for a scale for
        each 64 or 128 columns of a row. Every product accepts every layout.
    quantization : a key of QUANTIZATIONS, or None
        What becomes of the input of a product: int8 with one scale a token ("token"), int8 with one scale for
        each group of the matrix ("group"), or float32 as it is ("none"). None: "group" for the layouts of groups,
        "token" for the others, which know no other.

    Raises
    ------
    ValueError
        If `codes` cannot hold such a matrix, or its products cannot have such an input.
    """
    def __cinit__(self, codes, int64_t rows, int64_t columns, float scale=1.0, layout="tiles", quantization=None):
        describe_matrix(&self.matrix, codes, rows, columns, layout)
        grouped = layout in packing.GROUP_LAYOUTS
        if quantization is None:
            quantization = "group" if grouped else "token"
        if quantization not in (QUANTIZATIONS if grouped else ("token",)):
            raise ValueError(f"the input of a matrix in the layout {layout} cannot be quantised by {quantization!r}")
        if grouped and scale != 1:
            raise ValueError(f"a matrix in the layout {layout} has scales of its own, so its scale is 1, not {scale}")
        self.codes, self.layout, self.quantization = codes, layout, quantization
        self.matrix.scale = scale
        self.input_kind = QUANTIZATIONS[quantization]

    @property
    def rows(self):
        """Number of output features."""
        return self.matrix.rows

    @property
    def columns(self):
        """Number of input features."""
        return self.matrix.columns

    @property
    def scale(self):
        """The value of a weight of +1; 1 for the layouts of groups."""
        return self.matrix.scale

    @property
    def nbytes(self):
        """Bytes of the codes."""
        return self.codes.nbytes

    @property
    def read_bytes(self):
        """Bytes that a product with all weights reads: fewer than `nbytes` if there are gaps between columns."""
        if self.layout not in ("columns", "trit_columns"):
            return self.nbytes
        line = RZ_LINE_TRITS if self.layout == "trit_columns" else RZ_LINE_CODES
        return self.codes.shape[0] * ((self.rows + line - 1) // line) * RZ_LINE_BYTES

    def dense(self):
        """The weights as int8 (rows, columns) of -1, 0 and 1, without scales."""
        return packing.unpack(self.codes, self.rows, self.columns, self.layout)

    def look_up(self, const int64_t[::1] rows):
        """Rows of a matrix in a layout of groups as float32 (len(rows), columns): scale times -1, 0 or 1.

        Raises
        ------
        ValueError
            If the matrix has another layout, or a row does not exist.
        """
        out = np.empty((rows.shape[0], self.columns), np.float32)
        packing.ternary_rows_as_floats(self.codes, self.rows, self.columns, self.layout, rows, out)
        return out

    def __repr__(self):
        scale = "" if self.layout in packing.GROUP_LAYOUTS else f"scale {self.scale:.6g}, "
        return f"TernaryMatrix({self.rows} x {self.columns}, {scale}{self.layout})"
