"""What a checkpoint says about embeddings: the files of sentence-transformers (modules.json, the
config of its Pooling module, config_sentence_transformers.json), and a key of GGUF."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import FormatError
from .inside import is_file, is_inside
from .json_file import read_json_object, read_text

__all__ = ["EmbeddingSettings", "read_embedding_settings"]

POOLING_DIRECTORY = "1_Pooling"

# The names of sentence-transformers, and of its keys before version 6 -> ours.
_NAMES = {"lasttoken": "last"}
_FLAGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "last",
}
# enum llama_pooling_type of llama.cpp. 0 is none at all, which says nothing about embeddings.
_GGUF_TYPES = {0: None, 1: "mean", 2: "cls", 3: "last", 4: "rank"}


@dataclass(frozen=True)
class EmbeddingSettings:
    """
    Attributes
    ----------
    pooling : str or None
        How the hidden states of a text become one vector: "mean", "cls" (the first), "last", or a
        name that the library may not know. None: the checkpoint does not say.
    include_prompt : bool
        Whether the tokens of a prompt count, too.
    modules : tuple of str
        The classes of the steps from a text to its embedding, such as ("Transformer", "Pooling",
        "Normalize"); () if modules.json is missing.
    prompts : Mapping[str, str]
        Texts to put in front, by name.
    default_prompt : str or None
        The name of the one that stands in front of a text unless another one is asked for.
    """

    pooling: str | None = None
    include_prompt: bool = True
    modules: tuple[str, ...] = ()
    prompts: Mapping[str, str] = field(default_factory=dict)
    default_prompt: str | None = None


def read_embedding_settings(
    directory: Path, metadata: Mapping[str, Any] | None
) -> EmbeddingSettings:
    """Read the settings beside the weights, and `pooling_type` in the metadata of a GGUF file. The
    Pooling module counts before the metadata.

    Raises
    ------
    FormatError
        A file or a key has an impossible value. The message names it.
    """
    modules, folder = _modules(directory / "modules.json")
    pooling, include_prompt = _pooling(directory / folder / "config.json")
    if pooling is None and metadata is not None:
        pooling = _gguf_pooling(metadata, directory)
    prompts, default = _prompts(directory / "config_sentence_transformers.json")
    return EmbeddingSettings(pooling, include_prompt, modules, prompts, default)


def _modules(path: Path) -> tuple[tuple[str, ...], str]:
    """(classes of the modules, the folder of the Pooling module)."""
    if not path.is_file():
        return (), POOLING_DIRECTORY
    try:
        found = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: not valid JSON: {error}") from error
    if not isinstance(found, list):
        raise FormatError(f"{path}: expected a list of modules, found {type(found).__name__}")
    classes, folder = [], POOLING_DIRECTORY
    for index, module in enumerate(found):
        kind = module.get("type") if isinstance(module, dict) else None
        if not isinstance(kind, str):
            raise FormatError(f"{path}: [{index}]: expected a module with a type")
        classes.append(kind.rpartition(".")[2])
        if classes[-1] == "Pooling":
            folder = module.get("path", POOLING_DIRECTORY)
            if not isinstance(folder, str) or not is_inside(folder):
                raise FormatError(
                    f"{path}: [{index}]: path: {folder!r} does not name a folder in this directory"
                )
            try:
                is_file(path.parent / folder / "config.json")
            except OSError as error:  # a name that is too long
                problem = f"{path}: [{index}]: path: {folder[:200]!r}: {error.strerror}"
                raise FormatError(problem) from error
    return tuple(classes), folder


def _pooling(path: Path) -> tuple[str | None, bool]:
    """(pooling, include_prompt) of a Pooling module; (None, True) without one."""
    if not path.is_file():
        return None, True
    config = read_json_object(path)
    include = config.get("include_prompt", True)
    if not isinstance(include, bool):
        raise FormatError(f"{path}: include_prompt: expected true or false, found {include!r}")
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [name for key, name in _FLAGS.items() if config.get(key) is True]
    elif isinstance(modes, str):
        modes = [modes]
    if not isinstance(modes, list) or not all(isinstance(mode, str) for mode in modes):
        raise FormatError(f"{path}: pooling_mode: expected a name, found {modes!r}")
    # several would be concatenated
    return " + ".join(_NAMES.get(mode, mode) for mode in modes) or None, include


def _gguf_pooling(metadata: Mapping[str, Any], directory: Path) -> str | None:
    key = f"{metadata.get('general.architecture')}.pooling_type"
    found = metadata.get(key)
    if found is None:
        return None
    if type(found) is not int:
        raise FormatError(f"{directory}: metadata {key!r} must be an integer, not {found!r}")
    return _GGUF_TYPES.get(found, f"type {found}")


def _prompts(path: Path) -> tuple[dict[str, str], str | None]:
    """(prompts, the name of the default one)."""
    if not path.is_file():
        return {}, None
    config = read_json_object(path)
    prompts, default = config.get("prompts") or {}, config.get("default_prompt_name")
    if not isinstance(prompts, dict) or not all(isinstance(t, str) for t in prompts.values()):
        raise FormatError(f"{path}: prompts: expected texts by name, found {str(prompts)[:200]}")
    if default is not None and (not isinstance(default, str) or default not in prompts):
        raise FormatError(f"{path}: default_prompt_name: {default!r} is not the name of a prompt")
    return prompts, default
