"""What a broker's actor watches beside the health of its account: its API key, and the money in it.

The rules are in `brokerwatch.health.key_watch` and `brokerwatch.health.money_watch`. This is their driver: it
logs a warning once, when it begins, writes it into the history, and says when the reading is to be published
again. The health does not change.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from brokerwatch.actors.board import Slot
from brokerwatch.clock import Instant
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health import money_watch
from brokerwatch.health.key_watch import KeyWatch, ended, news
from brokerwatch.health.money_watch import MoneyWatch
from brokerwatch.health.outcome import FetchOutcome
from brokerwatch.health.stated import Fill
from brokerwatch.health.watched import NOTHING_WATCHED, Watched
from brokerwatch.log import about, logger
from brokerwatch.messages import Balance, Fault
from brokerwatch.messages.key import KeyStatement
from brokerwatch.messages.money import LedgerEntry, MoneyAlarm
from brokerwatch.storage.journal import Journal

_log: Final = logger(__name__)


def _never(*_: object) -> None:
    """Where there is no cluster around the account."""


class AccountWatches:
    """What is watched of one account. It outlives the actors of the account; one of them uses it at a time.

    Each method returns whether the reading has changed.

    Args:
        spec: The configuration of the broker.
        slot: Its place on the board.
        journal: Where warnings are written down.
        known: What was known before.
        ask_ledger: Asks for the ledger since a moment (wall clock, µs) of some currencies, and never waits.
        hold: Holds the account out for this reason, as an operator would, and never waits.
    """

    def __init__(
        self,
        spec: BrokerSpec,
        slot: Slot,
        journal: Journal,
        known: Watched = NOTHING_WATCHED,
        ask_ledger: Callable[[int, tuple[str, ...]], object] = _never,
        hold: Callable[[str], object] = _never,
    ) -> None:
        self._name = spec.name
        self._slot = slot
        self._journal = journal
        self._ask_ledger = ask_ledger
        self._hold = hold
        self.rules = spec.money_watch
        """What is watched of the money; None: nothing is."""
        # No order of before can say any more that it has ended.
        self.watched = msgspec.structs.replace(known, money=known.money.unsettled())
        """What is known now."""

    def recalled(self, known: Watched) -> bool:
        """What was watched before the restart could be read only now."""
        key = known.key if self.watched.key == KeyWatch() else self.watched.key
        money = known.money if self.watched.money == MoneyWatch() else self.watched.money
        changed = Watched(key=key, money=money) != self.watched
        self.watched = Watched(key=key, money=money)
        return changed

    # --- the key ----------------------------------------------------------------------------------------

    def key_stated(self, said: KeyStatement, egress_address: str, now: Instant) -> bool:
        """The exchange has stated something about the key."""
        return self._take_key(self.watched.key.stated(said, now.wall_us, egress_address), now)

    def met(self, outcome: FetchOutcome, now: Instant) -> bool:
        """A fetch of the balance has ended: the exchange may have refused our address."""
        key = self.watched.key
        match outcome:
            case Balance():
                return self._take_key(key.answered(now.wall_us), now)
            case Fault(refuses_address=True):
                return self._take_key(key.refused(outcome.detail, now.wall_us), now)
            case _:
                return False

    def look(self, now: Instant) -> bool:
        """Time has passed: the end of the key may be near, and an alarm may be over."""
        changed = self._take_key(self.watched.key.at(now.wall_us), now)
        return self._take_money(self.watched.money.at(now.wall_us), now) or changed

    def rekeyed(self, *, same_account: bool) -> None:
        """Another key is used from now on, of which nothing is stated yet; the money may be another's."""
        self.watched = Watched(money=self.watched.money if same_account else MoneyWatch())

    def reset(self, now: Instant) -> bool:
        """An operator knows of it: the key is as it should be, and so is the money."""
        changed = self._take_key(self.watched.key.acknowledged(), now)
        return self._take_money(self.watched.money.acknowledged(), now) or changed

    def _take_key(self, key: KeyWatch, now: Instant) -> bool:
        before = self.watched.key
        if key is before:
            return False
        self.watched = msgspec.structs.replace(self.watched, key=key)
        reading = self._slot.reading
        begun = {each.word for each in news(before, key)}
        for each in key.warnings:
            if each.word in begun:
                said = about(self._name, warning=str(each.word), detail=each.detail)
                _log.warning("%s: its API key: %s", self._name, each.detail, extra=said)
                self._journal.warned("key", "", str(each.word), reading, each.detail, now)
        for each in ended(before, key):
            if each.word not in begun:
                self._journal.warned("key", str(each.word), "", reading, "", now)
        return True

    # --- the money --------------------------------------------------------------------------------------

    def read(self, balance: Balance, doubted: Iterable[str], now: Instant) -> bool:
        """A balance was read that was asked for at a moment that is known."""
        if self.rules is None:
            return self._take_money(MoneyWatch(), now)
        return self._take_money(self.watched.money.seen(balance, doubted, self.rules, now.wall_us), now)

    def ledger_read(self, entries: tuple[LedgerEntry, ...] | None, why: str, now: Instant) -> bool:
        """The ledger was asked."""
        if self.rules is None:
            return False
        return self._take_money(self.watched.money.ledger(entries, why, self.rules, now.wall_us), now)

    def ordered(self, fill: Fill | None, now: Instant) -> None:
        """An order of ours goes out, or has ended with this fill."""
        if self.rules is not None:
            self._take_money(self.watched.money.ordered(fill, now.wall_us), now)

    def _take_money(self, money: MoneyWatch, now: Instant) -> bool:
        before = self.watched.money
        if money is before or money == before:
            return False
        self.watched = msgspec.structs.replace(self.watched, money=money)
        wanted = money.wants_ledger
        if wanted is not None and (before.wants_ledger is None):
            self._ask_ledger(*wanted)
        if money.alarms == before.alarms:
            return False
        reading = self._slot.reading
        for each in money_watch.begun(before, money):
            said = about(self._name, alarm=str(each.word), currency=each.currency, detail=each.detail)
            _log.warning("%s: its money: %s", self._name, each.detail, extra=said)
            self._journal.warned("money", "", f"{each.word} {each.currency}", reading, each.detail, now)
            if each.word is MoneyAlarm.BELOW_FLOOR and self.rules is not None and self.rules.hold:
                self._hold(each.detail)
        for each in money_watch.begun(money, before):
            self._journal.warned("money", f"{each.word} {each.currency}", "", reading, "", now)
        return True
