"""What waits for a channel: at most once, in order, again after a failure, and while it matters."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.clock import Instant
from brokerwatch.notify import deliveries
from brokerwatch.notify.deliveries import LONGEST_WAIT_S, MANY, MATTERS_S, MOST_WAITING, Outcome, Queue
from brokerwatch.notify.notices import Kind, Notice, Severity

START_US: Final = 1_800_000_000_000_000


def at(seconds: float) -> Instant:
    return Instant(START_US + round(seconds * 1_000_000), 1_000.0 + seconds)


def notice(key: str, subject: str = "k", kind: Kind = Kind.OUTAGE) -> Notice:
    return Notice(
        key=key, subject=subject, kind=kind, severity=Severity.INFO, title=key, body="", at_us=START_US
    )


def keys(queue: Queue) -> list[str]:
    return [each.notice.key for each in queue]


def failed(queue: Queue, key: str, now: Instant) -> Queue:
    return deliveries.ended(deliveries.begun(queue, {key}), {key}, Outcome.FAILED, now)


def test_what_was_sent_and_what_may_have_been_is_not_sent_again() -> None:
    for outcome in (Outcome.SENT, Outcome.UNKNOWN):
        queue = deliveries.begun(deliveries.added((), notice("a"), at(0)), {"a"})
        assert deliveries.due(queue, at(1)) == ()
        assert deliveries.ended(queue, {"a"}, outcome, at(1)) == ()


def test_a_definite_failure_is_tried_again_later_and_later() -> None:
    queue, now_s, waits = deliveries.added((), notice("a"), at(0)), 0.0, list[float]()
    for _ in range(12):
        queue = failed(queue, "a", at(now_s))
        waits.append(deliveries.next_due_s(queue) - at(now_s).up_s)
        assert deliveries.due(queue, at(now_s + waits[-1] - 0.1)) == ()
        now_s += waits[-1]
        assert keys(deliveries.due(queue, at(now_s))) == ["a"]
    assert waits[:4] == [2.0, 4.0, 8.0, 16.0]
    assert waits[-1] == LONGEST_WAIT_S


def test_a_message_that_failed_is_left_out_when_a_newer_one_of_its_account_comes() -> None:
    queue = failed(deliveries.added((), notice("out"), at(0)), "out", at(1))
    queue = deliveries.added(queue, notice("other", "c"), at(2))
    queue = deliveries.added(queue, notice("back", kind=Kind.RECOVERY), at(3))
    assert keys(queue) == ["other", "back"]


def test_a_message_that_waits_for_its_turn_is_not_left_out() -> None:
    queue = deliveries.added((), notice("out"), at(0))
    queue = deliveries.added(queue, notice("back", kind=Kind.RECOVERY), at(3))
    assert keys(queue) == ["out", "back"]
    assert keys(deliveries.added(queue, notice("out again"), at(100))) == ["out again"]


def test_a_message_that_is_being_sent_is_never_left_out() -> None:
    queue = deliveries.begun(failed(deliveries.added((), notice("out"), at(0)), "out", at(1)), {"out"})
    assert keys(deliveries.added(queue, notice("back", kind=Kind.RECOVERY), at(99))) == ["out", "back"]


def test_an_outage_that_lasts_matters_for_ever_and_what_is_over_for_a_day() -> None:
    queue = deliveries.added((), notice("out"), at(0))
    queue = deliveries.added(queue, notice("line", "our own line", Kind.LINE), at(0))
    assert keys(deliveries.current(queue, at(MATTERS_S - 1))) == ["out", "line"]
    assert keys(deliveries.current(queue, at(MATTERS_S * 30))) == ["out"]


def test_what_was_being_sent_when_the_process_was_killed_is_not_sent_again() -> None:
    queue = deliveries.added(deliveries.added((), notice("a"), at(0)), notice("b", "c"), at(0))
    kept, unknown = deliveries.interrupted(deliveries.begun(queue, {"a"}))
    assert (keys(kept), keys(unknown)) == (["b"], ["a"])


def test_a_withdrawn_message_is_gone_unless_it_is_being_sent() -> None:
    queue = deliveries.added((), notice("a"), at(0))
    assert deliveries.withdrawn(queue, "a") == ((), True)
    assert deliveries.withdrawn((), "a") == ((), False)
    begun = deliveries.begun(queue, {"a"})
    assert deliveries.withdrawn(begun, "a") == (begun, False)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "send", "fail", "lose", "restart"]),
            st.sampled_from(["k", "c"]),
            st.floats(0, 400),
        ),
        max_size=60,
    )
)
def test_no_notice_is_ever_sent_twice_and_no_subject_overtakes_itself(
    steps: list[tuple[str, str, float]],
) -> None:
    queue: Queue = ()
    now_s, number, sent = 0.0, 0, list[tuple[str, int]]()
    for step, subject, wait_s in steps:
        now_s += wait_s
        now = at(now_s)
        if step == "add":
            number += 1
            kind = Kind.OUTAGE if number % 2 else Kind.RECOVERY
            queue = deliveries.added(queue, notice(f"{number}", subject, kind), now)
        elif step == "restart":
            queue, _ = deliveries.interrupted(queue)
        elif found := deliveries.due(queue, now):
            queue = deliveries.begun(queue, set(keys(found)))
            if step != "fail":
                sent += [(each.notice.subject, int(each.notice.key)) for each in found]
            if step != "lose":
                outcome = Outcome.SENT if step == "send" else Outcome.FAILED
                queue = deliveries.ended(queue, set(keys(found)), outcome, now)
        assert len(queue) <= MOST_WAITING
    assert len(sent) == len(set(sent))
    for subject in ("k", "c"):
        numbers = [number for name, number in sent if name == subject]
        assert numbers == sorted(numbers)


def test_a_queue_is_bounded_and_keeps_the_newest() -> None:
    queue: Queue = ()
    for number in range(MOST_WAITING + 5):
        queue = deliveries.added(queue, notice(f"{number}", f"account {number}"), at(0))
    assert len(queue) == MOST_WAITING
    assert queue[-1] == replace(
        queue[-1], notice=notice(f"{MOST_WAITING + 4}", f"account {MOST_WAITING + 4}")
    )


def test_many_notices_that_wait_at_once_are_one_message_and_a_few_are_not() -> None:
    queue: Queue = ()
    for number in range(MANY):
        assert len(deliveries.due(queue, at(0))) == min(number, 1)
        queue = deliveries.added(queue, notice(f"{number}", f"account {number}"), at(0))
    assert len(deliveries.due(queue, at(0))) == MANY


def test_what_has_failed_need_not_wait_when_the_channel_works_again_or_our_line_is_back() -> None:
    queue = failed(deliveries.added((), notice("a"), at(0)), "a", at(0))
    queue = deliveries.added(queue, notice("b", "c"), at(1))
    assert keys(deliveries.due(queue, at(1))) == ["b"]
    sent = deliveries.ended(deliveries.begun(queue, {"b"}), {"b"}, Outcome.SENT, at(1))
    assert keys(deliveries.due(sent, at(1))) == ["a"]
    assert keys(deliveries.due(deliveries.hurried(queue, at(1)), at(1))) == ["a"]
