"""Threads that actors share: how many there are, the order of messages, and handlers that hang or raise."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from typing import Any

import pykka
import pytest

from brokerwatch.actors import base
from brokerwatch.actors.base import SharingActor, stop_soon, tell, wait_for_end
from brokerwatch.actors.workers import NAME, SIZE, TURN, Workers
from tests.support.clusters import until

PATIENCE_S = 60.0


class Account(SharingActor):
    """It keeps what it was told; an event it waits for, and an error it raises."""

    def __init__(self, deaths: list[str], born: list[Account]) -> None:
        super().__init__(deaths.append)
        born.append(self)
        self.told: list[Any] = []
        self.dismissed: list[Any] = []
        self.inside = 0
        self.together = 0
        self.closed = 0

    def begin(self) -> None:
        self.told.append("begun")

    def handle(self, message: Any) -> None:
        self.inside += 1
        self.together = max(self.together, self.inside)
        self.told.append(message)
        if isinstance(message, threading.Event):
            assert message.wait(PATIENCE_S)
        if isinstance(message, BaseException):
            raise message
        self.inside -= 1

    def close(self) -> None:
        self.closed += 1

    def dismiss(self, message: Any) -> None:
        self.dismissed.append(message)


def workers() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith(NAME)]


class Made:
    """Actors that end with their test."""

    def __init__(self) -> None:
        self.deaths: list[str] = []
        self.born: list[Account] = []
        self.refs: list[pykka.ActorRef[Account]] = []

    def actor(self) -> tuple[pykka.ActorRef[Account], Account]:
        ref = Account.start(self.deaths, self.born)
        self.refs.append(ref)
        return ref, self.born[-1]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    monkeypatch.setattr(base, "WORKERS", Workers(stuck_s=0.05))
    found = Made()
    yield found
    left = [ref for ref in found.refs if not wait_for_end(ref, PATIENCE_S)]
    assert not left
    until(lambda: not workers())


def test_thousands_of_actors_have_a_few_threads_which_end_with_the_last_of_them(made: Made) -> None:
    actors = [made.actor() for _ in range(2_000)]
    for number in range(3):
        for ref, _ in actors:
            assert tell(ref, number)
    until(lambda: all(len(actor.told) == 4 for _, actor in actors))
    # One is added for each that was stuck, also where the test machine stands still for a moment.
    assert 1 <= len(workers()) <= 4 * SIZE
    for ref, _ in actors:
        stop_soon(ref)
    until(lambda: not workers())
    assert {actor.closed for _, actor in actors} == {1}


def test_messages_keep_their_order_and_an_actor_handles_one_at_a_time(made: Made) -> None:
    seed = random.randrange(2**32)
    print("seed", seed)  # noqa: T201 - for the person who replays it
    chance = random.Random(seed)
    actors = [made.actor() for _ in range(20)]

    def send(who: int) -> None:
        for number in range(10 * TURN):
            for ref, _ in chance.sample(actors, len(actors)):
                tell(ref, (who, number))

    senders = [threading.Thread(target=send, args=(who,)) for who in range(3)]
    for each in senders:
        each.start()
    for each in senders:
        each.join()
    until(lambda: all(len(actor.told) == 1 + 3 * 10 * TURN for _, actor in actors))
    for _, actor in actors:
        assert actor.told[0] == "begun"
        assert actor.together == 1
        for who in range(3):
            assert [number for by, number in actor.told[1:] if by == who] == list(range(10 * TURN))


def test_handlers_that_hang_hold_up_no_other_actor_however_many_do(made: Made) -> None:
    goes_on = threading.Event()
    try:
        hanging = [made.actor() for _ in range(3 * SIZE)]
        for ref, _ in hanging:
            tell(ref, goes_on)
        free, actor = made.actor()

        def told() -> bool:
            tell(free, "something")  # as its heartbeat does
            return "something" in actor.told

        until(told)
        until(lambda: all(goes_on in each.told for _, each in hanging))
        assert len(workers()) > 3 * SIZE
        rest, last = made.actor()
        tell(rest, "a message")
        until(lambda: "a message" in last.told)
    finally:
        goes_on.set()

    def fewer() -> bool:
        tell(free, "something")
        return len(workers()) <= SIZE

    until(fewer)


def test_an_actor_that_waits_behind_hanging_ones_gets_a_worker_by_its_next_message(made: Made) -> None:
    goes_on = threading.Event()
    try:
        behind, actor = made.actor()
        until(lambda: actor.told)
        for ref, _ in [made.actor() for _ in range(SIZE)]:
            tell(ref, goes_on)
        tell(behind, 1)  # it may be in the queue from here on, and then asks for no turn any more

        def told() -> bool:
            tell(behind, 2)
            return 2 in actor.told

        until(told)
    finally:
        goes_on.set()


def test_an_actor_that_raises_dies_alone_and_what_waits_for_it_is_dismissed(made: Made) -> None:
    goes_on = threading.Event()
    ref, actor = made.actor()
    _, other = made.actor()
    tell(ref, goes_on)
    tell(ref, ValueError("broken"))
    tell(ref, "behind it")
    goes_on.set()
    until(lambda: made.deaths and "behind it" in actor.dismissed)
    assert made.deaths == ["ValueError: broken"]
    assert (actor.closed, other.closed) == (1, 0)
    assert not tell(ref, "too late")


def test_without_any_thread_no_actor_starts_and_with_one_they_do(
    made: Made, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_thread(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        with pytest.raises(RuntimeError, match="new thread"):
            made.actor()
    assert not pykka.ActorRegistry.get_by_class(Account), "who stops all actors would wait for it"
    _, first = made.actor()
    until(lambda: first.told)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_thread)
        _, second = made.actor()
        until(lambda: second.told)
