"""How much sooner a text comes if tokens are guessed from what stands before (prompt lookup).

    python -m benchmarks.prompt_lookup
    python -m benchmarks.prompt_lookup --model big --threads 2

Four kinds of texts: a passage copied, the same with every fifteenth word changed, source code that
goes on, and a tale that goes on. A model with random weights writes none of these, so the text is
given: everything is computed, each token is chosen, and then that of the text takes its place. Last
comes what the model writes itself, the likeliest tokens and sampled ones, whose ids must be the
same with guesses and without.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import Any

from ryzanstein_llm import BitNetModel, GenerationResult
from ryzanstein_llm.engine import store
from ryzanstein_llm.interfaces.head_query import Candidates
from ryzanstein_llm.sampling import Sampler

TALE = Path(__file__).parents[1] / "tests" / "data" / "validation_tale.txt"
TOKENS, ROUNDS, LEAST = 240, 5, 0.97
OWN: dict[str, dict[str, Any]] = {
    "own, greedy": {},
    "own, sampled": {"temperature": 0.8, "top_k": 40, "seed": 1},
}


def texts(model: BitNetModel, count: int) -> dict[str, tuple[list[int], list[int]]]:
    """(prompt, text) of each kind, each of at most `count` ids."""
    tale, code = TALE.read_text(encoding="ascii"), inspect.getsource(store)

    def ids(text: str) -> list[int]:
        return model.tokenize(text, add_special_tokens=False)

    words = model.detokenize(ids(tale)[: count - 8]).split(" ")
    passage = " ".join(words)
    changed = " ".join("stone" if i % 15 == 7 else word for i, word in enumerate(words))
    found = {
        "copying": (ids(passage + "\n\n"), ids(passage)),
        "editing": (ids(passage + "\n\n"), ids(changed)),
        "code": (ids(code)[:count], ids(code)[count : 2 * count]),
        "prose": (ids(tale)[:count], ids(tale)[count : 2 * count]),
    }
    return {kind: (prompt[:count], text[:count]) for kind, (prompt, text) in found.items()}


@contextmanager
def given(text: list[int]) -> Iterator[None]:
    """Whatever is chosen meanwhile, the tokens of this text take its place."""
    choose = Sampler.choose

    def replaced(self: Sampler, candidates: Candidates, index: int) -> int:
        choose(self, candidates, index)
        return text[index]

    Sampler.choose = replaced  # type: ignore[method-assign]
    try:
        yield
    finally:
        Sampler.choose = choose  # type: ignore[method-assign]


def write(model: BitNetModel, prompt: list[int], new: int, **options: Any) -> GenerationResult:
    return model.generate(prompt, max_tokens=new, ignore_eos=True, return_result=True, **options)


def measured(
    model: BitNetModel, prompt: list[int], text: list[int] | None, rounds: int, **options: Any
) -> str:
    """Decode with and without guesses, in turns. Returns the numbers as text; the first is the
    ratio."""
    new = TOKENS if text is None else len(text)
    new = min(new, model.context_length - len(prompt))
    rates: dict[int, list[float]] = {0: [], options.pop("guesses"): []}
    ids: list[list[int]] = []
    last: dict[int, GenerationResult] = {}
    for _ in range(rounds):
        for most, found in rates.items():
            options["prompt_lookup_num_tokens"] = most
            if text is None:
                result = write(model, prompt, new, **options)
            else:
                with given(text):
                    result = write(model, prompt, new, **options)
            found.append(result.timings.tokens_per_second)
            ids.append(result.ids)
            last[most] = result
    if any(each != (text or ids[0]) for each in ids):
        raise SystemExit("the tokens with and without guesses differ")
    without, with_guesses = rates.values()
    ratio = median(one / other for one, other in zip(with_guesses, without, strict=True))
    result = last[max(last)]
    return (
        f"{ratio:5.2f} x: {median(without):8.1f} tokens/s without, {median(with_guesses):8.1f} "
        f"with; {result.accepted_tokens} of {result.drafted_tokens} guesses were right"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="PATH", help="checkpoint; default: the demo model")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--guesses", type=int, default=15, metavar="N")
    parser.add_argument("--tokens", type=int, default=TOKENS, metavar="N")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    arguments = parser.parse_args()
    guesses, rounds = arguments.guesses, arguments.rounds
    with BitNetModel(arguments.model, n_threads=arguments.threads) as model:
        sys.stdout.write(f"{model.path.parent.name}, {model.n_threads} threads\n")
        count = min(arguments.tokens, model.context_length // 2 - 8)
        kinds = texts(model, count)
        write(model, kinds["prose"][0], 8)  # the first passes are slower
        lines = {
            kind: measured(model, prompt, text, rounds, guesses=guesses)
            for kind, (prompt, text) in kinds.items()
        }
        for kind, options in OWN.items():
            prompt = kinds["prose"][0]
            lines[kind] = measured(model, prompt, None, rounds, guesses=guesses, **options)
        for kind, line in lines.items():
            sys.stdout.write(f"{kind:12} {line}\n")
    lost = [kind for kind, line in lines.items() if float(line.split()[0]) < LEAST]
    return int(bool(lost))


if __name__ == "__main__":
    raise SystemExit(main())
