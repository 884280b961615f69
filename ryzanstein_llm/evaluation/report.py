"""What an evaluation gives back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..notebook import as_html
from ..text_table import WIDTH, Table, as_text, plural

__all__ = ["EvaluationReport"]

KEPT = (
    "results", "groups", "group_subtasks", "versions", "n-shot", "higher_is_better", "n-samples",
    "lm_eval_version", "config",
)  # fmt: skip


@dataclass(frozen=True, repr=False)
class EvaluationReport:
    """Scores of tasks.

    Attributes
    ----------
    results : dict
        As lm-eval returns it: `results["results"]["my_task"]["acc,none"]` is the value of the
        metric `acc` with the filter `none`, and `acc_stderr,none` its standard error.
    """

    results: dict[str, Any]

    def scores(self) -> Iterator[tuple[str, str, str, float, float | None]]:
        """(task, metric, filter, value, standard error or None) of each score."""
        for task, found in self.results["results"].items():
            for key, value in found.items():
                metric, comma, name = key.partition(",")
                if not comma or metric.endswith("_stderr") or not _is_number(value):
                    continue
                error = found.get(f"{metric}_stderr,{name}")
                yield task, metric, name, value, error if _is_number(error) else None

    def text(self, width: int = WIDTH) -> str:
        """A table for people, no wider than `width` unless a single value is."""
        lines = [["task", "metric", "value", "error", "examples", "documents"]]
        for task, metric, name, value, error in self.scores():
            shown = metric if name == "none" else f"{metric} ({name})"
            counts = self.results.get("n-samples", {}).get(task, {})
            lines.append([
                task, shown, f"{value:.4f}", "" if error is None else f"{error:.4f}",
                str(self.results.get("n-shot", {}).get(task, "")), str(counts.get("effective", "")),
            ])  # fmt: skip
        return as_text([Table("", lines, keys=2)], width)

    def to_dict(self) -> dict[str, Any]:
        """The same as values that JSON has, without the configurations of the tasks."""
        return {name: _plain(self.results[name]) for name in KEPT if name in self.results}

    def __repr__(self) -> str:
        found = plural(len(self.results["results"]), "task")
        values = ", ".join(
            f"{task} {metric} {value:.4f}" for task, metric, _, value, _ in self.scores()
        )
        return f"EvaluationReport({found}: {values})"

    def _repr_html_(self) -> str:
        facts = {f"{task}, {metric}": f"{value:.4f}" for task, metric, _, value, _ in self.scores()}
        return as_html("EvaluationReport", facts)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    item = getattr(value, "item", None)  # of NumPy
    return _plain(item()) if callable(item) else str(value)
