"""How an account's calls do: a fold over their outcomes, and what the exchange says over it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.capabilities import (
    ALL,
    DATA,
    FORGOTTEN_S,
    READ,
    TRADE,
    Capabilities,
    Status,
    StatusWord,
)
from brokerwatch.clock import Instant
from brokerwatch.messages import Capability, CapabilityState, Fault, FaultKind

UNKNOWN, OK = CapabilityState.UNKNOWN, CapabilityState.OK
LIMITED, DOWN = CapabilityState.LIMITED, CapabilityState.DOWN


def at(up_s: float) -> Instant:
    return Instant(wall_us=round(up_s * 1_000_000), up_s=up_s)


BEGUN = Capabilities.begin(at(0))


def states(calls: Capabilities) -> dict[str, tuple[CapabilityState, str]]:
    return {name: (can.state, can.reason) for name, can in calls.told.items()}


def failed(calls: Capabilities, name: str, kind: FaultKind, times: int = 1, up_s: float = 1) -> Capabilities:
    for _ in range(times):
        calls = calls.failed(name, Fault(kind, f"{kind} it was"), at(up_s))
    return calls


def test_what_was_never_tried_is_unknown_and_nothing_speaks_against_it() -> None:
    assert states(BEGUN) == dict.fromkeys(ALL, (UNKNOWN, "not_tried"))


@pytest.mark.parametrize("name", ALL)
def test_three_faults_in_a_row_put_one_kind_of_call_out_and_no_other(name: str) -> None:
    twice = failed(BEGUN, name, FaultKind.NETWORK, 2)
    assert states(twice)[name] == (UNKNOWN, "not_tried")
    thrice = failed(twice, name, FaultKind.EXCHANGE_DOWN)
    assert states(thrice)[name] == (DOWN, "exchange_down")
    assert thrice.told[name].detail == "exchange_down it was"
    others = {other: state for other, state in states(thrice).items() if other != name}
    assert set(others.values()) == {(UNKNOWN, "not_tried")}
    assert states(thrice.succeeded(name, at(2)))[name] == (OK, "ok")


def test_a_success_between_starts_the_run_anew() -> None:
    calls = failed(BEGUN, TRADE, FaultKind.NETWORK, 2).succeeded(TRADE, at(2))
    assert states(failed(calls, TRADE, FaultKind.NETWORK, 2))[TRADE] == (OK, "ok")


@pytest.mark.parametrize("kind", [FaultKind.PERMISSION, FaultKind.AUTH, FaultKind.MAINTENANCE])
def test_what_the_exchange_refuses_in_so_many_words_counts_at_once(kind: FaultKind) -> None:
    assert states(failed(BEGUN, TRADE, kind))[TRADE] == (DOWN, str(kind))


def test_a_mistake_of_ours_says_nothing_about_the_exchange() -> None:
    assert failed(BEGUN, TRADE, FaultKind.CLIENT_BUG, 9) is BEGUN


def test_a_passing_outage_of_orders_is_forgotten_when_the_account_answers_long_after_it() -> None:
    """Nobody tries orders while they are said to be out, so no success of theirs could end it."""
    out = failed(BEGUN, TRADE, FaultKind.NETWORK, 3, up_s=10)
    soon = out.succeeded(READ, at(10 + FORGOTTEN_S - 0.1))
    assert states(soon)[TRADE] == (DOWN, "network")
    later = out.succeeded(READ, at(10 + FORGOTTEN_S))
    assert states(later)[TRADE] == (UNKNOWN, "not_tried")
    assert "network it was" in later.told[TRADE].detail


def test_a_key_that_may_not_trade_may_not_trade_an_hour_later_either() -> None:
    out = failed(BEGUN, TRADE, FaultKind.PERMISSION)
    assert states(out.succeeded(READ, at(3_600)))[TRADE] == (DOWN, "permission")


def test_prices_that_are_out_leave_reading_and_trading_alone() -> None:
    calls = failed(BEGUN.succeeded(TRADE, at(1)).succeeded(READ, at(1)), DATA, FaultKind.EXCHANGE_DOWN, 3)
    assert states(calls) == {READ: (OK, "ok"), TRADE: (OK, "ok"), DATA: (DOWN, "exchange_down")}


def test_the_exchange_s_own_word_lies_over_the_outcomes_and_leaves_them_as_they_were() -> None:
    works = BEGUN
    for name in ALL:
        works = works.succeeded(name, at(1))
    closed = works.said(Status(StatusWord.MAINTENANCE, "until noon"), at(5))
    assert states(closed) == dict.fromkeys(ALL, (DOWN, "maintenance"))
    assert closed.told[TRADE] == Capability(
        state=DOWN, reason="maintenance", detail="until noon", since_us=at(5).wall_us
    )
    assert states(closed.said(Status(StatusWord.ONLINE), at(6))) == states(works)
    assert states(closed.said(None, at(6))) == states(works)


@pytest.mark.parametrize("word", [StatusWord.CANCEL_ONLY, StatusWord.POST_ONLY])
def test_where_a_market_order_is_not_taken_trading_is_limited_and_the_rest_is_not(word: StatusWord) -> None:
    calls = BEGUN.succeeded(READ, at(1)).said(Status(word), at(2))
    assert states(calls) == {READ: (OK, "ok"), TRADE: (LIMITED, str(word)), DATA: (UNKNOWN, "not_tried")}


def test_announced_maintenance_is_told_and_changes_nothing() -> None:
    calls = BEGUN.succeeded(READ, at(1)).said(Status(StatusWord.ONLINE, "maintenance on Sunday"), at(2))
    assert states(calls)[READ] == (OK, "ok")
    assert calls.told[READ].detail == "maintenance on Sunday"


def test_a_key_s_own_refusal_is_shown_through_the_exchange_s_status() -> None:
    calls = failed(BEGUN, TRADE, FaultKind.PERMISSION).said(Status(StatusWord.CANCEL_ONLY), at(2))
    assert states(calls)[TRADE] == (DOWN, "permission")


def test_since_moves_with_the_state_and_not_with_every_outcome() -> None:
    calls = BEGUN.succeeded(READ, at(1)).succeeded(READ, at(2))
    assert calls.told[READ].since_us == at(1).wall_us
    out = failed(calls, READ, FaultKind.NETWORK, 3, up_s=7)
    assert failed(out, READ, FaultKind.NETWORK, up_s=9).told[READ].since_us == at(7).wall_us
    word = out.said(Status(StatusWord.CANCEL_ONLY, "a"), at(10)).said(
        Status(StatusWord.CANCEL_ONLY, "b"), at(11)
    )
    assert word.told[TRADE].since_us == at(10).wall_us


def test_a_restart_launders_nothing() -> None:
    out = failed(BEGUN, TRADE, FaultKind.PERMISSION).succeeded(READ, at(2))
    resumed = Capabilities.resumed(out.told, at(9))
    assert states(resumed) == states(out)
    assert resumed.told[TRADE].since_us == out.told[TRADE].since_us
    assert states(failed(resumed, READ, FaultKind.NETWORK, 2)) == states(resumed)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("ok"), st.sampled_from(ALL)),
        st.tuples(st.sampled_from(list(FaultKind)), st.sampled_from(ALL)),
        st.tuples(st.sampled_from(list(StatusWord)), st.just("")),
    ),
    max_size=40,
)


@given(EVENTS)
def test_whatever_happens_a_kind_of_call_works_only_after_an_answer_and_is_out_only_after_a_reason(
    events: list[tuple[str, str]],
) -> None:
    """Held against the history itself, and not against a second machine."""
    calls, word = BEGUN, StatusWord.ONLINE
    for number, (what, name) in enumerate(events):
        now = at(number * 0.1)  # never long enough for anything to be forgotten
        if isinstance(what, StatusWord):
            word = what
            calls = calls.said(Status(what), now)
        elif isinstance(what, FaultKind):
            calls = calls.failed(name, Fault(what), now)
        else:
            calls = calls.succeeded(name, now)
    for name in ALL:
        mine = [what for what, of in events if of == name and what is not FaultKind.CLIENT_BUG]
        run = mine[::-1]
        run = run[: run.index("ok")] if "ok" in run else run
        at_once = {FaultKind.AUTH, FaultKind.PERMISSION, FaultKind.MAINTENANCE}
        is_out = len(run) >= 3 or bool(at_once & set(run))
        can = calls.told[name]
        if can.reason in tuple(StatusWord) and word is not StatusWord.ONLINE and can.reason == word:
            continue  # the exchange's own word lies over it
        assert (can.state is DOWN) == is_out
        assert (can.state is OK) == (not is_out and "ok" in mine)
