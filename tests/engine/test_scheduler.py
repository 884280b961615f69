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


def follows(index: int, rows: int, spared: int) -> Need:
    return Need(rows, decoding=False, follows=index, spared=spared)


def test_who_follows_another_one_has_no_rows_while_that_one_gets_on() -> None:
    assert plan(prompt(100), follows(0, 100, 99)) == [100, 0]
    assert plan(DECODES, prompt(500), follows(1, 40, 32), prompt(20)) == [1, 108, 0, 20]


def test_a_prompt_with_followers_only_goes_through_in_large_pieces() -> None:
    assert plan(prompt(500), *[follows(0, 500, 499)] * 15) == [499] + [0] * 15
    assert plan(prompt(2000), follows(0, 1500, 1400)) == [512, 0]


def test_followers_wait_no_longer_than_for_what_they_can_use() -> None:
    assert plan(prompt(2000), follows(0, 1500, 1400), follows(0, 300, 200)) == [200, 0, 0]
    assert plan(prompt(2000), follows(0, 60, 40)) == [128, 0]  # but passes are not made tiny


def test_who_follows_one_that_does_not_get_on_goes_on_itself() -> None:
    shorter = [prompt(32)] * 4
    assert plan(*shorter, prompt(400), follows(4, 10, 9)) == [32, 32, 32, 22, 0, 10]


def test_followers_of_followers_are_not_needed_but_do_no_harm() -> None:
    assert plan(prompt(50), follows(0, 50, 49), follows(1, 50, 49)) == [50, 0, 50]
