"""What is guessed from the text before, what guesses are worth, and which of them pay."""

from __future__ import annotations

from ryzanstein_llm.engine.pass_costs import LEAST_GAIN, VALID, PassCosts
from ryzanstein_llm.engine.prompt_lookup import (
    LEAST_WEIGHTS,
    LONGEST,
    USUAL_GUESSES,
    PromptLookup,
    usual_guesses,
)


def guessed(tokens: list[int], most: int = 9) -> list[int]:
    return PromptLookup(most).draft(tokens, most).tokens


class TestGuesses:
    def test_they_are_what_followed_the_last_three_tokens(self):
        assert guessed([1, 2, 3, 7, 8, 9, 5, 1, 2, 3], 4) == [7, 8, 9, 5]

    def test_the_last_occurrence_counts(self):
        assert guessed([1, 2, 3, 7, 0, 1, 2, 3, 8, 0, 1, 2, 3], 1) == [8]

    def test_two_equal_tokens_are_too_few(self):
        assert guessed([1, 2, 3, 7, 8, 0, 2, 3]) == []

    def test_a_text_that_repeats_itself_is_guessed_further_than_it_goes(self):
        assert guessed([5, 6, 5, 6, 5, 6, 5], 6) == [6, 5, 6, 5, 6, 5]
        assert guessed([4, 4, 4, 4], 5) == [4] * 5

    def test_nothing_is_guessed_for_short_texts(self):
        for tokens in ([1], [1, 1], [0, 0, 0], [0, 1, 0]):
            assert guessed(tokens) == []

    def test_no_more_than_asked_for(self):
        lookup = PromptLookup(4)
        repeated = [1, 2, 3, 4, 5, 6, 7, 8, 9] * 3
        assert len(lookup.draft(repeated, 9).tokens) == 4
        assert lookup.draft(repeated, 2).tokens == [1, 2]
        assert lookup.draft(repeated, 0).tokens == []
        assert lookup.draft(repeated, -1).tokens == []

    def test_tokens_one_by_one_are_learnt_as_tokens_together(self):
        text = [1, 2, 3, 4, 1, 2, 3, 4, 1, 2, 9, 1, 2, 3, 4, 1, 2, 9, 1, 2, 9, 1]
        one_by_one, together = PromptLookup(8), PromptLookup(8)
        tokens = text[:2]
        together.draft(list(tokens), 8)
        for token in text[2:]:
            one_by_one.draft(tokens, 8)
            tokens.append(token)
        assert one_by_one.draft(tokens, 8) == together.draft(text, 8)

    def test_an_interrupt_while_it_learns_costs_at_most_a_guess(self):
        """The index may hold the last place already, which nothing follows yet."""
        lookup, tokens = PromptLookup(3), [1, 2, 3, 4, 1, 2, 3]
        lookup.draft(tokens[:-1], 3)
        lookup._places[(1 << 42) + (2 << 21) + 3] = len(tokens)
        assert lookup.draft(tokens, 3).tokens == []
        assert lookup.draft([*tokens, 4, 1, 2, 3], 3).tokens == [4, 1, 2]


class TestChances:
    def test_they_fall_along_a_draft(self):
        chances = PromptLookup(9).draft([1, 2, 3, 4, 5, 6, 7, 8] * 2, 9).chances
        assert chances == sorted(chances, reverse=True)
        assert 0 < chances[-1] < chances[0] < 1

    def test_they_rise_where_guesses_are_right(self):
        lookup, passage = PromptLookup(9), list(range(50))
        tokens = [*passage, *passage[:5]]
        before = lookup.draft(tokens, 9).chances
        tokens += passage[5:40]
        after = lookup.draft(tokens, 9).chances
        assert after[0] > 0.95 > before[0]
        assert len(after) == 9

    def test_they_fall_where_guesses_are_wrong(self):
        lookup, tokens, lengths = PromptLookup(9), [1, 2, 3, 100], []
        for other in range(101, 121):
            tokens += [1, 2, 3]
            lengths.append(lookup.draft(tokens, 9).chances)
            tokens.append(other)
        assert lengths[0][0] > 0.2
        assert lengths[-1] == []

    def test_matches_of_each_length_have_their_own(self):
        lookup, passage = PromptLookup(9), list(range(60))
        tokens = [*passage, *passage[:40]]  # long matches are right
        lookup.draft([*passage, *passage[:3]], 9)
        assert lookup.draft(tokens, 9).chances[0] > 0.95
        for other in range(100, 120):  # and those of three are wrong
            tokens += [7, 8, 9, other]
        tokens += [7, 8, 9]
        assert lookup.draft(tokens, 9).chances == []
        assert lookup._rates[LONGEST] > 0.7


class TestWhatPays:
    def costs(self, **seconds: float) -> PassCosts:
        costs = PassCosts()
        for rows, each in seconds.items():
            costs.add(int(rows[1:]), each)
        return costs

    def test_nothing_before_a_pass_was_measured(self):
        assert PassCosts().worthwhile([[0.9] * 5]) == [0]

    def test_all_if_rows_cost_nothing(self):
        assert self.costs(n1=1.0, n9=1.0).worthwhile([[0.5, 0.25, 0.1]]) == [3]

    def test_none_if_a_row_costs_a_pass(self):
        assert self.costs(n1=1.0, n2=2.0, n9=9.0).worthwhile([[0.99, 0.98, 0.97]]) == [0]

    def test_as_many_as_give_the_most_tokens_a_second(self):
        """1.5 / 1.1, 1.75 / 1.2 and 1.875 / 1.6: two guesses are best."""
        costs = self.costs(n1=1.0, n2=1.1, n3=1.2, n4=1.6)
        assert costs.worthwhile([[0.5, 0.25, 0.125]]) == [2]

    def test_a_step_in_the_costs_is_looked_beyond(self):
        """The second row costs as much as four more."""
        costs = self.costs(n1=1.0, n2=1.9, n5=2.0)
        assert costs.worthwhile([[0.8, 0.75, 0.7, 0.65]]) == [4]

    def test_a_gain_that_is_no_more_than_the_error_of_a_measurement_is_left(self):
        assert self.costs(n1=1.0, n2=1.0).worthwhile([[LEAST_GAIN - 1.001]]) == [0]
        assert self.costs(n1=1.0, n2=1.0).worthwhile([[LEAST_GAIN - 0.999]]) == [1]

    def test_the_likeliest_guesses_of_several_sequences(self):
        costs = self.costs(n3=1.0, n5=1.1, n30=20.0)
        assert costs.worthwhile([[0.1], [0.9, 0.8, 0.1], []]) == [0, 2, 0]

    def test_rows_between_measured_ones_are_interpolated_and_more_are_extrapolated(self):
        costs = self.costs(n1=4.0, n3=6.0)
        assert costs.seconds(2) == 5.0
        assert costs.seconds(5) == 8.0

    def test_a_disturbed_pass_counts_less_than_a_quick_one(self):
        costs = self.costs(n1=1.0)
        costs.add(1, 100.0)
        assert 1.0 < costs.seconds(1) < 1.1
        costs.add(1, 0.5)
        assert costs.seconds(1) < 0.8

    def test_more_rows_never_take_less(self):
        """So a plain pass that was measured while something else was running misleads nobody."""
        costs = self.costs(n1=9.0, n2=1.0, n3=1.5)
        assert costs.worthwhile([[0.03, 0.01]]) == [0]

    def test_old_measurements_are_forgotten(self):
        costs = self.costs(n2=0.1, n1=1.0)
        assert costs.worthwhile([[0.5]]) == [1]
        for _ in range(VALID):
            costs.add(1, 1.0)
        assert costs.seconds(2) == 1.25
        for _ in range(VALID + 1):
            costs.add(2, 9.0)
        assert costs.worthwhile([[0.5]]) == [0]  # until a plain pass is measured again


def test_small_models_guess_nothing_unless_asked():
    assert usual_guesses(LEAST_WEIGHTS - 1) == 0
    assert usual_guesses(LEAST_WEIGHTS) == USUAL_GUESSES == 15
