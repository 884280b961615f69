"""The NumPy reference itself: facts about each operation that hold by definition.

Everything else in the suite is compared with `reference`, so it has to be trusted first.
Its agreement with PyTorch is tested in `parity/`.
"""

from __future__ import annotations

import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from reference import (
    BitNetReference,
    TernaryWeight,
    absmean,
    attention,
    bitnet_config,
    gelu_erf,
    gelu_tanh,
    layer_norm,
    log_softmax,
    masters_reproducing,
    pack_rows,
    perplexity,
    quantize_int8,
    random_tensors,
    read_safetensors,
    relu2,
    rms_norm,
    rope,
    score_windows,
    silu,
    softmax,
    steady_prompts,
    ternary_matmul,
    unpack_rows,
    weight_multiplier,
    write_random_checkpoint,
    write_safetensors,
)

RANDOM = np.random.default_rng(0)


def test_packing_strides_over_output_rows_lowest_bits_first() -> None:
    # The example in the documentation of transformers' `unpack_weights`.
    packed = np.array([[0b10100001, 0b00011000], [0b10010000, 0b00001010]], np.uint8)
    rows = [[0, -1], [-1, 1], [-1, 1], [-1, 1], [1, 0], [0, -1], [1, -1], [1, -1]]
    np.testing.assert_array_equal(unpack_rows(packed, 8), rows)
    np.testing.assert_array_equal(pack_rows(np.array(rows, np.int8)), packed)


def test_packing_of_the_published_test_vector() -> None:
    index = np.arange(32)
    t = ((index * index + index // 5) % 3 - 1).astype(np.int8).reshape(8, 4)
    packed = pack_rows(t).tobytes()
    assert packed.hex(" ") == "58 15 01 90 29 12 21 62"
    assert zlib.crc32(packed) == 0x21E6F2FB


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 64])
def test_unpacking_undoes_packing_also_with_a_tail(rows: int) -> None:
    t = RANDOM.integers(-1, 2, (rows, 7)).astype(np.int8)
    np.testing.assert_array_equal(unpack_rows(pack_rows(t), rows), t)


def test_code_three_is_refused() -> None:
    with pytest.raises(ValueError, match="code 3"):
        unpack_rows(np.array([[0b00110000]], np.uint8), 4)


def test_only_autobitlinear_multiplies_by_the_stored_scale() -> None:
    assert weight_multiplier(4.0, "autobitlinear") == 4.0
    assert weight_multiplier(4.0, "bitlinear") == weight_multiplier(4.0, None) == 0.25


def test_absmean_rounds_to_the_nearest_of_three() -> None:
    weight = absmean(np.array([[0.1, -0.1, 1.0, -2.8]], np.float32))
    assert weight.multiplier == pytest.approx(1.0)
    np.testing.assert_array_equal(weight.t, [[0, 0, 1, -1]])


def test_absmean_would_shrink_weights_that_are_ternary_already() -> None:
    weight = TernaryWeight(RANDOM.integers(-1, 2, (40, 30)).astype(np.int8), 0.25)
    naive = absmean(weight.t * np.float32(weight.multiplier))
    np.testing.assert_array_equal(naive.t, weight.t)
    assert naive.multiplier < 0.75 * weight.multiplier


def test_masters_give_back_the_ternary_weights_they_were_made_from() -> None:
    weight = TernaryWeight(RANDOM.integers(-1, 2, (40, 30)).astype(np.int8), 0.25)
    again = absmean(masters_reproducing(weight))
    np.testing.assert_array_equal(again.t, weight.t)
    assert again.multiplier == pytest.approx(weight.multiplier, rel=1e-6)


def test_int8_rounds_half_to_even_and_maps_the_largest_to_127() -> None:
    q, step = quantize_int8(np.array([[0.5, 1.5, 2.5, -2.5, -127.0, 127.0]]))
    np.testing.assert_array_equal(q, [[0, 2, 2, -2, -127, 127]])
    np.testing.assert_array_equal(step, [[1.0]])


def test_int8_of_nearly_nothing_is_divided_by_the_floor() -> None:
    q, step = quantize_int8(np.array([[0.0, 0.0], [1e-6, -1e-7]]))
    np.testing.assert_array_equal(q, [[0, 0], [13, -1]])
    np.testing.assert_allclose(step, 1e-5 / 127)


def test_int8_in_float32_is_the_float32_sequence_of_operations() -> None:
    x = RANDOM.normal(size=(5, 100)).astype(np.float32)
    q, _ = quantize_int8(x, np.float32)
    for row, quantized in zip(x, q, strict=True):
        scale = np.float32(127) / np.max(np.abs(row))
        np.testing.assert_array_equal(quantized, [round(float(v * scale)) for v in row])


def test_rms_norm_makes_the_mean_square_one() -> None:
    x = RANDOM.normal(3.0, 2.0, (4, 50))
    np.testing.assert_allclose(np.mean(rms_norm(x, None, 0.0) ** 2, axis=-1), 1.0)
    np.testing.assert_allclose(rms_norm([3.0, 4.0], [1.0, 2.0], 0.5), np.array([3, 8]) / 13**0.5)


def test_layer_norm_makes_the_mean_zero_and_the_variance_one() -> None:
    normed = layer_norm(RANDOM.normal(3.0, 2.0, (4, 50)), None, None, 0.0)
    np.testing.assert_allclose(np.mean(normed, axis=-1), 0.0, atol=1e-12)
    np.testing.assert_allclose(np.var(normed, axis=-1), 1.0)
    np.testing.assert_allclose(layer_norm([-1.0, 1.0], [2.0, 3.0], [5.0, 7.0], 0.0), [3, 10])


def test_activations_at_known_points() -> None:
    np.testing.assert_array_equal(relu2([-2.0, 0.0, 3.0]), [0.0, 0.0, 9.0])
    np.testing.assert_allclose(silu([0.0, 1.0, -1.0]), [0.0, 0.7310585786, -0.2689414214])
    np.testing.assert_allclose(gelu_erf([0.0, 1.0, -1.0]), [0.0, 0.8413447461, -0.1586552539])
    np.testing.assert_allclose(gelu_tanh([0.0, 1.0, -1.0]), [0.0, 0.8411919906, -0.1588080094])


def test_activations_do_not_overflow() -> None:
    for function in (silu, gelu_erf, gelu_tanh):
        np.testing.assert_array_equal(function([-1e4, 1e4]), [0.0, 1e4])


def test_softmax_is_a_distribution_and_ignores_a_common_shift() -> None:
    x = RANDOM.normal(size=(3, 9))
    np.testing.assert_allclose(np.sum(softmax(x), axis=-1), 1.0)
    np.testing.assert_allclose(softmax(x + 1e3), softmax(x))
    np.testing.assert_array_equal(softmax([0.0, -np.inf, 0.0]), [0.5, 0.0, 0.5])
    np.testing.assert_allclose(log_softmax(x), np.log(softmax(x)))


def test_rope_keeps_lengths_and_leaves_position_zero_alone() -> None:
    x = RANDOM.normal(size=(6, 2, 10))
    rotated = rope(x, np.arange(6), 10000.0)
    np.testing.assert_allclose(np.linalg.norm(rotated, axis=-1), np.linalg.norm(x, axis=-1))
    np.testing.assert_array_equal(rotated[0], x[0])


def test_rope_turns_element_i_together_with_i_plus_half() -> None:
    x = np.zeros((1, 1, 8))
    x[..., 1] = 1.0
    angle = 3 * 10000.0 ** (-2 / 8)
    expected = np.zeros(8)
    expected[1], expected[5] = math.cos(angle), math.sin(angle)
    np.testing.assert_allclose(rope(x, [3], 10000.0)[0, 0], expected, atol=1e-6)


def test_rope_makes_products_depend_on_the_distance_only() -> None:
    q, k = RANDOM.normal(size=(2, 1, 1, 64))
    near = np.sum(rope(q, [7], 10000.0) * rope(k, [4], 10000.0))
    far = np.sum(rope(q, [103], 10000.0) * rope(k, [100], 10000.0))
    assert near == pytest.approx(far, abs=1e-4)


def test_attention_is_causal_and_the_first_token_sees_itself_only() -> None:
    q, k, v = RANDOM.normal(size=(3, 5, 2, 4))
    out = attention(q, k, v)
    np.testing.assert_allclose(out[0], v[0])
    np.testing.assert_allclose(attention(q[:3], k[:3], v[:3]), out[:3])
    np.testing.assert_allclose(attention(q[3:], k, v), out[3:])


def test_attention_with_equal_scores_is_the_mean_of_what_it_sees() -> None:
    v = RANDOM.normal(size=(4, 1, 6))
    out = attention(np.zeros((4, 1, 6)), RANDOM.normal(size=(4, 1, 6)), v)
    np.testing.assert_allclose(out[2], np.mean(v[:3], axis=0))


def test_neighbouring_query_heads_share_a_key_value_head() -> None:
    q, k = RANDOM.normal(size=(3, 4, 8)), RANDOM.normal(size=(3, 2, 8))
    v = RANDOM.normal(size=(3, 2, 8))
    repeated = attention(q, np.repeat(k, 2, axis=1), np.repeat(v, 2, axis=1))
    np.testing.assert_allclose(attention(q, k, v), repeated)


def test_ternary_product_of_the_largest_values_is_exact() -> None:
    q = np.full((1, 6912), -127)
    assert ternary_matmul(q, np.ones((1, 6912), np.int8)) == -127 * 6912


def test_projection_of_the_decoder_is_the_integer_product(tmp_path: Path) -> None:
    reference = BitNetReference.open(write_random_checkpoint(tmp_path))
    x, weight = RANDOM.normal(size=(3, 192)), reference.layers[0].gate
    q, step = quantize_int8(x)
    expected = ternary_matmul(q, weight.t) * step * weight.multiplier
    np.testing.assert_array_equal(reference.project(x, weight), expected)


def test_decoder_gives_the_same_logits_in_one_pass_and_token_by_token(tmp_path: Path) -> None:
    reference = BitNetReference.open(write_random_checkpoint(tmp_path))
    (ids,) = steady_prompts(reference, 1, 6)
    past: list = []
    steps = [reference.forward(ids[:3], past), *(reference.forward([i], past) for i in ids[3:])]
    np.testing.assert_allclose(np.concatenate(steps), reference.forward(ids), rtol=1e-9, atol=1e-9)


def test_safetensors_files_are_what_the_safetensors_library_reads(tmp_path: Path) -> None:
    tensors = {
        "a": RANDOM.normal(size=(3, 5)).astype(np.float32),
        "b": RANDOM.normal(size=7).astype(np.float16),
        "c": RANDOM.integers(0, 256, (2, 3, 4)).astype(np.uint8),
    }
    path = tmp_path / "model.safetensors"
    write_safetensors(path, tensors)
    theirs, ours = safetensors.numpy.load_file(path), read_safetensors(path)
    assert set(theirs) == set(ours) == set(tensors)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(ours[name], tensor)
        np.testing.assert_array_equal(theirs[name], tensor)


def test_bfloat16_tensors_survive_writing_and_reading(tmp_path: Path) -> None:
    tensors = random_tensors(bitnet_config(), "master", "autobitlinear", seed=3)
    write_safetensors(tmp_path / "a.safetensors", tensors, bfloat16=set(tensors))
    for name, tensor in read_safetensors(tmp_path / "a.safetensors").items():
        np.testing.assert_array_equal(tensor, tensors[name])


def test_perplexity_of_a_model_that_knows_nothing_is_its_vocabulary() -> None:
    score = perplexity(lambda window: np.zeros((len(window), 50)), list(range(23)), 0, 8)
    assert score.tokens == 23
    assert score.perplexity == pytest.approx(50)


def test_windows_cover_the_text_once_and_start_with_bos() -> None:
    windows = score_windows([5, 6, 7, 8, 9], bos=1, context_length=3)
    assert windows == [[1, 5, 6], [1, 7, 8], [1, 9]]
