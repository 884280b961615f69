"""The policy alone: numbers in, numbers out."""

from __future__ import annotations

import pytest

from ryzanstein_llm.engine.scheduler import Need, Scheduler

DECODES = Need(1, decoding=True)


def prompt(rows: int) -> Need:
    return Need(rows, decoding=False)


def plan(*needs: Need, **sizes: int) -> list[int]:
    return Scheduler(**{"prompt_rows": 512, "shared_rows": 128, "decoding_rows": 4, **sizes}).plan(
        needs
    )


def test_nobody_waits() -> None:
    assert plan() == []


def test_who_decodes_has_a_row_in_every_pass() -> None:
    assert plan(DECODES, DECODES, DECODES) == [1, 1, 1]


def test_a_prompt_alone_goes_through_in_large_pieces() -> None:
    assert plan(prompt(2000)) == [512]
    assert plan(prompt(100)) == [100]


def test_a_prompt_goes_through_in_smaller_pieces_while_others_decode() -> None:
    assert plan(DECODES, prompt(2000), DECODES) == [1, 128, 1]


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    assert plan(prompt(2000), prompt(64)) == [64, 64]


def test_a_long_prompt_gets_on_however_many_short_ones_come() -> None:
    assert plan(prompt(2000), *[prompt(64)] * 9)[0] == 32


def test_of_equal_prompts_the_first_comes_first() -> None:
    assert plan(prompt(100), prompt(100)) == [100, 28]


def test_no_more_rows_than_asked_for() -> None:
    assert plan(prompt(3), prompt(4), prompt(5)) == [3, 4, 5]


def test_more_that_decode_than_a_pass_takes_wait_in_turn() -> None:
    assert plan(*[DECODES] * 6) == [1, 1, 1, 1, 0, 0]


def test_who_lost_its_cache_while_decoding_reads_again_as_a_prompt() -> None:
    assert plan(DECODES, Need(300, decoding=True)) == [1, 128]


@pytest.mark.parametrize("count", [1, 2, 7])
def test_somebody_is_always_served(count: int) -> None:
    assert sum(plan(*[prompt(1000)] * count)) > 0
