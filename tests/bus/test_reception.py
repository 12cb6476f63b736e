"""What a receiver believes: the seven rules of the protocol, each on a clock that the test pushes."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerwatch.bus import reception
from brokerwatch.bus.reception import AHEAD_US, LONGEST_TTL_MS, ReceivedReading, Receiver, Sender
from brokerwatch.clock import ManualClock
from brokerwatch.health.reading import comparison_key
from brokerwatch.health.state_machine import verdict
from brokerwatch.health.supervision import View
from brokerwatch.messages import (
    Envelope,
    HealthState,
    MessageType,
    Reading,
    Reason,
    Roster,
    Stamp,
    Verdict,
    topics,
)
from brokerwatch.messages.codec import decode, encode
from tests.support import strategies as our

TOPIC: Final = topics.state("kraken", "a")
OTHER_TOPIC: Final = topics.state("kraken", "b")
TTL_MS: Final = 5_000
OLD, KNOWN, NEW = (f"000000000000000{number}-00000000" for number in (1, 2, 3))


def stamp(
    seq: int = 1,
    *,
    epoch: str = KNOWN,
    up_s: float = 0.0,
    ttl_ms: int = TTL_MS,
    src: str = "supervisor/main",
) -> Stamp:
    up_us = round(up_s * 1_000_000)
    return Stamp(src=src, epoch=epoch, seq=seq, ts_us=0, up_us=up_us, ttl_ms=ttl_ms)


def evidence(broker: str = "a", **values: Any) -> Reading:
    usual: dict[str, Any] = {
        "broker": broker,
        "exchange": "kraken",
        "simulated": True,
        "broker_epoch": KNOWN,
        "version": 1,
        "state": HealthState.HEALTHY,
        "verdict": verdict(HealthState.HEALTHY),
        "detail": "",
        "since_us": 1,
        "error_count": 0,
        "fault": None,
        "as_of": None,
        "cash": None,
        "balance": None,
        "labels": {},
        "valid_until_s": float("inf"),
        "clock": ManualClock(),
    }
    return Reading(**{**usual, **values})


def message(said: Stamp, broker: str = "a", **values: Any) -> Envelope:
    """A reading, over the wire and back."""
    envelope = Envelope(type=MessageType.READING, stamp=said, data=evidence(broker, **values).data())
    return decode(encode(envelope))


def goodbye(said: Stamp) -> Envelope:
    """What an orderly stop says on every topic."""
    gone = msgspec.structs.replace(said, ttl_ms=0)
    return message(gone, state=HealthState.UNKNOWN, verdict=Verdict(available=False, reason=Reason.SHUTDOWN))


# Epochs ---------------------------------------------------------------------------------------------


def test_a_greater_epoch_is_taken_and_counts_its_messages_anew() -> None:
    sender = Sender()
    assert sender.accept(TOPIC, stamp(7), 0.0) is not None
    accepted = sender.accept(TOPIC, stamp(1, epoch=NEW), 1.0)
    assert accepted is not None
    assert accepted.lost == 0
    assert sender.epoch == NEW


def test_a_smaller_epoch_is_a_zombie_while_the_known_one_is_fresh_and_is_dropped_and_counted() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    assert receiver.take(TOPIC, message(stamp())) is not None
    clock.advance(4.999)
    zombie = message(stamp(9, epoch=OLD, up_s=100.0), verdict=Verdict(available=False, reason=Reason.ERRORS))
    assert receiver.take(TOPIC, zombie) is None
    assert receiver.take(OTHER_TOPIC, zombie) is None, "on every topic: it is the sender that was replaced"
    assert (receiver.dropped, receiver.lost) == (2, 0)
    assert receiver.newest["supervisor/main", "a"].reading.available


def test_a_zombie_does_not_prolong_or_shorten_the_life_of_what_is_known() -> None:
    sender = Sender()
    sender.accept(TOPIC, stamp(), 0.0)
    before = (sender.epoch, sender.fresh_until_s, sender.shortest_s, dict(sender.seq))
    sender.accept(TOPIC, stamp(9, epoch=OLD, up_s=50.0), 4.0)
    assert (sender.epoch, sender.fresh_until_s, sender.shortest_s, sender.seq) == before


@pytest.mark.parametrize(("after_s", "taken"), [(4.999, False), (5.0, True), (60.0, True)])
def test_a_smaller_epoch_is_taken_after_the_known_one_expired(after_s: float, taken: bool) -> None:
    sender = Sender()
    sender.accept(TOPIC, stamp(3), 0.0)
    accepted = sender.accept(TOPIC, stamp(1, epoch=OLD), after_s)
    assert (accepted is not None) is taken
    assert sender.epoch == (OLD if taken else KNOWN)


def test_any_topic_of_a_sender_keeps_its_epoch_fresh() -> None:
    sender = Sender()
    sender.accept(TOPIC, stamp(), 0.0)
    sender.accept(OTHER_TOPIC, stamp(up_s=4.0), 4.0)
    assert sender.accept(TOPIC, stamp(9, epoch=OLD), 8.0) is None
    assert sender.accept(TOPIC, stamp(9, epoch=OLD), 9.0) is not None


def test_old_news_on_another_topic_does_not_shorten_the_time_that_a_sender_is_fresh() -> None:
    sender = Sender()
    sender.accept(TOPIC, stamp(up_s=10.0), 10.0)
    delayed = sender.accept(OTHER_TOPIC, stamp(up_s=6.0), 12.0)
    assert delayed is not None
    assert delayed.valid_until_s == 11.0
    assert sender.accept(TOPIC, stamp(9, epoch=OLD), 14.0) is None
    assert sender.accept(TOPIC, stamp(9, epoch=OLD), 15.0) is not None


def test_how_long_an_epoch_is_fresh_is_its_own_word_and_not_its_predecessors() -> None:
    sender = Sender()
    sender.accept(TOPIC, stamp(1, ttl_ms=60_000), 0.0)
    sender.accept(TOPIC, stamp(1, epoch=NEW, ttl_ms=1_000), 1.0)
    assert sender.accept(TOPIC, stamp(2), 1.9) is None
    assert sender.accept(TOPIC, stamp(2), 2.0) is not None


def test_once_a_smaller_epoch_was_taken_the_greater_one_may_come_back() -> None:
    sender = Sender()
    sender.accept(TOPIC, stamp(3), 0.0)
    sender.accept(TOPIC, stamp(1, epoch=OLD), 6.0)
    assert sender.accept(TOPIC, stamp(1), 6.1) is not None, "its counting began anew as well"


def test_two_senders_do_not_disturb_one_another() -> None:
    receiver = Receiver(ManualClock())
    receiver.take(TOPIC, message(stamp(5)))
    theirs = msgspec.structs.replace(stamp(1, epoch=OLD), src="supervisor/other")
    assert receiver.take(TOPIC, message(theirs)) is not None
    assert set(receiver.newest) == {("supervisor/main", "a"), ("supervisor/other", "a")}
    assert (receiver.lost, receiver.dropped) == (0, 0)


# Gaps and doubles -----------------------------------------------------------------------------------


def test_a_gap_is_counted_and_the_message_taken_for_whole_state_heals() -> None:
    receiver = Receiver(ManualClock())
    receiver.take(TOPIC, message(stamp(1)))
    heard = receiver.take(TOPIC, message(stamp(5), version=9))
    assert heard is not None
    assert heard.reading.version == 9
    assert (receiver.lost, receiver.dropped) == (3, 0)


@pytest.mark.parametrize("seq", [1, 2, 3])
def test_a_message_that_is_doubled_or_late_is_dropped(seq: int) -> None:
    receiver = Receiver(ManualClock())
    receiver.take(TOPIC, message(stamp(3), version=7))
    assert receiver.take(TOPIC, message(stamp(seq), version=1)) is None
    assert (receiver.lost, receiver.dropped) == (0, 1)
    assert receiver.newest["supervisor/main", "a"].reading.version == 7


def test_each_topic_is_counted_by_itself() -> None:
    receiver = Receiver(ManualClock())
    for seq in (1, 2, 3):
        receiver.take(TOPIC, message(stamp(seq)))
    assert receiver.take(OTHER_TOPIC, message(stamp(1), broker="b")) is not None
    assert receiver.take(OTHER_TOPIC, message(stamp(2), broker="b")) is not None
    assert (receiver.lost, receiver.dropped) == (0, 0)


def test_who_joins_late_has_lost_nothing() -> None:
    receiver = Receiver(ManualClock())
    receiver.take(TOPIC, message(stamp(4_711)))
    assert receiver.lost == 0


@settings(max_examples=our.examples(80))
@given(arriving=st.lists(st.integers(1, 12), min_size=1, max_size=15))
def test_losses_and_drops_are_counted_as_the_arrivals_say(arriving: list[int]) -> None:
    receiver = Receiver(ManualClock())
    for seq in arriving:
        receiver.take(TOPIC, message(stamp(seq)))
    taken = [seq for place, seq in enumerate(arriving) if all(seq > before for before in arriving[:place])]
    assert receiver.dropped == len(arriving) - len(taken)
    assert receiver.lost == taken[-1] - taken[0] - (len(taken) - 1)


# Age ------------------------------------------------------------------------------------------------


def test_old_news_is_not_fresh_news() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    assert receiver.take(TOPIC, message(stamp(1, up_s=10.0))) is not None
    # The receiver slept for a minute; what it finds was sent right after the first.
    clock.advance(60.0)
    late = receiver.take(TOPIC, message(stamp(2, up_s=11.0)))
    assert late is not None
    assert not late.reading.available
    assert late.reading.reason is Reason.SILENT
    # The one that was sent just now is fresh.
    now = receiver.take(TOPIC, message(stamp(3, up_s=70.0)))
    assert now is not None
    assert now.reading.available
    clock.advance(4.999)
    assert now.reading.available
    clock.advance(0.001)
    assert not now.reading.available


def test_a_quicker_delivery_teaches_how_old_the_others_were() -> None:
    sender = Sender()
    first = sender.accept(TOPIC, stamp(1, up_s=0.0), 102.0)  # on its way for 2 s, which cannot be known
    quick = sender.accept(TOPIC, stamp(2, up_s=3.0), 103.0)  # at once
    slow = sender.accept(TOPIC, stamp(3, up_s=4.0), 106.0)
    assert first is not None
    assert quick is not None
    assert slow is not None
    assert (first.sent_s, first.valid_until_s) == (102.0, 107.0)
    assert (quick.sent_s, quick.valid_until_s) == (103.0, 108.0)
    assert (slow.sent_s, slow.valid_until_s) == (104.0, 109.0)


def test_a_new_epoch_has_a_clock_of_its_own() -> None:
    sender = Sender()
    sender.accept(TOPIC, stamp(1, up_s=1_000.0), 5.0)
    accepted = sender.accept(TOPIC, stamp(1, epoch=NEW, up_s=0.5), 6.0)
    assert accepted is not None
    assert accepted.sent_s == 6.0, "against the old epoch's difference it would be hundreds of seconds old"


def test_the_age_of_a_balance_goes_on_from_when_it_was_sent() -> None:
    sender, clock = ManualClock(up_s=50.0), ManualClock(up_s=9_000.0)
    receiver = Receiver(clock)
    asked = sender.now()
    sender.advance(2.0)
    receiver.take(TOPIC, message(stamp(1, up_s=0.0), as_of=asked, clock=sender))
    clock.advance(3.0)
    reading = receiver.newest["supervisor/main", "a"].reading
    assert (reading.age_ms, reading.as_of_us) == (5_000, asked.wall_us)


@settings(max_examples=our.examples(100))
@given(
    sent=st.lists(st.tuples(st.integers(0, 8_000_000), st.integers(0, 20_000_000)), min_size=1, max_size=10)
)
def test_no_message_holds_longer_than_its_time_to_live_after_the_quickest_delivery(
    sent: list[tuple[int, int]],
) -> None:
    """Each is (µs since the one before was sent, µs on its way); the receiver's clock shows another hour."""
    at_us, arrivals = 0, list[tuple[int, int, int, int]]()
    for seq, (gap_us, way_us) in enumerate(sent, start=1):
        at_us += gap_us
        arrivals.append((at_us + way_us, seq, at_us, way_us))
    sender, shortest_us, newest = Sender(), 10**12, 0
    for arrives_us, seq, up_us, way_us in sorted(arrivals):
        accepted = sender.accept(TOPIC, stamp(seq, up_s=up_us / 1e6), 700.0 + arrives_us / 1e6)
        assert (accepted is not None) is (seq > newest)
        if accepted is None:
            continue
        newest = seq
        shortest_us = min(shortest_us, way_us)
        assert accepted.sent_s == pytest.approx(700.0 + (up_us + shortest_us) / 1e6, abs=1e-5)
        assert accepted.valid_until_s == pytest.approx(705.0 + (up_us + shortest_us) / 1e6, abs=1e-5)
        assert accepted.valid_until_s <= 705.0 + arrives_us / 1e6 + 1e-5


# The end --------------------------------------------------------------------------------------------


def test_goodbye_ends_what_was_said_at_once() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, message(stamp(1)))
    clock.advance(1.0)
    heard = receiver.take(TOPIC, goodbye(stamp(2, up_s=1.0)))
    assert heard is not None
    assert (heard.reading.available, heard.reading.reason, heard.reading.expired) == (
        False,
        Reason.SHUTDOWN,
        True,
    )
    clock.advance(100.0)
    assert receiver.expire() == [], "it said itself that it was leaving"
    assert receiver.next_expiry_s() == float("inf")


def test_who_says_that_it_leaves_makes_room_at_once_for_a_successor_with_a_smaller_epoch() -> None:
    sender = Sender()
    sender.accept(TOPIC, stamp(1), 0.0)
    sender.accept(TOPIC, stamp(2, up_s=1.0, ttl_ms=0), 1.0)
    assert sender.accept(TOPIC, stamp(1, epoch=OLD), 1.0) is not None


def test_what_says_it_holds_for_no_time_is_never_available() -> None:
    receiver = Receiver(ManualClock())
    heard = receiver.take(TOPIC, message(stamp(1, ttl_ms=0)))
    assert heard is not None
    assert not heard.reading.available


def test_what_ran_out_turns_unknown_exactly_once() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, message(stamp(1), version=3))
    assert receiver.next_expiry_s() == clock.up_s() + 5.0
    clock.advance(4.999)
    assert receiver.expire() == []
    clock.advance(0.001)
    (turned,) = receiver.expire()
    assert turned.reading.state is HealthState.UNKNOWN
    assert turned.reading.verdict == Verdict(available=False, reason=Reason.NOTHING_HEARD)
    assert turned.reading.reason is Reason.NOTHING_HEARD
    assert turned.reading.since_us == clock.now().wall_us
    assert turned.reading.version == 3
    assert turned.stamp == stamp(1)
    assert receiver.newest["supervisor/main", "a"] is turned
    assert receiver.expire() == []
    clock.advance(1_000.0)
    assert receiver.expire() == []
    assert receiver.next_expiry_s() == float("inf")


def test_an_unavailable_reading_runs_out_as_well() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, message(stamp(1), verdict=Verdict(available=False, reason=Reason.ERRORS)))
    clock.advance(5.0)
    assert [one.reading.reason for one in receiver.expire()] == [Reason.NOTHING_HEARD]


def test_the_last_known_balance_outlives_the_silence() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    told_by = ManualClock()
    receiver.take(TOPIC, message(stamp(1), as_of=told_by.now(), balance={}, clock=told_by))
    clock.advance(6.0)
    (turned,) = receiver.expire()
    assert turned.reading.balance == {}
    assert turned.reading.age_ms == 6_000
    assert turned.reading.stale


def test_a_word_after_the_silence_restores_and_may_run_out_again() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, message(stamp(1, up_s=0.0)))
    clock.advance(6.0)
    assert len(receiver.expire()) == 1
    heard = receiver.take(TOPIC, message(stamp(2, up_s=6.0)))
    assert heard is not None
    assert heard.reading.available
    clock.advance(5.0)
    assert len(receiver.expire()) == 1


def test_each_broker_runs_out_by_itself() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    start_s = clock.up_s()
    receiver.take(TOPIC, message(stamp(1, up_s=0.0)))
    clock.advance(2.0)
    receiver.take(OTHER_TOPIC, message(stamp(1, up_s=2.0), broker="b"))
    assert receiver.next_expiry_s() == start_s + 5.0
    clock.advance(3.0)
    assert [one.reading.broker for one in receiver.expire()] == ["a"]
    assert receiver.next_expiry_s() == start_s + 7.0
    clock.advance(2.0)
    assert [one.reading.broker for one in receiver.expire()] == ["b"]


def test_what_is_due_to_run_out_is_never_overlooked_and_not_waited_for_once_it_has() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, message(stamp(1)))
    clock.advance(2.0)
    receiver.take(OTHER_TOPIC, message(stamp(1, up_s=2.0), "b"))
    receiver.take(TOPIC, message(stamp(2, up_s=2.0)))
    assert receiver.next_expiry_s() <= clock.up_s() + 5.0
    clock.advance(3.5)
    assert receiver.expire() == [], "it was renewed"
    assert receiver.next_expiry_s() == clock.up_s() + 1.5
    clock.advance(1.5)
    assert len(receiver.expire()) == 2
    assert receiver.next_expiry_s() == float("inf")


def test_nothing_runs_out_where_nothing_was_heard() -> None:
    receiver = Receiver(ManualClock())
    assert receiver.expire() == []
    assert receiver.next_expiry_s() == float("inf")


@pytest.mark.parametrize("jump_s", [-1e9, -10.0, 4.9])
def test_a_jump_of_the_wall_clock_lets_nothing_run_out(jump_s: float) -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, message(stamp(1)))
    clock.jump_wall(jump_s)
    assert receiver.expire() == []
    assert receiver.newest["supervisor/main", "a"].reading.available


def test_after_the_receivers_machine_slept_a_reading_is_unproven_until_the_next_one() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, message(stamp(1)))
    clock.sleep(40.0)
    reading = receiver.newest["supervisor/main", "a"].reading
    assert (reading.available, reading.reason, reading.stale) == (False, Reason.UNPROVEN, True)
    receiver.take(TOPIC, message(stamp(2, up_s=40.0)))
    assert receiver.newest["supervisor/main", "a"].reading.available


def test_messages_that_were_sent_while_the_receivers_machine_slept_are_as_old_as_they_are() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, message(stamp(1)))
    clock.sleep(40.0)
    late = receiver.take(TOPIC, message(stamp(2, up_s=1.0)))
    assert late is not None
    assert not late.reading.available


# Clocks that drift apart --------------------------------------------------------------------------------


def test_after_a_pause_of_the_senders_machine_its_messages_are_fresh_again_within_a_minute() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, message(stamp(1)))
    clock.advance(20.0)  # which the sender's clock did not count
    for seq in range(2, 62):
        clock.advance(1.0)
        found = receiver.take(TOPIC, message(stamp(seq, up_s=seq - 1.0)))
        assert found is not None
        assert not found.reading.available
    clock.advance(1.0)
    receiver.take(TOPIC, message(stamp(62, up_s=61.0)))
    clock.advance(1.0)
    found = receiver.take(TOPIC, message(stamp(63, up_s=62.0)))
    assert found is not None
    assert found.reading.available
    clock.advance(3.0)
    late = receiver.take(TOPIC, message(stamp(64, up_s=63.0)))  # 2 s later than the others
    assert late is not None
    clock.advance(2.999)
    assert late.reading.available
    clock.advance(0.001)
    assert not late.reading.available


@pytest.mark.parametrize("parts_per_million", [-200, 200])
def test_two_clocks_that_drift_apart_for_days_make_no_message_old(parts_per_million: int) -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    for seq in range(1, 20_000):
        clock.advance(10.0)
        sent_s = 10.0 * seq * (1 - parts_per_million / 1_000_000)
        found = receiver.take(TOPIC, message(stamp(seq, up_s=sent_s)))
        assert found is not None
        assert found.reading.available, f"message {seq}"


def test_one_message_that_claims_to_be_of_much_later_makes_no_other_old_for_longer_than_two_minutes() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, message(stamp(1)))
    receiver.take(TOPIC, message(stamp(2, up_s=1e9)))
    for seq in range(3, 130):
        clock.advance(1.0)
        receiver.take(TOPIC, message(stamp(seq, up_s=seq - 2.0)))
    assert receiver.newest["supervisor/main", "a"].reading.available


def test_a_backlog_never_makes_itself_fresh_however_long_it_takes_to_read() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, message(stamp(1)))
    clock.advance(300.0)
    for seq in range(2, 200):
        clock.advance(0.5)  # it reads twice as fast as new ones come
        found = receiver.take(TOPIC, message(stamp(seq, up_s=seq - 1.0)))
        assert found is not None
        assert not found.reading.available


# What cannot be ---------------------------------------------------------------------------------------

HUGE: Final = 2**63 - 1


@pytest.mark.parametrize(
    "poison",
    [
        {"ttl_ms": HUGE},
        {"seq": HUGE},
        {"epoch": "9999999999999999-ffffffff"},
        {"epoch": "9999999999999999-ffffffff", "seq": HUGE, "ttl_ms": HUGE},
    ],
    ids=" ".join,
)
def test_no_message_makes_a_later_one_unbelievable_for_longer_than_the_longest_time_to_live(
    poison: dict[str, Any],
) -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, message(msgspec.structs.replace(stamp(1), **poison)))
    later = stamp(2, up_s=LONGEST_TTL_MS / 1_000)
    clock.advance(LONGEST_TTL_MS / 1_000)
    assert receiver.take(TOPIC, message(later)) is not None
    assert receiver.newest["supervisor/main", "a"].reading.available


def test_a_message_is_valid_no_longer_than_the_longest_heartbeat_announces() -> None:
    accepted = Sender().accept(TOPIC, stamp(ttl_ms=HUGE), 0.0)
    assert accepted is not None
    assert accepted.valid_until_s == LONGEST_TTL_MS / 1_000


def test_an_epoch_is_believed_up_to_a_limit_ahead_of_the_receivers_clock() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    for ahead_us, believed in ((AHEAD_US, True), (AHEAD_US + 1, False)):
        epoch = f"{clock.now().wall_us + ahead_us:016d}-0000abcd"
        found = receiver.take(TOPIC, message(stamp(1, epoch=epoch)))
        assert (found is not None) is believed
    assert receiver.dropped == 1


def test_a_number_that_is_too_high_counts_no_longer_than_its_message() -> None:
    sender = Sender()
    sender.accept(TOPIC, stamp(9), 0.0)
    assert sender.accept(TOPIC, stamp(3), 4.9) is None, "it was sent with the other, and came late"
    accepted = sender.accept(TOPIC, stamp(3, up_s=1.0), 4.9)
    assert accepted is not None, "it was sent later"
    assert accepted.lost == 0, "the counting began anew"


def test_after_a_farewell_a_message_that_was_late_is_no_news() -> None:
    sender = Sender()
    sender.accept(TOPIC, stamp(9, up_s=1.0, ttl_ms=0), 1.0)
    assert sender.accept(TOPIC, stamp(8, up_s=0.9), 1.1) is None


def test_only_so_many_senders_are_remembered() -> None:
    receiver = Receiver(ManualClock(), most_senders=2)
    for name in ("a", "b", "c"):
        receiver.take(TOPIC, message(stamp(1, src=f"supervisor/{name}")))
    assert {source for source, _ in receiver.newest} == {"supervisor/a", "supervisor/b"}
    assert receiver.dropped == 1
    assert receiver.take(TOPIC, message(stamp(2, src="supervisor/a"))) is not None


def test_only_so_many_brokers_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "MOST_BROKERS", 1)
    receiver = Receiver(ManualClock())
    assert receiver.take(TOPIC, message(stamp(1))) is not None
    assert receiver.take(OTHER_TOPIC, message(stamp(1), "b")) is None
    assert receiver.take(TOPIC, message(stamp(2))) is not None


# Rosters, and agreement -----------------------------------------------------------------------------


def test_a_roster_keeps_its_speaker_fresh_and_is_no_reading() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, message(stamp(1)))
    clock.advance(4.0)
    roster = Envelope(type=MessageType.ROSTER, stamp=stamp(1, up_s=4.0), data=Roster((evidence("b"),)).data())
    assert receiver.take(topics.ROSTER, roster) is None
    assert (receiver.lost, receiver.dropped) == (0, 0)
    assert set(receiver.newest) == {("supervisor/main", "a")}
    clock.advance(4.0)
    assert receiver.take(TOPIC, message(stamp(9, epoch=OLD))) is None
    assert receiver.dropped == 1
    assert len(receiver.expire()) == 1, "but what the roster did not renew has run out"


@settings(max_examples=our.examples(60))
@given(data=st.data(), names=st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
def test_who_joins_late_agrees_with_the_supervisor_after_one_heartbeat(
    data: st.DataObject, names: list[str]
) -> None:
    ours, theirs = ManualClock(), ManualClock(wall_us=5, up_s=77.0)
    views: dict[str, View] = {}
    for name in names:
        drawn = data.draw(our.readings(broker=name, clock=ours))
        known = msgspec.structs.replace(drawn, valid_until_s=float("inf"))
        views[name] = View(known, ours.up_s())
        if data.draw(st.booleans()):
            views[name] = views[name].vetoed(Reason.SILENT, "quiet", ours.now())
    receiver = Receiver(theirs)
    for name, view in views.items():
        said = Envelope(type=MessageType.READING, stamp=stamp(4_711, up_s=30.0), data=view.reading.data())
        heard = receiver.take(topics.state(view.newest.exchange, name), decode(encode(said)))
        assert heard is not None
        assert isinstance(heard, ReceivedReading)
        assert _shown(heard.reading) == _shown(view.reading)
        assert heard.reading.available is view.reading.available
        assert heard.reading.reason is view.reading.reason
    assert {broker for _, broker in receiver.newest} == set(names)


def _shown(reading: Reading) -> tuple[object, ...]:
    """What must be the same for both: all that is worth telling; an age of no balance is none."""
    held = None if reading.balance is None else dict(reading.balance)
    return comparison_key(msgspec.structs.replace(reading, balance=held))


# --- brokers that leave their cluster ----------------------------------------------------------------


def roster(seq: int, *names: str, part: int = 1, parts: int = 1) -> Envelope:
    readings = tuple(evidence(name) for name in names)
    return Envelope(
        type=MessageType.ROSTER, stamp=stamp(seq, up_s=seq), data=Roster(readings, part, parts).data()
    )


def said(broker: str, seq: int, reason: Reason = Reason.OK) -> Envelope:
    reading = evidence(broker, verdict=Verdict(reason is Reason.OK, reason))
    return Envelope(type=MessageType.READING, stamp=stamp(seq, up_s=seq), data=reading.data())


def known(receiver: Receiver) -> list[str]:
    return sorted(broker for _, broker in receiver.newest)


def test_a_broker_that_said_its_last_word_and_is_in_no_roster_has_left() -> None:
    receiver = Receiver(ManualClock())
    receiver.take(TOPIC, said("a", 1))
    receiver.take(OTHER_TOPIC, said("b", 1))
    receiver.take(topics.ROSTER, roster(1, "a", "b"))
    receiver.take(TOPIC, said("a", 2, Reason.SHUTDOWN))
    assert known(receiver) == ["a", "b"], "it may only be stopped"
    receiver.take(topics.ROSTER, roster(2, "b"))
    assert known(receiver) == ["b"]
    assert receiver.take_gone() == [("supervisor/main", "a")]
    assert receiver.take_gone() == []
    receiver.take(TOPIC, said("a", 3))
    assert known(receiver) == ["a", "b"], "it has come back"


def test_a_broker_that_goes_on_is_kept_although_an_older_roster_does_not_name_it() -> None:
    receiver = Receiver(ManualClock())
    receiver.take(TOPIC, said("a", 1))
    receiver.take(topics.ROSTER, roster(1, "b"))
    assert known(receiver) == ["a"]


def test_a_broker_whose_last_word_was_lost_leaves_when_nothing_is_heard_of_it_any_more() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, said("a", 1))
    clock.advance(TTL_MS / 1_000 + 1)
    receiver.take(topics.ROSTER, roster(1, "b"))
    assert known(receiver) == ["a"]
    assert len(receiver.expire()) == 1
    receiver.take(topics.ROSTER, roster(2, "b"))
    assert known(receiver) == []


def test_only_a_whole_roster_says_who_has_left() -> None:
    receiver = Receiver(ManualClock())
    receiver.take(TOPIC, said("a", 1, Reason.SHUTDOWN))
    receiver.take(topics.ROSTER, roster(1, "b", part=1, parts=2))
    assert known(receiver) == ["a"]
    receiver.take(f"{topics.ROSTER}2/", roster(1, "c", part=2, parts=2))
    assert known(receiver) == []


@pytest.mark.parametrize("ttl_ms", [TTL_MS, 2**53])
def test_a_made_up_number_and_clock_hide_no_later_message_for_longer_than_the_longest_time_to_live(
    ttl_ms: int,
) -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.take(TOPIC, message(stamp(1)))
    receiver.take(TOPIC, message(stamp(2**40, up_s=1e9, ttl_ms=ttl_ms)))
    for seq in range(2, 125):
        clock.advance(10.0)
        receiver.take(TOPIC, message(stamp(seq, up_s=10.0 * seq)))
    assert clock.up_s() - 1_000.0 > LONGEST_TTL_MS / 1_000
    assert receiver.newest["supervisor/main", "a"].reading.available


# A receiver that was held up ------------------------------------------------------------------------


@pytest.mark.parametrize(("held_up_s", "valid_s"), [(1.9, 5.0), (2.1, 2.9), (4.9, 0.1), (60.0, 0.0)])
def test_what_waited_for_a_receiver_that_was_held_up_is_as_old_as_that_where_its_epoch_is_new(
    held_up_s: float, valid_s: float
) -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.turn()
    assert receiver.take(TOPIC, message(stamp(1))) is not None
    clock.advance(held_up_s)
    receiver.turn()
    taken = receiver.take(TOPIC, message(stamp(1, epoch=NEW)))
    assert taken is not None
    assert max(0.0, taken.reading.valid_until_s - clock.up_s()) == pytest.approx(valid_s)


def test_it_learns_how_the_clocks_differ_from_what_it_reads_on_time() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.turn()
    clock.advance(30.0)
    receiver.turn()
    taken = receiver.take(TOPIC, message(stamp(1, epoch=NEW, up_s=3.0)))
    for number in range(2, 12):
        clock.advance(0.5)
        receiver.turn()
        taken = receiver.take(TOPIC, message(stamp(number, epoch=NEW, up_s=20.0 + 0.5 * number)))
    assert taken is not None
    assert taken.reading.valid_until_s - clock.up_s() == pytest.approx(TTL_MS / 1_000)


def test_what_is_known_of_an_epoch_dates_its_backlog_as_before() -> None:
    clock = ManualClock()
    receiver = Receiver(clock)
    receiver.turn()
    receiver.take(TOPIC, message(stamp(1, up_s=10.0)))
    clock.advance(4.0)
    receiver.turn()
    taken = receiver.take(TOPIC, message(stamp(2, up_s=13.0)))
    assert taken is not None
    assert taken.reading.valid_until_s - clock.up_s() == pytest.approx(4.0), "it waited for one second"


# A sender that makes up all it can ------------------------------------------------------------------


def test_senders_that_are_over_make_room_for_one_that_comes_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "MOST_BROKERS", 5)
    clock = ManualClock()
    receiver = Receiver(clock, most_senders=5)
    for number in range(10):
        receiver.take(TOPIC, message(stamp(src=f"supervisor/made-up-{number}", ttl_ms=2**63)))
    assert receiver.take(TOPIC, message(stamp())) is None
    assert len(receiver.newest) == 5
    clock.advance(LONGEST_TTL_MS / 1_000)
    assert receiver.take(TOPIC, message(stamp(2))) is not None
    assert set(receiver.newest) == {("supervisor/main", "a")}
    assert len(receiver.take_gone()) == 5


def test_brokers_of_senders_that_are_over_make_room_for_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reception, "MOST_BROKERS", 5)
    clock = ManualClock()
    receiver = Receiver(clock)
    for number in range(10):
        made_up = message(stamp(src="supervisor/made-up"), broker=f"b{number}")
        receiver.take(topics.state("kraken", f"b{number}"), made_up)
    assert receiver.take(TOPIC, message(stamp())) is None
    clock.advance(TTL_MS / 1_000)
    assert receiver.take(TOPIC, message(stamp(2))) is not None
    assert set(receiver.newest) == {("supervisor/main", "a")}


@pytest.mark.parametrize("topic", ["", "health/1/state/", OTHER_TOPIC, TOPIC + "x/", topics.ROSTER])
def test_on_another_topic_than_its_own_a_message_counts_nowhere(topic: str) -> None:
    """Of each topic a number is remembered, so topics that are made up must not add up."""
    receiver = Receiver(ManualClock())
    assert receiver.take(topic, message(stamp(7))) is None
    assert (receiver.dropped, receiver.newest) == (1, {})
    assert receiver.take(TOPIC, message(stamp())) is not None
