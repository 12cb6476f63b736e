"""A private stream that is kept up: connected, and connected again after each end.

Where the account may not be asked (its loop was replaced, or the claim on its key is over), nothing is sent
here either: the connection is closed, and made again when the claim is back.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, Final, Protocol

from brokerwatch.clock import Clock
from brokerwatch.gateway.address import Address
from brokerwatch.gateway.lease import LaneLease
from brokerwatch.health.push import Connecting, Lost, Refused, StreamEvent

SHORTEST_S, LONGEST_S = 0.2, 60.0
"""The waits before another connection, from the first to the longest …"""
STEADY_S: Final = 60.0
"""… which begin anew after a connection that lasted for so long."""
REFUSED_S: Final = 600.0
"""A stream that is refused is tried again after so long."""
CLAIM_LOOK_S: Final = 0.5
"""So often it is looked whether the claim on the key is over, or back."""


class Turns(Protocol):
    """What a stream needs of the lane of its key."""

    @property
    def lease(self) -> LaneLease:
        """Whether anything may go out."""
        ...

    @property
    def address(self) -> Address:
        """Where it leaves from."""
        ...

    def refrain_when_barred(self) -> None:
        """Raise Refrained where no call of this key may go out now."""
        ...

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Wait for the turn of one call. Raises Refrained."""
        ...


class StreamEnded(Exception):
    """The connection is of no more use, for this reason."""


class StreamRefused(Exception):
    """The exchange does not let this key have the stream, in these words."""


class KeptStream(ABC):
    """The stream of one account. `run` is its task; `reconnect` and `end` may be called by any thread.

    `uniform` draws a number; a wait is never longer than the bound, and up to half shorter.
    """

    begins_with: ClassVar[str] = ""
    """What is said of it while a connection is being made, for people."""

    def __init__(
        self,
        lane: Turns,
        clock: Clock,
        say: Callable[[StreamEvent], object],
        uniform: Callable[[float, float], float],
    ) -> None:
        self._lane = lane
        self._clock = clock
        self._say = say
        self._uniform = uniform
        self.last_frame_s = float("-inf")
        """When the newest frame came, in monotonic seconds. Any thread may look."""
        self._again = asyncio.Event()
        """A new connection is wanted."""
        self._ended = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def reconnect(self) -> None:
        """Begin anew, with a whole snapshot. Any thread."""
        loop = self._loop
        if loop is not None and not loop.is_closed():
            loop.call_soon_threadsafe(self._again.set)

    def end(self) -> None:
        """Connect no more. Any thread."""
        self._ended = True
        self.reconnect()

    async def run(self) -> None:
        """Keep the stream up, until it is cancelled or ended."""
        self._loop = asyncio.get_running_loop()
        failures = 0
        while not self._ended and not self._lane.lease.replaced:
            if self._lane.lease.claim_over:
                await self._wait(CLAIM_LOOK_S)
                continue
            began_s = self._clock.up_s()
            self._say(Connecting(self, self.begins_with))
            try:
                await self._one_connection()
            except Exception as error:  # noqa: BLE001 - whatever it is, the stream is lost, and made again
                if self._is_refusal(error):
                    self._say(Refused(self._words(error)))
                    wait_s = REFUSED_S
                else:
                    failures = 0 if self._clock.up_s() - began_s > STEADY_S else failures + 1
                    self._say(Lost(self._words(error)))
                    wait_s = min(LONGEST_S, SHORTEST_S * 2.0 ** min(failures, 10))
            else:
                failures, wait_s = 0, 0.0
            await self._wait(self._uniform(0.5, 1.0) * wait_s)

    async def _wait(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._again.wait()
        except TimeoutError:
            pass
        self._again.clear()

    @abstractmethod
    async def _one_connection(self) -> None:
        """Connect, and take frames until it ends. Returns where a new connection was asked for."""

    def _is_refusal(self, error: Exception) -> bool:
        """Whether the exchange does not let this key have the stream."""
        return isinstance(error, StreamRefused)

    @abstractmethod
    def _words(self, error: BaseException) -> str:
        """What an error says, without secrets."""
