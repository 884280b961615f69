"""The end of a run: the best model measured on the whole held-out text, checkpoints, figures."""

from __future__ import annotations

import copy

from . import vocabulary
from .evaluation import score
from .export import rounded_to_bfloat16, write_checkpoints
from .run import Progress, Run

__all__ = ["finish"]


def finish(run: Run, progress: Progress = lambda share, what: None) -> None:
    """Write `results.json`, and `packed/` and `bf16/` of a ternary model.

    Parameters
    ----------
    run
        Whose `train` returned True.
    progress
        Called with the share of the text that is measured, and a few words.
    """
    model = copy.deepcopy(run.trainer.model)
    # in the numbers that will be on disk: rounding moves a few masters across a threshold
    model.load_state_dict(rounded_to_bfloat16(run.best["weights"]))
    found = score(
        model,
        run.validation,
        vocabulary.BOS_ID,
        run.lengths,
        progress=lambda share: progress(share, "measuring"),
    )
    last = run.history[-1]
    results = {
        "bits_per_byte": found.bits_per_byte,
        "perplexity": found.perplexity,
        "validation_tokens": found.tokens,
        "validation_bytes": found.text_bytes,
        "parameters": sum(parameter.numel() for parameter in model.parameters()),
        "vocabulary": run.settings.shape.vocabulary,
        "tokens": last["tokens"],
        "epochs": last["epochs"],
        "minutes": last["seconds"] / 60,
        "best_steps": run.best["steps"],
        "steps": last["steps"],
        "machine": run.machine.name,
        "texts": run.facts,
    }
    if run.settings.ternary:
        write_checkpoints(run.directory, run.best["weights"], run.settings.shape, run.tokenizer)
    run.directory.write_json(run.directory.results_file, results)
    run.report(
        f"held-out text: {found.bits_per_byte:.4f} bits a byte, perplexity {found.perplexity:.2f} "
        f"(step {run.best['steps']:,} of {last['steps']:,})"
    )
