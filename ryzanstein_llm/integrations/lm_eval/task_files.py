"""Tasks of lm-eval in files on this machine: reading them, and running them without the hub."""

from __future__ import annotations

import contextlib
import glob
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import lm_eval
from lm_eval import evaluator
from lm_eval.api.registry import METRIC_REGISTRY
from lm_eval.loggers.utils import get_commit_from_path
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from ...errors import CheckpointNotFoundError, InvalidParameterError, RyzansteinError, TaskFileError
from ...evaluation import EvaluationReport
from ...validation import check_bool, check_int
from .adapter import RyzansteinLM

__all__ = ["evaluate", "load_tasks"]

log = logging.getLogger(__name__)

BUILDERS = ("arrow", "csv", "json", "pandas", "parquet", "text", "xml")
"""What `dataset_path` may name besides a path: readers of files that come with `datasets`."""

RESAMPLES = 1000
"""For errors of means that have no formula, such as that of a perplexity."""


Files = Sequence[str | os.PathLike[str]]


def load_tasks(files: Files) -> dict[str, Any]:
    """The tasks in files of lm-eval, with their data.

    Parameters
    ----------
    files : sequence of path
        YAML, with a `dataset_path` that names a reader such as `json`, or a local path. Relative
        paths in `data_files` and `data_dir` begin at the file, or if there is nothing, where the
        program runs.

    Returns
    -------
    dict from the name of a task to the task

    Raises
    ------
    CheckpointNotFoundError
        If there is no such file.
    TaskFileError
        If a file or its data cannot be read, or if a task would need the hub.
    """
    if isinstance(files, (str, bytes, os.PathLike)) or not files:
        raise InvalidParameterError(f"must be a list of files, not {files!r}", "tasks")
    manager = TaskManager(include_defaults=False)
    tasks: dict[str, Any] = {}
    for file in files:
        for name, task in _load(manager, Path(file)).items():
            if name in tasks:
                raise TaskFileError(f"{file}: there is a task {name!r} in an earlier file, too")
            tasks[name] = task
    return tasks


def evaluate(
    model: RyzansteinLM,
    tasks: Files | Mapping[str, Any],
    *,
    limit: int | None = None,
    num_fewshot: int | None = None,
    apply_chat_template: bool = False,
) -> EvaluationReport:
    """Run tasks whose files and data are on this machine.

    Parameters
    ----------
    model : RyzansteinLM
    tasks : sequence of path, or what `load_tasks` returns
        Loaded tasks can be run once.
    limit : int >= 1, optional
        Documents of each task.
    num_fewshot : int >= 0, optional
        Examples in front of each question; overrides what the tasks say, unless they say 0.
    apply_chat_template : bool
        Whether questions become conversations, with the checkpoint's chat template.

    Raises
    ------
    InvalidParameterError
    TaskFileError
        If lm-eval cannot run a task.
    RyzansteinError
        What `load_tasks` and the model raise.
    """
    if limit is not None:
        check_int("limit", limit, 1, 1 << 62)
    if num_fewshot is not None:
        check_int("num_fewshot", num_fewshot, 0, 1 << 20)
    chat = check_bool("apply_chat_template", apply_chat_template)
    loaded = tasks if isinstance(tasks, Mapping) else load_tasks(tasks)
    fixed = [name for name, task in loaded.items() if task.get_config("num_fewshot") == 0]
    if num_fewshot and fixed:  # so does lm-eval
        log.warning("%s: num_fewshot stays 0, as the task says", ", ".join(fixed))
    try:
        with _without_git():
            results = lm_eval.simple_evaluate(
                model=model,
                tasks=list(loaded.values()),
                task_manager=TaskManager(include_defaults=False),
                limit=limit,
                num_fewshot=num_fewshot,
                apply_chat_template=chat,
                fewshot_as_multiturn=chat,
                bootstrap_iters=RESAMPLES,
                log_samples=False,
            )
    except (RyzansteinError, MemoryError):
        raise
    except Exception as error:  # templates and functions of a task can raise anything
        raise TaskFileError(f"{', '.join(loaded)}: lm-eval failed: {_message(error)}") from error
    assert results is not None  # None is for other processes than the first
    return EvaluationReport(results)


@contextlib.contextmanager
def _without_git() -> Iterator[None]:
    """lm-eval notes the commit of the folder that it runs in. It asks git, which complains on
    standard error outside of a clone. So it takes the way here that it has where there is no git:
    it looks into the folder itself."""
    asked = evaluator.get_git_commit_hash
    evaluator.get_git_commit_hash = lambda: get_commit_from_path(os.getcwd())
    try:
        yield
    finally:
        evaluator.get_git_commit_hash = asked


def _load(manager: Any, file: Path) -> dict[str, Any]:
    """The tasks of a file by name."""
    if not file.is_file():
        named = len(file.parts) == 1 and not file.suffix  # and no path
        known = (
            "; tasks whose data are on the hub need the command of lm-eval: python -m "
            f"ryzanstein_llm.integrations.lm_eval --model ryzanstein --tasks {file}"
        )
        raise CheckpointNotFoundError(f"{file}: no such task file{known if named else ''}")
    try:
        config = load_yaml(file, resolve_func=True)
        if not isinstance(config.get("group", config.get("task")), str):
            raise TaskFileError(f"{file}: is no task of lm-eval: 'task' or 'group' must be a name")
        config = _local(config, file)
        found: dict[str, Any] = manager.load([config])["tasks"]
        return found
    except (RyzansteinError, MemoryError):
        raise
    except Exception as error:  # YAML, templates, data: each has errors of its own
        raise TaskFileError(f"{file}: lm-eval cannot read it: {_message(error)}") from error


def _local(config: dict[str, Any], file: Path) -> dict[str, Any]:
    """The same task with whole paths. Refuses what is not on this machine."""
    members = config.get("task")
    if isinstance(members, list):  # of a group
        config["task"] = [
            _local(dict(each), file) if isinstance(each, Mapping) else each for each in members
        ]
    for metric in config.get("metric_list") or ():
        name = metric.get("metric") if isinstance(metric, Mapping) else None
        if isinstance(name, str) and name not in METRIC_REGISTRY:
            raise TaskFileError(f"{file}: lm-eval has no metric {name!r} of its own")
    dataset = config.get("dataset_path")
    if dataset is not None and dataset not in BUILDERS:
        place = _place(dataset, file)
        if not isinstance(place, str) or not os.path.exists(place):
            raise TaskFileError(
                f"{file}: dataset_path {dataset!r} is neither a local path nor one of "
                f"{', '.join(BUILDERS)}; data of the hub are for the command of lm-eval"
            )
        config["dataset_path"] = place
    arguments = dict(config.get("dataset_kwargs") or {})
    for name in ("data_files", "data_dir"):
        if name in arguments:
            arguments[name] = _places(arguments[name], file)
    return {**config, "dataset_kwargs": arguments} if arguments else config


def _places(given: Any, file: Path) -> Any:
    """Paths, lists of paths, or either by the names of splits."""
    if isinstance(given, Mapping):
        return {split: _places(each, file) for split, each in given.items()}
    if isinstance(given, list):
        return [_places(each, file) for each in given]
    return _place(given, file)


def _place(given: Any, file: Path) -> Any:
    if not isinstance(given, str):
        return given
    if "://" in given:
        raise TaskFileError(f"{file}: {given!r} is not on this machine")
    beside = str(file.resolve().parent / given)
    return beside if glob.glob(beside, recursive=True) else given


def _message(error: Exception) -> str:
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
