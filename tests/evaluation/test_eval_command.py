"""`ryzanstein-llm eval` and `evaluate`: tasks of lm-eval in files on this machine. Needs the extra
`eval`, but for what it says without."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from extras import needs_extra
from harness_tasks import write_task

from ryzanstein_llm import BitNetModel, errors
from ryzanstein_llm.cli import main
from ryzanstein_llm.evaluation import EvaluationReport

CHOICES = [
    {"context": "Once upon a time", "choices": [" there was a king", " zebra"], "label": 0},
    {"context": "Once upon a ", "choices": ["banana", "time"], "label": 0},
    {"context": "The king had three", "choices": [" sons", " zebra", " of"], "label": 0},
]
CHOICE = {
    "output_type": "multiple_choice",
    "doc_to_text": "{{context}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "label",
    "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
}


@pytest.fixture
def lm_eval(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        needs_extra("eval", "lm_eval", "datasets")
        import datasets

        from ryzanstein_llm.integrations import lm_eval
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    return lm_eval


@pytest.fixture
def task(tmp_path: Path) -> Path:
    return write_task(tmp_path, "choice", CHOICES, **CHOICE)


@pytest.fixture(scope="module")
def model() -> Iterator[BitNetModel]:
    with BitNetModel(n_threads=1) as opened:
        yield opened


def run(*arguments: str) -> int:
    return main(["eval", "--threads", "1", *arguments])


def expected(model: BitNetModel) -> float:
    """The share of documents whose label is the likeliest choice."""
    hits = [
        model.choose(each["context"], each["choices"]).index == each["label"] for each in CHOICES
    ]
    return sum(hits) / len(hits)


# ---- what it prints ------------------------------------------------------------------------


def test_a_table_of_scores(
    lm_eval: Any, task: Path, model: BitNetModel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("--tasks", str(task)) == 0
    out, err = capsys.readouterr()
    assert err == ""  # neither messages nor bars of others
    head, first, second = (line.split() for line in out.splitlines())
    assert head == ["task", "metric", "value", "error", "examples", "documents"]
    assert first[:3] == ["choice", "acc", f"{expected(model):.4f}"]
    assert first[4:] == ["0", "3"]
    assert second[:2] == ["choice", "acc_norm"]


def test_git_does_not_complain_outside_of_a_clone(
    lm_eval: Any, task: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(task.parent)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(task.parent.parent))
    assert run("--tasks", str(task)) == 0
    assert capfd.readouterr().err == ""


def test_the_name_of_a_task_of_the_hub_names_the_command_of_lm_eval(
    lm_eval: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "--tasks", "hellaswag")
    assert "hellaswag: no such task file; tasks whose data are on the hub need the command" in said
    assert said.endswith("ryzanstein_llm.integrations.lm_eval --model ryzanstein --tasks hellaswag")
    assert refused(capsys, "--tasks", "none.yaml").endswith("none.yaml: no such task file")


def test_json_has_what_lm_eval_returns(
    lm_eval: Any, task: Path, model: BitNetModel, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(model.path), "--json", "--tasks", str(task)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    found = json.loads(out)
    assert found["results"]["choice"]["acc,none"] == pytest.approx(expected(model))
    assert found["n-samples"]["choice"] == {"original": 3, "effective": 3}
    assert found["config"]["model_path"] == str(model.path)


def test_the_number_of_documents_and_examples_can_be_chosen(
    lm_eval: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = write_task(tmp_path, "few", CHOICES, **CHOICE, fewshot_split="test")
    assert run("--json", "--limit", "2", "--num-fewshot", "1", "--tasks", str(task)) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["n-samples"]["few"]["effective"] == 2
    assert found["n-shot"]["few"] == 1


def test_a_task_without_examples_keeps_them_out(
    lm_eval: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = write_task(tmp_path, "bare", CHOICES, **CHOICE, fewshot_split="test", num_fewshot=0)
    assert run("--json", "--num-fewshot", "1", "--tasks", str(task)) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["n-shot"]["bare"] == 0
    assert "bare: num_fewshot stays 0" in err


def test_several_files_are_several_tasks(
    lm_eval: Any, tmp_path: Path, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = write_task(
        tmp_path, "text", [{"text": "Once upon a time there was a king."}],
        output_type="loglikelihood_rolling", doc_to_text="", doc_to_target="{{text}}",
        metric_list=[{"metric": "word_perplexity"}, {"metric": "bits_per_byte"}],
    )  # fmt: skip
    assert run("--tasks", str(task), str(other)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["choice", "choice", "text", "text"]


def test_a_perplexity_has_an_error_and_prints_nothing_else(
    lm_eval: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = [{"text": "Once upon a", "word": " time"}, {"text": "The", "word": " king"}]
    task = write_task(
        tmp_path, "word", documents, output_type="loglikelihood", doc_to_text="{{text}}",
        doc_to_target="{{word}}", metric_list=[{"metric": "perplexity"}, {"metric": "acc"}],
    )  # fmt: skip
    assert run("--json", "--tasks", str(task)) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert json.loads(out)["results"]["word"]["perplexity_stderr,none"] > 0


def test_data_may_lie_beside_the_file_or_where_the_program_runs(
    lm_eval: Any, tmp_path: Path, task: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    assert lm_eval.load_tasks([task])["choice"].dataset["test"].num_rows == 3
    moved = task.rename(elsewhere / "moved.yaml")
    monkeypatch.chdir(tmp_path)
    assert lm_eval.load_tasks([moved])["choice"].dataset["test"].num_rows == 3


# ---- what is wrong -------------------------------------------------------------------------


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert run(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()[-1]


def test_without_the_extra_the_command_that_installs_it_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [
        name for name in sys.modules if name.startswith("ryzanstein_llm.integrations.lm_eval")
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "lm_eval", None)
    monkeypatch.delattr("ryzanstein_llm.integrations.lm_eval", raising=False)
    said = refused(capsys, "--tasks", "some.yaml")
    assert said.endswith('pip install "ryzanstein_llm[eval]"')
    with pytest.raises(errors.MissingExtraError):
        import ryzanstein_llm.integrations.lm_eval  # noqa: F401


def test_tasks_are_needed_and_a_model_is_named_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert "--tasks is missing" in refused(capsys)
    assert "MODEL and -m exclude each other" in refused(capsys, "a", "-m", "b", "--tasks", "c")


@pytest.mark.parametrize(
    ("config", "problem"),
    [
        ({"dataset_path": "super_glue"}, "dataset_path 'super_glue' is neither a local path nor"),
        ({"dataset_kwargs": {"data_files": "https://a.org/b.json"}}, "is not on this machine"),
        ({"dataset_kwargs": {"data_files": "none.jsonl"}}, "none.jsonl"),
        ({"metric_list": [{"metric": "beauty"}]}, "lm-eval has no metric 'beauty' of its own"),
        ({"output_type": "poem"}, "poem"),
        ({"task": None}, "'task' or 'group' must be a name"),
        ({"doc_to_text": "{{context"}, "lm-eval"),
    ],
)
def test_a_wrong_task_is_an_error_with_its_file(
    lm_eval: Any, tmp_path: Path, config: dict[str, Any], problem: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    task = write_task(tmp_path, "wrong", CHOICES, **{**CHOICE, **config})
    said = refused(capsys, "--tasks", str(task))
    assert problem in said
    assert "wrong" in said


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [", "cannot read it"),
        ("[1]", "cannot read it"),
        ("", "cannot read it"),
        ("a: 1", "name"),
    ],
)
def test_a_file_that_is_no_task_is_an_error(
    lm_eval: Any, tmp_path: Path, text: str, problem: str, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bad.yaml").write_text(text, encoding="utf-8")
    said = refused(capsys, "--tasks", str(tmp_path / "bad.yaml"))
    assert problem in said
    assert "bad.yaml" in said


def test_a_missing_file_is_an_error_before_the_model_is_opened(
    lm_eval: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    said = refused(capsys, "no-such-model", "--tasks", "none.yaml")
    assert "none.yaml: no such task file" in said


def test_options_are_named_as_they_were_typed(
    lm_eval: Any, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "--limit must be in" in refused(capsys, "--limit", "0", "--tasks", str(task))
    said = refused(capsys, "--num-fewshot", "-1", "--tasks", str(task))
    assert "--num-fewshot must be in" in said


def test_a_chat_needs_a_template(
    lm_eval: Any, task: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "chat template" in refused(capsys, "--apply-chat-template", "--tasks", str(task))


def test_tasks_with_one_name_are_refused(lm_eval: Any, task: Path) -> None:
    with pytest.raises(errors.TaskFileError, match="a task 'choice' in an earlier file"):
        lm_eval.load_tasks([task, task])
    for wrong in (str(task), []):
        with pytest.raises(errors.InvalidParameterError, match="tasks must be a list of files"):
            lm_eval.load_tasks(wrong)


# ---- API.md --------------------------------------------------------------------------------


def test_the_example_of_the_document_prints_what_it_says(
    lm_eval: Any, model: BitNetModel, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    document = (Path(__file__).parents[2] / "API.md").read_text(encoding="utf-8")
    section = document.partition("## Evaluation with lm-eval\n")[2].partition("\n## ")[0]
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", section, re.M | re.S)
    assert [language for language, _ in blocks][:4] == ["yaml", "json", "python", "text"]
    task, documents, program, printed = (text for _, text in blocks[:4])
    (tmp_path / "animals.yaml").write_text(task, encoding="utf-8")
    (tmp_path / "animals.jsonl").write_text(documents, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    exec(compile(program, "API.md", "exec"), {"model": model})
    assert capsys.readouterr().out == printed


# ---- the report ----------------------------------------------------------------------------


def test_the_report_shows_numbers_only() -> None:
    results = {
        "results": {
            "one": {
                "alias": "one", "sample_len": 5, "acc,none": 0.5, "acc_stderr,none": 0.25,
                "exact_match,first": 1.0, "exact_match_stderr,first": "N/A", "note,none": "text",
            }
        },
        "n-shot": {"one": 2},
        "configs": {"one": object()},
    }  # fmt: skip
    report = EvaluationReport(results)
    assert list(report.scores()) == [
        ("one", "acc", "none", 0.5, 0.25),
        ("one", "exact_match", "first", 1.0, None),
    ]
    assert "exact_match (first)" in report.text()
    assert repr(report) == "EvaluationReport(1 task: one acc 0.5000, one exact_match 1.0000)"
    assert "0.5000" in report._repr_html_()
    assert set(json.loads(json.dumps(report.to_dict()))) == {"results", "n-shot"}
