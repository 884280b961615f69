"""The one model of costs, held against numbers that were worked out by hand from the config of the
small model (tests/small_model.py): hidden 120, three query heads and one of keys of 40, 200 wide,
two layers, 301 tokens."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_model import write_small_model

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.bench.traffic import Densities, bytes_per_token
from ryzanstein_llm.profiling.costs import (
    Cost,
    candidate_costs,
    head_costs,
    layer_costs,
    projection_multiply_adds,
)

POSITION = 2 * 2 * 40 * 2  # keys and values of two layers in bfloat16


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("small"))


def opened(path: Path, *, skipping: bool = False) -> BitNetModel:
    return BitNetModel(
        path, n_threads=1, kv_dtype="bfloat16", weight_format="2bit", skipping=skipping
    )


def test_layers_of_one_token_after_ten_positions(small: Path) -> None:
    with opened(small) as model:
        graph, layout = model.graph, model.new_cache().layout
        costs = layer_costs(graph, layout, [(1, 10)], (0, 0, 0, 0))
        layer = graph.layers[0]
        codes = {
            "qkv": layer.q.read_bytes + layer.k.read_bytes + layer.v.read_bytes,
            "o": layer.o.read_bytes,
            "gate_up": layer.gate.read_bytes + layer.up.read_bytes,
            "down": layer.down.read_bytes,
        }
    # two bits a weight, and padding to tiles
    assert 2 * 120 * (120 + 2 * 40) / 8 <= codes["qkv"] <= 2 * 128 * (128 + 2 * 48) / 8
    assert costs == {
        "norm_quantize": Cost(2 * 560 * 4, 0, 2 * 560 * 5),
        "qkv": Cost(2 * codes["qkv"], 0, 2 * (120 + 200 * 4), 2 * 24_000),
        "rope_append": Cost(0, 320, 2 * 4 * 360),
        "attention": Cost(0, 11 * 320, 2 * 2 * 120 * 4, 2 * 2 * 11 * 120),
        "o": Cost(2 * codes["o"], 0, 2 * (120 + 240 * 4), 2 * 14_400),
        "gate_up": Cost(2 * codes["gate_up"], 0, 2 * (120 + 200 * 4), 2 * 48_000),
        "down": Cost(2 * codes["down"], 0, 2 * (200 + 240 * 4), 2 * 24_000),
    }
    assert costs["attention"].bytes == 3520 + 1920


def test_attention_of_a_prompt_counts_causal_pairs(small: Path) -> None:
    """Three tokens after ten positions see 11, 12 and 13; one after none sees itself."""
    with opened(small) as model:
        layout = model.new_cache().layout
        costs = layer_costs(model.graph, layout, [(3, 10), (1, 0)], (0, 0, 0, 0))
    assert costs["attention"].multiply_adds == 2 * 2 * (11 + 12 + 13 + 1) * 120
    assert costs["attention"].cache == (13 + 1) * POSITION


def test_the_head_as_a_whole_and_by_the_screen(small: Path) -> None:
    with opened(small) as model:
        graph = model.graph
        screen = graph.head.screen_bytes
        assert head_costs(graph, 3) == {
            "head_norm": Cost(activations=2 * 3 * 120 * 4),
            "head": Cost(301 * 120 * 2, 0, 3 * (120 + 301) * 4, 3 * 301 * 120),
        }
        costs = candidate_costs(graph, ["screen", "rows", "full"], [5, 2, 301])
    assert costs == {
        "head_norm": Cost(activations=2 * 120 * 4 + 2 * 120 * 9),
        "head": Cost(301 * 120 * 2, 0, (120 + 301) * 4, 301 * 120),
        "head_rescore": Cost(7 * 120 * 2, 0, 0, 7 * 120),
        "head_screen": Cost(screen, 0, 120 + 4 * 301, 301 * 120),
    }


def test_projections_of_a_token_are_the_same_whether_weights_are_skipped_or_not(
    small: Path,
) -> None:
    for skipping in (False, True):
        with opened(small, skipping=skipping) as model:
            assert projection_multiply_adds(model.graph) == 2 * (24_000 + 14_400 + 72_000)


def test_bench_counts_the_bytes_of_weights_and_cache_that_a_profile_counts(small: Path) -> None:
    """All of them but norms, activations and the keys and values that the token adds."""
    with opened(small) as model:
        graph, layout = model.graph, model.new_cache().layout
        found = bytes_per_token(graph, layout, 10.5, 2.25, Densities())
        read = sum(matrix.read_bytes for layer in graph.layers for matrix in layer.matrices)
        assert found.ternary == read
        assert found.cache == 10.5 * POSITION
        assert (found.head, found.head_rows) == (graph.head.screen_bytes, 2.25 * 120 * 2)
        assert found.total == read + 10.5 * POSITION + graph.head.screen_bytes + 540
        graph.head.screen = None
        found = bytes_per_token(graph, layout, 10.5, 2.25, Densities())
        assert (found.head, found.head_rows) == (301 * 120 * 2, 0)


def test_bench_leaves_out_what_was_skipped(small: Path) -> None:
    with opened(small, skipping=True) as model:
        graph, layout = model.graph, model.new_cache().layout
        found = bytes_per_token(graph, layout, 1, 1, Densities(rows=0.25, columns=0.5))
        expected = 0.0
        for layer in graph.layers:
            others = (layer.q, layer.k, layer.v, layer.o, layer.gate)
            expected += sum(matrix.read_bytes for matrix in others)
            expected += layer.up.read_bytes / 4 + layer.down.read_bytes / 2
    assert found.ternary == expected
