"""Starting: the time that a fresh process takes to open a model, and the memory it has then.

This needs a new process, because the present one has already loaded, measured and freed things.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import BenchError
from ..formats import open_checkpoint
from ..model import BitNetModel
from ..text.tokenizer import Tokenizer
from .cases import prompt
from .memory import memory_in_use, peak_memory
from .plan import Setting

__all__ = ["Start", "measure_start"]

PROMPT_TOKENS = 16

CODE = """
import json, sys
request = json.loads(sys.argv[1])
sys.path[:] = request.pop("search_path")
from ryzanstein_llm.bench.start import _in_fresh_process
_in_fresh_process(**request)
"""


@dataclass(frozen=True)
class Start:
    """A fresh process that opened the model, decoded some tokens and measured its memory.

    Attributes
    ----------
    mapped : bool
        Whether the weights were mapped from a file of packed weights, or packed from the
        checkpoint.
    load_seconds : float
        Time of `BitNetModel(...)`, including its tokenizer. Files are in the page cache, and
        imports are done.
    tokenizer_seconds : float
        Time of the tokenizer alone.
    peak_bytes : int or None
        The most memory that was resident at once, including loading.
    memory : dict or None
        See `memory_in_use`.
    tokens : list of int
        The tokens that were decoded.
    """

    mapped: bool
    load_seconds: float
    tokenizer_seconds: float
    peak_bytes: int | None
    memory: dict[str, int] | None
    tokens: list[int]


def measure_start(
    path: Path | None,
    setting: Setting,
    kv_dtype: str,
    weight_format: str | None,
    tokens: int,
    packed_cache: Path | None = None,
) -> Start:
    """Measure one start in a process of its own.

    Parameters
    ----------
    packed_cache : Path, optional
        The directory of packed weights. None: the process packs the weights.

    Raises
    ------
    BenchError
        If that process cannot be started, or fails.
    """
    with tempfile.TemporaryDirectory(prefix="ryzanstein-bench-") as folder:
        result = Path(folder, "start.json")
        request = {
            "search_path": sys.path,
            "path": None if path is None else str(path),
            "n_threads": setting.threads,
            "kv_dtype": kv_dtype,
            "weight_format": weight_format,
            "tokens": tokens,
            "packed_cache": False if packed_cache is None else str(packed_cache),
            "result": str(result),
        }
        try:
            process = subprocess.Popen(
                [sys.executable, "-c", CODE, json.dumps(request)],
                env={**os.environ, "RYZANSTEIN_ISA": setting.tier},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
        except OSError as error:  # a limit of processes, or no memory
            raise BenchError(f"a fresh process cannot be started: {error}") from error
        with process:
            _, complaint = process.communicate()
        if process.returncode:
            last = (complaint.strip().splitlines() or ["no message"])[-1]
            raise BenchError(f"a fresh process ended with code {process.returncode}: {last}")
        return Start(**json.loads(result.read_text(encoding="utf-8")))


def _in_fresh_process(
    path: str | None,
    n_threads: int,
    kv_dtype: str,
    weight_format: str | None,
    tokens: int,
    packed_cache: str | bool,
    result: str,
) -> None:
    """The work of that process. Writes a `Start` as JSON to the file `result`."""
    start = time.perf_counter()
    model = BitNetModel(
        path,
        n_threads=n_threads,
        kv_dtype=kv_dtype,
        weight_format=weight_format,
        packed_cache=packed_cache,
    )
    loaded = time.perf_counter()
    length = min(PROMPT_TOKENS, model.context_length - 1)
    ids = model.generate(
        prompt(model, length),
        max_tokens=min(tokens, model.context_length - length),
        ignore_eos=True,
        return_result=True,
    ).ids
    memory, peak = memory_in_use(), peak_memory()  # before anything else is allocated
    found: dict[str, Any] = {
        "mapped": model.packed_file is not None,
        "load_seconds": loaded - start,
        "tokenizer_seconds": _tokenizer_seconds(path),
        "peak_bytes": peak,
        "memory": memory,
        "tokens": ids,
    }
    Path(result).write_text(json.dumps(found), encoding="utf-8")


def _tokenizer_seconds(path: str | None) -> float:
    with open_checkpoint(path) as checkpoint:
        start = time.perf_counter()
        Tokenizer.from_checkpoint(checkpoint)
        return time.perf_counter() - start
