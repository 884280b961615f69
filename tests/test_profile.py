"""`BitNetModel.profile()`: which operations ran, how often, and what they cost. No test looks at
how fast anything is."""

from __future__ import annotations

import json
import math
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_model import CONFIG, prompt, write_small_model
from spoilt import refuses

from ryzanstein_llm import BitNetModel, bench, cli
from ryzanstein_llm.bench.cases import FirstToken
from ryzanstein_llm.errors import ClosedError, InvalidParameterError
from ryzanstein_llm.models import plan
from ryzanstein_llm.profiling import Limits, Profile
from ryzanstein_llm.sampling import Sampler, SamplingParams

LAYERS, HIDDEN, FFN = 2, 120, 200
Q, KV, VOCABULARY = 3 * 40, 40, 301
PROJECTIONS = {
    "qkv": HIDDEN * (Q + 2 * KV),
    "o": Q * HIDDEN,
    "gate_up": 2 * HIDDEN * FFN,
    "down": FFN * HIDDEN,
}


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_small_model(tmp_path_factory.mktemp("small"))


@pytest.fixture(scope="module", params=[1, 2])
def model(small: Path, request: pytest.FixtureRequest) -> Iterator[BitNetModel]:
    with BitNetModel(small, n_threads=request.param) as opened:
        yield opened


def generated(model: BitNetModel, length: int, new: int) -> Profile:
    """A profile of a new session that reads a prompt and generates, with nothing kept before."""
    model.engine.clear()
    with model.session() as session, model.profile() as profile:
        session.generate(prompt(length), max_tokens=new, ignore_eos=True, return_result=True)
    return profile


def test_passes_and_tokens_are_those_of_prompt_and_decoding(model: BitNetModel) -> None:
    profile = generated(model, 700, 5)
    # prompts go through in passes of 512; the first new token needs no pass of its own
    assert (profile.prompt.passes, profile.prompt.tokens) == (2, 700)
    assert (profile.decode.passes, profile.decode.tokens) == (4, 4)
    assert [phase.name for phase in profile.phases] == ["prompt", "decode"]


def test_every_step_of_a_pass_is_called_once_a_layer(model: BitNetModel) -> None:
    decode = generated(model, 20, 5).decode
    calls = {operation.name: operation.calls for operation in decode.operations}
    once = dict.fromkeys(("qkv", "rope_append", "attention", "attention_combine", "o"), 4 * LAYERS)
    assert calls == {
        "norm_quantize": 4 * 4 * LAYERS,
        **once,
        "gate_up": 4 * LAYERS,
        "down": 4 * LAYERS,
        "head_norm": 4,
        "head_screen": 4,
        "head_rescore": 4 * 4,  # the best rows, their logits, the threshold, the rows that reach it
        "fork": 4 * 2,  # all layers, the head
        "layers_outside": 0,
        "head_outside": 0,
        "sampling": 0,
    }


def test_times_are_parts_of_the_whole(model: BitNetModel) -> None:
    profile = generated(model, 300, 10)
    for phase in profile.phases:
        assert phase.seconds == sum(operation.seconds for operation in phase.operations)
        for operation in phase.operations:
            assert 0 <= operation.wait_seconds <= operation.seconds
    inside = sum(phase.seconds for phase in profile.phases)
    assert 0 < inside < profile.seconds
    assert profile.rest_seconds == pytest.approx(profile.seconds - inside)


def test_kernels_take_what_the_workspace_counts(small: Path) -> None:
    """Two clocks of the same regions: by operation, and as a whole."""
    with BitNetModel(small, n_threads=2) as model:
        before = model.engine._workspace.kernel_seconds
        profile = generated(model, 300, 10)
        regions = model.engine._workspace.kernel_seconds - before
    python = ("fork", "layers_outside", "head_outside", "sampling")
    steps = sum(
        operation.seconds
        for phase in profile.phases
        for operation in phase.operations
        if operation.name not in python
    )
    # the operations have the join besides
    assert steps >= 0.99 * regions
    assert steps <= profile.seconds


# ---- multiply-adds and bytes -------------------------------------------------------------------


def test_multiply_adds_of_projections_are_rows_times_columns(model: BitNetModel) -> None:
    profile = generated(model, 700, 5)
    for phase, tokens in ((profile.prompt, 700), (profile.decode, 4)):
        for name, elements in PROJECTIONS.items():
            operation = phase.operation(name)
            assert operation.multiply_adds == tokens * LAYERS * elements
            assert operation.kind == "int8"


def test_multiply_adds_of_attention_are_those_of_causal_pairs(model: BitNetModel) -> None:
    """q.k and the weighted sum of v, for each position at or before the query's own."""
    profile = generated(model, 700, 5)
    pairs = [sum(range(1, 701)), sum(range(701, 705))]
    for phase, expected in zip(profile.phases, pairs, strict=True):
        attention = phase.operation("attention")
        assert attention.multiply_adds == LAYERS * 2 * expected * Q
        assert attention.kind == "float"


def test_bytes_of_decoding_are_weights_cache_and_activations(model: BitNetModel) -> None:
    decode = generated(model, 300, 2).decode
    layers = model.graph.layers
    weights = {
        "qkv": sum(m.nbytes for layer in layers for m in (layer.q, layer.k, layer.v)),
        "o": sum(layer.o.nbytes for layer in layers),
        "gate_up": sum(layer.gate.nbytes + layer.up.nbytes for layer in layers),
        "down": sum(layer.down.nbytes for layer in layers),
    }
    # codes in; floats out, which are read too where a residual is added
    activations = {
        "qkv": HIDDEN + 4 * (Q + 2 * KV),
        "o": Q + 8 * HIDDEN,
        "gate_up": HIDDEN + 4 * FFN,
        "down": FFN + 8 * HIDDEN,
    }
    for name, expected in weights.items():
        assert decode.operation(name).bytes == expected + LAYERS * activations[name]
    cache = 301 * model.info()["kv_bytes_per_token"]
    assert decode.operation("attention").bytes == cache + LAYERS * 2 * 4 * Q


def test_the_head_is_the_screen_and_the_rows_it_leaves(model: BitNetModel) -> None:
    decode = generated(model, 20, 9).decode
    screen, rows = decode.operation("head_screen"), decode.operation("head_rescore")
    assert screen.multiply_adds == 8 * VOCABULARY * HIDDEN
    assert screen.bytes == 8 * (model.graph.head.screen_bytes + HIDDEN + 4 * VOCABULARY)
    found = rows.multiply_adds / HIDDEN
    assert 8 <= found < 8 * VOCABULARY
    assert rows.bytes == found * 2 * HIDDEN  # bfloat16


def test_all_logits_take_the_whole_head(model: BitNetModel) -> None:
    with model.profile() as profile:
        model.forward(prompt(70))
    head = profile.prompt.operation("head")
    assert head.calls == 2  # 64 rows at a time
    assert head.multiply_adds == 70 * VOCABULARY * HIDDEN
    matrix = 2 * VOCABULARY * HIDDEN
    assert head.bytes == 2 * matrix + 4 * 70 * (HIDDEN + VOCABULARY)
    assert not profile.decode.passes


def test_what_skipping_spares_is_not_counted(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "SKIPPING_PAYS", 1)
    with BitNetModel(small, n_threads=2) as model:
        cache, workspace = model.new_cache(), model.engine._workspace
        model.forward(prompt(20), cache)
        before = workspace.skipping
        with model.profile() as profile:
            model.forward([5], cache, logits="last")
        counted = [now - then for now, then in zip(workspace.skipping, before, strict=True)]
        matrices = model.graph.layers[0]
    rows, rows_seen, columns, columns_seen = counted
    assert (rows_seen, columns_seen) == (LAYERS * FFN, LAYERS * FFN)
    assert 0 < columns <= rows < rows_seen
    decode = profile.decode
    assert decode.operation("gate").multiply_adds == LAYERS * HIDDEN * FFN
    assert decode.operation("up").multiply_adds == rows * HIDDEN
    assert decode.operation("down").multiply_adds == columns * HIDDEN
    weights = rows * matrices.up.nbytes / FFN
    assert decode.operation("up").bytes == weights + LAYERS * (HIDDEN + 8 * FFN)
    assert "gate_up" not in [operation.name for operation in decode.operations]


def test_several_sequences_in_a_pass_are_decoding(model: BitNetModel) -> None:
    engine = model.engine
    sequences = [
        engine.sequence(
            prompt(length), Sampler(SamplingParams()), max_tokens=2, listener=FirstToken()
        )
        for length in (10, 20, 30)
    ]
    engine.advance(*sequences, to_end=False)
    with model.profile() as profile:
        engine.advance(*sequences, to_end=True)
    assert (profile.decode.passes, profile.decode.tokens) == (1, 3)
    attention = profile.decode.operation("attention")
    assert attention.multiply_adds == LAYERS * 2 * (11 + 21 + 31) * Q
    assert profile.decode.operation("qkv").multiply_adds == 3 * LAYERS * PROJECTIONS["qkv"]


# ---- the block ---------------------------------------------------------------------------------


def test_only_the_block_is_counted_and_nothing_stays_switched_on(model: BitNetModel) -> None:
    model.forward(prompt(10))
    before = model.engine._workspace.operations
    with model.profile() as profile:
        model.forward(prompt(10))
    after = model.engine._workspace.operations
    model.forward(prompt(10))
    assert model.engine._workspace.operations == after != before
    assert profile.prompt.tokens == 10
    assert not model.engine._workspace.profiling


def test_results_do_not_depend_on_it(model: BitNetModel) -> None:
    expected = model.forward(prompt(70))
    with model.profile():
        found = model.forward(prompt(70))
    assert np.array_equal(found.view(np.uint32), expected.view(np.uint32))


def test_profiles_may_overlap(model: BitNetModel) -> None:
    first, second = model.profile(), model.profile()
    with first:
        model.forward(prompt(10))
        second.__enter__()
        model.forward(prompt(20))
    model.forward(prompt(30))
    second.__exit__(None, None, None)
    assert (first.prompt.tokens, second.prompt.tokens) == (30, 50)


def test_passes_of_other_threads_are_counted(model: BitNetModel) -> None:
    with model.profile() as profile:
        worker = threading.Thread(target=model.forward, args=(prompt(10),))
        worker.start()
        worker.join()
    assert profile.prompt.tokens == 10


def test_an_error_in_the_block_ends_the_profile(model: BitNetModel) -> None:
    with pytest.raises(KeyError), model.profile():
        raise KeyError
    assert not model.engine._workspace.profiling


def test_a_profile_does_not_keep_the_weights(small: Path) -> None:
    model = BitNetModel(small, n_threads=1)
    with model.profile() as profile:
        model.forward(prompt(10))
    graph = weakref.ref(model.graph)
    model.close()
    assert graph() is None
    assert profile.prompt.tokens == 10


def test_a_closed_model_has_none(small: Path) -> None:
    model = BitNetModel(small, n_threads=1)
    model.close()
    with pytest.raises(ClosedError):
        model.profile()


# ---- what is shown -----------------------------------------------------------------------------


def test_the_table_has_shares_rates_and_limits(model: BitNetModel) -> None:
    profile = generated(model, 20, 5)
    text = profile.text()
    for title in ("gemm q, k, v", "attention, softmax", "head: screen", "sampling"):
        assert title in text
    assert "prompt: 1 pass, 20 tokens" in text
    assert "decode: 4 passes, 4 tokens" in text
    assert "of limit" not in text
    decode = profile.decode
    rate = decode.operation("o").bytes / decode.operation("o").seconds
    limited = profile.text(Limits(2 * rate, 1e12))
    assert max(map(len, limited.splitlines())) <= 80
    *_, line = [line for line in limited.splitlines() if line.startswith("  gemm o")]
    assert "50.0%" in line
    shares = [float(line.split("%")[0].split()[-1]) for line in text.splitlines() if "%" in line]
    assert sum(shares[:-1]) == pytest.approx(200, abs=3)  # two phases


def test_the_json_form_has_everything(model: BitNetModel) -> None:
    profile = generated(model, 20, 5)
    found = json.loads(json.dumps(profile.to_dict()))
    assert [phase["tokens"] for phase in found["phases"]] == [20, 4]
    operations = {entry["name"]: entry for entry in found["phases"][1]["operations"]}
    decode = profile.decode
    assert operations["qkv"]["multiply_adds"] == decode.operation("qkv").multiply_adds
    assert found["phases"][1]["seconds"] == decode.seconds
    with pytest.raises(KeyError, match="no operation 'head' in this decode"):
        decode.operation("head")


def test_the_command_line_shows_it_after_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["generate", "Once upon a time", "--max-tokens", "8", "--threads", "1"]
    assert cli.main(command) == 0
    plain = capsys.readouterr()
    assert cli.main([*command, "--profile"]) == 0
    profiled = capsys.readouterr()
    assert profiled.out == plain.out
    assert plain.err == ""
    assert "decode: 7 passes, 7 tokens" in profiled.err


def test_limits_can_be_measured_by_themselves() -> None:
    found = bench.measure_limits(1, read_bytes=1 << 22, seconds=0.002)
    assert found.bytes_per_second > 0
    assert found.multiply_adds_per_second > 0


@pytest.mark.parametrize("seconds", [0, -1, math.nan, "0.1"])
def test_limits_take_time(seconds: Any) -> None:
    with refuses(InvalidParameterError, "seconds", seconds):
        bench.measure_limits(1, read_bytes=1 << 20, seconds=seconds)


def test_the_small_model_is_what_this_file_says() -> None:
    assert (CONFIG["num_hidden_layers"], CONFIG["hidden_size"]) == (LAYERS, HIDDEN)
    assert (CONFIG["intermediate_size"], CONFIG["vocab_size"]) == (FFN, VOCABULARY)
