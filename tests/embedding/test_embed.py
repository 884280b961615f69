"""`embed` gives the pooled hidden states of the NumPy reference, and the same bits whatever texts
are computed together."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from embedding_model import FAMILIES, write_embedding_model, write_json
from reference import FamilyReference, read_safetensors, steady_prompts, write_safetensors

from ryzanstein_llm import BitNetModel
from ryzanstein_llm.engine import compute
from ryzanstein_llm.engine import pooling as engine_pooling
from ryzanstein_llm.errors import (
    CacheBudgetError,
    ClosedError,
    FormatError,
    SessionBusyError,
    UnsupportedModelError,
)
from ryzanstein_llm.kernels import cpu

POOL = {
    "mean": lambda hidden: hidden.mean(axis=0),
    "cls": lambda hidden: hidden[0],
    "last": lambda hidden: hidden[-1],
}
# Lengths around blocks of 256 positions, passes of 512 tokens, and texts of one token.
LENGTHS = [1, 600, 7, 255, 3, 256, 257, 1, 40, 512, 3, 1000, 20]
TEXTS = [
    np.random.default_rng(length).integers(2, 300, length).tolist()
    for length in (100 * place + length for place, length in enumerate(LENGTHS))
]
TEXTS = [ids[:length] for ids, length in zip(TEXTS, LENGTHS, strict=True)]


def bits(vectors: np.ndarray) -> np.ndarray:
    assert vectors.dtype == np.float32
    assert np.isfinite(vectors).all()
    return vectors.view(np.uint32)


def closeness(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.max(np.abs(found - expected)) / np.max(np.abs(expected)))


@pytest.fixture(scope="module", params=FAMILIES)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("embedding")
    return write_embedding_model(path, request.param, max_position_embeddings=1024)


@pytest.fixture
def model(directory: Path) -> Iterator[BitNetModel]:
    with BitNetModel(directory, n_threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def alone(directory: Path) -> np.ndarray:
    """The bits of TEXTS from the scalar tier on one thread, each text in a call of its own."""
    former = cpu.current_tier()
    cpu.use_tier("scalar")
    with BitNetModel(directory, n_threads=1) as opened:
        found = bits(np.concatenate([opened.embed([ids]) for ids in TEXTS]))
    cpu.use_tier(former)
    return found


# ---- what it computes ------------------------------------------------------------------------


@pytest.mark.parametrize("pooling", POOL)
def test_a_vector_is_the_references(directory: Path, pooling: str, tier: str) -> None:
    """Prompts are free of rounding ties, so five digits agree; see `reference.steady`."""
    reference = FamilyReference.open(directory)
    prompts = steady_prompts(reference, 3, 9)
    expected = np.array([POOL[pooling](reference.hidden(ids)) for ids in prompts])
    lengths = np.sqrt((expected**2).sum(axis=1, keepdims=True))
    with BitNetModel(directory, n_threads=1, kv_dtype="float32") as model:
        plain = model.embed(prompts, pooling=pooling, normalize=False)
        assert closeness(plain, expected) < 1e-5
        unit = model.embed(prompts, pooling=pooling)
        assert closeness(unit, expected / lengths) < 1e-5
        few = model.embed(prompts, pooling=pooling, truncate_dim=5)
    shorter = expected[:, :5] / np.sqrt((expected[:, :5] ** 2).sum(axis=1, keepdims=True))
    assert few.shape == (3, 5)
    assert closeness(few, shorter) < 1e-5


def test_poolings_differ(model: BitNetModel) -> None:
    """So that the test above would notice a pooling that is taken for another one."""
    vectors = [model.embed(TEXTS[2:3], pooling=pooling) for pooling in POOL]
    for other in vectors[1:]:
        assert closeness(vectors[0], other) > 0.1
    assert closeness(vectors[1], vectors[2]) > 0.1


def test_of_one_token_all_poolings_are_the_same(model: BitNetModel) -> None:
    vectors = [bits(model.embed([[5]], pooling=pooling)) for pooling in POOL]
    assert (vectors[0] == vectors[1]).all()
    assert (vectors[0] == vectors[2]).all()


def test_the_mean_is_added_in_ascending_order_in_float32(model: BitNetModel) -> None:
    rows = [model.embed([TEXTS[8][: end + 1]], pooling="last", normalize=False)[0]
            for end in range(40)]  # fmt: skip
    total = np.zeros_like(rows[0])
    for row in rows:
        total = total + row
    expected = total / np.float32(40)
    found = model.embed([TEXTS[8]], pooling="mean", normalize=False)[0]
    assert (bits(found) == bits(expected)).all()


def test_a_vector_has_the_length_one(model: BitNetModel) -> None:
    vectors = model.embed(TEXTS).astype(np.float64)
    assert np.max(np.abs((vectors**2).sum(axis=1) - 1)) < 1e-6


def test_no_texts_give_no_rows(model: BitNetModel) -> None:
    for nothing in ([], (), iter([])):
        assert model.embed(nothing).shape == (0, 160)
    assert model.embed([], truncate_dim=3).shape == (0, 3)
    assert model.embed([]).dtype == np.float32


def test_a_model_for_texts_embeds_too() -> None:
    texts = ["Once upon a time", "a king", ""]
    with BitNetModel(n_threads=1) as demo:
        vectors = demo.embed(texts)
        assert vectors.shape == (3, demo.config.hidden_size)
        ids = [demo.tokenize(text) for text in texts]
        assert (bits(vectors) == bits(demo.embed(ids))).all()
        mean = demo.embed(texts, pooling="mean")
        assert (bits(vectors) == bits(mean)).all()


# ---- the same bits ---------------------------------------------------------------------------


@pytest.mark.parametrize("n_threads", [1, 3])
def test_tiers_and_threads(
    directory: Path, alone: np.ndarray, tier: str, n_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compute, "SERIAL_BELOW", 0)
    with BitNetModel(directory, n_threads=n_threads) as opened:
        assert (bits(opened.embed(TEXTS)) == alone).all()


@pytest.mark.parametrize(
    ("batch_size", "pass_tokens"),
    [(1, 1), (1, 512), (2, 7), (5, 7), (100, 7), (2, 257), (5, 257), (100, 257), (100, 5000)],
)
def test_batches_and_passes(
    model: BitNetModel, alone: np.ndarray, batch_size: int, pass_tokens: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(engine_pooling, "PASS_TOKENS", pass_tokens)
    assert (bits(model.embed(TEXTS, batch_size=batch_size)) == alone).all()


def test_any_order_and_neighbours(model: BitNetModel, alone: np.ndarray) -> None:
    order = np.random.default_rng(1).permutation(len(TEXTS))
    found = model.embed([TEXTS[place] for place in order])
    assert (bits(found) == alone[order]).all()
    again = model.embed([TEXTS[4], TEXTS[4], TEXTS[1], TEXTS[4]])
    assert (bits(again) == alone[[4, 4, 1, 4]]).all()


@pytest.mark.parametrize("pooling", ["cls", "last"])
@pytest.mark.parametrize("pass_tokens", [7, 257])
def test_the_first_and_the_last_of_texts_in_several_passes(
    model: BitNetModel, pooling: str, pass_tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = np.concatenate([model.embed([ids], pooling=pooling) for ids in TEXTS])
    monkeypatch.setattr(engine_pooling, "PASS_TOKENS", pass_tokens)
    assert (bits(model.embed(TEXTS, pooling=pooling)) == bits(expected)).all()


def test_whatever_ran_before(model: BitNetModel, alone: np.ndarray) -> None:
    model.forward(TEXTS[0], logits="last")
    model.embed(TEXTS[::-1])
    assert (bits(model.embed(TEXTS)) == alone).all()


def test_threads_may_embed_and_generate_at_once() -> None:
    texts = ["Once upon a time", "The fox and the hen went to the mill", "a"] * 4
    with BitNetModel(n_threads=1) as demo:
        expected = bits(demo.embed(texts))
        said = demo.generate("Long ago", max_tokens=30)
        found: dict[int, Any] = {}

        def work(number: int) -> None:
            if number % 2:
                found[number] = demo.generate("Long ago", max_tokens=30) == said
            else:
                found[number] = (bits(demo.embed(texts, batch_size=3)) == expected).all()

        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == dict.fromkeys(range(4), True)


# ---- progress, memory, and how it ends -------------------------------------------------------


def test_progress_counts_texts_between_passes(model: BitNetModel) -> None:
    seen: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, what: str) -> None:
        model.forward([3], logits="last")  # the model is free meanwhile
        seen.append((done, total, what))

    model.embed(TEXTS, batch_size=4, progress=progress)
    counts = [done for done, _, _ in seen]
    assert counts == sorted(counts)
    assert counts[-1] == len(TEXTS)
    assert len(set(counts)) > 3
    assert {(total, what) for _, total, what in seen} == {(len(TEXTS), "embedding")}


def test_an_interrupt_leaves_the_model_as_it_was(model: BitNetModel, alone: np.ndarray) -> None:
    def progress(done: int, total: int, what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        model.embed(TEXTS, progress=progress)
    assert (bits(model.embed(TEXTS)) == alone).all()


def test_a_callback_within_a_pass_is_refused(model: BitNetModel) -> None:
    with pytest.raises(SessionBusyError):
        model.engine.exclusively(lambda: model.embed([[1]]))


@pytest.mark.parametrize("blocks", [4, 5, 9])
def test_the_budget_may_be_small(directory: Path, alone: np.ndarray, blocks: int) -> None:
    """Of 4 blocks, the longest text needs all; the others then find its blocks."""
    with BitNetModel(directory, n_threads=1) as probe:
        size = probe.engine.store.layout.block_bytes
    with BitNetModel(directory, n_threads=1, prefix_cache_bytes=blocks * size) as model:
        assert (bits(model.embed(TEXTS)) == alone).all()
        assert model.engine.store.pool.nbytes <= blocks * size
        cache = model.new_cache()  # all blocks are free again
        cache.reserve(1024)


def test_caches_of_the_caller_count(directory: Path) -> None:
    with BitNetModel(directory, n_threads=1) as probe:
        size = probe.engine.store.layout.block_bytes
    with BitNetModel(directory, n_threads=1, prefix_cache_bytes=2 * size) as model:
        expected = bits(model.embed([[5, 6], [7]]))
        cache = model.new_cache()
        model.forward([1], cache)
        assert (bits(model.embed([[5, 6], [7]])) == expected).all()  # one after the other
        with pytest.raises(CacheBudgetError):
            model.embed([[7] * 300])
        assert (bits(model.embed([[5, 6], [7]])) == expected).all()


def test_keys_and_values_are_given_back(model: BitNetModel) -> None:
    model.embed(TEXTS)
    store = model.engine.store
    assert store.pool.nbytes <= 4 * store.layout.block_bytes  # spare ones


def test_a_closed_model(directory: Path) -> None:
    model = BitNetModel(directory, n_threads=1)
    model.close()
    for texts in ([], [[1]]):
        with pytest.raises(ClosedError):
            model.embed(texts)


def test_weights_that_overflow_are_an_error(tmp_path: Path) -> None:
    write_embedding_model(tmp_path)
    tensors = read_safetensors(tmp_path / "model.safetensors")
    tensors["model.norm.weight"] = np.full_like(tensors["model.norm.weight"], 3e38)
    write_safetensors(tmp_path / "model.safetensors", tensors)
    with BitNetModel(tmp_path, n_threads=1) as model, pytest.raises(FormatError, match="overflow"):
        model.embed([[5, 6, 7, 8]])


# ---- what such a model is not for ------------------------------------------------------------


def test_an_embedding_model_refuses_to_generate(model: BitNetModel) -> None:
    question = [{"role": "user", "content": "Hi"}]
    for ask in (
        lambda: model.generate([1, 2]),
        lambda: model.stream([1, 2]),
        lambda: model.score([1, 2], [[3]]),
        lambda: model.choose([1, 2], [[3], [4]]),
        lambda: model.score_each([[1, 2]], [[[3]]]),
        lambda: model.session(),
        lambda: model.chat(question),
        lambda: model.chat_stream(question),
        lambda: model.chat_session(),
        lambda: model.perplexity([1, 2, 3]),
        lambda: model.generate([[1, 2], [3]]),
        lambda: asyncio.run(model.agenerate([1, 2])),
        lambda: model.load_session("nothing"),
    ):
        with pytest.raises(UnsupportedModelError, match=r"embeds texts.*use embed\(\)"):
            ask()


def test_a_head_need_not_be_there(tmp_path: Path) -> None:
    """config.json may say that it is not tied, because there is none."""
    write_embedding_model(tmp_path / "tied")
    write_embedding_model(tmp_path / "none")
    config = tmp_path / "none" / "config.json"
    text = config.read_text(encoding="utf-8").replace(
        '"tie_word_embeddings": true', '"tie_word_embeddings": false'
    )
    assert '"tie_word_embeddings": false' in text
    config.write_text(text, encoding="utf-8")
    with BitNetModel(tmp_path / "tied") as tied, BitNetModel(tmp_path / "none") as none:
        assert (bits(tied.embed([[5, 6]])) == bits(none.embed([[5, 6]]))).all()


# ---- what the checkpoint says ----------------------------------------------------------------


@pytest.mark.parametrize(("key", "pooling"), [
    ("pooling_mode_mean_tokens", "mean"), ("pooling_mode_cls_token", "cls"),
    ("pooling_mode_lasttoken", "last"),
])  # fmt: skip
def test_the_pooling_of_the_checkpoint_counts_unless_another_is_asked_for(
    key: str, pooling: str, tmp_path: Path
) -> None:
    write_embedding_model(tmp_path)
    write_json(tmp_path / "1_Pooling" / "config.json", {key: True})
    with BitNetModel(tmp_path, n_threads=1) as model:
        found = bits(model.embed([[5, 6, 7]]))
        for other in POOL:
            same = (found == bits(model.embed([[5, 6, 7]], pooling=other))).all()
            assert same == (other == pooling)


def test_a_pooling_that_is_not_known_is_refused_unless_another_is_asked_for(
    tmp_path: Path,
) -> None:
    write_embedding_model(tmp_path)
    write_json(tmp_path / "1_Pooling" / "config.json", {"pooling_mode": ["mean", "max"]})
    with BitNetModel(tmp_path, n_threads=1) as model:
        with pytest.raises(UnsupportedModelError, match=r"'mean \+ max'.*mean, cls, last"):
            model.embed([[5, 6, 7]])
        assert model.embed([[5, 6, 7]], pooling="mean").shape == (1, 160)


def test_a_module_that_is_not_known_is_refused(tmp_path: Path) -> None:
    write_embedding_model(tmp_path)
    kinds = ("Transformer", "Pooling", "Dense", "Normalize")
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": ""} for kind in kinds]
    write_json(tmp_path / "modules.json", modules)
    with BitNetModel(tmp_path, n_threads=1) as model:
        for pooling in (None, "mean"):
            with pytest.raises(UnsupportedModelError, match=r"modules\.json.*'Dense'"):
                model.embed([[5, 6, 7]], pooling=pooling)


def test_a_prompt_that_does_not_count_is_refused(tmp_path: Path) -> None:
    write_embedding_model(tmp_path)
    settings = {"pooling_mode": "mean", "include_prompt": False}
    write_json(tmp_path / "1_Pooling" / "config.json", settings)
    with BitNetModel(tmp_path, n_threads=1) as model:
        assert model.embed(["a"]).shape == (1, 160)
        with pytest.raises(UnsupportedModelError, match="include_prompt"):
            model.embed(["a"], prompt="query: ")


def test_prompts_stand_in_front_of_texts(tmp_path: Path) -> None:
    write_embedding_model(tmp_path)
    prompts = {"query": "find: ", "document": "", "fact": "is it so? "}
    config = tmp_path / "config_sentence_transformers.json"
    write_json(config, {"prompts": prompts})
    texts = ["a king", "three sons"]
    with BitNetModel(tmp_path, n_threads=1) as model:

        def ids(before: str) -> np.ndarray:
            return bits(model.embed([model.tokenize(before + text) for text in texts]))

        assert model.embedding_settings.prompts == prompts
        for prompt, before in [
            (None, ""), ("", ""), ("query", "find: "), ("fact", "is it so? "), ("document", ""),
            ("query: ", "query: "), ("Query", "Query"),
        ]:  # fmt: skip
            assert (bits(model.embed(texts, prompt=prompt)) == ids(before)).all()
    write_json(config, {"prompts": prompts, "default_prompt_name": "fact"})
    with BitNetModel(tmp_path, n_threads=1) as model:
        assert (bits(model.embed(texts)) == bits(model.embed(texts, prompt="fact"))).all()
        assert (bits(model.embed(texts, prompt="")) == bits(model.embed(texts, prompt="document"))
                ).all()  # fmt: skip


@pytest.mark.parametrize("add_eos", [True, False])
def test_end_of_text_is_added_if_the_tokenizer_says_so(add_eos: bool, tmp_path: Path) -> None:
    write_embedding_model(tmp_path, add_eos=add_eos)
    with BitNetModel(tmp_path, n_threads=1) as model:
        ids = model.tokenize("a king")
        assert ids[-1] != 1
        expected = [*ids, 1] if add_eos else ids
        for pooling in POOL:
            found = bits(model.embed(["a king"], pooling=pooling))
            assert (found == bits(model.embed([expected], pooling=pooling))).all()
        given = bits(model.embed([ids]))
        assert (given == bits(model.embed([list(ids)]))).all()  # nothing is added to ids
        assert (given == bits(model.embed(["a king"]))).all() == (not add_eos)


@pytest.mark.parametrize("add_eos", [True, False])
def test_a_long_text_can_be_cut_and_keeps_its_end_of_text(add_eos: bool, tmp_path: Path) -> None:
    write_embedding_model(tmp_path, add_eos=add_eos)
    with BitNetModel(tmp_path, n_threads=1, context_length=20) as model:
        text = "a king had three sons and a daughter, and he lived long"
        ids = model.tokenize(text)
        assert len(ids) > 20
        expected = [*ids[:19], 1] if add_eos else ids[:20]
        assert (bits(model.embed([text], truncate=True)) == bits(model.embed([expected]))).all()
        short = bits(model.embed(["a"], truncate=True))
        assert (short == bits(model.embed(["a"]))).all()
