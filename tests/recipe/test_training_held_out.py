"""What is held out of training: from the texts as a whole, and never trained on."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from ryzanstein_llm.errors import CheckpointNotFoundError, InvalidParameterError
from training.corpus import Corpus, read_corpus
from training.held_out import BLOCK, REPEATED, SHARE, hold_out


def folder(path: Path, **texts: str) -> Path:
    for name, text in texts.items():
        (path / f"{name}.txt").write_text(text, encoding="utf-8")
    return path


def paragraphs(name: str, count: int, words: int = 30) -> list[str]:
    """Each with its newline, and each another one."""
    chance = random.Random(name)
    return [
        f"{name} {number} {' '.join(str(chance.random()) for _ in range(words))}\n"
        for number in range(count)
    ]


def book(name: str, count: int = 400, words: int = 30) -> str:
    return "".join(paragraphs(name, count, words))


def share(corpus: Corpus) -> float:
    """Of the text that is held out."""
    trained = sum(map(len, corpus.training.values()))
    return len(corpus.validation) / (len(corpus.validation) + trained)


class TestWithoutAValidationFile:
    def test_a_twentieth_of_the_text_is_held_out(self, tmp_path: Path) -> None:
        found = read_corpus(folder(tmp_path, a=book("a"), b=book("b", 2000)), None)
        assert SHARE <= share(found) < SHARE * 1.1

    def test_every_paragraph_is_either_trained_on_or_held_out(self, tmp_path: Path) -> None:
        texts = {"a": paragraphs("a", 400), "b": paragraphs("b", 900)}
        found = read_corpus(folder(tmp_path, **{k: "".join(v) for k, v in texts.items()}), None)
        held_out = found.validation.splitlines(keepends=True)
        for name, lines in texts.items():
            trained = found.training[f"{name}.txt"].splitlines(keepends=True)
            assert trained == [line for line in lines if line not in held_out]
        assert set(held_out) <= {*texts["a"], *texts["b"]}

    def test_it_comes_from_everywhere_in_all_files(self, tmp_path: Path) -> None:
        """Not from the ends of files, not from some of them; as far as chance spreads it."""
        names = [f"book{number}" for number in range(8)]
        found = read_corpus(folder(tmp_path, **{name: book(name, 1500) for name in names}), None)
        places = [line.split()[:2] for line in found.validation.splitlines()]
        assert {name for name, _ in places} == set(names)
        quarters = [int(number) * 4 // 1500 for _, number in places]
        for quarter in range(4):
            assert 0.1 < quarters.count(quarter) / len(quarters) < 0.5

    def test_paragraphs_stay_together_in_blocks(self) -> None:
        """For a context should be filled with one text."""
        divided = hold_out({"a": book("a", 1000)})
        assert divided is not None
        _, blocks = divided
        assert len(blocks) > 5
        assert all(BLOCK <= len(block) < BLOCK + 1000 for block in blocks)
        for block in blocks:
            numbers = [int(line.split()[1]) for line in block.splitlines()]
            assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))

    @pytest.mark.parametrize("count", [1, 2])
    def test_files_of_one_paragraph_are_texts_too(self, tmp_path: Path, count: int) -> None:
        texts = {f"chat{number}": book(f"chat{number}", count) for number in range(300)}
        assert share(read_corpus(folder(tmp_path, **texts), None)) == pytest.approx(SHARE, abs=0.01)

    def test_a_small_text_gives_what_its_paragraphs_allow(self, tmp_path: Path) -> None:
        found = read_corpus(folder(tmp_path, a=book("a", 12, 9)), None)
        assert found.places == 1
        assert 0.05 < share(found) < 0.1

    def test_one_long_paragraph_does_not_take_all(self, tmp_path: Path) -> None:
        texts = {f"a{number}": book(f"a{number}", 1) for number in range(100)}
        found = read_corpus(folder(tmp_path, long="word " * 6000 + "\n", **texts), None)
        assert "long.txt" in found.training
        assert 0.025 < share(found) < 0.1

    def test_the_choice_is_the_same_each_time_and_for_each_order(self, tmp_path: Path) -> None:
        first, second = tmp_path / "first", tmp_path / "second"
        for path in (first, second):
            path.mkdir()
        folder(first, a=book("x"), b=book("y"))
        folder(second, a=book("y"), b=book("x"))
        one, other = (read_corpus(path, None).validation for path in (first, second))
        assert sorted(one.splitlines()) == sorted(other.splitlines())

    def test_more_texts_leave_the_choice_nearly_as_it_was(self, tmp_path: Path) -> None:
        """So that a model that goes on with more texts has read little of what is held out."""
        folder(tmp_path, a=book("a", 3000))
        before = read_corpus(tmp_path, None)
        folder(tmp_path, b=book("b", 3000))
        after = read_corpus(tmp_path, None)
        known = set(before.training["a.txt"].splitlines())
        read = [line for line in after.validation.splitlines() if line in known]
        assert len(read) < len(after.validation.splitlines()) / 3

    def test_a_copy_of_what_is_held_out_is_not_trained_on(self, tmp_path: Path) -> None:
        texts = paragraphs("a", 400)
        reversed_copy = "".join(reversed(texts))  # in other blocks
        found = read_corpus(folder(tmp_path, a="".join(texts), b=reversed_copy), None)
        trained = {line for text in found.training.values() for line in text.splitlines()}
        assert not trained & set(found.validation.splitlines())

    def test_short_paragraphs_may_occur_on_both_sides(self, tmp_path: Path) -> None:
        lines = "".join(f'{line}"Yes."\n' for line in paragraphs("a", 400))
        found = read_corpus(folder(tmp_path, a=lines), None)
        assert len('"Yes."') < REPEATED
        assert found.validation.count('"Yes."') > 5
        assert found.training["a.txt"].count('"Yes."') > 300

    @pytest.mark.parametrize("text", ["One paragraph, " * 900, book("a", 5), "Short.\n"])
    def test_too_few_paragraphs_are_refused(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(InvalidParameterError, match=r"cannot hold out .*--valid"):
            read_corpus(folder(tmp_path, a=text), None)


class TestWithAValidationFile:
    def test_it_is_held_out_whole(self, tmp_path: Path) -> None:
        corpus = read_corpus(folder(tmp_path, a="A.\n", b="B.\n"), "b.txt")
        assert (corpus.training, corpus.validation) == ({"a.txt": "A.\n"}, "B.\n")

    def test_a_copy_of_it_is_not_trained_on(self, tmp_path: Path) -> None:
        texts = paragraphs("b", 3)
        found = read_corpus(folder(tmp_path, a="A.\n" + texts[1], b="".join(texts)), "b.txt")
        assert found.training == {"a.txt": "A.\n"}

    def test_it_must_be_there_and_have_text(self, tmp_path: Path) -> None:
        folder(tmp_path, a="A.\n", b="\n")
        with pytest.raises(CheckpointNotFoundError, match=r"no file 'c\.txt'"):
            read_corpus(tmp_path, "c.txt")
        with pytest.raises(InvalidParameterError, match=r"b\.txt: no text to validate with"):
            read_corpus(tmp_path, "b.txt")

    def test_there_must_be_something_else_to_train_on(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidParameterError, match=r"no text to train on besides a\.txt"):
            read_corpus(folder(tmp_path, a="A.\n"), "a.txt")


class TestFolder:
    def test_a_readme_is_not_a_text(self, tmp_path: Path) -> None:
        corpus = read_corpus(folder(tmp_path, a="A.\n", b="B.\n", README="No.\n"), "b.txt")
        assert list(corpus.training) == ["a.txt"]

    def test_files_without_text_are_named(self, tmp_path: Path) -> None:
        corpus = read_corpus(folder(tmp_path, a="A.\n", b="B.\n", c=" \n"), "b.txt")
        assert corpus.empty == ("c.txt",)
        assert list(corpus.training) == ["a.txt"]

    def test_the_digest_is_that_of_texts_and_choice(self, tmp_path: Path) -> None:
        folder(tmp_path, a="A.\n", b="B.\n")
        first = read_corpus(tmp_path, "b.txt").digest
        assert read_corpus(tmp_path, "b.txt").digest == first
        assert read_corpus(tmp_path, "a.txt").digest != first
        folder(tmp_path, a="C.\n")
        assert read_corpus(tmp_path, "b.txt").digest != first

    def test_what_is_wrong_with_it_is_said(self, tmp_path: Path) -> None:
        with pytest.raises(CheckpointNotFoundError, match="absent: no such folder"):
            read_corpus(tmp_path / "absent", None)
        with pytest.raises(CheckpointNotFoundError, match=r"no \.txt files"):
            read_corpus(tmp_path, None)
        folder(tmp_path, a="", b="\n \n")
        with pytest.raises(InvalidParameterError, match="no text in its 2 files"):
            read_corpus(tmp_path, None)
        with pytest.raises(InvalidParameterError, match=r"a\.txt: is a file"):
            read_corpus(tmp_path / "a.txt", None)

    def test_other_encodings_are_refused_by_name(self, tmp_path: Path) -> None:
        (tmp_path / "latin.txt").write_bytes(b"caf\xe9\n")
        with pytest.raises(InvalidParameterError, match=r"latin\.txt: not UTF-8"):
            read_corpus(tmp_path, None)
