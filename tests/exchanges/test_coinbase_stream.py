"""Coinbase's stream: events of orders ask for reads, and nothing states an amount."""

from __future__ import annotations

import json
from typing import Any, Final

import pytest

from brokerwatch.clock import Instant
from brokerwatch.exchanges.coinbase_stream import CoinbaseStream
from brokerwatch.exchanges.stream import Opening, Step

OPENING: Final = Opening({}, "token", Instant(0, 0.0), str)


def frame(channel: str, sequence: int, **event: Any) -> str:
    return json.dumps({"channel": channel, "sequence_num": sequence, "events": [event]})


def after(*frames: str) -> Step:
    step = CoinbaseStream.opened(OPENING)
    for each in frames:
        step = step.fold.heard(each)
    return step


def test_it_subscribes_to_heartbeats_too_without_which_the_channel_is_closed() -> None:
    beats, orders = map(json.loads, CoinbaseStream.opened(OPENING).send)
    assert beats["channel"] == "heartbeats"
    assert (orders["channel"], orders["jwt"]) == ("user", "token")


def test_it_is_acknowledged_once_the_orders_are_among_the_subscriptions() -> None:
    first = frame("subscriptions", 0, subscriptions={"heartbeats": ["heartbeats"]})
    assert not after(first).acknowledged
    assert after(first, frame("subscriptions", 1, subscriptions={"user": ["1"]})).acknowledged


def test_an_event_of_an_order_asks_for_a_read_and_heartbeats_and_the_snapshot_do_not() -> None:
    beat, snapshot = frame("heartbeats", 0, heartbeat_counter=1), frame("user", 1, type="snapshot", orders=[])
    assert not after(beat, snapshot).asks
    step = after(beat, snapshot, frame("user", 2, type="update", orders=[{"order_id": "1"}]))
    assert step.asks
    assert step.amounts is None


def test_a_gap_asks_for_a_read_and_what_comes_twice_does_not() -> None:
    beat = frame("heartbeats", 0, heartbeat_counter=1)
    assert "2 frames are missing" in after(beat, frame("heartbeats", 3, heartbeat_counter=4)).asks
    update = frame("user", 1, type="update", orders=[])
    assert not after(beat, update, update).asks
    assert after(update, beat).asks, "numbers that begin anew may hide what was missed"


def test_numbers_that_begin_anew_end_the_connection_so_that_not_each_frame_asks() -> None:
    beats = [frame("heartbeats", number, heartbeat_counter=number) for number in range(3)]
    assert after(*beats, beats[0]).ended == "the frame 0 came after 2"


@pytest.mark.parametrize(
    ("words", "refused"), [("authentication failure", True), ("failure to subscribe", False)]
)
def test_an_error_is_told_in_the_words_of_the_exchange(words: str, refused: bool) -> None:
    step = after(json.dumps({"type": "error", "message": words}))
    assert (step.refused, step.ended) == ((words, "") if refused else ("", words))


@pytest.mark.parametrize("broken", ["{", "[]", '{"channel":"user"}', frame("user", 1)[:-3]])
def test_a_frame_that_cannot_be_read_asks_for_a_read(broken: str) -> None:
    assert after(broken).asks
