"""Hugging Face transformers: `from_pretrained` in bfloat16, the one type in which it runs packed
checkpoints, and its own key and value cache. Needs the extra `parity`."""

from __future__ import annotations

import argparse
import importlib.metadata
import time
import warnings
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, DynamicCache

from .protocol import Float32, serve

__all__ = ["TransformersWorker"]


class TransformersWorker:
    """See `protocol.Worker`."""

    def __init__(self, path: Path) -> None:
        load: Any = AutoModelForCausalLM.from_pretrained
        self._model = load(path, dtype=torch.bfloat16).eval()
        self.vocab_size: int = self._model.config.vocab_size
        size = sum(tensor.nbytes for tensor in self._model.state_dict().values())
        self.also: dict[str, Any] = {}
        self.about = {
            "engine": "transformers",
            "versions": {
                name: importlib.metadata.version(name) for name in ("transformers", "torch")
            },
            "build": torch.__config__.show(),
            "model": f"{size / 1e6:.0f} MB of tensors",
            "options": {
                "dtype": "bfloat16",
                "attention": self._model.config._attn_implementation,
            },
        }

    def prefill(self, ids: list[int], threads: int) -> tuple[float, Float32]:
        torch.set_num_threads(threads)
        start = time.perf_counter()
        logits = self._pass(ids, DynamicCache(config=self._model.config))
        seconds = time.perf_counter() - start
        return seconds, _float32(logits)

    def decode(self, ids: list[int], tokens: int, threads: int) -> tuple[float, list[int], Float32]:
        torch.set_num_threads(threads)
        cache = DynamicCache(config=self._model.config)
        self._pass(ids[:-1], cache)
        found = [int(self._pass(ids[-1:], cache).argmax())]
        start = time.perf_counter()
        for _ in range(tokens):
            logits = self._pass(found[-1:], cache)
            found.append(int(logits.argmax()))
        return time.perf_counter() - start, found, _float32(logits)

    def _pass(self, ids: list[int], cache: Any) -> torch.Tensor:
        """Append `ids`; bfloat16 logits after the last."""
        with torch.inference_mode():
            output = self._model(
                torch.tensor([ids]), past_key_values=cache, use_cache=True, logits_to_keep=1
            )
        last: torch.Tensor = output.logits[0, -1]
        return last


def _float32(logits: torch.Tensor) -> Float32:
    result: Float32 = logits.float().numpy()
    return result


def main() -> None:
    """Answer the driver."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    path = parser.parse_args().model
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of these packages, about each other
        serve(lambda: TransformersWorker(path))


if __name__ == "__main__":
    main()
