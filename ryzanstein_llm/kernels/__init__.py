"""The compiled part: argument checks, OpenMP, and the dispatch to kernels in include/."""
