"""Which weights each optimiser moves, and how far."""

from __future__ import annotations

import copy

import numpy as np
import pytest
from toy_training import SHAPE, torch

from training.model import BitNet, build, is_projection
from training.objective import Objective
from training.optimizer import Optimizer

pytestmark = pytest.mark.parity

RATE = 1e-3


def with_gradients() -> BitNet:
    model = build(SHAPE, ternary=True, dropout=0.0, seed=0)
    ids = torch.arange(2 * 24).reshape(2, 24)
    Objective(model)(ids, ids + 1)[0].backward()
    return model


def steps_of(model: BitNet, optimizer: Optimizer, decay: float) -> dict[str, np.ndarray]:
    """What one step adds to each weight."""
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer.step(RATE, decay)
    return {name: (t - before[name]).numpy() for name, t in model.state_dict().items()}


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_every_weight_moves_about_as_far_as_the_rate(name: str) -> None:
    model = with_gradients()
    for weight, step in steps_of(model, Optimizer(model, name), decay=0.0).items():
        size = np.sqrt(np.square(step).mean())
        # updates of Muon are made as large as Adam's usually are, a fifth of the rate
        assert 0.1 * RATE < size < 1.1 * RATE, weight


def large_directions(matrix: np.ndarray) -> float:
    """Share of the singular values that are at least half of the largest."""
    values = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)
    return float((values > values.max() / 2).mean())


def test_muon_moves_a_matrix_in_many_directions_alike() -> None:
    model = with_gradients()
    gradients = {n: p.grad.numpy() for n, p in model.named_parameters()}
    for weight, step in steps_of(model, Optimizer(model, "muon"), decay=0.0).items():
        if is_projection(weight):
            assert large_directions(gradients[weight]) < 0.32, weight
            assert large_directions(step) > 0.32, weight


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_matrices_decay_and_norms_do_not(name: str) -> None:
    for weight, tensor in with_gradients().state_dict().items():
        plain, decayed = (
            steps_of(model, Optimizer(model, name), decay)[weight]
            for model, decay in ((with_gradients(), 0.0), (with_gradients(), 0.5))
        )
        expected = -RATE * 0.5 * tensor.numpy() if tensor.ndim > 1 else 0.0 * tensor.numpy()
        np.testing.assert_allclose(decayed - plain, expected, atol=2e-7)


@pytest.mark.parametrize("name", ["muon", "adamw"])
def test_a_state_that_was_saved_goes_on_the_same_way(name: str) -> None:
    first, second = with_gradients(), with_gradients()
    one, other = Optimizer(first, name), Optimizer(second, name)
    gradients = {n: p.grad.clone() for n, p in first.named_parameters()}

    def step(model: BitNet, optimizer: Optimizer) -> dict[str, np.ndarray]:
        for n, parameter in model.named_parameters():
            parameter.grad = gradients[n].clone()
        return steps_of(model, optimizer, decay=0.1)

    step(first, one)
    second.load_state_dict(first.state_dict())
    other.load_state_dict(copy.deepcopy(one.state_dict()))
    expected, found = step(first, one), step(second, other)
    for weight in expected:
        assert (expected[weight] == found[weight]).all(), weight
