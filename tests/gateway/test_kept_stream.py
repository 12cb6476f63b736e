"""A stream that is kept up: when it connects again, the same for a stream of ours and for one of ccxt.pro."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, Final

import pytest

from brokerwatch.clock import Clock
from brokerwatch.exchanges.rate_limit import STAND_IN
from brokerwatch.exchanges.streams import STREAMS
from brokerwatch.gateway.kept_stream import LONGEST_S, REFUSED_S, STEADY_S, KeptStream, StreamRefused
from brokerwatch.gateway.lane import Lane
from brokerwatch.gateway.pro_stream import ProStream
from brokerwatch.gateway.stream import AccountStream
from brokerwatch.health.push import Lost, Refused, StreamEvent
from brokerwatch.messages import Fault, FaultKind
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.records import KeyState
from tests.support.fast_account import FastClock
from tests.support.pushed_loop import PushedLoop, on_a_pushed_loop

Script = list[tuple[float, Exception | None]]
"""For each connection: how long it lasts, and how it ends; None: a new one was asked for."""


def observed(_: object) -> Fault:
    return Fault(FaultKind.NETWORK, "lost")


CONNECTION: Final[Any] = SimpleNamespace(observed=observed, redacted=str, code=str)


def highest(_low: float, high: float) -> float:
    return high


class Ours(AccountStream):
    """A stream with a fold, whose connections are those of a script."""

    def __init__(self, lane: Lane, clock: Clock, say: Callable[[StreamEvent], object]) -> None:
        super().__init__(STREAMS["okx"], "wss://x", {}, CONNECTION, lane, clock, say, 8.0, highest)


class Theirs(ProStream):
    """A stream of ccxt.pro, whose connections are those of a script."""

    def __init__(self, lane: Lane, clock: Clock, say: Callable[[StreamEvent], object]) -> None:
        async def exists() -> bool:
            return True

        watched: Any = SimpleNamespace(exists=exists)
        super().__init__(watched, CONNECTION, lane, clock, say, uniform=highest)


@pytest.fixture(params=[Ours, Theirs])
def kind(request: pytest.FixtureRequest) -> type[Ours | Theirs]:
    found: type[Ours | Theirs] = request.param
    return found


def waits_of(kind: type[Ours | Theirs], script: Script) -> tuple[list[float], list[StreamEvent]]:
    """How long it waits after each connection of a script, and what it says."""
    said: list[StreamEvent] = []
    waits: list[float] = []

    async def work(loop: PushedLoop) -> None:
        clock, left, ended = FastClock(loop), iter(script), [loop.time()]
        lane = Lane("k", STAND_IN, clock, Journal(None), KeyState("k"))

        async def one_connection(self: KeptStream) -> None:
            waits.append(loop.time() - ended[-1])
            lasts_s, ends = next(left, (0.0, None))
            if not lasts_s:
                self.end()
                return
            await asyncio.sleep(lasts_s)
            ended.append(loop.time())
            if ends is not None:
                raise ends

        scripted: Any = type("Scripted", (kind,), {"_one_connection": one_connection})
        await scripted(lane, clock, said.append).run()

    on_a_pushed_loop(work)
    return [round(wait_s, 6) for wait_s in waits[1:]], said


def test_it_waits_twice_as_long_after_each_failure_up_to_a_minute(kind: type[Ours | Theirs]) -> None:
    waits, said = waits_of(kind, [(1.0, OSError("cut"))] * 12)
    assert waits == [0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, LONGEST_S, LONGEST_S, LONGEST_S, LONGEST_S]
    assert sum(isinstance(event, Lost) for event in said) == 12


def test_a_connection_that_lasted_begins_the_waits_anew(kind: type[Ours | Theirs]) -> None:
    short, steady = (1.0, OSError("cut")), (STEADY_S + 1.0, OSError("cut"))
    waits, _ = waits_of(kind, [short, short, short, steady, short])
    assert waits == [0.4, 0.8, 1.6, 0.2, 0.4]


def test_a_new_connection_that_was_asked_for_is_no_failure_and_begins_the_waits_anew(
    kind: type[Ours | Theirs],
) -> None:
    short = (1.0, OSError("cut"))
    waits, said = waits_of(kind, [short, short, short, (1.0, None), short])
    assert waits == [0.4, 0.8, 1.6, 0.0, 0.4]
    assert sum(isinstance(event, Lost) for event in said) == 4


def test_a_refusal_is_tried_again_after_ten_minutes(kind: type[Ours | Theirs]) -> None:
    waits, said = waits_of(kind, [(1.0, StreamRefused("no right")), (1.0, OSError("cut"))])
    assert waits == [REFUSED_S, 0.4]
    assert [type(event) for event in said if isinstance(event, Lost | Refused)] == [Refused, Lost]
