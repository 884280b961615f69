"""Ternary weights and int8 activations in training: by definition, and gradients through them."""

from __future__ import annotations

import numpy as np
import pytest
from reference import absmean, quantize_int8
from toy_training import SHAPE, torch

from training.evaluation import score
from training.model import BitNet, build, is_projection
from training.objective import Objective
from training.ternary import Projection, quantize_activations, quantize_weight

pytestmark = pytest.mark.parity


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(1)


def test_weights_are_ternary_by_absmean(generator: torch.Generator) -> None:
    master = torch.randn(24, 40, generator=generator)
    values, scale = quantize_weight(master)
    expected = absmean(master.numpy().astype(np.float64))
    np.testing.assert_array_equal(values.round().int(), expected.t)
    np.testing.assert_allclose(values, expected.t, atol=1e-6)
    assert float(scale) == pytest.approx(expected.multiplier, rel=1e-6)


def test_activations_are_int8_by_absmax_of_a_token(generator: torch.Generator) -> None:
    x = torch.randn(3, 40, generator=generator) * torch.tensor([[1e-3], [1], [50]])
    values, scale = quantize_activations(x)
    for row in range(3):
        q, multiplier = quantize_int8(x[row : row + 1].numpy().astype(np.float64))
        np.testing.assert_allclose(values[row], q.reshape(-1), atol=2e-5)
        assert float(scale[row]) == pytest.approx(float(np.squeeze(multiplier)), rel=1e-6)


def test_nothing_is_divided_by_zero() -> None:
    for values, scale in (
        quantize_weight(torch.zeros(2, 3)),
        quantize_activations(torch.zeros(2, 3)),
    ):
        assert not values.any()
        assert torch.isfinite(scale).all()


def test_a_product_in_bfloat16_is_that_of_inference(generator: torch.Generator) -> None:
    # Both factors are whole numbers below 256, which bfloat16 holds exactly: only the product's
    # own rounding is left. Rounded floats would be off by several times that.
    x = torch.randn(5, 64, generator=generator)
    layer = Projection(64, 16, ternary=True)
    torch.nn.init.normal_(layer.weight, generator=generator)
    with torch.no_grad():
        exact = layer(*quantize_activations(x))
        with torch.autocast("cpu", torch.bfloat16):
            rounded = layer(*quantize_activations(x))
    assert torch.all((rounded - exact).abs() <= exact.abs() * 2**-8)


def test_gradients_pass_as_if_nothing_were_rounded(generator: torch.Generator) -> None:
    """That of the input goes through the ternary weights, that of the weights through the int8
    activations; clipping stops neither."""
    x = torch.randn(5, 32, generator=generator, requires_grad=True)
    layer = Projection(32, 8, ternary=True)
    torch.nn.init.normal_(layer.weight, generator=generator)
    incoming = torch.randn(5, 8, generator=generator)
    layer(*quantize_activations(x)).backward(incoming)

    ternary = absmean(layer.weight.detach().numpy().astype(np.float64))
    weights = ternary.t * ternary.multiplier
    q, scales = quantize_int8(x.detach().numpy().astype(np.float64))
    seen = q * np.reshape(scales, (-1, 1))
    np.testing.assert_allclose(x.grad, incoming.numpy() @ weights, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.weight.grad, incoming.numpy().T @ seen, rtol=1e-4, atol=1e-5)


def test_every_parameter_learns() -> None:
    model = build(SHAPE, ternary=True, dropout=0.0, seed=0)
    ids = torch.arange(2 * 24).reshape(2, 24)
    Objective(model)(ids, ids + 1)[0].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_tensors_are_named_as_transformers_names_them() -> None:
    from ryzanstein_llm.testing import tensor_shapes

    model = BitNet(SHAPE)
    found = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    assert found == tensor_shapes(SHAPE.config(0, 1))
    assert sum(is_projection(name) for name in found) == 7 * SHAPE.layers


def test_dropout_is_off_outside_training() -> None:
    model = build(SHAPE, ternary=True, dropout=0.5, seed=0)
    plain = build(SHAPE, ternary=True, dropout=0.0, seed=0)
    ids = torch.arange(24)[None]
    with torch.no_grad():
        assert not torch.equal(model.train()(ids), plain(ids))
        assert torch.equal(model.eval()(ids), plain(ids))


def test_without_quantisation_it_is_an_ordinary_model(generator: torch.Generator) -> None:
    layer = Projection(32, 8, ternary=False)
    torch.nn.init.normal_(layer.weight, generator=generator)
    x = torch.randn(5, 32, generator=generator)
    torch.testing.assert_close(layer(x, None), x @ layer.weight.T)


class TestTeachers:
    IDS = torch.arange(24)[None]

    def loss(self, *teachers: BitNet, weight: float) -> tuple[float, float]:
        student = build(SHAPE, ternary=True, dropout=0.0, seed=0)
        whole, text = Objective(student, teachers, weight)(self.IDS, self.IDS + 1)
        return whole.item(), text.item()

    def test_the_loss_is_a_mean_of_text_and_teachers(self) -> None:
        teacher = build(SHAPE, ternary=False, dropout=0.5, seed=1)
        with torch.no_grad():
            wanted = teacher.eval()(self.IDS)[0].softmax(-1)
            student = build(SHAPE, ternary=True, dropout=0.0, seed=0)
            surprise = -student(self.IDS)[0].log_softmax(-1)
            taught = float((wanted * surprise).sum(-1).mean())
        whole, text = self.loss(teacher, weight=0.25)
        assert whole == pytest.approx(0.75 * text + 0.25 * taught, rel=1e-5)
        assert text == pytest.approx(self.loss(weight=0.25)[0], rel=1e-6)

    def test_teachers_do_not_learn(self) -> None:
        teacher = build(SHAPE, ternary=False, dropout=0.0, seed=1)
        student = build(SHAPE, ternary=True, dropout=0.0, seed=0)
        objective = Objective(student, [teacher], 0.5).train()
        objective(self.IDS, self.IDS + 1)[0].backward()
        assert all(parameter.grad is None for parameter in teacher.parameters())
        assert not teacher.training


def test_a_score_counts_every_token_once() -> None:
    """A uniform model needs log2(vocabulary) bits for each, in whole windows and in the last."""
    model = build(SHAPE, ternary=True, dropout=0.0, seed=0)
    with torch.no_grad():
        model.model.norm.weight.zero_()
    ids = np.arange(130, dtype=np.int32)
    found = score(model, ids, 0, np.full(SHAPE.vocabulary, 2))
    assert (found.tokens, found.text_bytes) == (130, 260)
    assert found.perplexity == pytest.approx(SHAPE.vocabulary, rel=1e-5)
    assert found.bits_per_byte == pytest.approx(np.log2(SHAPE.vocabulary) / 2, rel=1e-5)
    part = score(model, ids, 0, np.full(SHAPE.vocabulary, 2), windows=2)
    assert part.tokens == 47 + 36
