"""Small task files of lm-eval, over texts of this repository."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

__all__ = ["write_task"]


def write_task(
    directory: Path, name: str, documents: Sequence[Mapping[str, Any]], **config: Any
) -> Path:
    """A task and its documents, side by side. JSON is YAML."""
    lines = [json.dumps(document) for document in documents]
    (directory / f"{name}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    task = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": f"{name}.jsonl"}},
        "test_split": "test",
        "target_delimiter": "",
        **config,
    }
    path = directory / f"{name}.yaml"
    path.write_text(json.dumps(task), encoding="utf-8")
    return path
