"""The stream of one account, as its actor uses it. The rules are in `brokerwatch.health.push`.

It outlives the actors of the account; one of them uses it at a time.
"""

from __future__ import annotations

from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.outcome import Source
from brokerwatch.health.push import (
    Acknowledged,
    Connecting,
    Lost,
    PushWatch,
    Refused,
    StreamEvent,
    StreamLine,
)
from brokerwatch.log import logger
from brokerwatch.messages import Balance
from brokerwatch.messages.stream import PushedAmounts, StreamState
from brokerwatch.tally import AccountTally

_log: Final = logger(__name__)

GATHER_S: Final = 0.25
"""A read follows a frame after so long: the other side of a trade comes a moment later, and one read has
both."""
AGAIN_S: Final = 1.0
"""And after a read that differs from what was pushed: a frame, or the exchange's own books, may be behind."""


class PushDesk:
    """What the stream says, and when a read must follow. Used on the actor's thread alone."""

    def __init__(self, spec: BrokerSpec, source: Source, tally: AccountTally) -> None:
        self.spec = spec
        self.watch = PushWatch()
        self._source = source
        self._tally = tally
        self._line: StreamLine | None = None
        self._looks = 0
        self._look: int | None = None
        """The number of the look that is planned; None: none is."""

    def began(self) -> None:
        """Another life of the actor begins: what was said meanwhile was not heard."""
        self._look = None
        if self._line is not None:
            self._line.reconnect()

    def heard(self, event: StreamEvent, now: Instant) -> bool:
        """The stream said this. Whether its account must be asked now."""
        before = self.watch
        if isinstance(event, Connecting):
            self._line = event.line
        self.watch = before.heard(event, now)
        match event:
            case Acknowledged():
                self._tally.pushes.add("connected")
            case PushedAmounts():
                self._tally.pushes.add("amounts")
            case Lost():
                self._tally.pushes.add("lost")
            case Refused():
                self._tally.pushes.add("refused")
            case _:
                pass
        self._say(before)
        # A lost stream is a reason to ask now. Without it polls are as often as ever, at once.
        return before.acknowledged is not None and self.watch.acknowledged is None

    def answered(self, asked: Instant) -> None:
        """A read was answered with what proves no balance: the next poll asks again, and not the stream."""
        self.watch = self.watch.answered(asked)

    def read(self, balance: Balance, now: Instant) -> None:
        """A balance was read that was asked for at a known moment."""
        before = self.watch
        self.watch = before.read(balance, now)
        if self.watch.strikes > before.strikes:
            self._tally.pushes.add("struck")
            _log.warning("%s: its stream %s", self.spec.name, self.watch.detail)
        if self.watch.off and not before.off and self._line is not None:
            self._line.end()
        self._say(before)

    def looked(self, now: Instant) -> None:
        """Time has passed: a stream that was wrong may be tried again."""
        if self.watch.due(now):
            self.watch = self.watch.trusted_again(now)
            if self._line is not None:
                self._line.reconnect()

    def forget(self, now: Instant) -> None:
        """There is no stream any more, or it is that of another account."""
        self.watch = self.watch.switched_off(now)
        if self._line is not None:
            self._line.reconnect()  # one that began already begins anew

    def vouched_s(self) -> float | None:
        """When a live stream last said that the balance stands; None: it does not."""
        if not self.watch.live or self._line is None:
            return None
        return self._line.last_frame_s

    # --- the read that follows -------------------------------------------------------------------------

    def planned(self, wait_s: float | None = None) -> tuple[float, int] | None:
        """In how many seconds the read that is wanted is looked at, and the number of that look.

        None: no read is wanted, or a look is planned already.
        """
        if self.watch.wanted is None or self._look is not None:
            return None
        self._looks += 1
        self._look = self._looks
        usual_s = AGAIN_S if self.watch.differs else GATHER_S
        # A wait for the budget may be a rounding error long.
        return usual_s if wait_s is None else max(wait_s, GATHER_S), self._looks

    def is_due(self, look: int) -> bool:
        """Whether this look is the one that was planned, and a read is still wanted."""
        if look != self._look:
            return False
        self._look = None
        return self.watch.wanted is not None

    def spare_wait_s(self) -> float:
        """Seconds until a read leaves the reserve of the key's budget to exits."""
        return self._source.spare_wait_s()

    def reads(self) -> None:
        """A read goes out for a frame."""
        self._tally.pushes.add("reads")

    def _say(self, before: PushWatch) -> None:
        after = self.watch
        if (before.state, before.detail) != (after.state, after.detail):
            level = _log.warning if after.state is StreamState.REFUSED else _log.debug
            level("%s: its stream is %s %s", self.spec.name, after.state, after.detail)
