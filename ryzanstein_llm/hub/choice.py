"""Which files of a repository make up the model. Knows names only, so the same rules hold for a
listing of the hub and for a folder of the cache."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass

from ..errors import HubChoiceError, HubNotFoundError
from ..formats.locate import INDEX_NAME, SINGLE_NAME
from .repository import Repository

__all__ = ["SETTINGS", "Choice", "choose"]

SETTINGS = (
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "1_Pooling/config.json",
    "config_sentence_transformers.json",
)
"""Wanted beside safetensors, as far as a repository has them."""

_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True)
class Choice:
    """
    Attributes
    ----------
    files : tuple of str
        To be there. If `index` is one of them, so have to be the shards that it lists.
    opened : str
        What to open: a file, or "" for the folder.
    index : str or None
    """

    files: tuple[str, ...]
    opened: str
    index: str | None = None


def choose(repository: Repository, names: Collection[str]) -> Choice:
    """Choose from `names`, all files of the repository.

    safetensors go before GGUF; `model.safetensors` goes before an index with shards, as in
    `formats.locate`. Other formats of weights, such as pickled ones, are never chosen.

    Raises
    ------
    HubNotFoundError
        The repository does not have the named file.
    HubChoiceError
        Several files could be meant, or none.
    """
    settings = tuple(name for name in SETTINGS if name in names)
    if repository.file is not None:
        if repository.file not in names:
            raise HubNotFoundError(
                f"{repository}: has no file {repository.file!r}; it has {_listed(_weights(names))}"
            )
        if repository.file.endswith(".gguf"):
            return Choice(_parts(repository, repository.file, names), repository.file)
        return Choice((*settings, repository.file), repository.file)
    if SINGLE_NAME in names:
        return Choice((*settings, SINGLE_NAME), "")
    if INDEX_NAME in names:
        return Choice((*settings, INDEX_NAME), "", INDEX_NAME)
    weights = _weights(names)
    single = [name for name in weights if name.endswith(".safetensors") and "/" not in name]
    if len(single) == 1:
        return Choice((*settings, *single), single[0])
    models = [name for name in weights if name.endswith(".gguf") and _part_number(name) == 1]
    if not single and len(models) == 1:
        return Choice(_parts(repository, models[0], names), models[0])
    found = tuple(single or models)
    if not found:
        raise HubChoiceError(
            f"{repository}: has neither safetensors nor GGUF files that could be the model",
            tuple(weights),
        )
    raise HubChoiceError(
        f"{repository}: has {len(found)} models; name one, as in {repository.name}:{found[0]}; "
        f"there are {_listed(found)}",
        found,
    )


def _weights(names: Collection[str]) -> list[str]:
    return sorted(name for name in names if name.endswith((".safetensors", ".gguf")))


def _part_number(name: str) -> int:
    part = _PART.search(name)
    return int(part[1]) if part else 1


def _parts(repository: Repository, name: str, names: Collection[str]) -> tuple[str, ...]:
    """All files of the GGUF model that one of them belongs to."""
    part = _PART.search(name)
    if part is None or int(part[2]) <= 1:
        return (name,)
    stem, count = name[: part.start()], int(part[2])
    parts = []
    for number in range(1, count + 1):
        parts.append(f"{stem}-{number:05}-of-{count:05}.gguf")
        if parts[-1] not in names:  # at the first gap, so a wrong count costs nothing
            raise HubNotFoundError(f"{repository}: {parts[-1]} is missing, one of {count} files")
    return tuple(parts)


def _listed(names: Collection[str]) -> str:
    return ", ".join(names) or "neither safetensors nor GGUF files"
