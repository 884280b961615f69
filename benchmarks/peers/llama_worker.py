"""llama.cpp by way of llama-cpp-python's ctypes interface: `llama_decode`, nothing above it.

Run by the driver with the interpreter that has llama-cpp-python. All options are llama.cpp's
defaults but for the lengths and the numbers of threads, which are the same for prompts and tokens.
"""

from __future__ import annotations

import argparse
import ctypes
import importlib.metadata
import sys
import time
from typing import Any

import llama_cpp
import numpy as np

from .protocol import Float32, serve

__all__ = ["LlamaWorker"]

WARNING, ERROR = 3, 4  # of enum ggml_log_level


def _quiet(level: int, text: bytes, _: ctypes.c_void_p) -> None:
    if level in (WARNING, ERROR):
        sys.stderr.write(text.decode("utf-8", "replace"))


LOG = llama_cpp.llama_log_callback(_quiet)  # kept: llama.cpp goes on calling it


class LlamaWorker:
    """See `protocol.Worker`."""

    def __init__(self, path: str, context_length: int) -> None:
        llama_cpp.llama_log_set(LOG, ctypes.c_void_p(0))
        llama_cpp.llama_backend_init()
        loading = llama_cpp.llama_model_default_params()
        loading.n_gpu_layers = 0
        self._model = llama_cpp.llama_model_load_from_file(path.encode(), loading)
        if not self._model:
            raise ValueError(f"{path}: llama.cpp cannot load it")
        options = llama_cpp.llama_context_default_params()
        options.n_ctx = options.n_batch = context_length  # a prompt is one call
        self._context = llama_cpp.llama_init_from_model(self._model, options)
        if not self._context:
            raise ValueError(f"{path}: llama.cpp makes no context of {context_length} tokens")
        self._memory = llama_cpp.llama_get_memory(self._context)
        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        self.vocab_size: int = llama_cpp.llama_vocab_n_tokens(vocabulary)
        self.also: dict[str, Any] = {}
        self.about = {
            "engine": "llama.cpp",
            "versions": _versions(),
            "build": llama_cpp.llama_print_system_info().decode(),
            "model": self._description(),
            "options": {
                name: getattr(options, name)
                for name in ("n_ctx", "n_batch", "n_ubatch", "flash_attn_type", "type_k", "type_v")
            },
        }

    def prefill(self, ids: list[int], threads: int) -> tuple[float, Float32]:
        self._begin(threads)
        start = time.perf_counter()
        logits = self._decode(ids).copy()
        return time.perf_counter() - start, logits

    def decode(self, ids: list[int], tokens: int, threads: int) -> tuple[float, list[int], Float32]:
        self._begin(threads)
        self._decode(ids[:-1])
        found = [int(self._decode(ids[-1:]).argmax())]
        start = time.perf_counter()
        for _ in range(tokens):
            logits = self._decode(found[-1:])
            found.append(int(logits.argmax()))
        return time.perf_counter() - start, found, logits.copy()

    def _begin(self, threads: int) -> None:
        """An empty cache, and so many threads for whatever follows."""
        llama_cpp.llama_memory_clear(self._memory, True)
        llama_cpp.llama_set_n_threads(self._context, threads, threads)

    def _decode(self, ids: list[int]) -> Float32:
        """Append `ids`; logits after the last, as a view until the next call."""
        array = (llama_cpp.llama_token * len(ids))(*ids)
        # such a batch asks for the logits of its last token only
        code = llama_cpp.llama_decode(self._context, llama_cpp.llama_batch_get_one(array, len(ids)))
        if code:
            raise RuntimeError(f"llama_decode of {len(ids)} tokens gives {code}")
        logits: Float32 = np.ctypeslib.as_array(
            llama_cpp.llama_get_logits_ith(self._context, -1), shape=(self.vocab_size,)
        )
        return logits

    def _description(self) -> str:
        text = ctypes.create_string_buffer(256)
        llama_cpp.llama_model_desc(self._model, text, len(text))
        size = llama_cpp.llama_model_size(self._model)
        return f"{text.value.decode()}, {size / 1e6:.0f} MB of tensors"


def _versions() -> dict[str, str]:
    versions = {"llama-cpp-python": importlib.metadata.version("llama-cpp-python")}
    if hasattr(llama_cpp, "llama_version"):
        versions["llama.cpp"] = llama_cpp.llama_version().decode()
    return versions


def main() -> None:
    """Answer the driver."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--context-length", type=int, required=True)
    arguments = parser.parse_args()
    serve(lambda: LlamaWorker(arguments.model, arguments.context_length))


if __name__ == "__main__":
    main()
