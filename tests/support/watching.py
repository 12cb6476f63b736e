"""Accounts as a notifier sees them, and the messages that follow, for tests of the decisions alone."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Any, Final

from brokerwatch.clock import Instant, ManualClock
from brokerwatch.messages import FaultKind, Reason
from brokerwatch.notify.notices import Notice
from brokerwatch.notify.observations import Observation
from brokerwatch.notify.outage_state import Outages, Rules
from brokerwatch.notify.outages import looked
from brokerwatch.notify.silences import Silence

EXCHANGES: Final = {"k": "kraken", "k2": "kraken", "c": "coinbase", "o": "okx"}


def silence(clock: ManualClock, until_s: float, name: str = "quiet", **values: Any) -> Silence:
    now_us = clock.now().wall_us
    return Silence(
        name=name,
        why="works on the line",
        by="desk",
        since_us=now_us,
        until_us=now_us + round(until_s * 1_000_000),
        **values,
    )


class Watching:
    """A few accounts, and all messages about them."""

    def __init__(self, *brokers: str, rules: Rules | None = None) -> None:
        self.clock = ManualClock()
        self.rules = Rules() if rules is None else rules
        self.outages = Outages()
        self.notices: list[Notice] = []
        self.withdrawn: dict[str, str] = {}
        self.silences: list[Silence] = []
        self.seen: dict[str, Observation] = {}
        for broker in brokers:
            self.ok(broker)

    @property
    def now(self) -> Instant:
        return self.clock.now()

    def set(self, broker: str, **values: Any) -> Observation:
        """What is seen of an account from now on; its verdict begins now unless it is the same."""
        before = self.seen.get(broker)
        chosen: dict[str, Any] = {"since_us": self.now.wall_us, **values}
        seen = Observation(broker=broker, exchange=EXCHANGES.get(broker, "kraken"), **chosen)
        if before is not None and (before.available, before.reason) == (seen.available, seen.reason):
            seen = replace(seen, since_us=before.since_us)
        self.seen[broker] = seen
        return seen

    def ok(self, *brokers: str, **values: Any) -> None:
        """These have just answered."""
        for broker in brokers:
            chosen = {
                "as_of": self.now,
                "cash": "100.00",
                "cash_unit": "USD",
                "amount": Decimal(100),
                **values,
            }
            self.set(broker, available=True, reason=Reason.OK, **chosen)

    def out(
        self,
        *brokers: str,
        reason: Reason = Reason.ERRORS,
        fault: FaultKind | None = FaultKind.EXCHANGE_DOWN,
        **values: Any,
    ) -> None:
        """These are not available."""
        for broker in brokers:
            known = self.seen[broker]
            chosen: dict[str, Any] = {
                **{"error_count": 3, "as_of": known.as_of, "cash": known.cash, "cash_unit": known.cash_unit},
                "amount": known.amount,
                **values,
            }
            self.set(broker, available=False, reason=reason, fault=fault, **chosen)

    def look(self, advance_s: float = 0.0) -> list[Notice]:
        """Let time pass, look, and give what is to be said now."""
        self.clock.advance(advance_s)
        found = looked(self.outages, self.seen.values(), self.now, self.silences, self.rules)
        self.outages = found.outages
        self.withdrawn.update(found.withdrawn)
        self.notices += found.notices
        return list(found.notices)

    def wait(self, seconds: float, step_s: float = 1.0, answering: Iterable[str] = ()) -> list[Notice]:
        """Look again and again for so long; these accounts answer each time."""
        found: list[Notice] = []
        for _ in range(round(seconds / step_s)):
            self.clock.advance(step_s)
            for broker in answering:
                self.ok(broker)
            found += self.look()
        return found

    def restart(self, gone_s: float = 5.0) -> None:
        """Another process goes on from what was stored; its monotonic clock has nothing to do with ours."""
        stored = self.outages.stored()
        self.clock = ManualClock(wall_us=self.now.wall_us + round(gone_s * 1_000_000), up_s=7.0)
        self.outages = stored.restored(self.now)

    @property
    def said(self) -> list[tuple[str, str]]:
        """Of each message, what it is about and of which kind it is."""
        return [(each.subject, str(each.kind)) for each in self.notices]
