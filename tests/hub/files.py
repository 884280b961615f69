"""The files of a repository that tests put on a hub."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from ryzanstein_llm.formats.locate import DEMO_DIRECTORY

__all__ = ["NAME", "demo_files", "noise", "sharded_files", "tree"]

NAME = "org/name"


def demo_files() -> dict[str, bytes]:
    """Those of the built-in demo model, and some that a model does not need."""
    files = {path.name: path.read_bytes() for path in DEMO_DIRECTORY.iterdir() if path.is_file()}
    return {**files, "pytorch_model.bin": b"pickle", "original/model.pt": b"pickle"}


def noise(size: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size)


def sharded_files() -> dict[str, bytes]:
    """An index and two shards, with no tensors in them."""
    shards = {f"model-0000{n}-of-00002.safetensors": noise(30_000, n) for n in (1, 2)}
    weight_map = {f"tensor.{n}": name for n, name in enumerate(shards)}
    index = json.dumps({"metadata": {}, "weight_map": weight_map}).encode()
    old = {"model-00003-of-00003.safetensors": b"of another split"}
    return {"config.json": b"{}", "model.safetensors.index.json": index, **shards, **old}


def tree(folder: Path) -> dict[str, bytes | str]:
    """What a cache has for programs: contents of files, and where links lead. Lock files, and what
    huggingface_hub notes for itself, are left out."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if name.split("/")[0] not in (".locks", "CACHEDIR.TAG") and "/trees/" not in name:
            if path.is_symlink():
                found[name] = str(path.readlink())
            elif path.is_file():
                found[name] = path.read_bytes()
    return found
