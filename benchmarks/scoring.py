"""What it costs to classify texts with `choose`, against one pass over the texts alone.

    python -m benchmarks.scoring
    python -m benchmarks.scoring --model big --threads 2 --texts 32 --rounds 1 --kept

All prompts begin with the same instruction, and each ends with a text. The pass that it is compared
with has the texts only, after the keys and values of the instruction: neither the instruction nor
labels nor the head are computed. For comparison, there is also a pass over the same texts without
any instruction, whose attention has less to do. All are measured in turns, and the scores are
checked against the logits of `forward`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from statistics import median

import numpy as np

from ryzanstein_llm import BitNetModel, Choice, KVCache
from ryzanstein_llm.engine.compute import PASS_TOKENS, new_cancel_flag
from ryzanstein_llm.engine.engine import Engine

INSTRUCTION_TOKENS, TEXT_TOKENS, ROUNDS = 300, 60, 5
ALLOWED = 1.25
TOLERANCE = 1e-5  # a float32 sum over the vocabulary, against float64


def random_ids(model: BitNetModel, count: int, seed: int) -> list[int]:
    """Token ids that end no text."""
    rng = np.random.default_rng(seed)
    ids: list[int] = rng.integers(max(model.eos_ids, default=0) % 1000 + 1, 4000, count).tolist()
    return ids


def prepare(engine: Engine, cache: KVCache, before: list[int]) -> None:
    """Bring the keys and values of `before` into a cache, with room for a text after them."""

    def begin() -> None:
        engine.store.fill(cache, before)
        engine.make_room(cache, len(before) + TEXT_TOKENS)

    engine.exclusively(begin)
    if cache.length < len(before):
        ids = np.array(before[cache.length :], np.int64)
        engine.extend([(cache, cache.length, ids)], new_cancel_flag())
        engine.exclusively(lambda: engine.store.keep(cache, before))
        engine.exclusively(lambda: engine.make_room(cache, len(before) + TEXT_TOKENS))


def texts_alone(model: BitNetModel, before: list[int], texts: list[list[int]]) -> float:
    """Seconds of a pass over the texts, in parts of about 512 rows. What stands before them is in
    the caches already."""
    engine, count, taken = model.engine, -(-PASS_TOKENS // TEXT_TOKENS), 0.0
    caches = [engine.store.new_cache() for _ in texts[:count]]
    for cache in caches:
        prepare(engine, cache, before)
    for start in range(0, len(texts), count):
        group = texts[start : start + count]
        for cache in caches:
            cache.length = len(before)
        parts = [
            (cache, len(before), np.array(text, np.int64))
            for cache, text in zip(caches, group, strict=False)
        ]
        taken += seconds(lambda parts=parts: engine.extend(parts, new_cancel_flag()))
    for cache in caches:
        engine.exclusively(lambda cache=cache: cache.free_from(0))
    return taken


def largest_error(
    model: BitNetModel, prompt: list[int], labels: list[list[int]], choice: Choice
) -> float:
    """How far the log probabilities are from those of float64 sums."""
    cache, worst = model.new_cache(), 0.0
    first = model.forward(prompt, cache, logits="last")
    for label, found in zip(labels, choice.scores, strict=True):
        cache.truncate(len(prompt))
        rows = [first, *(model.forward([token], cache) for token in label[:-1])]
        logits = np.concatenate(rows).astype(np.float64)
        logits -= logits.max(axis=1, keepdims=True)
        expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
        for place, (token, logprob) in enumerate(zip(label, found.logprobs, strict=True)):
            worst = max(worst, abs(expected[place, token] - logprob))
    return worst


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="PATH", help="checkpoint (default: the demo model)")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--texts", type=int, default=200, metavar="N")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    parser.add_argument(
        "--kept",
        action="store_true",
        help="an earlier call has left the instruction in the cache: for few texts, which would "
        "have to bear all of its cost",
    )
    arguments = parser.parse_args()
    with BitNetModel(arguments.model, n_threads=arguments.threads) as model:
        instruction = random_ids(model, INSTRUCTION_TOKENS, 0)
        texts = [random_ids(model, TEXT_TOKENS, 1 + index) for index in range(arguments.texts)]
        prompts = [[*instruction, *text] for text in texts]
        labels = [random_ids(model, 2, 10**6 + index) for index in range(4)]
        found: list[Choice] = []
        whole, alone, bare = [], [], []
        for _ in range(arguments.rounds):
            model.engine.clear()  # nothing is kept from the round before
            if arguments.kept:
                model.choose([[*instruction, 5], [*instruction, 6]], labels)
            whole.append(seconds(lambda: found.append(model.choose(prompts, labels))))  # type: ignore[arg-type]
            model.engine.clear()
            alone.append(texts_alone(model, instruction, texts))
            bare.append(texts_alone(model, [], texts))
        ratio, over_bare = (
            median(one / other for one, other in zip(whole, others, strict=True))
            for others in (alone, bare)
        )
        results: list[list[Choice]] = found  # type: ignore[assignment]
        same = all(result == results[0] for result in results)
        checked = (0, len(prompts) - 1)
        error = max(
            largest_error(model, prompts[index], labels, results[0][index]) for index in checked
        )
        lines = [
            f"{model.path.name}, {model.n_threads} threads, {len(texts)} texts, 4 labels",
            f"choose                   {median(whole):8.3f} s",
            f"texts after instruction  {median(alone):8.3f} s, ratio {ratio:.3f} (<= {ALLOWED})",
            f"texts alone              {median(bare):8.3f} s, ratio {over_bare:.3f}",
            f"largest error of a log probability {error:.1e}; the same in all rounds: {same}",
        ]
        sys.stdout.write("\n".join(lines) + "\n")
        return 0 if same and error < TOLERANCE and ratio <= ALLOWED else 1


if __name__ == "__main__":
    raise SystemExit(main())
