"""Provokes an outage of one account: fetches fail on our own side until the threshold, then pass again.

The connection is severed and not the network, so the exchange is not troubled.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Final

from brokerwatch.errors import BalanceUnknown
from brokerwatch.messages import Reading
from brokerwatch.money import plain
from brokerwatch.preflight.account_probe import AccountProbe
from brokerwatch.verification.outage_findings import AnswerSeen, Provocation

MOST_READS: Final = 40
"""Fetches that are let through until an account under any policy must be back."""


class Outage:
    """Provokes one outage, at the first question about it. One thread calls it."""

    def __init__(self, probe: AccountProbe) -> None:
        self._probe = probe

    def provocation(self) -> Provocation:
        """What the account answered before, during and after the outage."""
        return self._probe.once("provoked", self._provoke)

    def _provoke(self) -> Provocation:
        self._probe.need("balance.simple")
        self._probe.fetched()
        before, threshold = self._answered(), self._probe.spec.max_consecutive_errors
        needed = self._probe.spec.rules.successes_to_recover
        connection = self._probe.access.connection
        connection.severed = "cut on our own side, by the verification"
        try:
            during = tuple(self._answered(fetch=True) for _ in range(threshold))
        finally:
            connection.severed = ""
        after: list[AnswerSeen] = []
        while len(after) < MOST_READS and not (len(after) >= needed and after[-1].available):
            after.append(self._answered(fetch=True))
            if after[-1].fault:
                break  # that is the exchange itself
        return Provocation(threshold, before, during, tuple(after), needed)

    def _totals(self, reading: Reading) -> str:
        """What is known of an account whose exchange does not state how much of its cash is free."""
        if reading.cash is not None or self._probe.cash is not None:
            return ""
        held = reading.balance or {}
        return ", ".join(f"{plain(held[code].least_total)} {code}" for code in sorted(held))

    def _answered(self, *, fetch: bool = False) -> AnswerSeen:
        cash: Decimal | None = None
        if fetch:
            try:
                cash = self._probe.broker.get_account_balance()
            except BalanceUnknown:
                cash = None
        reading = self._probe.broker.reading()
        return AnswerSeen(
            cash=cash if fetch else reading.cash,
            as_of_us=0 if reading.as_of is None else reading.as_of.wall_us,
            error_count=self._probe.broker.get_error_count(),
            available=self._probe.broker.is_available(),
            fault=reading.fault or "",
            stale=reading.stale,
            totals=self._totals(reading),
        )
