"""What a run says: times, sizes, prompts, and what to type next."""

from __future__ import annotations

import dataclasses
import shlex
import sys
from pathlib import Path

import pytest

from ryzanstein_llm.cli import program
from ryzanstein_llm.errors import InvalidParameterError
from training import suggestions
from training.command import parser
from training.pace import STEPS, Pace
from training.prompts import read_prompts, text_prompts
from training.settings import Budget, Settings
from training.words import count, duration, size


class TestNumbers:
    def test_times(self) -> None:
        times = {0: "0 s", 95.4: "95 s", 120: "2 min", 3599: "1 h 00 min", 5000: "1 h 23 min"}
        assert {seconds: duration(seconds) for seconds in times} == times
        assert duration(None) == "?"

    def test_counts_and_sizes(self) -> None:
        assert [count(n, "step") for n in (0, 1, 1204)] == ["0 steps", "1 step", "1,204 steps"]
        found = [size(number) for number in (1, 950, 329_400, 20_780_000)]
        assert found == ["1 byte", "950 bytes", "329 KB", "20.8 MB"]

    def test_budgets(self) -> None:
        budgets = (Budget(minutes=1), Budget(minutes=2.5), Budget(steps=4000))
        assert [str(b) for b in budgets] == ["1 minute", "2.5 minutes", "4,000 steps"]


class TestTimeLeft:
    def test_of_minutes_it_is_what_the_budget_leaves(self) -> None:
        pace = Pace(Budget(minutes=2), seconds=30)
        assert pace.left(0) == 90
        pace.add(15)
        assert (pace.seconds, pace.left(1)) == (45, 75)
        pace.add(100)
        assert pace.left(2) == 0

    def test_of_steps_it_follows_from_the_speed(self) -> None:
        pace = Pace(Budget(steps=10))
        assert pace.left(0) is None
        pace.add(2)
        pace.add(4)
        assert pace.step_seconds == 3
        assert pace.left(2) == 8 * 3

    def test_only_the_last_steps_count_for_the_speed(self) -> None:
        pace = Pace(Budget(steps=1000))
        for _ in range(50):
            pace.add(9.0)
        for _ in range(STEPS):
            pace.add(2.0)
        assert pace.left(50 + STEPS) == (1000 - 50 - STEPS) * 2.0


class TestPrompts:
    def test_they_are_beginnings_of_paragraphs_from_the_whole_text(self) -> None:
        lines = [
            f"Paragraph {number} goes on for quite a while {'so ' * 20}" for number in range(90)
        ]
        found = text_prompts("".join(f"{line}\n" for line in lines))
        assert found[:2] == ["Paragraph 0 goes on for quite", "Paragraph 4 goes on for quite"]
        assert len(found) == 20
        assert found[-1].startswith("Paragraph 85 ")

    def test_headings_are_passed_over(self) -> None:
        text = f"CHAPTER I\n{'It rained a great deal that year ' * 5}\n"
        assert text_prompts(text) == ["It rained a great deal that"]

    def test_without_spaces_they_are_characters(self) -> None:
        text = "".join(chr(0x4E00 + number) for number in range(300))
        assert text_prompts(text + "\n") == [text[:40]]

    @pytest.mark.parametrize("text", ["A\n", "One.\nTwo.\n", "No newline"])
    def test_the_shortest_text_has_one(self, text: str) -> None:
        found = text_prompts(text)
        assert found
        assert all(prompt and any(line.startswith(prompt) for line in text.splitlines())
                   for prompt in found)  # fmt: skip

    def test_a_file_has_one_a_line(self, tmp_path: Path) -> None:
        file = tmp_path / "prompts.txt"
        file.write_text("One\n\nTwo \n")
        assert read_prompts(file) == ["One", "Two "]
        file.write_text(" \n")
        with pytest.raises(InvalidParameterError, match=r"prompts\.txt: no prompts"):
            read_prompts(file)

    def test_those_of_the_demo_model_are_twenty(self) -> None:
        assert len(set(read_prompts(Path(suggestions.__file__).parent / "demo/prompts.txt"))) == 20


class TestSuggestions:
    def words(self, line: str, program: str) -> list[str]:
        found = shlex.split(line)
        assert Path(found[0]).name.startswith(program)
        return found[1:]

    def test_a_run_is_resumed_by_the_same_command(self) -> None:
        typed = ["train", "my texts", "model", "--minutes", "2"]
        assert self.words(suggestions.resume(typed), "python") == ["-m", "training", *typed]

    def test_python_is_named_so_that_the_shell_finds_this_one(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("PATH", "")
        assert shlex.split(suggestions.resume([]))[0] == sys.executable
        monkeypatch.setenv("PATH", str(Path(sys.executable).parent))
        assert shlex.split(suggestions.resume([]))[0] == "python"

    def test_a_finished_run_is_tried_and_trained_further(self, tmp_path: Path) -> None:
        """The lines are accepted by the programs they name."""
        directory = tmp_path / "my model"
        (tmp_path / "my model-2").mkdir()
        settings = Settings(budget=Budget(minutes=20), validation="b.txt", learning_rate=3e-3)
        first, second = suggestions.after(tmp_path, directory, settings, 'Say "yes",')
        name, *arguments = self.words(first, "ryzanstein-llm")
        parent = program.make_context("ryzanstein-llm", [name, *arguments])
        given = program.commands[name].make_context(name, arguments, parent=parent).params
        assert (given["words"], given["path"]) == (('Say "yes",',), str(directory / "packed"))
        train = parser().parse_args(self.words(second, "python")[2:])
        assert (train.texts, train.origin) == (tmp_path, directory / "bf16")
        assert train.directory == tmp_path / "my model-3"  # my model-2 is taken
        assert (train.minutes, train.validation) == (20, "b.txt")
        assert train.learning_rate == pytest.approx(2e-3)
        steps = dataclasses.replace(settings, budget=Budget(steps=7))
        assert "--steps 7" in suggestions.after(tmp_path, directory, steps, "")[1]

    @pytest.mark.parametrize(
        ("directory", "following"),
        [("a", "a-2"), ("a-2", "a-3"), ("b/a-09", "b/a-10"), ("2", "2-2")],
    )
    def test_directories_are_numbered(self, directory: str, following: str) -> None:
        _, line = suggestions.after(Path("texts"), Path(directory), Settings(), "")
        assert parser().parse_args(self.words(line, "python")[2:]).directory == Path(following)

    def test_a_teacher_is_to_be_learnt_from(self) -> None:
        (line,) = suggestions.after(Path("texts"), Path("big"), Settings(ternary=False), "")
        train = parser().parse_args(self.words(line, "python")[2:])
        assert train.teacher == [Path("big")]
