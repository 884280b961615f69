"""Every compute call on inputs of one kind: what the determinism tests run over and over.

A case is a function of the number of threads that returns arrays. Inputs are made
once; `CASES` maps a readable name to the case.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ryzanstein_llm.kernels import elementwise, packing
from ryzanstein_llm.kernels.linear import ACTIVATIONS, norm_dense, norm_gated, norm_project
from ryzanstein_llm.kernels.workspace import Workspace
from ryzanstein_llm.testing import to_bf16_bits

from .block_cache import BlockCache, BlockLayout, attend
from .hard_floats import KINDS, subnormal, wide
from .ternary_cases import random_case

Case = Callable[[int], Any]
EPS = 1e-5
SIZE = 333
TOKENS = 5


def _elementwise(x: np.ndarray, y: np.ndarray) -> dict[str, Case]:
    calls: dict[str, Case] = {
        "rms_norm": lambda _: elementwise.rms_norm(x, y, EPS),
        "layer_norm": lambda _: elementwise.layer_norm(x, y, y, EPS),
        "quantize": lambda _: tuple(map(np.asarray, elementwise.quantize(x))),
        "exp": lambda _: elementwise.exp(x),
        "softmax_weights": lambda _: tuple(map(np.asarray, elementwise.softmax_weights(x))),
        "rope": lambda _: elementwise.rope(x[:320].reshape(8, 40), y[:20], y[20:40]),
    }
    for name in ACTIVATIONS:
        calls[name] = lambda _, name=name: elementwise.activate(name, x)
        calls[f"{name}_gated"] = lambda _, name=name: elementwise.activate(name, x, y)
    return calls


def _linear(x: np.ndarray, gain: np.ndarray) -> dict[str, Case]:
    (gate, _), (up, _) = random_case(133, SIZE, 1), random_case(133, SIZE, 2)

    def project(n_threads: int) -> Any:
        outputs = [np.full((len(x), 133), 0.1, np.float32) for _ in range(2)]
        workspace = Workspace(n_threads)
        norm_project(x, gain, EPS, [gate, up], outputs, workspace)
        norm_project(x, None, EPS, [gate, up], outputs, workspace, accumulate=True)
        return tuple(outputs)

    def gated(n_threads: int) -> Any:
        results = []
        for name in ACTIVATIONS:
            out = np.empty((len(x), 133), np.float32)
            norm_gated(x, gain, EPS, gate, up, name, out, Workspace(n_threads))
            results.append(out)
        return tuple(results)

    return {"norm_project": project, "norm_gated": gated}


def _dense(x: np.ndarray, w: np.ndarray) -> dict[str, Case]:
    with np.errstate(all="ignore"):
        forms = {"F32": w, "F16": w.astype(np.float16), "BF16": to_bf16_bits(w)}

    def dense(kind: str, n_threads: int) -> Any:
        out = np.empty((len(x), len(w)), np.float32)
        norm_dense(x, w[0], EPS, forms[kind], kind, out, Workspace(n_threads))
        return out

    def packed(kind: str, n_threads: int) -> Any:
        tiles, scale = packing.pack_float(forms[kind], kind, n_threads)
        return tiles, np.float32(scale)

    calls: dict[str, Case] = {}
    for kind in forms:
        calls[f"norm_dense_{kind}"] = lambda n, kind=kind: dense(kind, n)
        calls[f"pack_float_{kind}"] = lambda n, kind=kind: packed(kind, n)
    return calls


def _attention(make: Callable[..., np.ndarray], rng: np.random.Generator) -> dict[str, Case]:
    calls: dict[str, Case] = {}
    for kind in ("float32", "bfloat16", "int8"):
        layout = BlockLayout(kind, kv_heads=2, head_dim=20)
        qkv = make(rng, 290, (6 + 4) * 20)

        def run(n_threads: int, layout: BlockLayout = layout, qkv: np.ndarray = qkv) -> Any:
            cache = BlockCache(layout, 290)
            first = attend(qkv[:280], [(280, 0, cache)], 6, n_threads=n_threads)
            last = [attend(qkv[at : at + 2], [(2, at, cache)], 6, n_threads=n_threads)
                    for at in range(280, 290, 2)]  # fmt: skip
            return np.concatenate([first, *last]), *cache.blocks

        calls[f"attention_{kind}"] = run
    return calls


def _cases() -> dict[str, Case]:
    rng = np.random.default_rng(11)
    cases: dict[str, Case] = {}
    for magnitude, make in KINDS.items():
        calls = _elementwise(*make(rng, 2, SIZE))
        calls |= _linear(make(rng, TOKENS, SIZE), make(rng, SIZE))
        calls |= _dense(make(rng, TOKENS, SIZE), make(rng, 70, SIZE))
        # products of wide queries and keys would all overflow to NaN
        scores = {"wide": lambda rng, *shape: wide(rng, *shape, high=12), "subnormal": subnormal}
        calls |= _attention(scores.get(magnitude, make), rng)
        cases |= {f"{name}-{magnitude}": call for name, call in calls.items()}
    cases["rotary_table"] = lambda _: packing.rotary_table(
        np.float32(1) / packing.rotary_powers(500000.0, 80), 4000, 4200, 1.1
    )
    return cases


CASES = _cases()
PARALLEL = [name for name in CASES if name.startswith(("norm_", "pack_", "attention_"))]
