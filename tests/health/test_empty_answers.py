"""An answer that states nothing is believed only when it comes again."""

from __future__ import annotations

from typing import Final

import pytest

from brokerwatch.clock import Instant
from brokerwatch.health import empty_answers
from brokerwatch.messages import Balance
from tests.support.answers import (
    held,
)


def asked(seconds: float, *, funds: str = "", stated: bool = True) -> Balance:
    """A balance that was asked for so long after the start."""
    holdings = {"USD": held(funds, "0", funds)} if funds else {}
    return Balance(holdings=holdings, as_of=Instant(1_800_000_000_000_000, 1_000.0 + seconds), stated=stated)


FUNDED: Final = asked(0.0, funds="1")


EMPTY: Final = asked(0.0)


def test_an_account_that_held_something_is_empty_after_three_such_answers_over_half_a_minute() -> None:
    doubts = empty_answers.EmptyAnswers()
    words = "no currency at all, and there were some before; believed after 3 such answers over 30 s"
    told = [doubts.doubt(asked(seconds), FUNDED, funded=True) for seconds in (10.0, 20.0, 39.9, 40.0, 41.0)]
    assert told == [words, words, words, "", ""]
    quick = empty_answers.EmptyAnswers()
    assert all(quick.doubt(asked(1.0), FUNDED, funded=True) for _ in range(50)), (
        "one broken cache is one answer"
    )
    slow = empty_answers.EmptyAnswers()
    assert [bool(slow.doubt(asked(at), FUNDED, funded=True)) for at in (0.0, 500.0, 501.0)] == [
        True,
        True,
        False,
    ]


def test_an_answer_without_any_account_is_believed_only_where_nothing_ever_was_and_when_it_comes_again() -> (
    None
):
    doubts = empty_answers.EmptyAnswers()
    words = "no error and no result; believed after 2 such answers over 30 s"
    told = [
        doubts.doubt(asked(seconds, stated=False), None, funded=False) for seconds in (0.0, 29.9, 30.0, 31.0)
    ]
    assert told == [words, words, "", ""]
    never = "no error and no result, from an account that held something before"
    assert doubts.doubt(asked(99.0, stated=False), EMPTY, funded=True) == never
    assert doubts.doubt(asked(999.0, stated=False), EMPTY, funded=True) == never, "however often"
    assert doubts.doubt(asked(1_000.0, stated=False), None, funded=False) == words, "and it starts anew"


def test_a_balance_that_holds_something_or_was_always_empty_is_believed_at_once() -> None:
    for last in (None, EMPTY, FUNDED):
        for funded in (True, False):
            assert empty_answers.EmptyAnswers().doubt(asked(1.0, funds="0"), last, funded=funded) == ""
    assert empty_answers.EmptyAnswers().doubt(EMPTY, None, funded=False) == ""
    assert empty_answers.EmptyAnswers().doubt(EMPTY, EMPTY, funded=True) == ""


@pytest.mark.parametrize("between", ["a fault", "an answer with money", "a first reading"])
def test_empty_answers_on_both_sides_of_something_else_do_not_agree(between: str) -> None:
    doubts = empty_answers.EmptyAnswers()
    for seconds in (0.0, 20.0):
        assert doubts.doubt(asked(seconds), FUNDED, funded=True)
    if between == "a fault":
        doubts.interrupted()
    elif between == "an answer with money":
        assert doubts.doubt(asked(25.0, funds="1"), FUNDED, funded=True) == ""
    else:
        assert doubts.doubt(asked(25.0), EMPTY, funded=True) == ""
    assert [bool(doubts.doubt(asked(at), FUNDED, funded=True)) for at in (40.0, 50.0, 69.9, 70.0)] == [
        *(True, True, True, False)
    ]
