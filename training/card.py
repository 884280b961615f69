"""The model card and the answers to fixed prompts, measured with the library itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import ContextOverflowError

from .directory import RunDirectory
from .export import GENERATION
from .settings import Settings

__all__ = ["DATA", "LICENCE", "fixed_prompts", "write_card"]

DATA = "To be filled in: which texts, where they come from, and what is held out."
LICENCE = "To be filled in: the licence of the texts, and that of the model."
MAX_TOKENS = 150
OPTIMIZERS = {"muon": "Muon for the matrices of the layers, AdamW for the rest", "adamw": "AdamW"}


def fixed_prompts() -> list[str]:
    """The prompts that every card answers."""
    return resources.files(__package__).joinpath("prompts.txt").read_text("utf-8").splitlines()


def write_card(
    directory: RunDirectory,
    name: str,
    *,
    data: str = DATA,
    licence: str = LICENCE,
    max_tokens: int = MAX_TOKENS,
    progress: Callable[[float, str], None] = lambda share, what: None,
) -> dict[str, Any]:
    """Write `packed/README.md` and `packed/SAMPLES.md` of a finished run.

    Parameters
    ----------
    name
        Of the model.
    data, licence
        Paragraphs for the card; what only people know.
    max_tokens
        Of each sample.

    Returns
    -------
    dict
        `bits_per_byte` and `perplexity` as the library finds them.

    Raises
    ------
    CheckpointNotFoundError
        The run is not finished, or was of float weights.
    """
    settings, results = directory.settings(), directory.results()
    text = directory.validation_file.read_text(encoding="utf-8")
    with BitNetModel(directory.packed) as model:
        found = model.perplexity(
            text, progress=lambda done, total, what: progress(0.5 * done / total, what)
        )
        samples = []
        prompts = fixed_prompts()
        for index, prompt in enumerate(prompts):
            progress(0.5 + 0.5 * index / len(prompts), "telling")
            with contextlib.suppress(ContextOverflowError):  # of a toy; the others are answered
                samples.append((prompt, _sampled(model, prompt, index, max_tokens)))
    files = [file for file in directory.packed.iterdir() if file.suffix != ".md"]
    values = _values(directory, settings, results) | {
        "name": name,
        "data": data,
        "licence": licence,
        "megabytes": f"{sum(file.stat().st_size for file in files) / 1e6:.2f}",
        "scored": f"{found.tokens:,}",
        "perplexity": f"{found.perplexity:.2f}",
        "bits_per_byte": f"{found.bits_per_byte:.4f}",
    }
    template = resources.files(__package__).joinpath("card_template.md").read_text("utf-8")
    card = Template(template).substitute(values)
    (directory.packed / "README.md").write_text(card, encoding="utf-8")
    (directory.packed / "SAMPLES.md").write_text(_samples(name, samples), encoding="utf-8")
    return {"bits_per_byte": found.bits_per_byte, "perplexity": found.perplexity}


def _sampled(model: BitNetModel, prompt: str, seed: int, max_tokens: int) -> str:
    # As the command line would sample.
    text: str = model.generate(prompt, max_tokens=max_tokens, seed=seed, **GENERATION)
    return text


def _values(
    directory: RunDirectory, settings: Settings, results: dict[str, Any]
) -> dict[str, object]:
    shape, vocabulary = settings.shape, results["vocabulary"]
    teaching = ""
    if settings.teachers:
        teaching = (
            f" {settings.teacher_weight:.0%} of the loss was the distance from the probabilities "
            f"of {len(settings.teachers)} larger or other models of the same texts."
        )
    return {
        "parameters": f"{results['parameters'] / 1e6:.2f}",
        "embedding": f"{vocabulary * shape.hidden / 1e6:.2f}",
        "layers": shape.layers,
        "hidden": shape.hidden,
        "inner": f"{shape.inner:,}",
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "vocabulary": f"{vocabulary:,}",
        "context": shape.context,
        "window": shape.context - 1,
        **_origin(directory, settings),
        "tokens": f"{results['tokens'] / 1e6:.1f}",
        "epochs": f"{results['epochs']:.1f}",
        "minutes": f"{results['minutes']:.0f}",
        "machine": results["machine"],
        "optimizer": OPTIMIZERS[settings.optimizer],
        "first_row": shape.context // settings.first_parts,
        "learning_rate": f"{settings.learning_rate:g}",
        "second_learning_rate": f"{settings.second_learning_rate:g}",
        "weight_decay": f"{settings.weight_decay:g}",
        "dropout": f"{settings.dropout:g}",
        "tokens_per_step": f"{settings.tokens_per_step:,}",
        "teaching": teaching,
        "best_steps": f"{results['best_steps']:,}",
        "steps": f"{results['steps']:,}",
        "validation": settings.validation or "the end of every text",
    }


def _origin(directory: RunDirectory, settings: Settings) -> dict[str, str]:
    """What the card says of where the weights come from, and so of what they have read."""
    alone = {"beginning": "From scratch", "read": "the texts above", "held_out": "training"}
    if settings.origin is None:
        return alone
    path = Path(settings.origin)
    folder = path.parent if path.suffix == ".safetensors" else path
    run = RunDirectory(folder.parent)
    if folder == run.master and run.results_file.exists():
        tokens = f"{run.results()['tokens'] / 1e6:.1f} million tokens"
        beginning = f"From the weights of {run.path.name} ({tokens})"
        if run.corpus_digest() == directory.corpus_digest():
            return alone | {"beginning": f"{beginning}, which had the same texts,"}
        name = run.path.name
    else:
        name, beginning = folder.name, f"From the weights of {folder.name}"
    return {
        "beginning": beginning,
        "read": f"the texts above and those of {name}",
        "held_out": f"this training, but perhaps not of that of {name}",
    }


def _samples(name: str, samples: list[tuple[str, str]]) -> str:
    """A section for each prompt; the prompt is bold, the rest is the model's."""
    sampling = ", ".join(f"{option} {value:g}" for option, value in GENERATION.items())
    parts = [
        f"# What {name} writes\n\nWith {sampling}, seeds 0, 1, 2 and so on; nothing is chosen, "
        "nothing is edited. In bold the prompts.\n"
    ]
    for prompt, text in samples:
        paragraphs = [line for line in f"**{prompt}**{text}".splitlines() if line.strip()]
        parts.append("\n\n".join(paragraphs) + "\n")
    return "\n---\n\n".join(parts)
