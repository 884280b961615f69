"""`RyzansteinLM` gives lm-eval what it documents, compared with plain code over `forward` and
`generate`. What the `hf` model gives is compared in tests/parity. Needs the extra `eval`."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from demo_model import BOS, encode, tale
from embedding_model import write_embedding_model
from extras import needs_extra
from reference.ops import log_softmax
from small_model import write_small_model

from ryzanstein_llm import BitNetModel, errors

needs_extra("eval", "lm_eval")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from lm_eval.api.model import CacheHook
    from lm_eval.api.registry import get_model

    from ryzanstein_llm.integrations.lm_eval import RyzansteinLM

EOS = 1


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel(n_threads=1) as opened:
        yield opened


@pytest.fixture
def lm(model: BitNetModel) -> Any:
    return RyzansteinLM(model, progress=lambda *_: None)


def asked(*arguments: Any) -> Any:
    return SimpleNamespace(args=arguments, task_name="a_task")


def logprobs(model: BitNetModel, tokens: list[int]) -> list[float]:
    """Of each token after the first, from the logits of `forward` in float64."""
    rows = log_softmax(model.forward(tokens[:-1]).astype(np.float64))
    return [float(row[token]) for row, token in zip(rows, tokens[1:], strict=True)]


# ---- opening -------------------------------------------------------------------------------


def test_lm_eval_knows_it_by_name_and_makes_it_of_a_text(model: BitNetModel) -> None:
    assert get_model("ryzanstein") is RyzansteinLM
    arguments = f"pretrained={model.path},n_threads=1,kv_dtype=float32,max_length=64"
    made = RyzansteinLM.create_from_arg_string(arguments, {"batch_size": 4, "device": None})
    assert (made.model.kv_dtype, made.model.n_threads) == ("float32", 1)
    assert made.max_length == made.model.context_length == 64
    assert made.get_model_info()["model_num_parameters"] == model.info()["parameters"]
    assert "/" not in made.tokenizer_name
    assert RyzansteinLM.create_from_arg_obj({"n_threads": 1}).model.path == model.path


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"max_length": 513}, r"max_length must be in 1\.\.512, not 513"),
        ({"prefix_token_id": 4096}, "prefix_token_id must be in"),
        ({"add_bos_token": "yes"}, "add_bos_token must be True or False"),
        ({"enable_thinking": True}, "think_end_token is needed"),
        ({"kv_dtype": "int8"}, "kv_dtype is for a model that is to be opened"),
        ({"revision": "main"}, "revision is for a model that is to be opened"),
        ({"seed": -1}, "seed must be in"),
    ],
)
def test_wrong_arguments_are_named(
    model: BitNetModel, arguments: dict[str, Any], problem: str
) -> None:
    with pytest.raises(errors.InvalidParameterError, match=problem):
        RyzansteinLM(model, **arguments)


def test_a_context_that_the_model_lacks_is_named_as_it_was_given() -> None:
    with pytest.raises(errors.InvalidParameterError, match=r"^max_length must be in 1\.\.512"):
        RyzansteinLM(n_threads=1, max_length=1000)
    with pytest.raises(errors.InvalidParameterError, match=r"^context_length must be in 1\.\.512"):
        RyzansteinLM(n_threads=1, context_length=1000)
    assert RyzansteinLM(n_threads=1, context_length=64).max_length == 64


def test_a_model_that_only_embeds_is_refused(tmp_path: Path) -> None:
    directory = write_embedding_model(tmp_path, max_position_embeddings=32)
    with pytest.raises(errors.UnsupportedModelError):
        RyzansteinLM(directory, n_threads=1)


def test_a_model_without_a_tokenizer_is_refused(tmp_path: Path) -> None:
    with (
        BitNetModel(write_small_model(tmp_path / "model"), n_threads=1) as bare,
        pytest.raises(errors.TokenizerMissingError),
    ):
        RyzansteinLM(bare)


# ---- tokens --------------------------------------------------------------------------------


def test_texts_begin_with_the_tokenizers_token_unless_they_have_it(model: BitNetModel) -> None:
    plain, without = RyzansteinLM(model), RyzansteinLM(model, add_bos_token=False)
    assert plain.tok_encode("The king") == [BOS, *encode("The king")]
    assert plain.tok_encode("<|begin_of_text|>The king") == [BOS, *encode("The king")]
    assert plain.tok_encode("The king", add_special_tokens=False) == encode("The king")
    assert without.tok_encode("The king") == encode("The king")
    assert without.tok_encode("The king", add_special_tokens=True) == [BOS, *encode("The king")]
    assert (plain.prefix_token_id, plain.eot_token_id) == (BOS, EOS)
    assert RyzansteinLM(model, prefix_token_id=7).prefix_token_id == 7
    assert plain.tok_decode(EOS, skip_special_tokens=False) == "<|end_of_text|>"


# ---- scores --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("context", "continuation", "before", "scored"),
    [
        ("Once upon a time", " there was", [BOS, *encode("Once upon a time")], " there was"),
        ("Once upon a time \n", "there", [BOS, *encode("Once upon a time")], " \nthere"),
        ("", "The king", [BOS], "The king"),
        ("", "<|begin_of_text|>The king", [BOS], "The king"),
    ],
)
def test_the_continuation_is_what_lm_eval_documents(
    lm: Any, model: BitNetModel, context: str, continuation: str, before: list[int], scored: str
) -> None:
    ((logprob, greedy),) = lm.loglikelihood([asked(context, continuation)])
    tokens = [*before, *encode(scored)]
    expected = sum(logprobs(model, tokens)[len(before) - 1 :])
    assert logprob == pytest.approx(expected, abs=1e-5)
    best = model.generate(before, max_tokens=len(encode(scored)), return_result=True).ids
    assert greedy == (best == encode(scored))


def test_greedy_text_is_greedy(lm: Any, model: BitNetModel) -> None:
    text = model.generate("Once upon a time", max_tokens=6)
    found = lm.loglikelihood(
        [asked("Once upon a time", text), asked("Once upon a time", text + " zebra")]
    )
    assert [greedy for _, greedy in found] == [True, False]


@pytest.mark.parametrize(("context", "continuation"), [("", ""), ("Once upon", "")])
def test_an_empty_continuation_is_an_error(lm: Any, context: str, continuation: str) -> None:
    with pytest.raises(errors.InvalidParameterError, match="continuation must have a token after"):
        lm.loglikelihood([asked(context, continuation)])


@pytest.mark.parametrize("max_length", [16, 50, 512])
def test_a_long_text_is_scored_in_windows(model: BitNetModel, max_length: int) -> None:
    """The first window begins with the prefix token. Later ones are full, so that the last one
    scores only what is left."""
    lm = RyzansteinLM(model, max_length=max_length, progress=lambda *_: None)
    text = tale()[:2000]
    ids = [BOS, *encode(text)]  # lm-eval scores the tokenizer's own token as well
    first = [BOS, *ids[:max_length]]
    total = sum(logprobs(model, first))
    for start in range(max_length, len(ids), max_length):
        end = min(start + max_length, len(ids))
        window = ids[end - max_length - 1 : end]
        total += sum(logprobs(model, window)[-(end - start) :])
    found = lm.loglikelihood_rolling([asked(text), asked(""), asked("The king")])
    assert found[0] == pytest.approx(total, abs=1e-3)  # hundreds of float32 sums
    assert found[1] == pytest.approx(logprobs(model, [BOS, BOS])[0], abs=1e-5)
    assert found[2] == pytest.approx(
        sum(logprobs(model, [BOS, BOS, *encode("The king")])), abs=1e-5
    )


# ---- texts ---------------------------------------------------------------------------------


def test_texts_are_those_of_generate(lm: Any, model: BitNetModel) -> None:
    kinds = [{"until": [".", ","], "max_gen_toks": 30}, {"max_gen_toks": 8, "until": "\n"}]
    contexts = ["Once upon a time", "The fox said"]
    requests = [asked(text, dict(kind)) for text in contexts for kind in kinds]
    penalty = model.generation_config["repetition_penalty"]
    expected = [
        model.generate(
            text, max_tokens=kind["max_gen_toks"], stop=kind["until"], repetition_penalty=penalty
        )
        for text in contexts
        for kind in kinds
    ]
    assert lm.generate_until(requests) == expected
    assert [request.args[1] for request in requests] == kinds + kinds  # they belong to lm-eval


def test_an_answer_begins_after_the_thoughts(model: BitNetModel) -> None:
    plain = RyzansteinLM(model, progress=lambda *_: None)
    request = asked("Once upon a time", {"max_gen_toks": 30})
    (whole,) = plain.generate_until([request])
    word = whole.split()[3]
    thinks = RyzansteinLM(model, think_end_token=word, progress=lambda *_: None)
    assert thinks.generate_until([request]) == [whole.split(word)[-1].lstrip()]
    token = encode(f" {word}")[0]
    counted = RyzansteinLM(model, think_end_token=str(token), progress=lambda *_: None)
    ids = model.tokenize(whole, add_special_tokens=False)
    last = len(ids) - ids[::-1].index(token)
    assert counted.generate_until([request]) == [model.detokenize(ids[last:]).lstrip()]
    scorer = RyzansteinLM(model, think_end_token=word, enable_thinking=True)
    with pytest.raises(errors.InvalidParameterError, match="enable_thinking must not be True"):
        scorer.loglikelihood([asked("Once", " upon")])


def test_chat_templates_are_the_checkpoints_or_an_argument(model: BitNetModel) -> None:
    template = "{% for m in messages %}[{{ m.content }}]{% endfor %}{{ enable_thinking }}"
    lm = RyzansteinLM(
        model, chat_template=template, enable_thinking=False, chat_template_args={"a": 1}
    )
    assert lm.apply_chat_template([{"role": "user", "content": "Why?"}]) == "[Why?]False"
    assert (lm.chat_template(False), lm.chat_template(True)) == (None, template)
    with pytest.raises(errors.InvalidParameterError, match="chat_template=other"):
        lm.chat_template("other")
    with pytest.raises(errors.ChatTemplateError):
        RyzansteinLM(model).chat_template(True)


# ---- lm-eval's cache and bars --------------------------------------------------------------


def test_results_go_into_the_cache_under_lm_evals_names(lm: Any, model: BitNetModel) -> None:
    kept: list[tuple[Any, ...]] = []

    class Hook(CacheHook):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__(None)

        def add_partial(self, *entry: Any) -> None:
            kept.append(entry)

    lm.set_cache_hook(Hook())
    options = {"max_gen_toks": 3}
    (score,) = lm.loglikelihood([asked("Once", " upon")])
    (text,) = lm.generate_until([asked("Once", options)])
    (total,) = lm.loglikelihood_rolling([asked("Once upon")])
    assert kept == [
        ("loglikelihood", ("Once", " upon"), score),
        ("generate_until", ("Once", options), text),
        ("loglikelihood_rolling", ("Once upon",), total),
    ]


def test_progress_is_told_or_drawn(model: BitNetModel, capsys: pytest.CaptureFixture[str]) -> None:
    seen: list[Any] = []
    RyzansteinLM(model, progress=lambda *each: seen.append(each)).loglikelihood([asked("A", " b")])
    assert seen[-1] == (1, 1, "scoring")
    assert capsys.readouterr().err == ""
    RyzansteinLM(model).loglikelihood([asked("A", " b")], disable_tqdm=True)
    assert capsys.readouterr().err == ""
    RyzansteinLM(model).loglikelihood([asked("A", " b")])
    assert "scoring: 100%" in capsys.readouterr().err


def test_the_command_of_lm_eval_runs_it(tmp_path: Path) -> None:
    (tmp_path / "docs.jsonl").write_text('{"text": "Once upon a time"}\n', encoding="utf-8")
    (tmp_path / "task.yaml").write_text(
        "task: tale\ndataset_path: json\n"
        f"dataset_kwargs: {{data_files: {{test: {tmp_path / 'docs.jsonl'}}}}}\n"
        "test_split: test\noutput_type: loglikelihood_rolling\n"
        'doc_to_text: ""\ndoc_to_target: "{{text}}"\n'
        "metric_list: [{metric: bits_per_byte}]\n",
        encoding="utf-8",
    )
    module = ["-m", "ryzanstein_llm.integrations.lm_eval", "--model", "ryzanstein"]
    given = ["--model_args", "n_threads=1", "--tasks", str(tmp_path / "task.yaml")]
    done = subprocess.run(
        [sys.executable, *module, *given],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        env={**os.environ, "HF_DATASETS_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"},
    )
    assert "|tale |" in done.stdout, done.stderr
    assert "bits_per_byte" in done.stdout
