"""Texts for training: cleaned, made into tokens, and cut into rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ryzanstein_llm.errors import InvalidParameterError
from training import vocabulary
from training.corpus import clean
from training.windows import Windows

TALE = Path(__file__).parent.parent / "data" / "validation_tale.txt"

BOS, EOS = 1000, 1001


class TestCleaning:
    def test_frame_of_project_gutenberg_goes_with_all_beyond_it(self) -> None:
        text = (
            "The Project Gutenberg eBook of Tales\n\nLicence\n\n"
            "*** START OF THE PROJECT GUTENBERG EBOOK TALES ***\n\nOnce.\n\nTwice.\n\n"
            "*** END OF THE PROJECT GUTENBERG EBOOK TALES ***\n\nMore licence\n"
        )
        assert clean(text) == "Once.\nTwice.\n"

    def test_wrapped_paragraphs_become_lines(self) -> None:
        assert clean("One\r\ntwo\r\n\r\n \r\nthree\tfour\r\n") == "One two\nthree four\n"

    def test_a_paragraph_a_line_stays(self) -> None:
        assert clean("One two.\nThree.\n") == "One two.\nThree.\n"

    def test_typography_becomes_plain(self) -> None:
        assert clean("“It’s late”—he said…\n") == '"It\'s late"--he said...\n'  # noqa: RUF001

    def test_entities_become_characters(self) -> None:
        assert clean("a&mdash;b &amp;c. &amp;amp; d\n") == "a--b &c. & d\n"

    def test_a_space_missing_after_a_comma_is_put_back(self) -> None:
        assert (
            clean("upside down, and,when it was 1,000\n") == "upside down, and, when it was 1,000\n"
        )


class TestVocabulary:
    @pytest.fixture
    def tokenizer(self) -> vocabulary.Tokenizer:
        return vocabulary.train([clean(TALE.read_text())], 400)

    def test_every_text_is_read_back(self, tokenizer: vocabulary.Tokenizer) -> None:
        for text in ("The miller's  wheel,\n\n stood.", "Größe 漢字 \U0001f98a \x00"):
            (ids,) = vocabulary.encode(tokenizer, [text])
            assert tokenizer.decode(ids.tolist()) == text

    def test_bos_stands_in_front_and_is_zero(self, tokenizer: vocabulary.Tokenizer) -> None:
        assert tokenizer.encode("The miller").ids[0] == vocabulary.BOS_ID == 0
        assert tokenizer.token_to_id(vocabulary.EOS) == vocabulary.EOS_ID == 1

    def test_bytes_of_ids_add_up_to_those_of_the_text(
        self, tokenizer: vocabulary.Tokenizer
    ) -> None:
        text = "The miller € Größe\n"
        (ids,) = vocabulary.encode(tokenizer, [text])
        assert vocabulary.byte_lengths(tokenizer)[ids].sum() == len(text.encode())

    def test_it_has_the_size_wanted_or_what_the_text_gives(
        self, tokenizer: vocabulary.Tokenizer
    ) -> None:
        assert tokenizer.get_vocab_size() == 400
        assert 258 <= vocabulary.train(["ab ab ab\n"], 400).get_vocab_size() < 270


class TestWindows:
    @pytest.fixture
    def windows(self) -> Windows:
        texts = [np.arange(0, 60, dtype=np.int32), np.arange(100, 137, dtype=np.int32)]
        return Windows(texts, 8, BOS, EOS, seed=3)

    def test_a_row_begins_with_bos_and_predicts_the_next_id(self, windows: Windows) -> None:
        inputs, targets = windows.batch(0, 5)
        assert inputs.shape == targets.shape == (5, 8)
        assert (inputs[:, 0] == BOS).all()
        np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])

    def test_parts_of_a_row_are_windows_of_their_own(self, windows: Windows) -> None:
        _, whole = windows.batch(3, 2)
        inputs, targets = windows.batch(3, 2, parts=4)
        assert inputs.shape == (8, 2)
        np.testing.assert_array_equal(targets, whole.reshape(8, 2))
        assert (inputs[:, 0] == BOS).all()
        np.testing.assert_array_equal(inputs[:, 1:], targets[:, :-1])

    def test_rows_are_runs_of_the_texts_with_eos_between(self, windows: Windows) -> None:
        whole = [*range(60), EOS, *range(100, 137), EOS]
        runs = {tuple(whole[at : at + 8]) for at in range(len(whole) - 7)}
        _, targets = windows.batch(0, 30)
        assert {tuple(row) for row in targets.tolist()} <= runs

    def test_no_id_comes_twice_in_an_epoch(self, windows: Windows) -> None:
        rows = windows.rows_per_epoch
        assert rows == 99 // 8 - 1
        for epoch in range(3):
            _, targets = windows.batch(epoch * rows, rows)
            ids = targets[targets != EOS]
            assert len(set(ids.tolist())) == len(ids)

    def test_epochs_differ_in_order_and_borders(self, windows: Windows) -> None:
        rows = windows.rows_per_epoch
        firsts = [set(windows.batch(epoch * rows, rows)[1][:, 0].tolist()) for epoch in range(4)]
        assert len({frozenset(first) for first in firsts}) > 1

    def test_rows_follow_from_their_number_alone(self, windows: Windows) -> None:
        together = windows.batch(7, 9)[1]  # across the border of epochs
        single = [windows.batch(7 + row, 1)[1][0] for row in reversed(range(9))][::-1]
        np.testing.assert_array_equal(together, single)

    def test_too_little_text_is_refused(self) -> None:
        with pytest.raises(InvalidParameterError, match="too few: a context of 8"):
            Windows([np.arange(9, dtype=np.int32)], 8, BOS, EOS, seed=0)
