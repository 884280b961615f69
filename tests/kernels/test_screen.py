"""The screened head: the likeliest tokens and their logits equal the full head's bit for bit."""

from __future__ import annotations

import numpy as np
import pytest

from ryzanstein_llm.kernels import cpu, packing
from ryzanstein_llm.kernels.head import MAX_SCREEN_COLUMNS, ScreenedHead
from ryzanstein_llm.kernels.head_rows import row_logits
from ryzanstein_llm.kernels.linear import norm_dense
from ryzanstein_llm.kernels.workspace import Workspace
from ryzanstein_llm.testing import to_bf16_bits

SHAPES = [(1, 1), (5, 3), (17, 16), (300, 40), (1000, 67), (4096, 256), (2000, 2560)]


def stored(values: np.ndarray, kind: str) -> np.ndarray:
    if kind == "BF16":
        return to_bf16_bits(values)
    return values.astype(np.float16 if kind == "F16" else np.float32)


def full_head(hidden, norm, weights, kind):
    out = np.empty((1, len(weights)), np.float32)
    norm_dense(hidden[None], norm, 1e-5, weights, kind, out, Workspace(1))
    return out[0]


def hidden_states(rng: np.random.Generator, columns: int) -> dict[str, np.ndarray]:
    plain = rng.standard_normal(columns).astype(np.float32)
    outlier = plain.copy()
    outlier[columns // 2] = 300.0  # one plane of int8 would be far too coarse
    return {
        "plain": plain,
        "outlier": outlier,
        "tiny": plain * np.float32(1e-20),
        "huge": plain * np.float32(1e15),
        "zero": np.zeros(columns, np.float32),
        "one": np.eye(1, columns, dtype=np.float32)[0],
    }


@pytest.mark.parametrize("kind", ["F32", "BF16", "F16"])
@pytest.mark.parametrize(("rows", "columns"), SHAPES)
def test_the_likeliest_are_those_of_the_full_head(tier, rng, rows, columns, kind):
    weights = stored(rng.standard_normal((rows, columns)) * 0.05, kind)
    head = ScreenedHead(weights, kind, 2)
    for name, hidden in hidden_states(rng, columns).items():
        for norm in (None, rng.standard_normal(columns).astype(np.float32)):
            expected = full_head(hidden, norm, weights, kind)
            for count in {1, min(7, rows), rows}:
                ids, logits = head.likeliest(hidden[None], norm, 1e-5, Workspace(2), count)[0]
                assert (np.diff(ids) > 0).all(), name
                assert (logits.view(np.uint32) == expected[ids].view(np.uint32)).all(), name
                least = np.sort(expected)[-count]
                assert set(np.flatnonzero(expected >= least)) <= set(ids), (name, count)


def test_the_screen_saves_most_rows(tier, rng):
    rows, columns = 8192, 512
    weights = stored(rng.standard_normal((rows, columns)) * 0.05, "BF16")
    head = ScreenedHead(weights, "BF16", 1)
    hidden = rng.standard_normal(columns).astype(np.float32)
    ids, _ = head.likeliest(hidden[None], None, 1e-5, Workspace(1))[0]
    assert len(ids) < rows / 50


def test_margin_reaches_below_the_likeliest(tier, rng):
    weights = stored(rng.standard_normal((3000, 100)) * 0.1, "F32")
    hidden = rng.standard_normal(100).astype(np.float32)
    expected = full_head(hidden, None, weights, "F32")
    ids, _ = ScreenedHead(weights, "F32", 1).likeliest(
        hidden[None], None, 1e-5, Workspace(1), 1, 1.5
    )[0]
    assert set(np.flatnonzero(expected >= expected.max() - 1.5)) <= set(ids)


def test_equal_rows_are_all_there(tier, rng):
    row = rng.standard_normal(64).astype(np.float32)
    weights = np.vstack([row * np.float32(0.5)] * 40 + [row] * 3 + [row * np.float32(0.5)] * 40)
    hidden = row.copy()
    ids, logits = ScreenedHead(weights, "F32", 1).likeliest(hidden[None], None, 1e-5, Workspace(1))[
        0
    ]
    assert {40, 41, 42} <= set(ids)
    assert len(np.unique(logits[np.isin(ids, [40, 41, 42])])) == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_where_bounds_fail_all_rows_are_computed(tier, rng, bad):
    weights = rng.standard_normal((50, 32)).astype(np.float32)
    hidden = rng.standard_normal(32).astype(np.float32)
    hidden[3] = bad
    ids, _ = ScreenedHead(weights, "F32", 1).likeliest(hidden[None], None, 1e-5, Workspace(1))[0]
    assert len(ids) == 50
    weights[7, 7] = bad
    ones = np.ones(32, np.float32)
    expected = full_head(ones, None, weights, "F32")
    ids, logits = ScreenedHead(weights, "F32", 1).likeliest(ones[None], None, 1e-5, Workspace(1))[0]
    assert np.array_equal(logits, expected[ids], equal_nan=True)
    assert 7 in ids


def codes_of(head: ScreenedHead, rows: int, columns: int) -> tuple[np.ndarray, np.ndarray]:
    """What kernels.h says of a screen: scales s (rows, groups) and codes k (rows, 64 * groups)."""
    groups = (columns + 63) // 64
    blocks = head.blocks.reshape(len(head.blocks), -1)
    scales = blocks[:, : 64 * groups].reshape(-1, groups, 64).transpose(0, 2, 1)
    # block, group, tile of 16 rows, four columns by four, line, row, byte
    packed = blocks[:, 64 * groups :].reshape(-1, groups, 4, 4, 3, 16, 4)
    high = packed >> 6
    fourth = high[..., 0, :, :] | high[..., 1, :, :] << 2 | high[..., 2, :, :] << 4
    lines = np.concatenate([packed & 63, fourth[..., None, :, :]], axis=-3)
    codes = lines.transpose(0, 2, 5, 1, 3, 4, 6).reshape(-1, 64 * groups)
    return scales.reshape(-1, groups)[:rows], codes[:rows].astype(np.int64) - 32


def stood_for(head: ScreenedHead, rows: int, columns: int) -> np.ndarray:
    """The weights that codes and scales stand for: float64 (rows, columns)."""
    scales, codes = codes_of(head, rows, columns)
    steps = head.stats[0, :rows, None].astype(np.float64) * scales
    return (np.repeat(steps, 64, axis=1) * codes)[:, :columns]


def hard_weights(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Rows of many kinds: at borders of rounding, one huge weight, groups of all sizes."""
    plain = rng.standard_normal((rows, columns))
    borders = rng.choice([-1.0, 1.0, 0.5 / 31.5, 30.5 / 31.5, -0.5 / 31.5, 0.0], (rows, columns))
    huge = plain * 0.01
    huge[:, columns // 2] = 50.0
    sizes = plain * 10.0 ** -((np.arange(columns) // 64) % 9)
    kinds = np.stack([plain, borders, huge, sizes, np.ones_like(plain), np.zeros_like(plain)])
    weights = kinds[np.arange(rows) % len(kinds), np.arange(rows)]
    return (weights * rng.lognormal(0, 2, (rows, 1))).astype(np.float32)


@pytest.mark.parametrize(("rows", "columns"), [(64, 64), (6, 3), (130, 999), (70, 320)])
def test_norms_say_what_codes_leave_out(rng, rows, columns):
    weights = hard_weights(rng, rows, columns)
    head = ScreenedHead(weights, "F32", 1)
    meant = stood_for(head, rows, columns)
    errors = np.linalg.norm(weights - meant, axis=1)
    norms = np.linalg.norm(meant, axis=1)
    _, error_bounds, norm_bounds = head.stats[:, :rows].astype(np.float64)
    assert (errors <= error_bounds).all()
    assert (norms <= norm_bounds).all()
    size = np.linalg.norm(weights, axis=1)
    assert (error_bounds <= 0.05 * size + 1e-15).all()  # six bits are of some use
    assert (norm_bounds <= 1.06 * size + 1e-15).all()
    padding = head.stats[1, rows:]
    assert np.isinf(padding).all()
    assert len(padding) == -rows % 64


def test_a_small_group_beside_a_large_one_keeps_its_bits(rng):
    weights = rng.standard_normal((64, 128)).astype(np.float32)
    weights[:, 64:] *= np.float32(0.02)
    meant = stood_for(ScreenedHead(weights, "F32", 1), 64, 128)
    small = np.linalg.norm((weights - meant)[:, 64:]) / np.linalg.norm(weights[:, 64:])
    assert small < 0.05  # a scale a row would leave out nearly all


@pytest.mark.parametrize("tokens", [1, 2, 3, 4, 5, 6, 7, 25])
@pytest.mark.parametrize(("rows", "columns"), [(130, 999), (70, 64), (64, 4)])
def test_bounds_hold_for_every_row(tier, rng, rows, columns, tokens):
    """The honest bounds themselves, against float64, and no wider than their definition."""
    weights = hard_weights(rng, rows, columns)
    kinds = list(hidden_states(rng, columns).values())
    kinds.append(rng.choice([1.0, -1.0, 0.49, 1e-3], columns).astype(np.float32))
    head = ScreenedHead(weights, "F32", 1)
    # the worst case: a hidden state along what a row's codes leave out
    left_out = weights - stood_for(head, rows, columns)
    kinds += [(left_out[row] / np.abs(left_out[row]).max()).astype(np.float32) for row in (0, 1, 2)]
    kinds = kinds[::-1]
    usable = [x for x in kinds if 1e-9 < np.abs(x).max() < 1e10]
    hidden = np.stack([usable[i % len(usable)] for i in range(tokens)])
    workspace = Workspace(1)
    head.likeliest(hidden, None, 1e-5, workspace)
    lower, upper = head.bounds(workspace)
    exact = hidden.astype(np.float64) @ weights.astype(np.float64).T
    assert (lower <= exact).all()
    assert (exact <= upper).all()
    size = np.linalg.norm(hidden.astype(np.float64), axis=1)[:, None]
    # eight bits of the hidden state: half a step in a group of up to 64 columns
    widest = (head.stats[1, :rows] + head.stats[2, :rows] * (0.5 * 8 / 127 + 1e-4)) * size
    assert (upper - lower <= 2.001 * widest + 1e-5 * np.abs(exact) + 1e-12).all()


@pytest.mark.parametrize("tokens", [1, 3, 7])
def test_bounds_hold_where_the_rest_of_the_hidden_state_is_along_a_row(tier, tokens):
    """The other worst case: codes leave out little of the weights, all roundings of x add up."""
    columns = 640
    weights = np.ones((3, columns), np.float32)
    weights[1] *= -1
    hidden = np.full((tokens, columns), 0.49, np.float32)
    hidden[:, ::64] = 127.0  # so that a step is 1
    head = ScreenedHead(weights, "F32", 1)
    workspace = Workspace(1)
    head.likeliest(hidden, None, 1e-5, workspace)
    lower, upper = head.bounds(workspace)
    exact = hidden.astype(np.float64) @ weights.astype(np.float64).T
    assert (lower <= exact).all()
    assert (exact <= upper).all()


def test_logits_of_the_screen_are_those_of_its_codes(tier, rng):
    """With a hidden state that int8 holds exactly: the dot product of what codes stand for."""
    rows, columns = 200, 300
    weights = hard_weights(rng, rows, columns)
    head = ScreenedHead(weights, "F32", 1)
    hidden = rng.integers(-127, 128, (9, columns)).astype(np.float32)
    hidden[:, ::64] = 127.0
    for n in (1, 2, 4, 9):
        workspace = Workspace(1)
        head.likeliest(hidden[:n], None, 1e-5, workspace)
        lower, upper = head.bounds(workspace)
        middle = (lower.astype(np.float64) + upper) / 2
        meant = hidden[:n].astype(np.float64) @ stood_for(head, rows, columns).T
        size = np.linalg.norm(weights, axis=1) * np.linalg.norm(hidden[:n], axis=1)[:, None]
        assert (np.abs(middle - meant) <= 1e-6 * size).all()  # float32 sums


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_the_largest_sums_do_not_overflow(tier, sign):
    """All codes and activations at their ends, at the most columns there may be."""
    columns = MAX_SCREEN_COLUMNS
    weights = np.full((3, columns), sign, np.float32)
    weights[1] *= -1
    weights[2, ::2] *= -1
    hidden = np.full((5, columns), 1.0, np.float32)
    head = ScreenedHead(weights, "F32", 1)
    for n in (1, 5):
        workspace = Workspace(1)
        found = head.likeliest(hidden[:n], None, 1e-5, workspace)
        lower, upper = head.bounds(workspace)
        exact = np.array([sign, -sign, 0.0]) * columns
        assert (lower <= exact).all()
        assert (exact <= upper).all()
        assert (upper - lower <= 0.1 * columns).all()
        best = 0 if sign > 0 else 1
        for ids, logits in found:
            assert list(ids) == [best]
            assert logits[0] == columns


def test_too_many_columns_are_refused():
    weights = np.zeros((1, MAX_SCREEN_COLUMNS + 1), np.float32)
    with pytest.raises(ValueError, match=f"{MAX_SCREEN_COLUMNS + 1} columns"):
        ScreenedHead(weights, "F32", 1)
    with pytest.raises(ValueError, match=f"{MAX_SCREEN_COLUMNS + 1} columns"):
        packing.pack_screen(weights, "F32", 1)


def test_candidates_are_those_whose_bounds_reach_exact_logits(tier, rng):
    """No more rows than the bounds and the logits of the wanted rows leave in question."""
    rows, columns = 5000, 256
    weights = stored(rng.standard_normal((rows, columns)) * 0.05, "F32")
    head = ScreenedHead(weights, "F32", 1)
    hidden = rng.standard_normal((6, columns)).astype(np.float32)
    for count in (1, 20):
        workspace = Workspace(2)
        found = head.likeliest(hidden, None, 1e-5, workspace, count)
        lower, upper = head.bounds(workspace)
        for token, (ids, _) in enumerate(found):
            threshold = np.sort(lower[token])[-count]
            assert set(ids) <= set(np.flatnonzero(upper[token] >= threshold))
            expected = full_head(hidden[token], None, weights, "F32")
            reached = np.sort(expected)[-count]
            assert set(np.flatnonzero(upper[token] >= reached)) <= set(ids)
            widest = (upper[token] - lower[token]).max()
            assert (upper[token][ids] >= reached - widest).all()


def test_every_tier_finds_the_same_rows(rng):
    weights = hard_weights(rng, 700, 200)
    hidden = rng.standard_normal((7, 200)).astype(np.float32)
    before, found = cpu.current_tier(), []
    try:
        for tier in cpu.available_tiers():
            cpu.use_tier(tier)
            head = ScreenedHead(weights, "F32", 1)
            workspace = Workspace(1)
            likeliest = head.likeliest(hidden, None, 1e-5, workspace, 3)
            found.append(
                [ids.tolist() for ids, _ in likeliest]
                + [b.tobytes() for b in head.bounds(workspace)]
            )
    finally:
        cpu.use_tier(before)
    assert all(other == found[0] for other in found)


def test_packing_is_the_same_for_any_number_of_threads(rng):
    weights = rng.standard_normal((100, 30)).astype(np.float32)
    one, two = (packing.pack_screen(weights, "F32", n) for n in (1, 2))
    assert (one[0] == two[0]).all()
    assert (one[1] == two[1]).all()


def test_several_hidden_states_as_each_alone(tier, rng):
    weights = rng.standard_normal((700, 90)).astype(np.float32)
    head = ScreenedHead(weights, "F32", 1)
    hidden = rng.standard_normal((7, 90)).astype(np.float32)
    together = head.likeliest(hidden, None, 1e-5, Workspace(2), 3)
    for i in range(7):
        ((ids, logits),) = head.likeliest(hidden[i : i + 1], None, 1e-5, Workspace(1), 3)
        assert (together[i][0] == ids).all()
        assert (together[i][1] == logits).all()


@pytest.mark.parametrize(
    ("rows", "hidden"),
    [
        ([[1e32, 0.0], [9e29, 0.0]], [1e-3, 0.0]),  # rows beyond what codes can hold
        ([[2.0**-89, 0.0], [2.0**-90, 0.0]], [2.0**-60, 0.0]),  # subnormal products
        ([[1e-30, 1e-30], [2e-30, -1e-30], [-1.0, 0.0]], [1.0, 1.0]),  # rows of next to nothing
        ([[1.0, 1.0], [2.0, 0.0]], [1e20, 1e19]),
        ([[1e19, 1.0], [1e19, 2.0]], [1e14, 1e14]),
        ([[0.0, 0.0], [-1e-38, 0.0]], [1.0, 1.0]),
    ],
)
def test_extreme_magnitudes(tier, rows, hidden):
    weights, x = np.array(rows, np.float32), np.array(hidden, np.float32)
    expected = full_head(x, None, weights, "F32")
    ((ids, logits),) = ScreenedHead(weights, "F32", 1).likeliest(x[None], None, 1e-5, Workspace(1))
    assert expected.argmax() in ids
    assert (logits == expected[ids]).all()


def test_weights_that_are_not_finite_are_known(rng):
    weights = rng.standard_normal((40, 8)).astype(np.float32)
    assert ScreenedHead(weights, "F32", 1).finite
    for bad in (np.nan, np.inf):
        spoilt = weights.copy()
        spoilt[33, 5] = bad
        assert not ScreenedHead(spoilt, "F32", 1).finite


@pytest.mark.parametrize(("stat", "value"), [(0, -1.0), (0, np.nan), (1, np.nan), (2, np.nan)])
def test_a_stored_screen_that_cannot_be_is_refused(rng, stat, value):
    """A NaN would pass unseen through comparisons of bounds, and rows with it."""
    weights = rng.standard_normal((100, 64)).astype(np.float32)
    blocks, stats = packing.pack_screen(weights, "F32", 1)
    ScreenedHead(weights, "F32", 1, packed=(blocks, stats))
    stats[stat, 77] = value
    with pytest.raises(ValueError, match="negative, NaN or infinite"):
        ScreenedHead(weights, "F32", 1, packed=(blocks, stats))


def test_what_packing_gives_can_always_be_stored_and_taken_again(rng):
    """Aligned wherever the allocator happens to put it."""
    weights = rng.standard_normal((100, 64)).astype(np.float32)
    held = []  # keeps memory in use, so that addresses differ
    for size in range(1, 60):
        held.append(np.empty(size, np.uint8))
        blocks, stats = packing.pack_screen(weights, "F32", 1)
        assert blocks.ctypes.data % 64 == stats.ctypes.data % 64 == 0
        held.append(stats)
        ScreenedHead(weights, "F32", 1, packed=(blocks, stats))


def test_weights_that_do_not_fit_their_stored_screen_are_refused(rng):
    weights = rng.standard_normal((40, 64)).astype(np.float32)
    packed = packing.pack_screen(weights, "F32", 1)
    for wrong in (weights.astype(np.float16), np.asfortranarray(weights), weights[:0]):
        with pytest.raises(ValueError, match="weights of"):
            ScreenedHead(wrong, "F32", 1, packed=packed)


def listed(rng, rows, share):
    """Some of the rows, in order."""
    return np.flatnonzero(rng.random(rows) < share)


@pytest.mark.parametrize(("rows", "columns"), [(17, 16), (1000, 67), (4096, 256)])
@pytest.mark.parametrize("share", [0.001, 0.3, 1.0])
def test_named_rows_are_there_and_count_as_none_of_the_likeliest(tier, rng, rows, columns, share):
    weights = stored(rng.standard_normal((rows, columns)) * 0.05, "BF16")
    head = ScreenedHead(weights, "BF16", 2)
    hidden = rng.standard_normal((3, columns)).astype(np.float32)
    also = [listed(rng, rows, share), None, np.array([0])]
    counts = [5, 2, 1]
    found = head.likeliest(hidden, None, 1e-5, Workspace(2), counts, 0.0, also)
    for row, named, count, (ids, logits) in zip(hidden, also, counts, found, strict=True):
        expected = full_head(row, None, weights, "BF16")
        assert (np.diff(ids) > 0).all()
        assert (logits.view(np.uint32) == expected[ids].view(np.uint32)).all()
        named = np.array([], int) if named is None else named
        others = np.setdiff1d(np.arange(rows), named)
        best = others[np.argsort(-expected[others], kind="stable")[:count]]
        assert {*named, *best} <= set(ids)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_only_allowed_rows_are_found(tier, rng, share):
    weights = stored(rng.standard_normal((3000, 96)) * 0.05, "F16")
    head = ScreenedHead(weights, "F16", 2)
    hidden = rng.standard_normal((2, 96)).astype(np.float32)
    mask = rng.random(3000) < share
    found = head.likeliest(hidden, None, 1e-5, Workspace(2), 4, 0.0, None, [mask, None])
    expected = full_head(hidden[0], None, weights, "F16")
    ids, logits = found[0]
    assert mask[ids].all()
    assert (logits == expected[ids]).all()
    allowed = np.flatnonzero(mask)
    assert set(allowed[np.argsort(-expected[allowed], kind="stable")[:4]]) <= set(ids)
    alone = head.likeliest(hidden[1:], None, 1e-5, Workspace(1), 4)[0]
    assert all((a == b).all() for a, b in zip(found[1], alone, strict=True))


def test_where_bounds_fail_all_allowed_rows_are_computed(tier, rng):
    weights = rng.standard_normal((50, 32)).astype(np.float32)
    hidden = np.full((1, 32), np.nan, np.float32)
    mask, also = np.arange(50) % 3 == 0, np.array([1, 2])
    ids, _ = ScreenedHead(weights, "F32", 1).likeliest(
        hidden, None, 1e-5, Workspace(1), 1, 0.0, [also], [mask]
    )[0]
    assert set(ids) == {1, 2, *np.flatnonzero(mask)}


def test_each_hidden_state_has_its_own_count_and_margin(tier, rng):
    weights = rng.standard_normal((2000, 64)).astype(np.float32)
    head = ScreenedHead(weights, "F32", 1)
    hidden = rng.standard_normal((3, 64)).astype(np.float32)
    counts, margins = [1, 30, 700], [9.0, 0.0, 0.5]
    together = head.likeliest(hidden, None, 1e-5, Workspace(1), counts, margins)
    for i in range(3):
        (alone,) = head.likeliest(
            hidden[i : i + 1], None, 1e-5, Workspace(1), counts[i], margins[i]
        )
        expected = full_head(hidden[i], None, weights, "F32")
        wanted = set(np.argsort(-expected)[: counts[i]])
        wanted |= set(np.flatnonzero(expected >= expected.max() - np.float32(margins[i])))
        assert wanted <= set(together[i][0])
        assert (together[i][0] == alone[0]).all()
        assert (together[i][1] == alone[1]).all()


@pytest.mark.parametrize("kind", ["F32", "BF16", "F16"])
def test_logits_of_named_rows_alone(tier, rng, kind):
    weights = stored(rng.standard_normal((500, 77)) * 0.1, kind)
    hidden = rng.standard_normal((3, 77)).astype(np.float32)
    norm = rng.standard_normal(77).astype(np.float32)
    ids = [listed(rng, 500, 0.3), np.array([], int), np.array([499, 0, 7])]
    for weight in (norm, None):
        found = row_logits(hidden, weight, 1e-5, weights, kind, ids, Workspace(2))
        for row, named, logits in zip(hidden, ids, found, strict=True):
            expected = full_head(row, weight, weights, kind)[named]
            assert (logits.view(np.uint32) == expected.view(np.uint32)).all()


def test_rows_that_are_none_are_refused(rng):
    weights = rng.standard_normal((50, 32)).astype(np.float32)
    hidden, head = np.zeros((1, 32), np.float32), ScreenedHead(weights, "F32", 1)
    for ids in (np.array([50]), np.array([-1]), np.array([3, 2]), np.array([2, 2])):
        with pytest.raises(ValueError, match="in ascending order and from 0 to 49"):
            head.likeliest(hidden, None, 1e-5, Workspace(1), 1, 0.0, [ids])
    for ids in (np.array([50]), np.array([-1])):
        with pytest.raises(ValueError, match="from 0 to 49, the last of the 50 rows"):
            row_logits(hidden, None, 1e-5, weights, "F32", [ids], Workspace(1))
    for mask in (np.ones(49, bool), np.ones(50, np.uint8)):
        with pytest.raises(ValueError, match=r"must be bool of shape \(50,\)"):
            head.likeliest(hidden, None, 1e-5, Workspace(1), 1, 0.0, None, [mask])
