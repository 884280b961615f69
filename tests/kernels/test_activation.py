"""relu², SiLU and GELU, alone and times another vector."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import reference

from ryzanstein_llm.kernels.elementwise import activate, exp
from ryzanstein_llm.kernels.linear import ACTIVATIONS

from . import steps
from .hard_floats import KINDS
from .same_bits import assert_same_bits

pytestmark = pytest.mark.usefixtures("tier")

DEFINITIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu2": reference.relu2,
    "silu": reference.silu,
    "gelu": reference.gelu_erf,
    "gelu_tanh": reference.gelu_tanh,
}
# Relative, where |x| <= 4. relu2: one rounding. silu: exp (2 ulp), an addition, a division.
# gelu: the Chebyshev fit is good to 1.2e-7, and rounding its exponent (up to 8) adds 5e-7.
# gelu_tanh: rounding an exponent of up to 11 adds 1e-6.
RELATIVE = {"relu2": 1e-7, "silu": 5e-7, "gelu": 2e-6, "gelu_tanh": 3e-6}
# Elsewhere relative to |x|: what is small in x * sigmoid may be anything that small.
OVER_X = {"relu2": 1e-7, "silu": 5e-7, "gelu": 5e-7, "gelu_tanh": 5e-7}


def test_every_activation_is_tested() -> None:
    assert set(DEFINITIONS) == set(ACTIVATIONS)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_against_the_definition(name: str) -> None:
    near = np.linspace(-4, 4, 20011, dtype=np.float32)
    near = near[near != 0]
    exact = DEFINITIONS[name](near)
    error = np.abs(activate(name, near) - exact)
    assert np.max(error / np.maximum(np.abs(exact), 1e-30)) <= RELATIVE[name]
    far = np.concatenate([np.linspace(-100, 100, 4001), np.geomspace(1e-30, 1e4, 999)])
    far = np.concatenate([far, -far]).astype(np.float32)
    exact = DEFINITIONS[name](far)
    bound = OVER_X[name] * np.maximum(np.abs(far), np.abs(exact)) + 1e-38
    assert np.all(np.abs(activate(name, far) - exact) <= bound)


@pytest.mark.parametrize("kind", KINDS)
def test_relu2_and_silu_are_the_steps_of_the_contract(kind: str, rng: np.random.Generator) -> None:
    x = KINDS[kind](rng, 1003)
    with np.errstate(all="ignore"):
        assert_same_bits(activate("relu2", x), steps.relu2(x))
        assert_same_bits(activate("silu", x), x / (np.float32(1) + exp(np.float32(0) - x)))


@pytest.mark.parametrize("name", DEFINITIONS)
@pytest.mark.parametrize("size", [1, 15, 16, 17, 100])
def test_gated_multiplies_last(name: str, size: int, rng: np.random.Generator) -> None:
    for make in KINDS.values():
        gate, up = make(rng, 2, size)
        with np.errstate(all="ignore"):
            wanted = activate(name, gate) * up
        if name == "relu2":  # closed whatever `up` is; NaN is neither open nor closed
            wanted[gate <= 0] = 0.0
        assert_same_bits(activate(name, gate, up), wanted)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_zero_stays_zero(name: str) -> None:
    assert not activate(name, np.array([0.0, -0.0], np.float32)).any()
