"""What the settings of a request cost: how many times as fast as greedy decoding a token is.

    python -m ryzanstein_llm.testing make-checkpoint --preset bitnet-b1.58-2B-4T --peaked big
    python -m benchmarks.settings --model big --threads 2

All settings take turns in every round. Each token that is drawn is checked afterwards: it has to be
the one that the logits of the full head give.
"""

from __future__ import annotations

import argparse
import sys
from statistics import median
from typing import Any

import numpy as np

from ryzanstein_llm import BitNetModel, SamplingParams
from ryzanstein_llm.interfaces.head_query import Candidates, HeadQuery
from ryzanstein_llm.kernels import cpu
from ryzanstein_llm.sampling import Sampler
from ryzanstein_llm.text_table import Table, as_text

PROMPT_TOKENS = 16

SETTINGS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "top_p 0.95": {"temperature": 0.7, "top_p": 0.95, "seed": 1},
    "temperature alone": {"temperature": 0.7, "seed": 1},
    "top_k 40": {"temperature": 0.7, "top_k": 40, "seed": 1},
    "repetition penalty 1.1": {"repetition_penalty": 1.1},
    "top_p 0.95, repetition penalty 1.1": {
        "temperature": 0.7, "top_p": 0.95, "repetition_penalty": 1.1, "seed": 1,
    },
    "logit bias of two tokens": {"logit_bias": {5: 1.0, 9: -2.0}},
    "logprobs of the top five": {"logprobs": 5},
}  # fmt: skip
"""The options of `generate`, at temperature 0.7."""


def from_all_logits(model: BitNetModel, prompt: list[int], ids: list[int], **options: Any) -> bool:
    """Whether the full head gives these tokens, each after the ones before it."""
    sampler = Sampler(SamplingParams(**options))
    logits = model.forward([*prompt, *ids[:-1]])[len(prompt) - 1 :]
    for index, token in enumerate(ids):
        query: HeadQuery = sampler.query([*prompt, *ids[:index]], len(prompt))
        assert query.allowed is None
        if sampler.choose(Candidates(None, logits[index]), index) != token:
            return False
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", metavar="PATH", help="checkpoint (default: the demo model)")
    parser.add_argument("--threads", type=int, metavar="N")
    parser.add_argument("--tokens", type=int, default=48, metavar="N")
    parser.add_argument("--rounds", type=int, default=5, metavar="N")
    arguments = parser.parse_args()
    seconds: dict[str, list[float]] = {name: [] for name in SETTINGS}
    ids: dict[str, list[int]] = {}
    count = arguments.tokens
    with BitNetModel(arguments.model, n_threads=arguments.threads) as model:
        rng = np.random.default_rng(0)
        # the common tokens of a peaked checkpoint come first
        prompt = [int(rng.integers(5, model.vocab_size // 32)) for _ in range(PROMPT_TOKENS)]
        for turn in range(arguments.rounds + 1):  # the first warms up
            for name, options in SETTINGS.items():
                with model.session() as session:
                    result = session.generate(
                        prompt, max_tokens=count + 1, ignore_eos=True, return_result=True, **options
                    )
                if result.ids != ids.setdefault(name, result.ids):
                    parser.exit(1, f"{name}: other tokens than in the round before\n")
                if turn:
                    seconds[name].append(sum(result.timings.decode) / count)
        for name, options in SETTINGS.items():
            if not {"logit_bias", "logprobs"} & set(options) and not from_all_logits(
                model, prompt, ids[name], **options
            ):
                parser.exit(1, f"{name}: other tokens than from the logits of the full head\n")
        if ids["logprobs of the top five"] != ids["greedy"]:
            parser.exit(1, "logprobs changed the tokens\n")
        about = f"{model!r}, {cpu.current_tier()}"
    lines = [["", "ms a token", "times as fast as greedy", "slowest and fastest round"]]
    for name, times in seconds.items():
        ratios = [one / other for one, other in zip(seconds["greedy"], times, strict=True)]
        lines.append(
            [
                name, f"{1e3 * median(times):.2f}", f"{median(ratios):.3f}",
                f"{min(ratios):.3f} to {max(ratios):.3f}",
            ]
        )  # fmt: skip
    sys.stdout.write(as_text([about, Table("", lines)]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
