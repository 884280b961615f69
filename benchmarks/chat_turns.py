"""How much sooner the second turn of a long chat starts than the first.

    python -m benchmarks.chat_turns --model big --threads 2

A session keeps the chat; `chat_stream` is given all of it again. The text of the second turn is
compared with that of a model which has seen nothing before. Needs a checkpoint with a tokenizer
and a context of 2,100 tokens.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterable
from statistics import median

import numpy as np

from ryzanstein_llm import BitNetModel, ChatDelta

TEMPLATE = (
    "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant:{% endif %}"
)
WORDS = ["the", "king", "sat", "upon", "a", "golden", "chair", "and", "spoke", "to", "his", "sons"]
CHAT_TOKENS, ANSWER_TOKENS, ROUNDS, WANTED = 2000, 24, 3, 20.0
SETTINGS = {"chat_template": TEMPLATE, "max_tokens": ANSWER_TOKENS, "temperature": 0}


def question(model: BitNetModel, seed: int) -> str:
    """A text of about CHAT_TOKENS tokens."""
    words: list[str] = np.random.default_rng(seed).choice(WORDS, CHAT_TOKENS).tolist()
    count = len(model.tokenize(" ".join(words)))
    return " ".join(words[: CHAT_TOKENS * CHAT_TOKENS // count])


def turn(start: Callable[[], Iterable[ChatDelta]]) -> tuple[float, str]:
    """Seconds until the first piece of an answer, and all of it."""
    began = time.perf_counter()
    pieces = iter(start())
    first = next(pieces)
    seconds = time.perf_counter() - began
    return seconds, "".join(piece.text for piece in [first, *pieces])


def in_a_session(model: BitNetModel, text: str) -> tuple[float, float, str]:
    chat = model.chat_session(**SETTINGS)
    first, _ = turn(lambda: chat.stream(text))
    second, answer = turn(lambda: chat.stream("And then?"))
    return first, second, answer


def without_a_session(model: BitNetModel, text: str) -> tuple[float, float, str]:
    messages = [{"role": "user", "content": text}]
    first, answer = turn(lambda: model.chat_stream(messages, **SETTINGS))
    messages += [
        {"role": "assistant", "content": answer},
        {"role": "user", "content": "And then?"},
    ]
    second, again = turn(lambda: model.chat_stream(messages, **SETTINGS))
    model.engine.clear()
    _, alone = turn(lambda: model.chat_stream(messages, **SETTINGS))
    if again != alone:
        raise SystemExit(f"the second turn is {again!r}, but {alone!r} without the cache")
    return first, second, again


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="PATH", required=True, help="checkpoint")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    arguments = parser.parse_args()
    reached = True
    with BitNetModel(arguments.model, n_threads=arguments.threads) as model:
        texts = [question(model, seed) for seed in range(arguments.rounds)]
        counts = [len(model.tokenize(text)) for text in texts]
        lines = [f"{model.path.name}, {model.n_threads} threads, {median(counts):.0f} tokens"]
        found: dict[str, list[tuple[float, float, str]]] = {"session": [], "chat_stream": []}
        for text in texts:
            for name, run in (("session", in_a_session), ("chat_stream", without_a_session)):
                model.engine.clear()  # nothing is kept from the chat before
                found[name].append(run(model, text))
        for name, turns in found.items():
            ratio = median(first / second for first, second, _ in turns)
            first, second = (median(times) for times in list(zip(*turns, strict=True))[:2])
            lines.append(
                f"{name:12} first turn {first:7.3f} s, second {second:7.3f} s, {ratio:.1f} x "
                f"sooner (>= {WANTED:g})"
            )
            reached = reached and ratio >= WANTED
        same = [one[2] == other[2] for one, other in zip(*found.values(), strict=True)]
        lines.append(f"the same answers with a session and without: {all(same)}")
        sys.stdout.write("\n".join(lines) + "\n")
    return 0 if reached and all(same) else 1


if __name__ == "__main__":
    raise SystemExit(main())
