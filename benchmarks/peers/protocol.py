"""What the driver asks a worker: one JSON object a line on its standard input, one line back.

Requests are `{"do": "prefill", ...}` and `{"do": "decode", ...}` with the arguments that `Worker`
has. Needs the standard library and NumPy only, as workers run where this library is not.
"""

from __future__ import annotations

import base64
import json
import os
import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["Worker", "decode_logits", "encode_logits", "serve"]

Float32 = NDArray[np.float32]


class Worker(Protocol):
    """An engine with a model open. Prompts go into an empty cache; nothing is kept between calls.

    Attributes
    ----------
    about : mapping
        Engine, versions, build flags, options: whatever makes its figures understandable.
    vocab_size : int
    also : mapping
        What answers requests other than `prefill` and `decode`, by their names.
    """

    @property
    def about(self) -> Mapping[str, Any]: ...

    @property
    def vocab_size(self) -> int: ...

    @property
    def also(self) -> Mapping[str, Callable[..., Mapping[str, Any]]]: ...

    def prefill(self, ids: list[int], threads: int) -> tuple[float, Float32]:
        """(seconds of a prompt in one call, logits after its last token: float32 (vocab,))."""

    def decode(
        self, ids: list[int], tokens: int, threads: int
    ) -> tuple[float, list[int], Float32 | None]:
        """Greedy tokens after `ids`, one at a time; one more goes before them, untimed.

        Returns
        -------
        seconds : float
            Of `tokens` tokens.
        list of int
            The untimed token and the timed ones.
        float32 (vocab,) or None
            The logits that the last token was chosen by; None where the engine makes fewer.
        """


def serve(make: Callable[[], Worker]) -> None:
    """Make the worker, say hello, then answer requests until standard input ends.

    An exception is reported as `{"error": text}` and ends the process.
    """
    replies = _claim_stdout()

    def reply(value: Mapping[str, Any]) -> None:
        replies.write(json.dumps(value) + "\n")
        replies.flush()

    try:
        worker = make()
        reply({"about": dict(worker.about), "vocab_size": worker.vocab_size})
        for line in sys.stdin:
            reply(_answer(worker, **json.loads(line)))
    except Exception as error:
        reply({"error": f"{type(error).__name__}: {error}"})
        raise


def _answer(worker: Worker, do: str, **arguments: Any) -> Mapping[str, Any]:
    if do == "prefill":
        seconds, logits = worker.prefill(**arguments)
        return {"seconds": seconds, "logits": encode_logits(logits)}
    if do == "decode":
        seconds, ids, last = worker.decode(**arguments)
        text = None if last is None else encode_logits(last)
        return {"seconds": seconds, "ids": ids, "logits": text}
    return worker.also[do](**arguments)


def encode_logits(logits: Float32) -> str:
    """The bits of float32 logits as text."""
    return base64.b64encode(np.ascontiguousarray(logits, "<f4").tobytes()).decode("ascii")


def decode_logits(text: str) -> Float32:
    """What `encode_logits` was given."""
    return np.frombuffer(base64.b64decode(text), "<f4").astype(np.float32)


def _claim_stdout() -> Any:
    """Standard output for replies alone; what libraries print goes to standard error."""
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    return replies
