"""The model card and the samples of a finished run, measured with the library itself.

The card states facts. What only people know of a model is given to `write_card` as text.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from typing import Any

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.errors import ContextOverflowError

from .directory import RunDirectory
from .export import GENERATION
from .prompts import text_prompts
from .settings import Settings
from .words import count, size

__all__ = ["CardTexts", "write_card"]

MAX_TOKENS = 150
OPTIMIZERS = {"muon": "Muon for the matrices of the layers, AdamW for the rest", "adamw": "AdamW"}


@dataclass(frozen=True)
class CardTexts:
    """What a run cannot know of its model.

    Attributes
    ----------
    about : str
        A paragraph below the title: what the model is for, what it can and cannot do.
    data : str
        Which texts these are, and where they come from.
    licence : str
        Of the texts, and of the model.
    prompts : sequence of str
        For the samples; empty: beginnings of held-out paragraphs.
    """

    about: str = ""
    data: str = ""
    licence: str = "Not stated."
    prompts: Sequence[str] = ()


def write_card(
    directory: RunDirectory,
    name: str,
    texts: CardTexts | None = None,
    *,
    max_tokens: int = MAX_TOKENS,
    progress: Callable[[float, str], None] = lambda share, what: None,
) -> dict[str, Any]:
    """Write `packed/README.md` and `packed/SAMPLES.md` of a finished run.

    Parameters
    ----------
    name
        Of the model.
    max_tokens
        Of each sample.
    progress
        Called with the share that is done, and a few words.

    Returns
    -------
    dict
        `bits_per_byte` and `perplexity` as the library finds them.

    Raises
    ------
    CheckpointNotFoundError
        The run is not finished, or was of float weights.
    """
    texts = texts or CardTexts()
    settings, results = directory.settings(), directory.results()
    held_out = directory.validation_file.read_text(encoding="utf-8")
    prompts = list(texts.prompts) or text_prompts(held_out)
    with BitNetModel(directory.packed) as model:
        found = model.perplexity(
            held_out, progress=lambda done, total, what: progress(0.5 * done / total, what)
        )
        samples = []
        for index, prompt in enumerate(prompts):
            progress(0.5 + 0.5 * index / len(prompts), "writing samples")
            with contextlib.suppress(ContextOverflowError):  # of a toy; the others are answered
                samples.append((prompt, _sampled(model, prompt, index, max_tokens)))
    files = [file for file in directory.packed.iterdir() if file.suffix != ".md"]
    values = _values(directory, settings, results) | {
        "name": name,
        "about": f"\n{texts.about}\n" if texts.about else "",
        "data": "\n\n".join(part for part in (texts.data, _data(settings, results)) if part),
        "licence": texts.licence,
        "megabytes": f"{sum(file.stat().st_size for file in files) / 1e6:.2f}",
        "scored": f"{found.tokens:,}",
        "perplexity": f"{found.perplexity:.2f}",
        "bits_per_byte": f"{found.bits_per_byte:.4f}",
        "samples": "[SAMPLES.md](SAMPLES.md) has what it writes after "
        f"{count(len(samples), 'prompt')}, "
        + ("chosen by hand." if texts.prompts else "the beginnings of held-out paragraphs."),
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


def _data(settings: Settings, results: dict[str, Any]) -> str:
    """Sizes of the texts, after cleaning."""
    facts = results.get("texts")
    if facts is None:  # a run of an earlier version
        return ""
    training, held_out = (facts[f"{part}_bytes"] for part in ("training", "held_out"))
    where = f"the file {settings.validation}"
    if settings.validation is None:
        where = f"{count(facts['held_out_places'], 'block')} of paragraphs from all files"
    return (
        f"{count(facts['files'], 'text file')} with {size(training)} to train on. Held out: "
        f"{size(held_out)}, {held_out / (training + held_out):.1%} of all; {where}."
    )


def _values(
    directory: RunDirectory, settings: Settings, results: dict[str, Any]
) -> dict[str, object]:
    shape, vocabulary = settings.shape, results["vocabulary"]
    loss = "surprise at the text"
    if settings.teachers and settings.teacher_weight:
        models = "one model" if len(settings.teachers) == 1 else f"{len(settings.teachers)} models"
        loss += (
            f"; {settings.teacher_weight:.0%} of it the distance from the probabilities of "
            f"{models} trained on the same texts"
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
        "loss": loss,
        "best_steps": f"{results['best_steps']:,}",
        "steps": f"{results['steps']:,}",
        "validation": settings.validation or "parts of all files",
    }


def _origin(directory: RunDirectory, settings: Settings) -> dict[str, str]:
    """What the card says of where the weights come from, and so of what they have read."""
    alone = {"beginning": "random weights", "held_out": "training"}
    if settings.origin is None:
        return alone
    path = Path(settings.origin)
    folder = path.parent if path.suffix == ".safetensors" else path
    run = RunDirectory(folder.parent)
    if folder == run.master and run.results_file.exists():
        tokens = f"{run.results()['tokens'] / 1e6:.1f} million tokens"
        beginning = f"the weights of {run.path.name} ({tokens})"
        if run.corpus_digest() == directory.corpus_digest():
            return alone | {"beginning": f"{beginning}, trained on the same texts"}
        name, beginning = run.path.name, f"{beginning}, trained on other texts"
    else:
        name, beginning = folder.name, f"the weights of {folder.name}"
    return {
        "beginning": beginning,
        "held_out": f"this training, but perhaps not of that of {name}",
    }


def _samples(name: str, samples: list[tuple[str, str]]) -> str:
    """A section for each prompt; the prompt is bold, the rest is the model's."""
    sampling = ", ".join(f"{option} {value:g}" for option, value in GENERATION.items())
    parts = [
        f"# What {name} writes\n\nWith {sampling} and the seeds 0, 1, 2 and so on; nothing is left "
        "out or edited. The prompts are bold.\n"
    ]
    for prompt, text in samples:
        marked = f"**{_plain(prompt)}**{_plain(text)}"
        parts.append("\n\n".join(line for line in marked.splitlines() if line.strip()) + "\n")
    return "\n---\n\n".join(parts)


def _plain(text: str) -> str:
    """Markdown that shows these characters."""
    return re.sub(r"([\\`*_\[\]<>#|~])", r"\\\1", text)
