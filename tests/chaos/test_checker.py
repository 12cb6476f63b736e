"""The checker finds each kind of fault in a recording that was made up for it, and nothing in a good one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.chaos.checker import figures, out_at_source, violations
from tests.chaos.periods import EVER, Period, between, common, joined
from tests.chaos.recording import (
    Account,
    Call,
    Intent,
    Placed,
    Process,
    Promises,
    Recording,
    Shown,
    Subscriber,
    Way,
)

PROMISES = Promises(
    ttl_s=3.0,
    deadline_s=2.0,
    threshold=3,
    proof_s=8.5,
    written_s=2.0,
    rewritten_s=30.0,
    grace_s=1.0,
)


def calls(begin_s: float, end_s: float, *, good: bool = True, hangs: bool = False) -> tuple[Call, ...]:
    """One question in each second."""
    return tuple(Call(float(at), good, hangs) for at in range(int(begin_s), int(end_s)))


def shows(
    begin_s: float, end_s: float, *, available: bool = True, version: int | None = 1, life: str = "1"
) -> tuple[Shown, ...]:
    """Two looks in each second."""
    return tuple(
        Shown(at / 2, "kraken", available, version, "", life)
        for at in range(int(begin_s * 2), int(end_s * 2))
    )


def recording(
    *,
    shown: tuple[Shown, ...],
    asked: tuple[Call, ...] | None = None,
    process: Process | None = None,
    cut: tuple[Period, ...] = (),
    **values: object,
) -> Recording:
    """One process with one account, and one subscriber of it, from 0 to 100 s."""
    good = Recording(
        promises=PROMISES,
        begins_s=0.0,
        ends_s=100.0,
        processes={"run": process or Process((Period(-5.0),))},
        accounts={"kraken": Account("run", {"run": Way()}, calls(-5, 100) if asked is None else asked, ())},
        subscribers={"near": Subscriber(shown, {"run": Way(cut)})},
    )
    return replace(good, **values)  # type: ignore[arg-type]


KILLED = Process((Period(-5.0, 20.0), Period(30.0)))
"""A process that was dead for ten seconds."""


def test_a_recording_in_which_nothing_happens_is_good() -> None:
    good = recording(shown=shows(0, 100))
    assert violations(good) == []
    assert figures(good)["of them available"] == 200


@pytest.mark.parametrize(
    ("begin_s", "found"),
    [(20, True), (22, True), (24, True), (29, True), (31, False)],
)
def test_an_account_of_a_dead_process_is_available_for_its_time_to_live_at_most(
    begin_s: float, *, found: bool
) -> None:
    asked = (*calls(-5, 20), *calls(31, 100))
    until_ttl = recording(shown=(*shows(0, 24), *shows(31, 100)), asked=asked, process=KILLED)
    assert violations(until_ttl) == []
    longer = recording(shown=(*shows(0, 20), *shows(begin_s, 40)), asked=asked, process=KILLED)
    broken = violations(longer)
    assert bool(broken) is found
    if found:
        assert "near showed kraken as available" in broken[0]
        assert "its process was dead" in broken[0]


def test_an_account_is_out_after_a_start_until_its_exchange_has_answered() -> None:
    asked = (*calls(-5, 20), *calls(30, 40, good=False), *calls(40, 100))
    early = recording(shown=(*shows(0, 20), *shows(35, 100)), asked=asked, process=KILLED)
    assert ["no answer since the start" in each for each in violations(early)] == [True]
    assert violations(recording(shown=(*shows(0, 20), *shows(40, 100)), asked=asked, process=KILLED)) == []


def test_an_account_of_a_stopped_process_is_available_for_its_time_to_live_at_most() -> None:
    process = Process((Period(-5.0),), stopped=(Period(20.0, 30.0),))
    assert violations(recording(shown=(*shows(0, 24), *shows(30, 40)), process=process)) == []
    broken = violations(recording(shown=shows(0, 40), process=process))
    assert ["stopped" in each for each in broken] == [True]


@pytest.mark.parametrize(("hangs", "until_s"), [(False, 26), (True, 29)])
def test_an_account_is_out_from_the_error_that_reaches_the_threshold(*, hangs: bool, until_s: float) -> None:
    asked = (*calls(-5, 20), *calls(20, 60, good=False, hangs=hangs), *calls(60, 100))
    allowed = recording(shown=(*shows(0, until_s), *shows(60, 100)), asked=asked)
    assert violations(allowed) == []
    broken = violations(recording(shown=(*shows(0, until_s + 1), *shows(60, 100)), asked=asked))
    assert ["its exchange failed" in each for each in broken] == [True]


def test_two_errors_and_an_answer_put_no_account_out() -> None:
    asked = (*calls(-5, 20), Call(20.0, good=False), Call(21.0, good=False), *calls(22, 100))
    assert violations(recording(shown=shows(0, 100), asked=asked)) == []


def test_an_account_that_is_not_asked_is_out_when_its_proof_has_ended() -> None:
    asked = (*calls(-5, 20), *calls(50, 100))
    assert violations(recording(shown=(*shows(0, 31), *shows(50, 60)), asked=asked)) == []
    broken = violations(recording(shown=shows(0, 60), asked=asked))
    assert ["proves nothing any more" in each for each in broken] == [True]


def test_an_account_is_out_after_a_leap_of_time_until_its_exchange_has_answered() -> None:
    asked = (*calls(-5, 20), *calls(27, 100))
    process = Process((Period(-5.0),), leaps=(20.0,))
    broken = violations(recording(shown=shows(0, 60), asked=asked, process=process))
    assert ["leap" in each for each in broken] == [True]
    assert violations(recording(shown=shows(0, 60), process=process)) == []


def test_a_subscriber_that_is_cut_off_shows_nothing_available_after_the_time_to_live() -> None:
    cut = (Period(20.0, 40.0),)
    assert violations(recording(shown=(*shows(0, 24), *shows(40, 60)), cut=cut)) == []
    broken = violations(recording(shown=shows(0, 60), cut=cut))
    assert ["run was not heard" in each for each in broken] == [True]


def test_periods_that_follow_each_other_count_from_the_first_one() -> None:
    process = Process((Period(-5.0, 24.0), Period(27.0)))
    cut = (Period(20.0, 24.0),)
    broken = violations(recording(shown=(*shows(0, 20), *shows(25, 27)), cut=cut, process=process))
    assert len(broken) == 1
    assert "5.0 s after it was out" in broken[0]


def test_a_subscriber_with_two_ways_is_cut_off_when_both_are() -> None:
    good = recording(shown=shows(0, 60))
    good = supervised(good)
    one = Subscriber(shows(0, 60), {"first": Way((Period(20.0, 40.0),)), "second": Way()})
    assert violations(replace(good, subscribers={"both": one})) == []
    both = replace(one, hears={"first": Way((Period(20.0, 40.0),)), "second": Way((Period(25.0, 50.0),))})
    broken = violations(replace(good, subscribers={"both": both}))
    assert ["first was not heard and second was not heard" in each for each in broken] == [True]


def supervised(good: Recording, **values: Way) -> Recording:
    """The same, where the account is published by two supervisors."""
    processes = {**good.processes, "first": Process((Period(-5.0),)), "second": Process((Period(-5.0),))}
    account = replace(good.accounts["kraken"], published_by={"first": Way(), "second": Way(), **values})
    return replace(good, processes=processes, accounts={"kraken": account})


@pytest.mark.parametrize("what", ["dead", "stopped", "deaf"])
def test_an_account_is_out_for_a_subscriber_whose_supervisor_does_not_hear_or_run(what: str) -> None:
    good = supervised(recording(shown=()))
    lives = (Period(-5.0, 20.0), Period(30.0)) if what == "dead" else (Period(-5.0),)
    stopped = (Period(20.0, 30.0),) if what == "stopped" else ()
    if what == "deaf":
        good = supervised(good, first=Way((Period(20.0, 30.0),)))
    good = replace(good, processes={**good.processes, "first": Process(lives, stopped)})
    for hears, found in ((("first",), 1), (("first", "second"), 0)):
        one = Subscriber(shows(0, 60), {name: Way() for name in hears})
        assert len(violations(replace(good, subscribers={"one": one}))) == found


STOPPED = (Period(20.0, 26.0),)


@pytest.mark.parametrize(
    ("until_s", "stopped", "lives", "found"),
    [
        (28.5, STOPPED, (Period(-5.0),), False),
        (29.5, STOPPED, (Period(-5.0),), True),
        (25.0, STOPPED, (Period(-5.0),), True),
        (28.5, STOPPED, (Period(-5.0, 26.0), Period(26.5)), True),
        (28.5, (Period(20.0, 23.0),), (Period(-5.0, 23.0), Period(24.6)), True),
    ],
    ids=["what waited", "longer", "while it stands still", "killed", "killed before the cut"],
)
def test_what_waited_for_a_process_that_stood_still_counts_when_it_goes_on(
    until_s: float, stopped: tuple[Period, ...], lives: tuple[Period, ...], *, found: bool
) -> None:
    """It is cut off while it stands still, and reads afterwards what was sent before the cut."""
    good = supervised(recording(shown=()), first=Way((Period(24.5, 40.0),)))
    good = replace(good, processes={**good.processes, "first": Process(lives, stopped)})
    shown = (*shows(0, 23), *shows(24.5 if until_s == 25.0 else 26.5, until_s))
    one = Subscriber(shown, {"first": Way()})
    assert bool(violations(replace(good, subscribers={"one": one}))) is found


@pytest.mark.parametrize(("held", "found"), [(True, False), (False, True)])
def test_what_a_connection_held_counts_when_it_comes(*, held: bool, found: bool) -> None:
    """The account is out, is proven again, and is out again while its connection is held."""
    process = Process((Period(-5.0, 20.0), Period(22.0, 25.0), Period(40.0)))
    asked = (*calls(-5, 20), *calls(24, 25), *calls(41, 100))
    shown = (*shows(0, 20), *shows(27, 28.5), *shows(41, 50))
    way = Way(held=(Period(23.5, 27.0),)) if held else Way(cut=(Period(23.5, 27.0),))
    good = recording(shown=(), asked=asked, process=process)
    broken = violations(replace(good, subscribers={"one": Subscriber(shown, {"run": way})}))
    assert bool(broken) is found


def test_what_a_delay_adds_is_allowed_and_no_more() -> None:
    process, asked = KILLED, (*calls(-5, 20), *calls(31, 100))
    late = {"run": Way(late=((Period(10.0, 30.0), 2.0),))}
    good = recording(shown=(), asked=asked, process=process)
    for until_s, found in ((26, 0), (28, 1)):
        one = Subscriber((*shows(0, until_s), *shows(31, 40)), late)
        assert len(violations(replace(good, subscribers={"far": one}))) == found


def test_an_available_account_has_a_balance_that_is_no_older_than_the_proof() -> None:
    good = recording(shown=shows(0, 60))
    versions = {"kraken": replace(good.accounts["kraken"], versions=(40.0,))}
    assert (
        violations(replace(good, accounts=versions, subscribers={"near": Subscriber(shows(0, 52), {})})) == []
    )
    broken = violations(replace(good, accounts=versions))
    assert ["with a balance that was replaced" in each for each in broken] == [True]


def test_one_that_writes_no_versions_down_is_not_judged_by_them() -> None:
    good = recording(shown=())
    one = Subscriber(shows(0, 10, version=None), {"run": Way()}, says_versions=False)
    assert violations(replace(good, subscribers={"other": one})) == []


def test_an_available_account_has_a_balance() -> None:
    broken = violations(recording(shown=shows(0, 10, version=None)))
    assert ["without any balance" in each for each in broken] == [True]


RESTARTED = Process((Period(-5.0, 20.0), Period(21.0)))
FULL = replace(RESTARTED, full=(Period(10.0, 22.0),))


@pytest.mark.parametrize(
    ("before", "after", "process", "found"),
    [
        (1, 1, RESTARTED, False),
        (5, 4, RESTARTED, True),
        (5, None, RESTARTED, True),
        (5, 1, FULL, False),
        (5, None, FULL, False),
    ],
    ids=["kept", "older", "none", "older than what no disk took", "none while the disk is full"],
)
def test_a_last_known_balance_is_kept_over_a_restart(
    before: int, after: int | None, process: Process, *, found: bool
) -> None:
    shown = (
        *shows(0, 9, version=1),
        *shows(11, 20, version=before),
        *shows(21, 40, available=False, version=after, life="2"),
    )
    broken = violations(recording(shown=shown, process=process))
    assert ["as the last known balance" in each for each in broken] == [True] * found


def test_what_was_kept_before_the_disk_was_full_is_kept() -> None:
    shown = (
        *shows(0, 9, version=5),
        *shows(9, 20, version=7),
        *shows(21, 40, available=False, version=4, life="2"),
    )
    assert len(violations(recording(shown=shown, process=FULL))) == 1


def test_what_was_shown_last_may_be_lost_by_a_kill() -> None:
    shown = (
        *shows(0, 18, version=1),
        *shows(18.5, 20, version=2),
        *shows(21, 40, available=False, version=1, life="2"),
    )
    assert violations(recording(shown=shown, process=RESTARTED)) == []


@pytest.mark.parametrize(("full", "found"), [((), True), ((Period(10.0, 18.0),), False)])
def test_what_was_written_is_kept_over_two_restarts_and_what_was_not_is_never_counted(
    full: tuple[Period, ...], *, found: bool
) -> None:
    process = Process((Period(-5.0, 20.0), Period(21.0, 60.0), Period(61.0)), full=full)
    shown = (*shows(0, 9, version=5), *shows(11, 20, version=7))
    shown += shows(61, 70, available=False, version=5, life="3")
    assert bool(violations(recording(shown=shown, process=process))) is found


def test_a_subscriber_may_still_show_what_was_before_the_restart() -> None:
    shown = (*shows(0, 18, version=7), *shows(21, 23, available=False, version=7))
    late = tuple(replace(each, version=5) for each in shown if each.at_s < 15 or each.at_s > 20)
    good = recording(shown=shown, process=RESTARTED)
    both = {**good.subscribers, "late": Subscriber(late, {"run": Way()})}
    assert violations(replace(good, subscribers=both)) == []


def test_a_last_known_balance_never_becomes_older_within_a_life() -> None:
    assert violations(recording(shown=(*shows(0, 20, version=5), *shows(20, 40, version=6)))) == []
    broken = violations(recording(shown=(*shows(0, 20, version=5), *shows(20, 40, version=4))))
    assert ["version 5 was known before" in each for each in broken] == [True]


MEANT = Intent("kraken", "a", "50.01", "placed")


@pytest.mark.parametrize(
    ("intent", "placed", "words"),
    [
        (MEANT, [Placed("kraken", "a", "50.01")], None),
        (MEANT, [Placed("kraken", "a", "50.01"), Placed("kraken", "b", "50.01")], "to be ordered once"),
        (MEANT, [], "said to be placed"),
        (replace(MEANT, end=""), [], None),
        (replace(MEANT, end=""), [Placed("kraken", "a", "50.01")], None),
        (replace(MEANT, end="not placed"), [Placed("kraken", "a", "50.01")], "said not to be placed"),
        (MEANT, [Placed("kraken", "a", "50.01"), Placed("kraken", "c", "7")], "no program meant"),
        (MEANT, [Placed("kraken", "a", "50.01"), Placed("kraken", "a", "9")], "with the id a"),
    ],
)
def test_an_order_is_placed_once_and_as_it_was_said(
    intent: Intent, placed: list[Placed], words: str | None
) -> None:
    broken = violations(recording(shown=(), intents=(intent,), placed=tuple(placed)))
    assert (broken == []) is (words is None)
    assert words is None or any(words in each for each in broken)


def test_the_reasons_of_periods_that_touch_are_joined() -> None:
    periods = (Period(3.0, 5.0, "b"), Period(1.0, 3.0, "a"), Period(4.0, 6.0, "b"), Period(8.0, 8.0, "c"))
    assert joined(periods) == (Period(1.0, 6.0, "a, b"),)
    assert between(periods, "rest") == (Period(6.0, EVER, "rest"),)
    assert common(periods, (Period(2.0, 4.5, "x"),))[0].begin_s == 2.0


def test_what_puts_an_account_out_is_named() -> None:
    process = Process((Period(-5.0, 20.0), Period(30.0)), stopped=(Period(15.0, 20.0),))
    one = recording(shown=(), asked=(*calls(-5, 15), *calls(33, 100)), process=process)
    (out,) = (each for each in out_at_source(one, one.accounts["kraken"]) if 0 < each.begin_s < 100)
    assert (out.begin_s, out.end_s) == (15.0, 33.0)
    assert set(out.why.split(", ")) == {
        "its process was stopped",
        "its process was dead",
        "its newest answer proves nothing any more",
        "no answer since the start or the leap",
    }


@pytest.mark.parametrize(("until_s", "found"), [(26.0, False), (28.0, True)])
def test_a_hold_that_follows_a_publisher_that_stood_still_counts_from_its_own_beginning(
    until_s: float, *, found: bool
) -> None:
    """It reads what was sent before the hold when it goes on."""
    good = supervised(recording(shown=()), first=Way(held=(Period(22.5, 40.0),)))
    stopped = Process((Period(-5.0),), stopped=(Period(20.0, 24.0),))
    good = replace(good, processes={**good.processes, "first": stopped})
    one = Subscriber((*shows(0, 20), *shows(24.5, until_s)), {"first": Way()})
    assert bool(violations(replace(good, subscribers={"one": one}))) is found


@pytest.mark.parametrize(
    ("heard", "until_s", "found"), [(True, 29.0, False), (True, 32.0, True), (False, 29.0, True)]
)
def test_a_publisher_keeps_what_it_heard_for_those_who_connect_later(
    *, heard: bool, until_s: float, found: bool
) -> None:
    """It was dead, then cut off from the subscriber, then stood still; and then its account stands still."""
    asked = calls(-5, 100)
    owner = Process((Period(-5.0),), stopped=(Period(27.0 if heard else 20.0, 40.0),))
    good = supervised(recording(shown=(), asked=asked, process=owner))
    first = Process((Period(-5.0, 20.0), Period(23.0)), stopped=(Period(26.0, 28.0),))
    good = replace(good, processes={**good.processes, "first": first})
    one = Subscriber((*shows(0, 20), *shows(28.0, until_s)), {"first": Way((Period(22.0, 27.0),))})
    assert bool(violations(replace(good, subscribers={"one": one}))) is found


def test_what_a_publisher_heard_in_an_earlier_life_reaches_nobody() -> None:
    good = supervised(recording(shown=()))
    first = Process((Period(-5.0, 26.0), Period(26.5)))
    deaf = {"first": Way((Period(26.0, 40.0),))}
    good = replace(supervised(good, **deaf), processes={**good.processes, "first": first})
    one = Subscriber((*shows(0, 22), *shows(27, 28)), {"first": Way((Period(20.0, 26.8),))})
    assert len(violations(replace(good, subscribers={"one": one}))) == 1
