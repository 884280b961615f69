"""Every kernel under every tier, against what `include/ryzanstein/kernels.h` promises.

Two kinds of comparison, never mixed up:

- **equal bits** (`same_bits`): between tiers, thread counts and ways to cut the work,
  and with `steps`, which repeats in NumPy float32 the order of operations that the
  contract fixes. NumPy's elementwise + - * / and sqrt are correctly rounded too.
- **named tolerances**: against the float64 definitions of `tests/reference`, each
  tolerance with its reason.

Helpers: `same_bits`, `steps`, `hard_floats`, `block_cache` (a KV cache of the layout
attention.pyx reads), `page_end` (arrays that end where readable memory ends),
`ternary_cases`.
"""
