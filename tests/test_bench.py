"""`ryzanstein_llm.bench`: what is measured, in which order, what follows from it, and that wrong
outputs give no figures. No test looks at how fast anything is."""

from __future__ import annotations

import errno
import json
import os
import subprocess
from pathlib import Path
from statistics import median

import numpy as np
import pytest
from reference import write_random_family

from ryzanstein_llm import BitNetModel, bench
from ryzanstein_llm.bench import machine, memory, start
from ryzanstein_llm.bench.cases import Measured, Sampled, Sequences, prompt
from ryzanstein_llm.bench.figures import Spread, make_rows
from ryzanstein_llm.bench.measured_engine import MeasuredEngine
from ryzanstein_llm.bench.plan import Setting, make_plan
from ryzanstein_llm.bench.requests import SAMPLED
from ryzanstein_llm.bench.schedule import Sample, measure_rounds
from ryzanstein_llm.bench.traffic import (
    Densities,
    Traffic,
    bytes_per_token,
)
from ryzanstein_llm.errors import BenchError, CheckpointNotFoundError, InvalidParameterError
from ryzanstein_llm.interfaces.head_query import Candidates
from ryzanstein_llm.kernels import cpu
from ryzanstein_llm.models import plan
from ryzanstein_llm.profiling.costs import projection_multiply_adds
from ryzanstein_llm.system import threads as system_threads
from ryzanstein_llm.testing import make_checkpoint, preset_config, tensor_shapes


@pytest.fixture(scope="module")
def report() -> bench.BenchReport:
    """The demo model on one and two threads."""
    return bench.run(
        n_threads=[1, 2], contexts=[16, 300], prefill=[8, 32], batches=[1, 3], quick=True
    )


CASES = [
    "read", "decode at 16", "decode at 300", "top-p at 16", "multiply", "projections of 32",
    "prefill of 8", "prefill of 32", "1 sequences", "3 sequences",
]  # fmt: skip


@pytest.fixture(scope="module")
def skipping() -> bench.BenchReport:
    """The demo model, as if its rows were long enough for skipping."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plan, "SKIPPING_PAYS", 1)
        return bench.run(n_threads=[1, 2], contexts=[16, 300], prefill=[8], batches=[1], quick=True)


# ---- what is measured, and in which order ------------------------------------------------------


def test_repetitions_are_interleaved(report: bench.BenchReport) -> None:
    """A B C A B C: every case on one thread and on two, then the next; then all again."""
    found = [(sample.round, sample.case, sample.threads) for sample in report.samples]
    assert found == [(n, case, threads) for n in (0, 1) for case in CASES for threads in (1, 2)]


def test_there_is_a_row_for_each_case_and_setting(report: bench.BenchReport) -> None:
    tier = cpu.current_tier()
    found = [(row.case, row.tier, row.threads) for row in report.rows]
    assert found == [(case, tier, threads) for case in CASES for threads in (1, 2)]
    assert report.row("decode at 300", threads=2).size == 300
    with pytest.raises(KeyError, match="decode at 7"):
        report.row("decode at 7")


def test_amounts_are_what_was_done(report: bench.BenchReport) -> None:
    tokens, nbytes = report.options["tokens"], report.options["read_bytes"]
    for sample in report.samples:
        if sample.kind == "read":
            assert sample.amount % nbytes == 0
        elif sample.kind in ("decode", "sampled"):
            assert sample.amount == tokens
        elif sample.kind == "prefill":
            assert sample.amount == sample.size
        elif sample.kind == "batch":
            assert sample.amount == tokens * sample.size
        assert sample.seconds > 0
        assert sample.rate == sample.amount / sample.seconds


def test_kernel_time_is_part_of_the_time(report: bench.BenchReport) -> None:
    for sample in report.samples:
        if sample.kind in ("read", "multiply"):
            assert sample.kernel_seconds is None
        else:
            assert 0 < sample.kernel_seconds < sample.seconds


def test_the_screen_leaves_few_rows(report: bench.BenchReport) -> None:
    for sample in report.samples:
        if sample.kind in ("decode", "sampled", "batch"):
            assert sample.amount <= sample.head_rows < sample.amount * report.model["vocab_size"]
        else:
            assert sample.head_rows == 0


def test_several_tiers_take_turns_and_the_one_in_use_is_kept() -> None:
    before, tiers = cpu.current_tier(), cpu.available_tiers()
    found = bench.run(tiers=tiers, n_threads=1, repetitions=1, batches=[1], quick=True)
    assert [sample.tier for sample in found.samples] == tiers * 7
    assert found.check is not None
    assert [setting["tier"] for setting in found.check["settings"]] == tiers
    assert cpu.current_tier() == before


def test_all_tiers_are_those_worth_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    """The scalar tier takes minutes for a prompt, and is measured by name, or if there is no
    other."""
    for available, expected in (
        (["amx", "avx2", "scalar"], ["amx", "avx2"]),
        (["scalar"], ["scalar"]),
    ):
        monkeypatch.setattr(cpu, "available_tiers", lambda tiers=available: tiers)
        plan = make_plan(1, "all")
        assert [setting.tier for setting in plan.settings] == expected


def test_threads_are_by_default_as_many_as_a_model_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """A small model has one, whatever the machine has, in the benchmark too."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(system_threads, "_allowed_cpus", lambda: set(range(8)))
    monkeypatch.setattr(system_threads, "cpu_quota", lambda root: None)
    assert system_threads.choose_threads().count > 1
    found = bench.run(repetitions=1, batches=[1], sampled="none", quick=True)
    assert {sample.threads for sample in found.samples} == {1}
    assert found.check is not None
    assert {setting["threads"] for setting in found.check["settings"]} == {1}
    assert {setting["threads"] for setting in found.options["settings"]} == {1}


@pytest.fixture(scope="module")
def sampled() -> bench.BenchReport:
    """All requests beside greedy ones, on one thread, in all tiers."""
    return bench.run(
        n_threads=1, tiers=cpu.available_tiers(), contexts=[300, 16], prefill=[8], batches=[1],
        sampled=SAMPLED, quick=True,
    )  # fmt: skip


def test_each_request_has_a_row_in_each_tier(sampled: bench.BenchReport) -> None:
    """After the shortest context, next to the greedy tokens that it is compared with."""
    rows = [row for row in sampled.rows if row.kind == "sampled"]
    assert [(row.case, row.tier) for row in rows] == [
        (f"{name} at 16", tier) for name in SAMPLED for tier in cpu.available_tiers()
    ]
    for row in rows:
        pairs = zip(values(sampled, row), values(sampled, row, "decode at 16"), strict=True)
        assert row.relative == Spread.of(a / b for a, b in pairs)


def test_requests_are_in_the_text_and_explained(sampled: bench.BenchReport) -> None:
    text = sampled.text()
    assert max(map(len, text.splitlines())) <= 80
    title = "decode, one sequence, sampled or with changed logits"
    table = text.partition(title)[2].partition("ternary projections alone")[0]
    row = sampled.row("repetition-penalty at 16")
    assert row.relative is not None
    for name, request in SAMPLED.items():
        assert name in table
        assert f"{name}: {request.title}" in " ".join(text.split())
    assert f"{row.relative.median:.2f}" in table
    assert "x greedy" in table


def test_greedy_requests_alone_on_demand() -> None:
    found = bench.run(n_threads=1, repetitions=1, batches=[1], sampled="none", quick=True)
    assert not [row for row in found.rows if row.kind == "sampled"]
    assert "x greedy" not in found.text()


def test_only_logprobs_have_the_tokens_of_greedy_requests() -> None:
    """They are compared with each other under the same names."""
    with BitNetModel(n_threads=1) as model:
        engine, sequences = MeasuredEngine(model.engine, 1), Sequences(model, 16)
        greedy = sequences.measure(1, 4, engine)
        for name in SAMPLED:
            found = Sampled(model, sequences, name, 4).measure(engine, 1)
            if name == "logprobs":
                assert found.output == greedy.output
                assert found.counters is not None
                assert found.counters.head_rows == 4 * model.vocab_size
            else:
                assert not found.output.keys() & greedy.output.keys()


# ---- figures follow from samples ---------------------------------------------------------------


def values(report: bench.BenchReport, row: bench.Row, case: str | None = None) -> list[float]:
    """Rates of a case under a row's setting, round after round."""
    wanted = (case or row.case, row.tier, row.threads)
    return [s.rate for s in report.samples if (s.case, s.tier, s.threads) == wanted]


def test_rates_and_their_range(report: bench.BenchReport) -> None:
    for row in report.rows:
        rates = values(report, row)
        assert (row.rate.median, row.rate.low, row.rate.high) == (
            median(rates), min(rates), max(rates),
        )  # fmt: skip


def test_seconds_are_of_a_token_a_prompt_or_a_pass(report: bench.BenchReport) -> None:
    for row in report.rows:
        if row.kind not in ("read", "multiply"):
            amount = 1 if row.kind in ("decode", "sampled") else row.size
            assert row.seconds.low == pytest.approx(amount / row.rate.high)


def test_the_limit_of_decoding_is_bandwidth(report: bench.BenchReport) -> None:
    for row in report.rows:
        if row.kind == "decode":
            limits = [rate / row.traffic.total for rate in values(report, row, "read")]
            shares = [a / b for a, b in zip(values(report, row), limits, strict=True)]
            assert row.limit == Spread.of(limits)
            assert row.limit_share == Spread.of(shares)


def test_the_limit_of_the_rest_is_arithmetic(report: bench.BenchReport) -> None:
    for row in report.rows:
        if row.kind in ("gemm", "prefill", "batch"):
            peaks = values(report, row, "multiply")
            limits = [rate / report.model["multiply_adds"] for rate in peaks]
            shares = [a / b for a, b in zip(values(report, row), limits, strict=True)]
            assert row.limit_share == Spread.of(shares)
        elif row.kind == "sampled":
            assert row.limit is row.limit_share is row.traffic is None
        elif row.kind in ("read", "multiply"):
            assert row.limit is row.limit_share is row.outside_kernels is None


def test_threads_are_compared_with_the_fewest(report: bench.BenchReport) -> None:
    for case in CASES:
        one, two = (report.row(case, threads=threads) for threads in (1, 2))
        pairs = zip(values(report, two), values(report, one), strict=True)
        assert one.scaling is None
        assert two.scaling == Spread.of(b / a for b, a in pairs)


def test_decoding_is_compared_with_one_sequence_at_the_shortest_context(
    report: bench.BenchReport,
) -> None:
    for row in report.rows:
        if row.kind in ("batch", "sampled") or row.case == "decode at 300":
            pairs = zip(values(report, row), values(report, row, "decode at 16"), strict=True)
            assert row.relative == Spread.of(a / b for a, b in pairs)
        else:
            assert row.relative is None


def test_shares_are_taken_within_a_round() -> None:
    """A machine that is half as fast in the second round shows the same share."""
    samples = [
        Sample("read", "read", 0, "t", 1, n, seconds, 100) for n, seconds in enumerate((1, 2))
    ] + [
        Sample("decode at 4", "decode", 4, "t", 1, n, seconds, 5, kernel_seconds=0.75 * seconds)
        for n, seconds in enumerate((1, 2))
    ]
    _, row = make_rows(samples, 1, lambda sample: Traffic(8, 1, 0, 1, Densities()))
    assert row.rate == Spread(3.75, 2.5, 5)
    assert row.limit_share == Spread(0.5, 0.5, 0.5)
    assert row.outside_kernels == Spread(0.25, 0.25, 0.25)


def test_bytes_of_a_token_are_counted_from_the_weights(report: bench.BenchReport) -> None:
    config = preset_config("tales-6m")
    shapes = tensor_shapes(config)
    products = sum(a * b for name, (a, *rest) in shapes.items() if "proj" in name for b in rest)
    with BitNetModel() as model:
        graph, layout = model.graph, model.new_cache().layout
        assert projection_multiply_adds(graph) == products == report.model["multiply_adds"]
        traffic = bytes_per_token(graph, layout, 10, 2.5, Densities())
        hidden, vocabulary = config["hidden_size"], config["vocab_size"]
        assert products / 4 <= traffic.ternary < 1.1 * products / 4  # two bits, and padding
        weights = hidden * vocabulary
        assert 6 / 8 * weights <= traffic.head < 1.1 * 6 / 8 * weights  # six bits, and scales
        assert traffic.head_rows == 2.5 * 2 * hidden  # bfloat16
        assert traffic.cache == 10 * model.info()["kv_bytes_per_token"]
        parts = (traffic.ternary, traffic.head, traffic.head_rows, traffic.cache)
        assert traffic.total == sum(parts)
        graph.head.screen = None
        full = bytes_per_token(graph, layout, 10, vocabulary, Densities())
        assert (full.head, full.head_rows) == (2 * hidden * vocabulary, 0)


def test_a_decoded_token_reads_the_cache_up_to_itself(report: bench.BenchReport) -> None:
    """After one untimed token, four are timed: of 300 they attend to 302..305."""
    per_position = report.model["kv_bytes_per_token"]
    assert report.row("decode at 300").traffic.cache == 303.5 * per_position


def test_skipped_rows_and_columns_are_not_counted(skipping: bench.BenchReport) -> None:
    """The trained demo model opens few gates, and most activations round to zero."""
    dense, found = skipping.row("dense decode at 16").traffic, skipping.row("decode at 16").traffic
    assert dense.densities == Densities()
    assert 0 < found.densities.columns < found.densities.rows < 0.5
    with BitNetModel(skipping=True) as model:
        spared = 0.0
        for layer in model.graph.layers:
            spared += (1 - found.densities.rows) * layer.up.nbytes
            spared += (1 - found.densities.columns) * layer.down.nbytes
            whole = sum(matrix.nbytes for matrix in layer.matrices) * len(model.graph.layers)
    assert found.ternary == pytest.approx(whole - spared)
    assert (found.head, found.cache) == (dense.head, dense.cache)


def test_skipping_is_held_against_reading_all(skipping: bench.BenchReport) -> None:
    for threads in (1, 2):
        row, decode = (skipping.row(f"{kind}decode at 16", threads=threads)
                       for kind in ("dense ", ""))  # fmt: skip
        pairs = zip(values(skipping, decode), values(skipping, row), strict=True)
        assert row.relative == Spread.of(a / b for a, b in pairs)
        assert row.limit_share is not None
    assert "the same, nothing skipped" in skipping.text()


def test_a_model_with_nothing_to_skip_has_no_such_row(report: bench.BenchReport) -> None:
    assert not [row for row in report.rows if row.kind == "dense"]
    assert report.row("decode at 16").traffic.densities == Densities()
    assert "nothing skipped" not in report.text()


# ---- outputs -----------------------------------------------------------------------------------


def test_the_check_names_what_was_compared(report: bench.BenchReport) -> None:
    tier = cpu.current_tier()
    assert report.check is not None
    assert report.check["settings"] == [{"tier": tier, "threads": n} for n in (1, 2)]
    assert (report.check["prompt_tokens"], len(report.check["tokens"])) == (32, 8)
    with BitNetModel() as model:
        ids = model.generate(
            prompt(model, 32), max_tokens=8, ignore_eos=True, return_result=True
        ).ids
    assert report.check["tokens"] == ids


def test_one_bit_of_one_logit_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(MeasuredEngine):
        def last_logits(self, cache, ids, cancel):
            logits = super().last_logits(cache, ids, cancel)
            if self._workspace.n_threads == 2:
                logits[-1] = np.nextafter(logits[-1], np.float32(np.inf))
            return logits

    monkeypatch.setattr(bench.benchmark, "MeasuredEngine", Wrong)
    # the scalar run has as many threads as the most of the settings
    with pytest.raises(BenchError, match=r"output differs.* 1 of 4096 last logits, the first 4095"):
        bench.run(n_threads=[2, 1], quick=True)


def test_a_wrong_token_of_a_setting_fails_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(MeasuredEngine):
        def _compute(self, shares):
            found, shift = super()._compute(shares), int(self._workspace.n_threads == 1)
            return [
                (share, [Candidates(each.ids + shift, each.logits) for each in answers])
                for share, answers in found
            ]

    monkeypatch.setattr(bench.benchmark, "MeasuredEngine", Wrong)
    with pytest.raises(BenchError, match=r"output differs.*tokens"):
        bench.run(n_threads=[1, 2], quick=True)
    with pytest.raises(BenchError, match=r"context 16, sequence 0, token 0: .* 2 threads"):
        bench.run(n_threads=[1, 2], quick=True, scalar_check=False)


def test_a_batch_must_give_the_tokens_of_one_sequence(monkeypatch: pytest.MonkeyPatch) -> None:
    class Wrong(MeasuredEngine):
        def _compute(self, shares):
            found, shift = super()._compute(shares), int(len(shares) > 1)
            return [
                (share, [Candidates(each.ids + shift, each.logits) for each in answers])
                for share, answers in found
            ]

    monkeypatch.setattr(bench.benchmark, "MeasuredEngine", Wrong)
    with pytest.raises(BenchError, match=r"sequence 0, token 0: .* in 2 sequences"):
        bench.run(n_threads=1, batches=[1, 2], quick=True)


def test_a_drawn_token_must_be_that_of_the_whole_vocabulary(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A head that gives too few candidates: the greedy tokens are right, and drawn ones are not."""

    class Wrong(MeasuredEngine):
        def _compute(self, shares):
            return [
                (share, [self._largest(each) for each in answers])
                for share, answers in super()._compute(shares)
            ]

        def _largest(self, candidates: Candidates) -> Candidates:
            place = int(candidates.logits.argmax())
            ids = np.arange(len(candidates.logits)) if candidates.ids is None else candidates.ids
            return Candidates(ids[place : place + 1], candidates.logits[place : place + 1])

    monkeypatch.setattr(bench.benchmark, "MeasuredEngine", Wrong)
    run = {"n_threads": 1, "batches": [1], "contexts": [16], "repetitions": 1, "quick": True}
    assert bench.run(**run, sampled="none").rows
    with pytest.raises(BenchError, match=r"token \d: .* in temperature at 16, .* whole vocabulary"):
        bench.run(**run, sampled="temperature")


def test_a_repetition_must_give_what_the_first_gave() -> None:
    class Case:
        name, kind, size, calls = "unsteady", "decode", 1, 0

        def measure(self, runner, n_threads):
            self.calls += 1
            return Measured(1.0, 1, output={"token": self.calls // 4})

    with pytest.raises(BenchError, match="output differs: token: 1 in unsteady"):
        measure_rounds([Case()], [Setting("t", 1)], 5, lambda _: None, lambda _: None, lambda: None)


def test_the_first_round_is_not_recorded() -> None:
    class Case:
        name, kind, size = "steady", "prefill", 1

        def measure(self, runner, n_threads):
            return Measured(1.0, 1)

    events: list[str] = []
    samples = measure_rounds(
        [Case()],
        [Setting("t", 1)],
        2,
        lambda _: None,
        events.append,
        lambda: events.append("between"),
    )
    assert events == ["steady", "steady", "between", "steady", "between"]
    assert [sample.round for sample in samples] == [0, 1]


def test_without_the_scalar_check() -> None:
    found = bench.run(n_threads=1, repetitions=1, batches=[1], quick=True, scalar_check=False)
    assert found.check is None
    assert "not compared with the scalar tier" in " ".join(found.text().split())


# ---- starting, memory, machine -----------------------------------------------------------------


def test_each_round_starts_a_process(report: bench.BenchReport) -> None:
    assert len(report.starts) == report.options["repetitions"]
    with BitNetModel() as model:
        expected = model.generate(
            prompt(model, 16), max_tokens=64, ignore_eos=True, return_result=True
        ).ids
    for found in report.starts:
        assert found.tokens == expected
        assert found.load_seconds > 0
        assert found.tokenizer_seconds > 0
    without = [s.load_seconds - s.tokenizer_seconds for s in report.starts]
    assert report.load_seconds_without_tokenizer == Spread.of(without)


@pytest.mark.skipif(not Path("/proc/self/smaps_rollup").exists(), reason="needs Linux")
def test_memory_is_that_of_the_fresh_process(report: bench.BenchReport) -> None:
    for found in report.starts:
        assert found.memory is not None
        assert found.memory["private"] + found.memory["mapped"] == found.memory["rss"]
        assert found.peak_bytes >= 0.9 * found.memory["rss"]  # the kernel counts in batches
        # not of this process, which holds far more
        assert found.memory["private"] < 200e6


def test_memory_is_read_from_proc(tmp_path: Path) -> None:
    rollup = tmp_path / "smaps_rollup"
    rollup.write_text(
        "55d0-7ffc ---p 00000000 00:00 0    [rollup]\nRss:     100 kB\nPss:  90 kB\n"
        "Anonymous:  30 kB\nPrivate_Clean: 5 kB\nPrivate_Dirty: 28 kB\nShared_Clean: 60 kB\n"
    )
    found = memory.memory_in_use(rollup)
    assert found is not None
    assert (found["private"], found["mapped"]) == (30 * 1024, 70 * 1024)
    assert memory.memory_in_use(tmp_path / "none") is None
    assert memory.peak_memory(tmp_path / "none") is None


def test_a_process_that_fails_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="CheckpointNotFoundError"):
        start.measure_start(tmp_path / "gone", Setting("scalar", 1), "float32", "2bit", 4)


def test_a_process_that_cannot_be_started_is_an_error(tmp_path: Path, monkeypatch) -> None:
    def refuse(*_: object, **options: object) -> None:
        raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(start.subprocess, "Popen", refuse)
    with pytest.raises(BenchError, match=r"cannot be started: .*Resource temporarily unavailable"):
        start.measure_start(tmp_path, Setting("scalar", 1), "float32", "2bit", 4)


def test_the_machine_card(monkeypatch: pytest.MonkeyPatch) -> None:
    card = machine.machine_card()
    assert card["features"] == list(cpu.features())
    assert card["cores_allowed"] >= 1
    assert card["cpu"]
    monkeypatch.setenv("RYZANSTEIN_COMMIT", "abc123")
    assert machine.machine_card()["commit"] == "abc123"


def test_the_commit_is_that_of_a_source_tree(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RYZANSTEIN_COMMIT", raising=False)
    monkeypatch.setattr(machine, "PACKAGE", tmp_path / "ryzanstein_llm")
    assert machine._commit() is None  # an installed package has none
    identity = {
        f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    (tmp_path / "file").write_text("1")
    try:
        for command in (["init", "-q"], ["add", "file"], ["commit", "-q", "-m", "one"]):
            subprocess.run(
                ["git", "-C", str(tmp_path), *command], check=True, env={**os.environ, **identity}
            )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git")
    commit = machine._commit()
    assert commit is not None
    assert len(commit) == 40
    (tmp_path / "file").write_text("2")
    assert machine._commit() == f"{commit}+"


# ---- presets and options -----------------------------------------------------------------------


def test_a_preset_has_random_weights_that_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen: list[str] = []
    found = bench.run(
        preset="tiny",
        sparse_gates=0.2,
        n_threads=1,
        kv_dtype="int8",
        weight_format="1.6bit",
        repetitions=1,
        quick=True,
        progress=lambda done, total, what: seen.append(what),
    )
    assert found.model["name"] == "tiny"
    assert found.model["random_weights"]
    assert found.model["sparse_gates"] == 0.2
    assert found.model["kv_dtype"] == "int8"
    assert found.model["weight_format"] == "1.6bit"
    assert list(dict.fromkeys(seen))[:2] == ["writing random weights", "loading weights"]
    assert seen[-1] == "starting a process"
    assert list(tmp_path.iterdir()) == []


def test_a_preset_may_be_kept(tmp_path: Path) -> None:
    folder = tmp_path / "kept"
    bench.run(preset="tiny", keep=folder, n_threads=1, repetitions=1, quick=True)
    found = bench.run(folder, n_threads=1, repetitions=1, quick=True)
    assert found.model["name"] == "kept"
    assert not found.model["random_weights"]


def test_progress_counts_every_measurement() -> None:
    seen: list[tuple[int, int]] = []
    bench.run(
        n_threads=1, repetitions=2, quick=True,
        progress=lambda done, total, what: seen.append((done, total)),
    )  # fmt: skip
    measured = seen[-26:]
    assert measured == [(n + 1, 26) for n in range(26)]  # eight cases thrice, two starts


def test_defaults_suit_the_model() -> None:
    plan = make_plan(1)
    assert plan.contexts_for(4096) == (16, 1024, 4000)
    assert plan.contexts_for(512) == (16, 416)
    assert plan.contexts_for(20) == (2,)
    assert plan.prefill_for(4096) == (32, 128, 512)
    assert plan.prefill_for(100) == (32,)
    assert plan.batches_for(4096) == (1, 2, 4, 8, 16)
    assert plan.batches_for(20) == ()
    assert plan.sampled == (
        "top-p", "temperature", "repetition-penalty", "logit-bias", "logprobs",
    )  # fmt: skip
    assert plan.read_bytes >= 512 << 20
    assert plan.repetitions >= 3


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"n_threads": [1, 0]}, "n_threads"),
        ({"n_threads": []}, "n_threads"),
        ({"tiers": "abacus"}, "tiers"),
        ({"contexts": [0]}, "contexts"),
        ({"contexts": [510]}, "contexts"),
        ({"contexts": 5.5}, "contexts"),
        ({"prefill": [513]}, "prefill"),
        ({"batches": [0]}, "batches"),
        ({"tiers": ["all", "scalar"]}, "tiers"),
        ({"sampled": "beam"}, "sampled"),
        ({"sampled": ["none", "top-p"]}, "sampled"),
        ({"sampled": []}, "sampled"),
        ({"repetitions": 0}, "repetitions"),
        ({"kv_dtype": "int3"}, "kv_dtype"),
        ({"preset": "nine"}, "nine"),
        ({"preset": "tiny", "path": "there"}, "there"),
        ({"sparse_gates": 0.2}, "sparse_gates"),
        ({"keep": "there"}, "keep"),
    ],
)
def test_bad_options_are_named(options: dict, named: str) -> None:
    with pytest.raises(InvalidParameterError, match=named):
        bench.run(**options, quick=True)


def test_a_missing_model_is_named() -> None:
    with pytest.raises(CheckpointNotFoundError, match="nowhere"):
        bench.run("/nowhere", quick=True)


# ---- what comes out ----------------------------------------------------------------------------


def test_the_report_is_json_with_everything(report: bench.BenchReport) -> None:
    found = json.loads(json.dumps(report.to_dict()))
    assert len(found["samples"]) == len(report.samples) == 2 * 2 * len(CASES)
    assert {"cpu", "features", "os", "python", "numpy", "version", "commit"} <= {*found["machine"]}
    decode = next(row for row in found["rows"] if row["case"] == "decode at 16")
    assert decode["traffic"]["total"] == report.row("decode at 16").traffic.total
    assert decode["limit_share"].keys() == {"median", "low", "high"}
    assert found["options"]["settings"][1]["threads"] == 2


def test_tables_are_aligned_and_carry_units(report: bench.BenchReport) -> None:
    text = report.text()
    for unit in ("GB/s", "GMAC/s", "tokens/s", "ms/token", "MB/token", "MBU", "of int8 peak"):
        assert unit in text
    assert "too short" in text
    for table in text.split("\n\n"):
        title, *rows = table.splitlines()
        if rows and rows[0].startswith("  tier"):
            assert len({len(row) for row in rows if row.endswith(rows[0][-1])}) <= 2
            assert len(rows) > 2
            assert title
    assert not any(line != line.rstrip() for line in text.splitlines())


def test_tables_fit_80_columns_and_drop_no_column(report: bench.BenchReport) -> None:
    """A table that is too wide comes in parts, each of which says what its rows are about."""
    lines = report.text().splitlines()
    assert max(map(len, lines)) <= 80
    begin = lines.index("decode, one sequence, greedy") + 1
    decode = lines[begin : lines.index("decode, one sequence, sampled or with changed logits")]
    headings = [line.split() for line in decode if line.startswith("  tier")]
    assert len(headings) > 1
    assert all(heading[:3] == ["tier", "threads", "context"] for heading in headings)
    for column in ("tokens/s", "ms/token", "MB/token", "limit", "MBU", "outside", "scaling"):
        assert sum(column in heading for heading in headings) == 1
    row = report.row("decode at 16", threads=2)
    shares = (100 * share for share in (row.limit_share.median, row.outside_kernels.median))
    for share in shares:
        assert any(f"{share:.1f}" in line for line in decode)


# ---- starts with and without packed weights on disk --------------------------------------------


def test_both_ways_of_starting(tmp_path: Path) -> None:
    """For a model that is large enough to have its packed weights kept."""
    config = preset_config("tiny") | {"vocab_size": 240_000, "hidden_size": 192, "head_dim": 48}
    cache = tmp_path / "cache"
    path = make_checkpoint(tmp_path / "model", config, tokenizer=False)
    report = bench.run(
        path, n_threads=1, repetitions=1, batches=[1], quick=True, scalar_check=False,
        packed_cache=cache,
    )  # fmt: skip
    packing, mapping = report.starts
    assert (packing.mapped, mapping.mapped) == (False, True)
    assert packing.tokens == mapping.tokens
    assert report.model["mapped_weights"]
    assert report.load_seconds.median == packing.load_seconds
    assert report.mapped_load_seconds is not None
    assert report.mapped_load_seconds.median == mapping.load_seconds
    found = json.loads(json.dumps(report.to_dict()))
    without = mapping.load_seconds - mapping.tokenizer_seconds
    assert found["mapped_load_seconds_without_tokenizer"]["median"] == without
    assert "mapping packed weights" in " ".join(report.text().split())
    if mapping.memory is not None and packing.memory is not None:
        size = sum(file.stat().st_size for file in cache.glob("*.packed.safetensors"))
        assert size >= 32 << 20
        assert packing.memory["private"] - mapping.memory["private"] > 0.8 * size


def test_a_model_with_scales_of_groups_is_measured_too(tmp_path: Path) -> None:
    write_random_family(tmp_path, "qwen3", "group64", ternary_embedding=True)
    report = bench.run(tmp_path, n_threads=1, repetitions=1, prefill=[8], batches=[1], quick=True)
    assert report.model["weight_format"] == "groups64"
    assert [len(start.tokens) > 0 for start in report.starts] == [True]


def test_a_model_without_packed_weights_on_disk_starts_one_way(report: bench.BenchReport) -> None:
    assert not any(start.mapped for start in report.starts)
    assert report.mapped_load_seconds is None
    assert report.to_dict()["mapped_load_seconds"] is None
    assert "mapping packed weights" not in " ".join(report.text().split())
