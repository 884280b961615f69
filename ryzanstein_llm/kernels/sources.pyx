# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Ternary matrices as checkpoints store them, checked and ready to be packed."""
import numpy as np

from cython.parallel cimport parallel, prange
from libc.stdint cimport int64_t, uint8_t, uint32_t
from ryzanstein_llm.kernels.cpu cimport rz_float_mode_enter, rz_float_mode_leave
from ryzanstein_llm.kernels.threads cimport team_size

from ryzanstein_llm.kernels.encodings import ENCODINGS, Problem

# In the order of enum rz_float_kind; bfloat16 is passed as uint16.
FLOAT_KINDS = {"F32": 0, "BF16": 1, "F16": 2}


def bytes_of(array, name, size):
    """The bytes of a C-contiguous array that must have `size` of them, as uint8 (size,)."""
    if not array.flags.c_contiguous:
        raise ValueError(f"{name} of shape {array.shape} are not contiguous")
    if array.nbytes != size:
        raise ValueError(f"{name} have {array.nbytes} bytes, not {size}")
    return array.reshape(-1).view(np.uint8)


cdef const uint8_t *address(const uint8_t[::1] view) noexcept:
    return &view[0]


cdef class TernarySource:
    """A ternary matrix in one of the published encodings. Its data are read when it is packed.

    Parameters
    ----------
    encoding : a key of ENCODINGS except "masters"
        "Q2_0" has groups of 64 columns; "PQ2_0" has 128 and is also what PrismML called Q2_0 before. "I2_S" is
        what x86 CPUs write, "I2_S_ARM" what ARM CPUs write.
    data : C-contiguous array of any dtype
        All bytes of the matrix, in the order in which they are stored; I2_S with its scale and padding.
    rows, columns : int > 0
        Output and input features. Columns are a multiple of the block of the encoding.
    head_dim : even int, or 0
        If not 0, each head of so many rows is stored as llama.cpp stores q and k of architecture llama: row
        (half i, place j) of a head at 2 * j + i. The source has them in the order of Hugging Face again.
    scale : float
        For "hf_packed": the value of a weight of +1.
    kind : "F32", "F16" or "BF16"
        For "ternary_floats" what the data are, for "MLX2" what scales and biases are.
    group : 64, 128, ...
        For "ternary_floats": number of columns, a multiple of 64, of which the weights other than 0 have one
        absolute value. Whether that is so is found out when it is packed.
    scales, biases : C-contiguous (rows, columns / group) of `kind`, groups of 64 or 128
        For "MLX2".

    Raises
    ------
    ValueError
        Sizes do not fit, or arrays are not contiguous.
    """

    def __cinit__(self, encoding, data, int64_t rows, int64_t columns, *, int64_t head_dim=0, float scale=1.0,
                  kind=None, int64_t group=64, scales=None, biases=None):
        described = ENCODINGS[encoding]
        if rows < 1 or columns < 1 or columns % described.block:
            raise ValueError(f"no {encoding} matrix of {rows} x {columns}; columns are a multiple of {described.block}")
        if head_dim < 0 or head_dim % 2 or (head_dim and rows % head_dim) or (head_dim and encoding == "hf_packed"):
            raise ValueError(f"{rows} rows of {encoding} cannot be permuted in heads of {head_dim}")
        self.encoding = encoding
        self.source.encoding = described.number
        self.source.rows = rows
        self.source.columns = columns
        self.source.head_dim = head_dim
        self.source.scale = scale
        self.source.group_columns = described.group or columns
        self.source.row_bytes = described.row_bytes(columns)
        size = described.nbytes(rows, columns)
        self.arrays = []
        if encoding in ("ternary_floats", "MLX2"):
            if kind not in FLOAT_KINDS:
                raise ValueError(f"{encoding} of kind {kind}; there are {', '.join(FLOAT_KINDS)}")
            self.source.float_kind = FLOAT_KINDS[kind]
            width = 4 if kind == "F32" else 2
        if encoding == "hf_packed":
            size = (rows + 3) // 4 * columns
        elif encoding == "ternary_floats":
            if group < 64 or group % 64:
                raise ValueError(f"a group of {group} columns is no multiple of 64")
            self.source.group_columns = group
            self.source.row_bytes = columns * width
            size = rows * self.source.row_bytes
        elif encoding == "MLX2":
            if scales.shape not in ((rows, columns // 64), (rows, columns // 128)) or columns % scales.shape[1]:
                raise ValueError(f"scales of shape {scales.shape} for {rows} x {columns} in groups of 64 or 128")
            self.source.group_columns = columns // scales.shape[1]
            self.source.scales = self.keep(scales, "scales", width * rows * scales.shape[1])
            self.source.biases = self.keep(biases, "biases", width * rows * scales.shape[1])
        elif encoding == "masters":
            raise ValueError("masters are packed by pack_float")
        self.source.data = self.keep(data, "data", size)

    cdef const uint8_t *keep(self, array, name, size) except NULL:
        flat = bytes_of(array, f"{name} of {self.encoding}", size)
        self.arrays.append(flat)
        return address(flat)

    @property
    def rows(self):
        """Output features."""
        return self.source.rows

    @property
    def columns(self):
        """Input features."""
        return self.source.columns

    @property
    def group(self):
        """The number of columns of a row that have one scale."""
        return self.source.group_columns

    def common_scale(self, n_threads=1):
        """The scale of all weights as float, or None if there are several, or one is negative or not finite.

        Groups of zeros with scale 0 count as having any. 0.0 if all groups are so. Whether "ternary_floats" are
        ternary is not looked at.
        """
        if self.found is None:
            found = np.empty(self.source.rows, np.float32)
            problems = self.row_scales(found, team_size(n_threads))
            values = found[found >= 0]
            alike = problems == 0 and bool((values == values[:1]).all())
            self.found = ((float(values[0]) if values.size else 0.0) if alike else None,)
        return self.found[0]

    def problem(self, n_threads=1, *, bint half=True):
        """What packing would find wrong with the data, a Problem, or None: for a caller who would rather know
        before memory is taken. Of float masters it reads the first group of each row.

        Parameters
        ----------
        half : bool
            Whether scales that are no fp16 numbers are a problem, as they are for GROUP_LAYOUTS.
        """
        cdef int64_t row
        cdef uint32_t problems = 0
        cdef unsigned int mode = 0
        cdef int threads = team_size(n_threads)
        with nogil, parallel(num_threads=threads):
            mode = rz_float_mode_enter()
            for row in prange(self.source.rows, schedule="static"):
                problems |= rz_source_row_problems(&self.source, row, half)
            rz_float_mode_leave(mode)
        return Problem.first(problems)

    cdef uint32_t row_scales(self, float[::1] out, int threads):
        cdef int64_t row
        cdef uint32_t problems = 0
        cdef unsigned int mode = 0
        with nogil, parallel(num_threads=threads):
            mode = rz_float_mode_enter()
            for row in prange(self.source.rows, schedule="static"):
                problems |= rz_source_row_scale(&self.source, row, &out[row])
            rz_float_mode_leave(mode)
        return problems

    def __repr__(self):
        return f"TernarySource({self.encoding}, {self.rows} x {self.columns})"
