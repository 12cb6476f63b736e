"""Which message is sent, and when: examples of each promise, and one walk over all of them."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Final

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from brokerwatch.messages import CapabilityState, FaultKind, Reason
from brokerwatch.notify.causes import LINE
from brokerwatch.notify.notices import Severity
from brokerwatch.notify.outage_state import MAINTENANCE_S, Rules
from brokerwatch.notify.outages import looked
from tests.support.watching import Watching, silence

NETWORK: Final = FaultKind.NETWORK
OUT, BACK = ("k", "outage"), ("k", "recovery")


def test_an_outage_is_one_message_and_its_end_is_one() -> None:
    desk = Watching("k", "c")
    assert desk.look() == []
    desk.out("k")
    [outage] = desk.look(1.0)
    assert (outage.subject, outage.severity) == ("k", Severity.WARNING)
    assert desk.wait(600, 10) == []
    desk.ok("k")
    [recovery] = desk.look()
    assert recovery.severity is Severity.RECOVERY
    assert desk.wait(600, 10) == []


def test_an_outage_whose_reason_changes_is_the_same_outage() -> None:
    desk = Watching("k", "c")
    desk.out("k")
    desk.look()
    for reason in (Reason.LOCKED_OUT, Reason.SILENT, Reason.RESTARTING, Reason.NEVER_SEEN, Reason.RECOVERING):
        desk.out("k", reason=reason)
        assert desk.wait(120, 5) == []
    desk.ok("k")
    desk.look()
    assert desk.said == [OUT, BACK]


def test_a_restart_says_nothing_again_and_the_end_once() -> None:
    desk = Watching("k", "c")
    desk.out("k")
    desk.look()
    desk.restart()
    desk.seen.clear()
    assert desk.look() == []
    desk.set("k", available=False, reason=Reason.NEVER_SEEN, error_count=0)
    desk.ok("c")
    assert desk.wait(120) == []
    desk.ok("k")
    [recovery] = desk.look()
    desk.restart()
    assert desk.look() == []
    assert desk.said == [OUT, BACK]
    assert "It was not from 2027-01-15 08:00:00" in recovery.body


@pytest.mark.parametrize("reason", [Reason.RESTARTING, Reason.NEVER_SEEN, Reason.UNPROVEN, Reason.AUTH])
def test_what_mostly_ends_by_itself_gets_time(reason: Reason) -> None:
    desk = Watching("k", "c")
    desk.out("k", reason=reason, fault=None)
    assert desk.wait(2) == []
    desk.ok("k")
    assert desk.look() == []
    desk.out("k", reason=reason, fault=None)
    assert [each.subject for each in desk.wait(61)] == ["k"]


def test_a_hold_is_no_outage_and_ends_none() -> None:
    desk = Watching("k", "c")
    desk.out("c", reason=Reason.HELD_OUT, fault=None)
    assert desk.wait(300, 10) == []
    desk.ok("c")
    assert desk.look() == []
    desk.out("k")
    desk.look()
    desk.out("k", reason=Reason.HELD_OUT)
    assert desk.wait(300, 10) == []
    desk.ok("k")
    desk.look()
    assert desk.said == [OUT, BACK]


def test_an_account_that_no_program_has_asked_for_yet_is_no_outage() -> None:
    desk = Watching("k", "c")
    desk.out("k", reason=Reason.NEVER_SEEN, fault=None, error_count=0, polled=False)
    assert desk.wait(600, 10) == []
    desk.out("k", reason=Reason.NEVER_SEEN, fault=NETWORK, error_count=2, polled=False)
    assert [each.subject for each in desk.wait(120, 5, ("c",))] == ["k"]


def test_an_outage_after_a_hold_begins_with_the_end_of_the_hold() -> None:
    desk = Watching("k", "c")
    desk.out("k", reason=Reason.HELD_OUT, fault=None)
    desk.wait(300, 10)
    desk.out("k")
    [message] = desk.look()
    assert "Since: 2027-01-15 08:05:00+00:00" in message.body


def test_the_time_that_a_reason_gets_goes_on_over_a_restart() -> None:
    desk = Watching("k", "c")
    desk.out("k", reason=Reason.RESTARTING, fault=None)
    desk.wait(30)
    desk.restart(10)
    assert desk.wait(15) == []
    assert [each.subject for each in desk.wait(10)] == ["k"]


def test_the_severity_says_what_cannot_be_traded() -> None:
    desk = Watching("k", "c", "o")
    desk.out("k")
    [first] = desk.look()
    desk.out("c", reason=Reason.AUTH, fault=FaultKind.AUTH)
    [second] = desk.wait(4)
    desk.out("o")
    [third] = desk.look()
    assert [each.severity for each in (first, second, third)] == ["warning", "critical", "critical"]
    assert "Cannot be traded: k.\nCan be traded: c, o." in first.body
    assert "Can be traded: nothing." in third.body


def test_a_message_says_what_since_when_why_what_helps_and_how_much_is_there() -> None:
    desk = Watching("k", "c")
    desk.clock.advance(90)
    desk.out("k", detail='kraken {"error":["EService:Unavailable"]}\nsecond line', error_count=3)
    [message] = desk.look(2.0)
    assert message.title == "k is not available: errors, exchange_down"
    assert message.body.splitlines() == [
        "What: k (kraken) is not available.",
        "Since: 2027-01-15 08:01:30+00:00, 2 s before this message.",
        "Why: the exchange fails (exchange_down, 3 in a row).",
        'Details: kraken {"error":["EService:Unavailable"]} second line.',
        "Helps: it is asked again by itself; look at the exchange's status page if it lasts.",
        "Last known cash there: 100.00 USD, as of 92 s before this message.",
        "Cannot be traded: k.",
        "Can be traded: c.",
        "Cash that cannot be traded: 100.00 of 200.00 USD, as last known up to 92 s ago.",
    ]


def test_cash_is_added_up_by_unit_and_only_where_it_is_known() -> None:
    desk = Watching("k", "c", "o")
    desk.ok("c", cash_unit="EUR", amount=Decimal("7.5"))
    desk.ok("o", cash="", amount=None)
    desk.out("k", "c")
    assert (
        "Cash that cannot be traded: 7.50 of 7.50 EUR, 100.00 of 100.00 USD, as last" in desk.look()[0].body
    )
    quiet = Watching("k", "c")
    for broker in ("k", "c"):
        quiet.ok(broker, cash="", amount=None)
    quiet.out("k")
    assert "ash" not in quiet.look()[0].body


def test_an_account_whose_orders_are_not_taken_is_said_apart() -> None:
    desk = Watching("k", "c")
    limited = {"trade": CapabilityState.LIMITED, "trade_reason": "cancel_only"}
    desk.ok("k", **limited)
    desk.seen["k orders"] = replace(desk.seen["k"], of_orders=True)
    [message] = desk.look()
    assert message.title == "k takes no market orders: cancel_only"
    assert message.subject == "k orders"
    desk.ok("k")
    desk.seen["k orders"] = replace(desk.seen["k"], of_orders=True)
    [over] = desk.look()
    assert over.title.startswith("k takes orders again after")


# --- our own line, and the watcher itself -----------------------------------------------------------


def test_our_own_line_is_one_message_when_it_is_back_and_the_accounts_behind_it_get_none() -> None:
    desk = Watching("k", "c", "o")
    desk.clock.advance(10)
    for broker in ("k", "c", "o"):  # one after the other, as their polls come
        desk.out(broker, fault=NETWORK)
        assert desk.look(4.0) == []
    assert desk.wait(3_600, 30) == []
    desk.ok("c")
    assert desk.look() == []
    desk.ok("k")
    [line] = desk.wait(6)
    assert (line.subject, line.kind) == (LINE, "line")
    assert "From 2027-01-15 08:00:10" in line.body
    assert "to 2027-01-15 09:00:22" in line.body
    assert "Behind it: c, k, o." in line.body
    desk.ok("o")
    assert desk.wait(600, 10, ("k", "c", "o")) == []


def test_the_word_of_the_cluster_that_it_is_our_line_is_enough() -> None:
    desk = Watching("k", "c", "o")
    desk.out("k", "c", reason=Reason.LOCAL_NETWORK, fault=NETWORK)
    desk.out("o", reason=Reason.HELD_OUT)
    assert desk.wait(300, 10) == []
    desk.ok("k", "c")
    desk.wait(10)
    assert desk.said == [(LINE, "line")]


def test_an_account_that_stays_out_after_our_line_is_back_is_said_then() -> None:
    desk = Watching("k", "c")
    desk.out("k", "c", reason=Reason.LOCAL_NETWORK, fault=NETWORK)
    desk.wait(60, 5)
    desk.ok("c")
    desk.out("k", fault=NETWORK)
    assert [each.subject for each in desk.wait(80, 1, ("c",))] == [LINE]
    assert [each.subject for each in desk.wait(20, 1, ("c",))] == ["k"]
    desk.ok("k")
    desk.look()
    assert desk.said == [(LINE, "line"), OUT, BACK]


def test_an_account_whose_fault_is_another_one_after_our_line_is_back_is_said_at_once() -> None:
    desk = Watching("k", "c")
    desk.out("k", "c", reason=Reason.LOCAL_NETWORK, fault=NETWORK)
    desk.wait(60, 5)
    desk.ok("c")
    desk.out("k", fault=FaultKind.RATE_LIMITED)
    assert {each.subject for each in desk.wait(8, 1, ("c",))} == {LINE, "k"}


def test_a_line_that_comes_and_goes_within_seconds_is_one_message() -> None:
    desk = Watching("k", "c")
    for _ in range(5):
        desk.out("k", "c", reason=Reason.LOCAL_NETWORK, fault=NETWORK)
        desk.look(10)
        desk.ok("k", "c")
        desk.look(2)
    desk.wait(10)
    assert desk.said == [(LINE, "line")]


def test_a_restart_while_our_line_is_down_keeps_its_beginning() -> None:
    desk = Watching("k", "c")
    desk.out("k", "c", reason=Reason.LOCAL_NETWORK, fault=NETWORK)
    desk.wait(60, 5)
    desk.restart(60)
    desk.seen.clear()
    desk.look()
    for broker in ("k", "c"):
        desk.set(broker, available=False, reason=Reason.NEVER_SEEN)
    desk.look(1)
    desk.ok("k", "c")
    [line] = desk.wait(8)
    assert "From 2027-01-15 08:00:00" in line.body
    assert desk.said == [(LINE, "line")]


def test_an_outage_by_the_network_is_said_as_soon_as_another_account_shows_that_the_line_works() -> None:
    desk = Watching("k", "c")
    desk.clock.advance(10)
    desk.out("k", fault=NETWORK)
    assert desk.wait(5) == []  # the other one was asked before
    desk.ok("c")
    assert [each.subject for each in desk.look()] == ["k"]


def test_an_outage_by_the_network_waits_for_no_account_that_is_not_asked() -> None:
    desk = Watching("k", "c", "o")
    desk.clock.advance(10)
    desk.ok("c", polled=False, as_of=None)
    desk.out("o", reason=Reason.AUTH, fault=FaultKind.AUTH)
    desk.wait(5)
    desk.out("k", fault=NETWORK)
    assert [each.subject for each in desk.look()] == ["k"]


def test_an_outage_by_the_network_waits_for_no_longer_than_its_bound() -> None:
    desk = Watching("k", "c")
    desk.clock.advance(10)
    desk.out("k", fault=NETWORK)
    assert desk.wait(29) == []
    assert [each.subject for each in desk.wait(2)] == ["k"]


def test_a_message_about_an_account_is_withdrawn_when_it_turns_out_to_be_our_line() -> None:
    desk = Watching("k", "c")
    desk.clock.advance(10)
    desk.out("k", fault=NETWORK)
    [told] = desk.wait(31)
    desk.out("c", fault=NETWORK)
    assert desk.look() == []
    assert desk.withdrawn == {"k": told.key}
    desk.outages = desk.outages.untold(["k"])  # it had not been sent
    desk.ok("k", "c")
    desk.wait(10)
    assert desk.said == [OUT, (LINE, "line")]


def test_a_single_account_cannot_tell_and_is_said_at_once() -> None:
    desk = Watching("k")
    desk.out("k", fault=NETWORK)
    assert [each.subject for each in desk.look()] == ["k"]


def test_a_cluster_that_is_not_heard_is_one_message_and_one_when_it_is_back() -> None:
    desk = Watching("k", "c", "o")
    desk.out("k", "c", "o", reason=Reason.NOTHING_HEARD, fault=None)
    assert [each.title for each in desk.wait(12)] == ["nothing is heard from the cluster"]
    assert desk.wait(600, 10) == []
    desk.ok("k", "c", "o")
    assert [each.subject for each in desk.look()] == ["the cluster"]
    assert len(desk.notices) == 2


def test_a_cluster_that_was_never_heard_is_one_message_too() -> None:
    desk = Watching()
    now = desk.now
    found = looked(desk.outages, (), now, deaf=True)
    assert found.notices == ()
    desk.outages = found.outages
    desk.clock.advance(11)
    found = looked(desk.outages, (), desk.now, deaf=True)
    assert [each.title for each in found.notices] == ["nothing is heard from the cluster"]
    desk.outages = found.outages
    desk.ok("k")
    assert [each.subject for each in desk.look()] == ["the cluster"]


def test_a_cluster_that_was_stopped_is_one_message() -> None:
    desk = Watching("k", "c")
    desk.out("k", "c", reason=Reason.SHUTDOWN, fault=None)
    [message] = desk.look()
    assert (message.title, message.severity) == ("the cluster was stopped", Severity.WARNING)
    assert desk.wait(600, 10) == []


def test_an_account_that_leaves_a_running_cluster_is_no_outage() -> None:
    desk = Watching("k", "c")
    desk.out("c", reason=Reason.SHUTDOWN, fault=None)
    assert desk.wait(600, 10) == []
    desk.out("k")
    [message] = desk.look()
    assert "Cannot be traded: k.\nCan be traded: nothing." in message.body


def test_a_brokerwatch_that_hears_none_of_its_parts_is_one_message() -> None:
    desk = Watching("k", "c")
    desk.out("k", "c", reason=Reason.BLIND, fault=None)
    assert [each.title for each in desk.wait(20)] == ["brokerwatch hears none of its own parts"]
    desk.ok("k", "c")
    assert [each.severity for each in desk.wait(20)] == [Severity.RECOVERY]


# --- flapping ------------------------------------------------------------------------------------------


def flap(desk: Watching, times: int, broker: str = "k") -> None:
    for _ in range(times):
        desk.out(broker)
        desk.look(5)
        desk.ok(broker)
        desk.look(5)


def test_an_account_that_flaps_gets_a_digest() -> None:
    desk = Watching("k", "c")
    flap(desk, 3)
    assert desk.said == [OUT, BACK] * 3
    desk.notices.clear()
    flap(desk, 120)  # for twenty minutes
    desk.wait(700, 10, ("k",))
    kinds = [kind for _, kind in desk.said]
    assert kinds == ["flapping", "digest", "steady"]
    assert [each.title for each in desk.notices] == [
        "k flaps: out 4 times in 30 s",
        "k still flaps: 90 more outages",
        "k flaps no more: available",
    ]
    assert "In all: 123 outages since" in desk.notices[-1].body
    desk.notices.clear()
    flap(desk, 1)
    assert desk.said == [OUT, BACK]


def test_an_account_that_flaps_and_then_stays_out_says_so_and_then_that_it_is_back() -> None:
    desk = Watching("k", "c")
    flap(desk, 4)
    desk.notices.clear()
    desk.out("k")
    desk.wait(700, 10)
    assert [each.title for each in desk.notices] == ["k flaps no more: not available"]
    desk.ok("k")
    desk.wait(700, 10)
    assert desk.said[-1] == BACK


def test_an_account_that_flaps_does_so_over_a_restart() -> None:
    desk = Watching("k", "c")
    flap(desk, 4)
    desk.restart()
    desk.notices.clear()
    flap(desk, 3)
    assert desk.notices == []


# --- silences ------------------------------------------------------------------------------------------


def test_a_silence_mutes_the_message_and_what_still_holds_is_said_at_its_end() -> None:
    desk = Watching("k", "c")
    desk.silences = [silence(desk.clock, 600, brokers=("k",))]
    desk.out("k", "c")
    assert [each.subject for each in desk.look()] == ["c"]
    assert desk.wait(590, 10) == []
    assert [each.subject for each in desk.wait(20, 10)] == ["k"]


def test_what_is_over_when_the_silence_ends_is_not_said() -> None:
    desk = Watching("k", "c")
    desk.silences = [silence(desk.clock, 600, exchanges=("kraken",))]
    desk.out("k")
    desk.wait(60, 10)
    desk.ok("k")
    assert desk.wait(900, 10) == []


def test_an_end_that_came_during_a_silence_is_said_after_it() -> None:
    desk = Watching("k", "c")
    desk.out("k")
    desk.look()
    desk.silences = [silence(desk.clock, 600)]
    desk.ok("k")
    assert desk.wait(590, 10) == []
    desk.wait(20, 10)
    assert desk.said == [OUT, BACK]


def test_an_end_that_came_during_a_silence_is_not_said_when_the_account_is_out_again() -> None:
    desk = Watching("k", "c")
    desk.out("k")
    desk.look()
    desk.silences = [silence(desk.clock, 600)]
    desk.ok("k")
    desk.wait(60, 10)
    desk.out("k")
    assert desk.wait(530, 10) == []
    desk.wait(20, 10)
    assert desk.said == [OUT, OUT]


def test_a_silence_that_is_ended_early_mutes_no_more() -> None:
    desk = Watching("k", "c")
    desk.silences = [silence(desk.clock, 6_000)]
    desk.out("k")
    desk.look()
    desk.silences = []
    assert [each.subject for each in desk.look()] == ["k"]


@pytest.mark.parametrize("reason", [Reason.MAINTENANCE, Reason.ERRORS])
def test_the_exchanges_own_word_of_maintenance_makes_a_silence(reason: Reason) -> None:
    desk = Watching("k", "k2", "c")
    desk.out("k", reason=reason, fault=FaultKind.MAINTENANCE, detail="back at 9")
    desk.out("k2", fault=FaultKind.EXCHANGE_DOWN)
    assert desk.wait(1_800, 10) == []
    [made] = desk.outages.silences()
    assert (made.name, made.why, made.exchanges) == ("maintenance-kraken", "back at 9", ("kraken",))
    desk.ok("k", "k2")
    assert desk.wait(600, 10) == []
    assert desk.outages.silences() == ()


def test_a_key_that_is_refused_is_said_also_in_maintenance() -> None:
    desk = Watching("k", "k2", "c")
    desk.out("k", reason=Reason.MAINTENANCE, fault=FaultKind.MAINTENANCE)
    desk.out("k2", reason=Reason.AUTH, fault=FaultKind.AUTH)
    assert [each.subject for each in desk.wait(10)] == ["k2"]


def test_maintenance_that_does_not_end_is_said_in_the_end() -> None:
    desk = Watching("k", "c")
    desk.out("k", reason=Reason.MAINTENANCE, fault=FaultKind.MAINTENANCE)
    assert desk.wait(MAINTENANCE_S - 60, 60) == []
    assert [each.subject for each in desk.wait(120, 60)] == ["k"]


def test_maintenance_goes_on_over_a_restart() -> None:
    desk = Watching("k", "c")
    desk.out("k", reason=Reason.MAINTENANCE, fault=FaultKind.MAINTENANCE)
    desk.wait(60, 10)
    desk.restart()
    desk.out("k", reason=Reason.NEVER_SEEN, fault=None)
    desk.look()
    desk.out("k", reason=Reason.MAINTENANCE, fault=FaultKind.MAINTENANCE)
    assert desk.wait(600, 10) == []


def test_an_outage_after_the_maintenance_is_said() -> None:
    desk = Watching("k", "c")
    desk.out("k", reason=Reason.MAINTENANCE, fault=FaultKind.MAINTENANCE)
    desk.wait(60, 10)
    desk.out("k", fault=FaultKind.EXCHANGE_DOWN)
    assert [each.subject for each in desk.wait(600, 10)] == ["k"]


def test_an_account_that_is_gone_from_what_is_heard_is_not_said_to_be_out() -> None:
    desk = Watching("k", "c")
    desk.clock.advance(10)
    desk.out("k", fault=NETWORK)
    desk.look()
    del desk.seen["k"]
    assert desk.wait(600, 10) == []


# --- all of it -----------------------------------------------------------------------------------------

_STEPS: Final = st.lists(
    st.tuples(
        st.sampled_from(["k", "c", "o"]),
        st.sampled_from(
            [
                ("ok", None),
                ("ok", None),
                (Reason.ERRORS, FaultKind.EXCHANGE_DOWN),
                (Reason.ERRORS, NETWORK),
                (Reason.LOCAL_NETWORK, NETWORK),
                (Reason.AUTH, FaultKind.AUTH),
                (Reason.HELD_OUT, None),
                (Reason.MAINTENANCE, FaultKind.MAINTENANCE),
                (Reason.RESTARTING, None),
                (Reason.NOTHING_HEARD, None),
            ]
        ),
        st.sampled_from([0.0, 1.0, 7.0, 40.0, 100.0, 1_000.0]),
        st.sampled_from(["", "", "", "restart", "silence"]),
    ),
    max_size=40,
)


@given(_STEPS)
def test_whatever_happens_each_outage_is_said_at_most_once_and_each_end_after_its_outage(
    steps: list[tuple[str, tuple[str, FaultKind | None], float, str]],
) -> None:
    desk = Watching("k", "c", "o", rules=Rules(flapping_outages=3, flapping_window_s=300))
    for broker, (reason, fault), wait_s, extra in steps:
        if reason == "ok":
            desk.ok(broker)
        else:
            desk.out(broker, reason=Reason(reason), fault=fault)
        if extra == "restart":
            desk.restart()
        if extra == "silence":
            desk.silences = [silence(desk.clock, 60, brokers=(broker,))]
        desk.look()
        desk.look(wait_s)
        before = desk.outages
        assert desk.look() == []  # looking again says nothing
        assert desk.outages == before
    keys = [each.key for each in desk.notices]
    assert len(keys) == len(set(keys))
    state: dict[str, str] = {}
    for notice in desk.notices:
        event(f"said: {notice.kind}")
        if notice.kind == "outage" and notice.subject in desk.seen:
            assert state.get(notice.subject) in (None, "recovery", "steady", "outage")
        if notice.kind == "recovery":
            assert state.get(notice.subject) in ("outage", "steady", "flapping", "digest")
        state[notice.subject] = notice.kind


@given(_STEPS)
def test_whatever_happened_all_that_is_well_in_the_end_is_said_to_be_well(
    steps: list[tuple[str, tuple[str, FaultKind | None], float, str]],
) -> None:
    desk = Watching("k", "c", "o", rules=Rules(flapping_outages=3, flapping_window_s=300))
    for broker, (reason, fault), wait_s, _ in steps:
        if reason == "ok":
            desk.ok(broker)
        else:
            desk.out(broker, reason=Reason(reason), fault=fault)
        desk.look()
        desk.look(wait_s)
    desk.ok("k", "c", "o")
    desk.wait(2_000, 50, ("k", "c", "o"))
    last = {each.subject: each for each in desk.notices}
    for subject, notice in last.items():
        assert notice.kind in ("recovery", "steady", "line"), (subject, notice.title)
    assert desk.outages.causes == {}
    assert all(each.outage is None and each.flap is None for each in desk.outages.subjects.values())
    # What is out in the end is said too.
    desk.notices.clear()
    desk.out("k")
    desk.wait(100, 5, ("c", "o"))
    assert desk.said == [OUT]
