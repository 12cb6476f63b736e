"""Spans: as long as an account was heard, and never longer."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerwatch.clock import Instant, ManualClock
from brokerwatch.health.timeline import Heard, OpenSpan, Span, extended, heard, in_order
from brokerwatch.messages import Reason, Verdict
from tests.support.readings import reading
from tests.support.strategies import examples

TTL_S = 5.0
WORDS = st.sampled_from(
    [(True, Reason.OK), (False, Reason.ERRORS), (False, Reason.MAINTENANCE), (False, Reason.HELD_OUT)]
)


@dataclass
class Watcher:
    """A watcher that is told of one account, as often as a test says."""

    clock: ManualClock = field(default_factory=ManualClock)
    open: OpenSpan | None = None
    done: list[Span] = field(default_factory=list[Span])

    def take(self, available: bool, reason: Reason, *, since_us: int | None = None) -> None:
        now = self.clock.now()
        since = now.wall_us if since_us is None else since_us
        self.open, ended = extended(
            self.open, Heard("a", available, reason, since, now.up_s, now.up_s + TTL_S), now
        )
        self.done += [] if ended is None else [ended]

    def restart(self) -> None:
        self.done += [] if self.open is None else [self.open.span]
        self.open = None

    def spans(self) -> list[Span]:
        known = self.done + ([] if self.open is None else [self.open.span])
        return in_order(known, self.clock.now().wall_us)


def lengths_s(spans: list[Span]) -> list[tuple[Reason, float]]:
    return [(span.reason, (span.until_us - span.from_us) / 1_000_000) for span in spans]


def test_a_span_grows_with_each_message_and_a_flip_begins_the_next_one_where_the_cluster_says() -> None:
    watcher = Watcher()
    watcher.take(True, Reason.OK)
    watcher.clock.advance(3.0)
    watcher.take(True, Reason.OK)
    flipped_us = watcher.clock.now().wall_us + 500_000
    watcher.clock.advance(2.0)
    watcher.take(False, Reason.ERRORS, since_us=flipped_us)
    assert lengths_s(watcher.spans()) == [(Reason.OK, 3.5), (Reason.ERRORS, 1.5)]


def test_a_border_lies_between_two_messages_whatever_another_clock_says() -> None:
    for since_us in (0, 2**60):
        watcher = Watcher()
        watcher.take(True, Reason.OK)
        watcher.clock.advance(3.0)
        watcher.take(True, Reason.OK)
        watcher.clock.advance(2.0)
        watcher.take(False, Reason.ERRORS, since_us=since_us)
        assert sum(length for _, length in lengths_s(watcher.spans())) == 5.0
        assert 3.0 <= lengths_s(watcher.spans())[0][1] <= 5.0


def test_what_was_not_heard_in_time_is_a_gap_also_over_a_restart_and_over_days() -> None:
    watcher = Watcher()
    for gap_s in (TTL_S + 0.1, 86_400.0 * 3):
        watcher.take(True, Reason.OK)
        watcher.clock.advance(4.0)
        watcher.take(True, Reason.OK)
        watcher.clock.advance(gap_s)
    watcher.take(True, Reason.OK)
    watcher.restart()
    watcher.clock.advance(2.0)
    watcher.take(True, Reason.OK)
    watcher.clock.advance(1.0)
    watcher.take(True, Reason.OK)
    assert lengths_s(watcher.spans()) == [(Reason.OK, 4.0), (Reason.OK, 4.0), (Reason.OK, 1.0)]


def test_a_step_of_the_wall_clock_ends_a_span_and_no_time_is_claimed_twice() -> None:
    for step_s in (3_600.0, -3_600.0, -7.0):
        watcher = Watcher()
        watcher.take(True, Reason.OK)
        watcher.clock.advance(4.0)
        watcher.take(True, Reason.OK)
        watcher.clock.jump_wall(step_s)
        watcher.clock.advance(2.0)
        watcher.take(True, Reason.OK)
        watcher.clock.advance(4.0)
        watcher.take(True, Reason.OK)
        assert sum(length for _, length in lengths_s(watcher.spans())) == (8.0 if step_s > 0 else 4.0)


def test_a_machine_that_slept_was_not_heard_meanwhile() -> None:
    watcher = Watcher()
    watcher.take(True, Reason.OK)
    watcher.clock.sleep(600.0)
    watcher.clock.advance(1.0)
    watcher.take(True, Reason.OK)
    watcher.clock.advance(1.0)
    watcher.take(True, Reason.OK)
    assert lengths_s(watcher.spans()) == [(Reason.OK, 1.0)]


def test_a_reading_without_a_new_message_extends_nothing_and_an_expired_one_says_nothing() -> None:
    clock = ManualClock()
    told = reading("a", clock=clock, left_s=TTL_S)
    first = heard(told, round(TTL_S * 1_000), clock.now())
    assert first is not None
    known, _ = extended(None, first, clock.now())
    clock.advance(4.0)
    later = heard(told, round(TTL_S * 1_000), clock.now())
    assert later is not None
    assert extended(known, later, clock.now()) == (known, None)
    clock.jump_wall(-3.0)
    doubted = replace(later, available=False, reason=Reason.UNPROVEN)
    assert extended(known, doubted, clock.now()) == (known, None), "a proof that ended is no message"
    clock.advance(1.0)
    assert heard(told, round(TTL_S * 1_000), clock.now()) is None
    for reason in (Reason.NOTHING_HEARD, Reason.SHUTDOWN):
        gone = msgspec.structs.replace(told, verdict=Verdict(False, reason), valid_until_s=1e9)
        assert heard(gone, 5_000, clock.now()) is None


@settings(max_examples=examples(60))
@given(
    steps=st.lists(
        st.tuples(
            st.floats(min_value=0.001, max_value=20.0),
            WORDS,
            st.sampled_from(["take", "take", "take", "take", "restart"]),
            st.integers(min_value=0, max_value=2**53),
        ),
        max_size=40,
    )
)
def test_the_spans_are_exactly_the_time_between_messages_that_came_in_time(
    steps: list[tuple[float, tuple[bool, Reason], str, int]],
) -> None:
    watcher, contiguous_us, heard_at = Watcher(), 0, None
    for wait_s, (available, reason), what, since_us in steps:
        watcher.clock.advance(wait_s)
        if what == "restart":
            watcher.restart()
            heard_at = None
            continue
        now = watcher.clock.now()
        watcher.take(available, reason, since_us=since_us)
        if heard_at is not None and now.up_s <= heard_at.up_s + TTL_S:
            contiguous_us += now.wall_us - heard_at.wall_us
        heard_at = now
    spans = watcher.spans()
    assert abs(sum(span.until_us - span.from_us for span in spans) - contiguous_us) <= 2 * len(steps)
    assert all(one.until_us <= two.from_us for one, two in itertools.pairwise(spans))


@settings(max_examples=examples(60))
@given(
    steps=st.lists(
        st.tuples(
            st.floats(min_value=0.001, max_value=20.0),
            WORDS,
            st.sampled_from([0.0, 0.0, 0.0, 0.0, 3.0, -3.0, 86_400.0, -86_400.0, 1e9]),
        ),
        max_size=40,
    )
)
def test_no_step_of_a_clock_makes_more_time_than_was_heard(
    steps: list[tuple[float, tuple[bool, Reason], float]],
) -> None:
    watcher, heard_s = Watcher(), 0.0
    for wait_s, (available, reason), step_s in steps:
        watcher.clock.advance(wait_s)
        watcher.clock.jump_wall(step_s)
        watcher.take(available, reason)
        # Steps below those that count as one move a border, and are in a span by as much.
        heard_s += min(wait_s, TTL_S) + (abs(step_s) if abs(step_s) < 5 else 0.0)
        assert sum(length for _, length in lengths_s(watcher.spans())) <= heard_s + 0.001


def test_spans_that_overlap_are_cut_where_the_next_one_begins_and_none_is_in_the_future() -> None:
    one = Span("a", 0, 100, available=True, reason=Reason.OK)
    two = replace(one, from_us=60, until_us=300)
    future = replace(one, from_us=500, until_us=900)
    assert in_order([two, future, one], 200) == [replace(one, until_us=60), replace(two, until_us=200)]
    assert in_order([one, one], 1_000) == [one]


def test_the_moment_of_a_message_is_never_in_the_future() -> None:
    clock = ManualClock()
    told = reading("a", clock=clock, left_s=9.0)
    found = heard(told, 5_000, Instant(clock.now().wall_us, clock.up_s()))
    assert found is not None
    assert found.heard_s == clock.up_s()
