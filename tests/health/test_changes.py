"""What is waiting for a subscriber: one unbroken chain of changes for each broker."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from brokerwatch.clock import ManualClock
from brokerwatch.health.changes import Change, PendingChanges, lapsed
from brokerwatch.health.reading import change_key
from brokerwatch.messages import (
    Capability,
    CapabilityState,
    FaultKind,
    HealthState,
    Reading,
    Reason,
    Verdict,
)
from tests.support import strategies as our
from tests.support.readings import TTL_S, errors_of, reading

# --- what waits to be told ---------------------------------------------------------------------------


@settings(max_examples=our.examples(200))
@given(
    steps=st.lists(
        st.tuples(
            st.sampled_from(("write", "write", "write", "take", "take", "pass", "look")),
            st.sampled_from("abc"),
            st.integers(0, 3),
            st.sampled_from((0.5, 1.0, 4.0, 5.0, 7.0)),
        ),
        max_size=40,
    )
)
def test_what_is_told_of_a_broker_is_one_unbroken_chain_that_ends_at_the_newest(
    steps: list[tuple[str, str, int, float]],
) -> None:
    clock, untold = ManualClock(), PendingChanges()
    board = {name: reading(name, clock=clock) for name in "abc"}
    known = dict(board)
    for one in board.values():
        untold.learn(one, clock.now())

    def take() -> None:
        change = untold.take()
        if change is None:
            return
        assert change_key(change.before) == change_key(known[change.broker]), (
            "it goes on from what was told last"
        )
        assert change_key(change.before) != change_key(change.after), "there is something to tell"
        known[change.broker] = change.after

    for what, name, errors, seconds in steps:
        if what == "write":
            after = reading(name, errors, clock=clock, left_s=seconds)
            waits = untold.put(board[name], after)
            board[name] = after
            assert waits or name not in waiting_in(untold)
        elif what == "take":
            take()
        elif what == "pass":
            clock.advance(seconds)
        else:
            untold.expire(clock.now())
            assert untold.next_expiry_s > clock.up_s()
        assert len(untold) <= 3
        assert untold.next_expiry_s <= min(
            (one.valid_until_s for one in board.values() if one.available), default=float("inf")
        )
    untold.expire(clock.now())
    for _ in range(3):
        take()
    assert len(untold) == 0
    for name, newest in board.items():
        # Not `available`: what was told last may have run out since, and its renewals are no changes.
        assert known[name].verdict == Verdict(newest.available, newest.reason)
        assert known[name].error_count == newest.error_count
    event("one ran out" if any(one.expired for one in board.values()) else "all were renewed")


def waiting_in(untold: PendingChanges) -> set[str]:
    """Who waits; the changes are put back as they were."""
    found: list[Change] = []
    while (change := untold.take()) is not None:
        found.append(change)
    for change in found:
        untold.change(change.before, change.after)
    return {change.broker for change in found}


def test_what_returned_to_what_was_told_last_is_not_told() -> None:
    clock, untold = ManualClock(), PendingChanges()
    well, ill = reading("a", clock=clock), reading("a", 1, clock=clock)
    assert untold.put(well, ill)
    assert not untold.put(ill, well)
    assert untold.take() is None


def test_who_waits_longest_is_told_first_however_often_he_changed_since() -> None:
    clock, untold = ManualClock(), PendingChanges()
    for broker, errors in (("b", 1), ("a", 1), ("b", 2), ("c", 1), ("b", 3)):
        untold.put(reading(broker, errors - 1, clock=clock), reading(broker, errors, clock=clock))
    taken = [untold.take() for _ in range(3)]
    assert errors_of([one for one in taken if one]) == [("b", 0, 3), ("a", 0, 1), ("c", 0, 1)]


def test_a_renewal_wakes_nobody_and_a_sooner_expiry_does() -> None:
    clock, untold = ManualClock(), PendingChanges()
    first = reading("a", clock=clock)
    assert untold.put(first, first), "the first reading sets the alarm"
    clock.advance(1.0)
    assert not untold.put(first, reading("a", clock=clock))
    assert not untold.put(first, reading("b", clock=clock, left_s=9.0))
    assert untold.put(first, reading("c", clock=clock, left_s=0.5))


def test_after_one_ran_out_the_alarm_is_set_for_the_next_one() -> None:
    clock, untold = ManualClock(), PendingChanges()
    for broker, left_s in (("a", 1.0), ("b", 3.0), ("c", 9.0)):
        untold.learn(reading(broker, clock=clock, left_s=left_s), clock.now())
    began_s = clock.up_s()
    for after_s, next_s in ((1.0, 3.0), (2.0, 9.0), (6.0, float("inf"))):
        clock.advance(after_s)
        untold.expire(clock.now())
        assert untold.next_expiry_s == began_s + next_s
        assert len(untold) == 1
        untold.take()


def test_what_ran_out_says_what_the_reading_itself_says_and_since_when() -> None:
    clock = ManualClock()
    old = reading("a", clock=clock)
    began = clock.now()
    clock.advance(TTL_S + 2.0)
    late = lapsed(old, clock.now())
    assert (late.available, late.reason) == (old.available, old.reason) == (False, Reason.SILENT)
    assert late.verdict == Verdict(available=False, reason=Reason.SILENT)
    assert late.since_us == began.wall_us + round(TTL_S * 1_000_000)
    assert late.detail


def test_a_change_is_a_value() -> None:
    clock = ManualClock()
    one = reading("a", clock=clock)
    assert Change(one, one) == Change(one, msgspec.structs.replace(one))


# --- what is a change, and what only a renewal ---------------------------------------------------------

WELL: Final = Verdict(available=True, reason=Reason.OK)
OUT: Final = Verdict(available=False, reason=Reason.ERRORS)
DOWN: Final = Capability(state=CapabilityState.DOWN, reason="maintenance", detail="", since_us=0)


def told(before: Reading, renewals: bool = False, /, **differs: object) -> bool:
    """Whether a subscriber is told that the reading differs so."""
    waiting = PendingChanges(renewals=renewals)
    return waiting.change(before, msgspec.structs.replace(before, **differs))


@pytest.mark.parametrize("errors", [0, 1, 2, 3, 7])
def test_a_balance_that_was_only_read_again_is_a_renewal_in_every_state(errors: int) -> None:
    clock = ManualClock()
    held = reading("a", errors, clock=clock)
    clock.advance(1.0)
    later = clock.now()
    assert not told(held, as_of=later, version=9, detail="other")
    assert told(held, True, as_of=later), "who asks for renewals gets it"
    assert Change(held, msgspec.structs.replace(held, as_of=later)).renewal


@pytest.mark.parametrize(
    ("state", "verdict", "counts"),
    [
        (HealthState.UNKNOWN, Verdict(available=False, reason=Reason.NEVER_SEEN), True),
        (HealthState.DEGRADED, WELL, True),
        (HealthState.UNAVAILABLE, OUT, False),
        (HealthState.UNAVAILABLE, Verdict(available=False, reason=Reason.AUTH), False),
        (HealthState.MAINTENANCE, Verdict(available=False, reason=Reason.MAINTENANCE), False),
    ],
)
def test_one_more_error_is_a_change_only_while_it_counts(
    state: HealthState, verdict: Verdict, counts: bool
) -> None:
    base = msgspec.structs.replace(
        reading("a", 2, clock=ManualClock()), state=state, verdict=verdict, error_count=9
    )
    assert told(base, error_count=10) == counts
    assert told(base, True, error_count=10)


def test_the_beginning_of_what_is_not_proven_is_no_change_since_it_is_computed_each_time() -> None:
    base = reading("a", clock=ManualClock())
    unproven = msgspec.structs.replace(base, verdict=Verdict(available=False, reason=Reason.UNPROVEN))
    assert not told(unproven, since_us=1)
    assert told(base, since_us=1), "an outage that a slow subscriber missed is told"


@pytest.mark.parametrize(
    "differs",
    [
        {"verdict": OUT},
        {"verdict": Verdict(available=True, reason=Reason.HELD_OUT)},
        {"state": HealthState.DEGRADED},
        {"fault": FaultKind.NETWORK},
        {"cash": Decimal(1)},
        {"balance": {}},
        {"unread": frozenset({"BTC"})},
        {"overtaken": True},
        {"broker_epoch": "2"},
        {"capabilities": {"trade": DOWN}},
    ],
    ids=str,
)
def test_state_reason_balance_and_what_can_be_done_are_changes(differs: dict[str, object]) -> None:
    assert told(reading("a", clock=ManualClock()), **differs)


def test_an_equal_amount_in_other_digits_is_no_change() -> None:
    base = msgspec.structs.replace(reading("a", clock=ManualClock()), cash=Decimal("100"))
    assert not told(base, cash=Decimal("100.00"))
