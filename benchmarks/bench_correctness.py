"""6. Numerical correctness: every tier and number of threads against the scalar tier, finite
logits, and perplexity of a text."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from benchmarks.six.criteria import Criteria
from benchmarks.six.subject import Subject
from ryzanstein_llm.bench.cases import digest, prompt
from ryzanstein_llm.engine.compute import new_cancel_flag
from ryzanstein_llm.kernels import cpu
from ryzanstein_llm.model import BitNetModel

PROMPT, TOKENS = 32, 24
# A large model scores so many tokens of the text in the scalar tier; all of it in the fastest.
SCALAR_TOKENS = 64


@pytest.fixture
def tier_kept() -> Iterator[None]:
    former = cpu.current_tier()
    yield
    cpu.use_tier(former)


def run(subject: Subject, tier: str, threads: int) -> tuple[list[int], list[str], bool]:
    """(greedy tokens, digest of the logits after each, whether all logits were finite)."""
    cpu.use_tier(tier)
    model, engine = subject.model, subject.engine(threads)
    cache, pending = model.new_cache(), prompt(model, PROMPT)
    tokens, digests, finite = [], [], True
    for _ in range(TOKENS):
        logits = engine.last_logits(cache, pending, new_cancel_flag())
        finite &= bool(np.isfinite(logits).all())
        pending = [int(logits.argmax())]
        tokens.append(pending[0])
        digests.append(digest(logits))
    return tokens, digests, finite


@pytest.mark.usefixtures("tier_kept")
def test_tiers_and_threads_agree(benchmark: Any, subject: Subject, criteria: Criteria) -> None:
    threads = sorted({1, 2, subject.model.n_threads})
    expected = run(subject, "scalar", subject.model.n_threads)
    settings = [(tier, count) for tier in cpu.available_tiers() for count in threads]
    if not subject.small:  # the scalar tier once is enough
        settings = [setting for setting in settings if setting[0] != "scalar"]
    compared = []
    for tier, count in settings:
        found = run(subject, tier, count)
        name = f"{tier}, {count} thread{'' if count == 1 else 's'}"
        criteria.holds(
            f"{name}: tokens and logits of the scalar tier, bit for bit, and finite",
            found == expected and found[2],
        )
        compared.append(name)
    benchmark.pedantic(
        run, args=(subject, cpu.available_tiers()[0], subject.model.n_threads), rounds=1
    )
    benchmark.extra_info |= subject.facts(
        compared=compared,
        tokens=expected[0],
        logits=hashlib.blake2b("".join(expected[1]).encode(), digest_size=16).hexdigest(),
    )
    criteria.check()


@pytest.mark.usefixtures("tier_kept")
def test_perplexity_is_that_of_the_scalar_tier(
    benchmark: Any, subject: Subject, criteria: Criteria, text: str, show: Any
) -> None:
    """And, as the history knows, that of earlier commits."""
    model, fastest = subject.model, cpu.available_tiers()[0]
    if model.tokenizer is None:
        criteria.skip("the checkpoint has no tokenizer.json", {"perplexity of a text": ""})
    ids = model.tokenize(text, add_special_tokens=False)
    part = ids if subject.small else ids[:SCALAR_TOKENS]
    cpu.use_tier("scalar")
    expected = model.perplexity(part)
    cpu.use_tier(fastest)
    found = model.perplexity(part)
    criteria.holds(f"perplexity of {len(part)} tokens: {fastest} as scalar", found == expected)
    whole = benchmark.pedantic(model.perplexity, args=(text,), rounds=1)
    criteria.holds("perplexity is finite", bool(np.isfinite(whole.perplexity)))
    show(
        f"perplexity of {whole.tokens} tokens: {whole.perplexity:.4f}, "
        f"{whole.bits_per_byte:.4f} bits a byte\n"
    )
    benchmark.extra_info |= subject.facts(
        perplexity=whole.perplexity,
        bits_per_byte=whole.bits_per_byte,
        nll=float(whole.nll).hex(),
        text_tokens=whole.tokens,
        text=hashlib.blake2b(text.encode(), digest_size=8).hexdigest(),
    )
    criteria.check()


def test_perplexity_by_kind_of_cache(
    benchmark: Any, subject: Subject, criteria: Criteria, text: str, show: Any
) -> None:
    """Of the demo model whatever is measured otherwise: random weights predict nothing."""
    found, sizes = {}, {}

    def score_all() -> None:
        for kind in ("float32", "bfloat16", "int8"):
            with BitNetModel(kv_dtype=kind) as model:
                found[kind] = model.perplexity(text)
                sizes[kind] = model.info()["kv_bytes_per_token"]

    benchmark.pedantic(score_all, rounds=1)
    change = {
        kind: score.perplexity / found["float32"].perplexity - 1 for kind, score in found.items()
    }
    show(
        "".join(
            f"cache in {kind}: perplexity {score.perplexity:.4f} ({change[kind]:+.3%})\n"
            for kind, score in found.items()
        )
    )
    criteria.holds(
        "the default cache costs less than 0.1 % of perplexity",
        abs(change[subject.model.kv_dtype]) < 0.001,
    )
    benchmark.extra_info |= subject.facts(
        perplexities={kind: score.perplexity for kind, score in found.items()},
        kv_bytes_per_token=sizes,
        text_tokens=found["float32"].tokens,
        of="demo",
    )
    criteria.check()


def test_cached_and_recomputed_logits_agree(
    benchmark: Any, subject: Subject, criteria: Criteria
) -> None:
    """A prompt in one piece, and token by token."""
    model: BitNetModel = subject.model
    ids = prompt(model, PROMPT)
    whole = model.forward(ids)

    def by_token() -> Any:
        cache = model.new_cache()
        return np.concatenate([model.forward([token], cache) for token in ids])

    pieces = benchmark.pedantic(by_token, rounds=1)
    criteria.holds(
        "logits by the cache are those of one pass",
        np.array_equal(whole.view(np.uint32), pieces.view(np.uint32)),
    )
    benchmark.extra_info |= subject.facts()
    criteria.check()
