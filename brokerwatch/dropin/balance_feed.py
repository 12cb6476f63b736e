"""`watch_balance()` of a guarded instance: whole balances that were read, each after what was pushed.

Where the exchange has a fold of ours, an answer that differs from what the stream stated before it was asked
for is not returned: the exchange's own books are behind. It is asked again, and after `GRACE_S` the read
counts.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from brokerwatch.clock import Instant
from brokerwatch.config.push_settings import SWEEP_S
from brokerwatch.dropin.balance_call import BalanceCall
from brokerwatch.dropin.errors import Unproven, again
from brokerwatch.dropin.feed import Feed, Outcome
from brokerwatch.dropin.last_known import Watch
from brokerwatch.dropin.owner_stream import MakeStream
from brokerwatch.dropin.read_plan import POLL_S
from brokerwatch.dropin.readers import Reader
from brokerwatch.health.push import GRACE_S, StreamEvent
from brokerwatch.log import logger
from brokerwatch.messages import Balance, Fault

_log: Final = logger(__name__)

PASSING: Final = ("info", "timestamp", "datetime")
"""What of a structure is no amount."""


class BalanceFeed(Feed):
    """The balance of one `params`."""

    def __init__(
        self,
        watch: Watch,
        params: Mapping[str, Any],
        make_stream: MakeStream,
        deadline_s: float | None,
        *,
        acknowledges: bool,
    ) -> None:
        super().__init__(watch, make_stream, acknowledges=acknowledges)
        self._params = dict(params)
        self._deadline_s = deadline_s
        self._version = 0
        self._proven: tuple[Balance, dict[str, Any]] | None = None
        self._held_back_s: float | None = None
        """Since when answers differ from the stream, in monotonic seconds."""

    async def read(self) -> Outcome | None:
        """See `Feed`."""
        call = BalanceCall(self.watch, self._params, fresh=False)
        try:
            balance, found = call.taken(await call.asked(self._deadline_s))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was proven
            failed = _failed(call, error)
            self.refrain(call.fault)
            return failed
        now = self.watch.clock.now()
        self.plan = self.plan.ended(balance.as_of.up_s, now.up_s)
        before = self.push
        self.push = before.read(balance, now)
        if self.push.strikes > before.strikes:
            _log.warning("%s: its stream %s", self.watch.owner.id, self.push.detail)
        if self.push.off and not before.off and self._stream is not None:
            self._stream.end()
        if self._is_behind(now):
            self.plan = self.plan.again(now.up_s)
        else:
            self._publish(balance, found)
        return None

    def heard(self, event: StreamEvent) -> None:
        """Nothing: what is pushed is compared with reads, by the rules of `health.push`."""

    def _is_behind(self, now: Instant) -> bool:
        """Whether the answer is older than what was pushed before it was asked for."""
        if not self.push.differs:
            self._held_back_s = None
            return False
        if self._held_back_s is None:
            self._held_back_s = now.up_s
        return now.up_s - self._held_back_s < GRACE_S

    def _publish(self, balance: Balance, found: dict[str, Any]) -> None:
        if self._proven is None or _amounts(self._proven[1]) != _amounts(found):
            self._version += 1
        self._proven = balance, found

    @property
    def every_s(self) -> float:
        """See `Feed`. A stream that states no amounts says nothing of a deposit."""
        return SWEEP_S if self.push.live else POLL_S

    @property
    def version(self) -> int:
        """See `Feed`."""
        return self._version

    def news_for(self, reader: Reader, began: Instant) -> Outcome | None:
        """See `Feed`."""
        if self._proven is None or not self.is_current(self._proven[0].as_of, began):
            return None
        if reader.version == self._version and not reader.failed:
            return None
        reader.version, reader.failed = self._version, False
        balance, found = self._proven
        return lambda: self.watch.shown(copy.deepcopy(found), balance)

    def lost(self, fault: Fault) -> Outcome:
        """See `Feed`."""
        raises = super().lost(fault)

        def outcome() -> Any:
            kept = self.watch.kept(self._params, fault) if self.watch.serves_last_known else None
            return raises() if kept is None else kept

        return outcome


def _failed(call: BalanceCall, error: Exception) -> Outcome:
    """What a read that proved nothing gives to each call that waits."""
    try:
        kept = call.failed(error)
    except Unproven as caught:
        raises = again(caught)

        def outcome() -> Any:
            raise raises()

        return outcome
    return lambda: copy.deepcopy(kept)


def _amounts(structure: Mapping[str, Any]) -> dict[str, Any]:
    return {name: each for name, each in structure.items() if name not in PASSING}
