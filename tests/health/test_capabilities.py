"""How an account's calls do: a fold over their outcomes, and what the exchange says over it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.clock import Instant
from brokerwatch.health.capabilities import (
    ALL,
    DATA,
    FORGOTTEN_S,
    LONGEST_CLOSED_S,
    MOST_CLOSED,
    READ,
    TRADE,
    Capabilities,
)
from brokerwatch.messages import Capability, CapabilityState, Fault, FaultKind
from brokerwatch.messages.trading import Status, StatusWord

UNKNOWN, OK = CapabilityState.UNKNOWN, CapabilityState.OK
LIMITED, DOWN = CapabilityState.LIMITED, CapabilityState.DOWN


def at(up_s: float) -> Instant:
    return Instant(wall_us=round(up_s * 1_000_000), up_s=up_s)


BEGUN = Capabilities.begin(at(0))


def states(calls: Capabilities) -> dict[str, tuple[CapabilityState, str]]:
    return {name: (can.state, can.reason) for name, can in calls.published.items()}


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
    assert thrice.published[name].detail == "exchange_down it was"
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
    """Orders are not tried while they are said to be out, so no success of theirs could end it."""
    out = failed(BEGUN, TRADE, FaultKind.NETWORK, 3, up_s=10)
    soon = out.succeeded(READ, at(10 + FORGOTTEN_S - 0.1))
    assert states(soon)[TRADE] == (DOWN, "network")
    later = out.succeeded(READ, at(10 + FORGOTTEN_S))
    assert states(later)[TRADE] == (UNKNOWN, "not_tried")
    assert "network it was" in later.published[TRADE].detail


WHOLE = [FaultKind.NETWORK, FaultKind.EXCHANGE_DOWN, FaultKind.MAINTENANCE, FaultKind.RATE_LIMITED]


@pytest.mark.parametrize("other", [TRADE, DATA])
@pytest.mark.parametrize("kind", WHOLE)
def test_an_outage_of_the_whole_exchange_is_over_for_all_calls_when_reading_is_back(
    kind: FaultKind, other: str
) -> None:
    out = failed(failed(BEGUN, other, kind, 3), READ, kind, up_s=2)
    back = out.succeeded(READ, at(3))
    assert states(back)[other] == (UNKNOWN, "not_tried")
    assert f"{kind} it was" in back.published[other].detail
    assert states(failed(back, other, kind, 3))[other] == (DOWN, str(kind))


def test_an_order_that_is_taken_again_ends_the_outage_of_prices_and_prices_that_of_orders() -> None:
    out = failed(failed(BEGUN, DATA, FaultKind.NETWORK, 3), TRADE, FaultKind.EXCHANGE_DOWN, 3)
    assert states(out.succeeded(TRADE, at(2))) == {
        READ: (UNKNOWN, "not_tried"),
        TRADE: (OK, "ok"),
        DATA: (UNKNOWN, "not_tried"),
    }
    assert states(out.succeeded(DATA, at(2)))[TRADE] == (UNKNOWN, "not_tried")


def test_orders_that_fail_while_reading_goes_on_stay_out() -> None:
    """The part of the exchange that takes orders may be out alone: reading is no evidence for it."""
    out = failed(BEGUN.succeeded(READ, at(0)), TRADE, FaultKind.EXCHANGE_DOWN, 3)
    again = out.succeeded(READ, at(2)).succeeded(READ, at(3))
    assert states(again)[TRADE] == (DOWN, "exchange_down")


def test_the_end_of_a_fault_of_reading_alone_says_nothing_about_orders() -> None:
    out = failed(failed(BEGUN, TRADE, FaultKind.NETWORK, 3), READ, FaultKind.BAD_RESPONSE, 3)
    assert states(out.succeeded(READ, at(2)))[TRADE] == (DOWN, "network")


@pytest.mark.parametrize("kind", [FaultKind.PERMISSION, FaultKind.AUTH, FaultKind.BAD_RESPONSE])
def test_what_is_about_trading_itself_outlives_the_outage_of_all(kind: FaultKind) -> None:
    out = failed(failed(BEGUN, TRADE, kind, 3), READ, FaultKind.NETWORK, 3)
    assert states(out.succeeded(READ, at(2)))[TRADE] == (DOWN, str(kind))


def test_an_outage_that_comes_over_a_refusal_of_the_key_does_not_hide_it() -> None:
    out = failed(failed(BEGUN, TRADE, FaultKind.PERMISSION), TRADE, FaultKind.NETWORK, 5)
    out = failed(out, READ, FaultKind.NETWORK)
    assert states(out.succeeded(READ, at(2)))[TRADE] == (DOWN, "permission")


def test_what_the_exchange_says_of_trading_outlives_the_outage_of_all() -> None:
    said = BEGUN.with_status(Status(StatusWord.CANCEL_ONLY), at(1))
    out = failed(failed(said, TRADE, FaultKind.NETWORK, 3), READ, FaultKind.NETWORK, 3)
    assert states(out.succeeded(READ, at(2)))[TRADE] == (LIMITED, "cancel_only")


def test_a_restart_in_the_middle_of_an_outage_does_not_keep_orders_out_after_it() -> None:
    out = failed(failed(BEGUN, TRADE, FaultKind.NETWORK, 3), READ, FaultKind.NETWORK, 3)
    resumed = Capabilities.resumed(out.published, at(9))
    assert states(resumed.succeeded(READ, at(10)))[TRADE] == (UNKNOWN, "not_tried")


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
    closed = works.with_status(Status(StatusWord.MAINTENANCE, "until noon"), at(5))
    assert states(closed) == dict.fromkeys(ALL, (DOWN, "maintenance"))
    assert closed.published[TRADE] == Capability(
        state=DOWN, reason="maintenance", detail="until noon", since_us=at(5).wall_us
    )
    assert states(closed.with_status(Status(StatusWord.ONLINE), at(6))) == states(works)
    assert states(closed.with_status(None, at(6))) == states(works)


@pytest.mark.parametrize("word", [StatusWord.CANCEL_ONLY, StatusWord.POST_ONLY])
def test_where_a_market_order_is_not_taken_trading_is_limited_and_the_rest_is_not(word: StatusWord) -> None:
    calls = BEGUN.succeeded(READ, at(1)).with_status(Status(word), at(2))
    assert states(calls) == {READ: (OK, "ok"), TRADE: (LIMITED, str(word)), DATA: (UNKNOWN, "not_tried")}


def test_announced_maintenance_is_told_and_changes_nothing() -> None:
    announced = Status(StatusWord.ONLINE, "maintenance on Sunday")
    calls = BEGUN.succeeded(READ, at(1)).with_status(announced, at(2))
    assert states(calls)[READ] == (OK, "ok")
    assert calls.published[READ].detail == "maintenance on Sunday"


def test_a_key_s_own_refusal_is_shown_through_the_exchange_s_status() -> None:
    calls = failed(BEGUN, TRADE, FaultKind.PERMISSION).with_status(Status(StatusWord.CANCEL_ONLY), at(2))
    assert states(calls)[TRADE] == (DOWN, "permission")


def test_since_moves_with_the_state_and_not_with_every_outcome() -> None:
    calls = BEGUN.succeeded(READ, at(1)).succeeded(READ, at(2))
    assert calls.published[READ].since_us == at(1).wall_us
    out = failed(calls, READ, FaultKind.NETWORK, 3, up_s=7)
    assert failed(out, READ, FaultKind.NETWORK, up_s=9).published[READ].since_us == at(7).wall_us
    word = out.with_status(Status(StatusWord.CANCEL_ONLY, "a"), at(10)).with_status(
        Status(StatusWord.CANCEL_ONLY, "b"), at(11)
    )
    assert word.published[TRADE].since_us == at(10).wall_us


def test_a_restart_launders_nothing() -> None:
    out = failed(BEGUN, TRADE, FaultKind.PERMISSION).succeeded(READ, at(2))
    resumed = Capabilities.resumed(out.published, at(9))
    assert states(resumed) == states(out)
    assert resumed.published[TRADE].since_us == out.published[TRADE].since_us
    assert states(failed(resumed, READ, FaultKind.NETWORK, 2)) == states(resumed)


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("ok"), st.sampled_from(ALL)),
        st.tuples(st.sampled_from(list(FaultKind)), st.sampled_from(ALL)),
        st.tuples(st.sampled_from(list(StatusWord)), st.just("")),
    ),
    max_size=40,
)


def why_out(run: list[str]) -> str:
    """The reason for which so many faults in a row put a kind of call out; empty when they do not."""
    final = [kind for kind in run if kind in (FaultKind.AUTH, FaultKind.PERMISSION)]
    if final or len(run) >= 3:
        return (final or run)[-1]
    return FaultKind.MAINTENANCE if FaultKind.MAINTENANCE in run else ""


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
            calls = calls.with_status(Status(what), now)
        elif isinstance(what, FaultKind):
            calls = calls.failed(name, Fault(what), now)
        else:
            calls = calls.succeeded(name, now)
    runs: dict[str, list[str]] = {name: [] for name in ALL}
    last: dict[str, CapabilityState] = dict.fromkeys(ALL, UNKNOWN)
    for what, name in events:
        if what == "ok":
            ends = bool(set(WHOLE) & set(runs[name]))
            runs[name], last[name] = [], OK
            for other in (TRADE, DATA):
                if other != name and ends and why_out(runs[other]) in WHOLE:
                    runs[other], last[other] = [], UNKNOWN
        elif name and what is not FaultKind.CLIENT_BUG:
            runs[name].append(what)
    for name in ALL:
        is_out = bool(why_out(runs[name]))
        can = calls.published[name]
        if can.reason in tuple(StatusWord) and word is not StatusWord.ONLINE and can.reason == word:
            continue  # the exchange's own word lies over it
        assert (can.state is DOWN) == is_out
        assert (can.state is OK) == (not is_out and last[name] is OK)


# --- closed markets ----------------------------------------------------------------------------------


def shut(calls: Capabilities, symbol: str, up_s: float = 1.0, for_s: float = 300.0) -> Capabilities:
    fault = Fault(FaultKind.PERMISSION, f"{symbol} is restricted", closes_market_s=for_s)
    return calls.failed(TRADE, fault, at(up_s), symbol)


def test_a_refusal_of_one_market_closes_it_alone_with_its_reason_and_a_moment() -> None:
    calls = BEGUN.succeeded(TRADE, at(0))
    for up_s in (1.0, 2.0, 3.0):
        calls = shut(calls, "ETH/USD", up_s)
    assert states(calls)[TRADE] == (OK, "ok")
    assert list(calls.closed) == ["ETH/USD"]
    found = calls.closed["ETH/USD"]
    assert (found.reason, found.detail) == ("permission", "ETH/USD is restricted")
    assert (found.since_us, found.until) == (3_000_000, at(303.0))


def test_an_order_that_is_taken_opens_its_market_and_no_other() -> None:
    calls = shut(shut(BEGUN, "ETH/USD"), "SOL/USD")
    assert list(calls.succeeded(TRADE, at(2), "BTC/USD").closed) == ["ETH/USD", "SOL/USD"]
    assert list(calls.succeeded(TRADE, at(2), "ETH/USD").closed) == ["SOL/USD"]
    assert list(calls.succeeded(READ, at(2)).closed) == ["ETH/USD", "SOL/USD"]


def test_a_refusal_of_one_market_whose_name_is_not_known_says_nothing_of_the_account() -> None:
    assert shut(BEGUN, "") is BEGUN


def test_what_is_over_is_forgotten_and_the_number_of_closed_markets_is_bounded() -> None:
    calls = shut(shut(BEGUN, "ETH/USD", for_s=10.0), "SOL/USD", 20.0)
    assert list(calls.closed) == ["SOL/USD"]
    for number in range(MOST_CLOSED + 10):
        calls = shut(calls, f"C{number}/USD", 21.0)
    assert len(calls.closed) == MOST_CLOSED
    assert f"C{MOST_CLOSED + 9}/USD" in calls.closed
    assert shut(BEGUN, "ETH/USD", for_s=1e9).closed["ETH/USD"].until == at(1.0 + LONGEST_CLOSED_S)


def test_a_restart_of_the_actor_opens_no_market() -> None:
    calls = shut(BEGUN, "ETH/USD")
    assert Capabilities.resumed(calls.published, at(9), calls.closed).closed == calls.closed


def test_a_key_that_may_not_trade_at_all_closes_the_account() -> None:
    calls = BEGUN.failed(TRADE, Fault(FaultKind.PERMISSION, "no scope"), at(1), "ETH/USD")
    assert states(calls)[TRADE] == (DOWN, "permission")
    assert not calls.closed
