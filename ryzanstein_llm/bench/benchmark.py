"""One run: make or open the model, check it, measure it, and put the figures together."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import BenchError, InvalidParameterError
from ..kernels import cpu
from ..model import BitNetModel
from ..models import WEIGHT_FORMATS
from ..profiling.costs import projection_multiply_adds
from ..testing import make_checkpoint, preset_config
from ..validation import check_callable
from .cases import Batch, Case, Decode, DenseDecode, Gemm, Prefill, Sampled, Sequences
from .check import check_against_scalar
from .figures import make_rows
from .limits import MultiplyLimit, ReadLimit
from .machine import machine_card
from .measured_engine import MeasuredEngine
from .plan import BATCH_CONTEXT, Plan, Setting, make_plan
from .report import BenchReport
from .schedule import Sample, measure_rounds
from .start import Start, measure_start
from .traffic import Traffic, bytes_per_token

__all__ = ["run"]

Progress = Callable[[int, int, str], None]


def run(
    path: str | os.PathLike[str] | None = None,
    *,
    preset: str | None = None,
    sparse_gates: float | None = None,
    keep: str | os.PathLike[str] | None = None,
    n_threads: int | Iterable[int] | None = None,
    tiers: str | Iterable[str] | None = None,
    kv_dtype: str | None = None,
    weight_format: str | None = None,
    contexts: Iterable[int] | None = None,
    prefill: Iterable[int] | None = None,
    batches: Iterable[int] | None = None,
    sampled: str | Iterable[str] | None = None,
    repetitions: int | None = None,
    quick: bool = False,
    scalar_check: bool = True,
    packed_cache: bool | str | os.PathLike[str] = True,
    progress: Progress | None = None,
) -> BenchReport:
    """Measure a model against the limits of this machine. For a large model this takes minutes.

    While it runs, no other model of the process may compute, because it switches tiers and needs
    the whole machine.

    Parameters
    ----------
    path : path, optional
        As for `BitNetModel`; None for the built-in demo model.
    preset : str, optional
        Instead of a path: a name in `testing.PRESETS`. Its checkpoint is written with random
        weights to a temporary directory, and removed afterwards.
    sparse_gates : float, optional
        With a preset: the share of positive gates; see `testing.make_checkpoint`.
    keep : path, optional
        With a preset: write the checkpoint to this directory, and keep it.
    n_threads : int or several, optional
        Default: what `BitNetModel` chooses for this model.
    tiers : str or several, optional
        Default: the tier in use. "all": every tier of this CPU except scalar, which only checks the
        others. All tiers read weights in the format that suits the one in use.
    kv_dtype : "float32", "bfloat16" or "int8", optional
    weight_format : "2bit", "1.6bit" or "table", optional
        Default: what `BitNetModel` would choose with the tier in use.
    contexts : ints, optional
        Positions in the cache when decoding begins. Default: those of 16, 1024, and 96 less than
        the model's context that fit.
    prefill : ints, optional
        Lengths of prompts. Default: those of 32, 128 and 512 that fit.
    batches : ints, optional
        Sequences in one pass. Default: 1, 2, 4, 8, 16.
    sampled : str or several, optional
        Requests that are measured beside greedy ones: "top-p" (0.95, at temperature 0.7),
        "temperature" (0.7), "repetition-penalty" (1.1), "logit-bias" (of two tokens), "logprobs"
        (the five likeliest), or "none". Default: all of them.
    repetitions : int, optional
        Number of rounds. Default: 5.
    quick : bool
        Use fewer and shorter defaults, to try the benchmark. The figures say little about the
        machine.
    scalar_check : bool
        Whether to compare a short run with the scalar tier first.
    packed_cache : bool or path
        As for `BitNetModel`. True with a preset: a temporary directory.
    progress : callable (done, total, what), optional

    Raises
    ------
    BenchError
        If the outputs of settings, repetitions or cases differ. There are no figures then.
    InvalidParameterError
        If an option is out of range.
    """
    check_callable("progress", progress)
    plan = make_plan(
        n_threads,
        tiers,
        contexts=contexts,
        prefill=prefill,
        batches=batches,
        sampled=sampled,
        repetitions=repetitions,
        quick=quick,
    )
    if preset is None and not (sparse_gates is None and keep is None):
        raise InvalidParameterError("is needed for sparse_gates and keep", "preset")
    if preset is not None and path is not None:
        problem = f"{preset!r} and the path {os.fspath(path)!r} exclude each other"
        raise InvalidParameterError(problem, "preset")
    # both keys are always there, so that programs need not check for them
    facts: dict[str, Any] = {"random_weights": preset is not None, "sparse_gates": sparse_gates}
    with contextlib.ExitStack() as stack:
        if preset is not None:
            path = stack.enter_context(_random_checkpoint(preset, sparse_gates, keep, progress))
            if packed_cache is True:
                packed_cache = stack.enter_context(_temporary_directory())
        model = stack.enter_context(
            BitNetModel(
                path,
                n_threads=None if n_threads is None else plan.fastest.threads,
                kv_dtype=kv_dtype,
                weight_format=weight_format,
                packed_cache=packed_cache,
                progress=progress,
            )
        )
        if n_threads is None:
            plan = plan.on_threads(model.n_threads)
        facts["name"] = preset or ("demo" if path is None else model.path.name)
        stack.callback(cpu.use_tier, cpu.current_tier())
        dense = _dense_engines(stack, model, path, plan, progress)
        path = None if path is None else Path(path)
        return _measure(model, dense, path, plan, quick, scalar_check, facts, progress)


def _dense_engines(
    stack: contextlib.ExitStack,
    model: BitNetModel,
    path: str | os.PathLike[str] | None,
    plan: Plan,
    progress: Progress | None,
) -> dict[int, MeasuredEngine]:
    """Engines by number of threads, for a copy of the weights that is read as a whole. Empty if the
    model has nothing to skip."""
    layouts = {matrix.layout for layer in model.graph.layers for matrix in layer.matrices}
    if not layouts & {"rows", "columns", "trit_rows", "trit_columns"}:
        return {}
    whole = stack.enter_context(
        BitNetModel(
            path,
            n_threads=model.n_threads,
            kv_dtype=model.kv_dtype,
            weight_format=model.graph.weight_format,
            skipping=False,
            packed_cache=False,
            progress=progress,
        )
    )
    return {s.threads: MeasuredEngine(model.engine, s.threads, whole.graph) for s in plan.settings}


@contextlib.contextmanager
def _random_checkpoint(
    preset: str,
    sparse_gates: float | None,
    keep: str | os.PathLike[str] | None,
    progress: Progress | None,
) -> Iterator[Path]:
    preset_config(preset)  # an unknown name is refused before anything is written

    def written(done: int, total: int) -> None:
        if progress is not None:
            progress(done, total, "writing random weights")

    with contextlib.ExitStack() as stack:
        folder = keep
        if folder is None:
            folder = stack.enter_context(_temporary_directory())
        yield make_checkpoint(folder, preset, sparse_gates=sparse_gates, progress=written)


def _temporary_directory() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="ryzanstein-bench-")


def _measure(
    model: BitNetModel,
    dense: dict[int, MeasuredEngine],
    path: Path | None,
    plan: Plan,
    quick: bool,
    scalar_check: bool,
    facts: dict[str, Any],
    progress: Progress | None,
) -> BenchReport:
    graph = model.graph
    engines = {s.threads: MeasuredEngine(model.engine, s.threads) for s in plan.settings}
    cases = _cases(model, plan, dense)
    # scales of groups have a layout of their own, and leave no choice
    weight_format = graph.weight_format if graph.weight_format in WEIGHT_FORMATS else None
    # both ways of starting, if there are two
    caches = [None] if model.packed_file is None else [None, model.packed_file.parent]
    total = len(cases) * len(plan.settings) * (plan.repetitions + 1)
    total += len(caches) * plan.repetitions
    done = 0
    starts: list[Start] = []

    def use(setting: Setting) -> MeasuredEngine:
        cpu.use_tier(setting.tier)
        return engines[setting.threads]

    def step(what: str) -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total, what)

    def start_afresh() -> None:
        for cache in caches:
            start = measure_start(
                path,
                plan.fastest,
                model.kv_dtype,
                weight_format,
                plan.start_tokens,
                cache,
            )
            if start.mapped is (cache is None):
                raise BenchError(f"a fresh process did not map {model.packed_file}")
            starts.append(start)
            step("starting a process")

    check = check_against_scalar(model, plan, use) if scalar_check else None
    samples = measure_rounds(cases, plan.settings, plan.repetitions, use, step, start_afresh)
    layout = model.new_cache().layout

    def traffic(sample: Sample) -> Traffic:
        # one token comes before the timed ones; each token sees itself and all before it
        context = sample.size + 1 + (sample.amount + 1) / 2
        head_rows = sample.head_rows / sample.amount
        return bytes_per_token(graph, layout, context, head_rows, sample.densities)

    info = model.info()
    multiply_adds = projection_multiply_adds(graph)
    for key in ("family", "parameters", "weight_bytes", "vocab_size", "context_length"):
        facts[key] = info[key]
    facts |= {
        "mapped_weights": model.packed_file is not None,
        "multiply_adds": multiply_adds,
        "kv_dtype": model.kv_dtype,
        "weight_format": model.graph.weight_format,
        "kv_bytes_per_token": info["kv_bytes_per_token"],
    }
    length = model.context_length
    options = asdict(plan) | {
        "contexts": plan.contexts_for(length),
        "prefill": plan.prefill_for(length),
        "batches": plan.batches_for(length),
        "quick": quick,
    }
    rows = make_rows(samples, multiply_adds, traffic)
    return BenchReport(machine_card(), facts, options, check, rows, samples, starts)


def _cases(model: BitNetModel, plan: Plan, dense: dict[int, MeasuredEngine]) -> list[Case]:
    """All cases, each after the limit that it is compared with."""
    length = model.context_length
    contexts, prompts = plan.contexts_for(length), plan.prefill_for(length)
    sequences = {context: Sequences(model, context) for context in contexts}
    shared = sequences.get(BATCH_CONTEXT) or Sequences(model, BATCH_CONTEXT)
    decodes = [Decode(sequences[context], plan.tokens) for context in contexts]
    return [
        ReadLimit(plan.read_bytes, plan.limit_seconds),
        *([DenseDecode(decodes[0], dense)] if dense else []),
        *decodes,
        *(Sampled(model, sequences[min(contexts)], name, plan.tokens) for name in plan.sampled),
        MultiplyLimit(plan.limit_seconds),
        Gemm(model, max(prompts)),
        *(Prefill(model, tokens) for tokens in prompts),
        *(Batch(shared, count, plan.tokens) for count in plan.batches_for(length)),
    ]
