"""Money that went without a reason: a pure fold of balances that were read, orders of ours, and the ledger.

*A currency fell, and nothing accounts for it.* A fall is compared with the last settled amounts. It is
believed when two reads in a row agree on it. Then it is accounted for, in this order:

* another currency rose since: a trade by hand, a conversion, an order of ours;
* an order of ours took it;
* the exchange's own ledger has entries for it, where that can be read: a withdrawal, a fee, a payment.

What is left is an alarm, unless it is a small part of the currency (`tolerance`): fees and payments for which
there is no ledger. Money that moves between wallets of one account, or from free to staked, is no fall: whole
amounts of all wallets are compared.

*Nothing is judged while it could be wrong*: a currency in doubt, a wallet that could not be read, an order
that is under way. The settled amounts wait meanwhile, also over a restart.

*A floor and a rate* are the operator's own. A floor is about what is there, whatever accounts for it. The
rate counts what went apart from trades, withdrawals too.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from brokerwatch.clock import utc_text
from brokerwatch.config.money_watch_settings import MoneyRules
from brokerwatch.health.stated import Fill
from brokerwatch.messages import Balance
from brokerwatch.messages.balance import total
from brokerwatch.messages.money import MAX_ALARMS, LedgerEntry, MoneyAlarm, MoneyAlarmData
from brokerwatch.money import EXACT, plain

ZERO: Final = Decimal(0)
AGREEING_READS: Final = 2
"""So many reads in a row have to agree on a fall."""
FILL_LASTS_US: Final = 600_000_000
"""An order of ours may show in the balance so much later."""
LEDGER_BEFORE_US: Final = 60_000_000
"""The exchange's clock may be so far behind ours. An entry counts once all the same."""
LEDGER_WAIT_US: Final = 120_000_000
"""A ledger that has not answered for so long is not waited for."""
STANDS_US: Final = 86_400_000_000
"""An alarm about money that went stands for so long; a floor for as long as there is less."""
MOST_LOSSES: Final = 64
"""Losses of one currency that are kept; the oldest are added up."""
TRADES: Final = frozenset({"trade", "conversion", "convert", "spend", "receive", "adjustment", "match"})
"""Kinds of ledger entries that are no loss: something came in for it."""


class Loss(msgspec.Struct, frozen=True):
    """So much of a currency went."""

    at_us: int
    amount: Decimal


class Taken(msgspec.Struct, frozen=True):
    """An order of ours took something; `amount` None: how much is not known."""

    at_us: int
    currency: str
    amount: Decimal | None


class Falling(msgspec.Struct, frozen=True, kw_only=True):
    """A fall that is not settled yet."""

    since_us: int
    """When the first read that shows it was asked for."""
    reads: int
    totals: Mapping[str, Decimal]
    """What the newest of these reads found."""
    asked_us: int | None = None
    """When the ledger was asked; None: it was not."""
    agreed: Mapping[str, Decimal] = {}
    """Currency to by how much it fell, as two reads agreed when the ledger was asked."""
    wallets: tuple[str, ...] = ()
    """The wallets that were read beside the account."""


class MoneyWatch(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of the money in one account. Each method gives the state that follows."""

    settled: Mapping[str, Decimal] | None = None
    """The whole amounts that are accounted for; None: none was ever read."""
    settled_us: int = 0
    """When they were read."""
    falling: Falling | None = None
    under_way: bool = False
    """Whether an order of ours is under way."""
    taken: tuple[Taken, ...] = ()
    ledger_us: int = 0
    """The newest ledger entry that has counted, by the exchange's clock."""
    lost: Mapping[str, tuple[Loss, ...]] = {}
    below: Mapping[str, int] = {}
    """Currency to the reads in a row that found less than its floor."""
    alarms: tuple[MoneyAlarmData, ...] = ()

    # --- what is read -----------------------------------------------------------------------------------

    def seen(self, balance: Balance, doubted: Iterable[str], rules: MoneyRules, now_us: int) -> MoneyWatch:
        """A balance was read just now. `doubted`: currencies whose amount is in doubt."""
        read = totals_of(balance, frozenset(doubted))
        watch = self.at(now_us)
        if read is None:
            return watch
        (found, unknown), wallets = read, tuple(balance.wallets)
        watch = watch._floors(found, unknown, rules, now_us)
        settled = watch.settled
        # What is not in doubt and not stated is not there.
        found = {**{code: ZERO for code in settled or () if code not in unknown}, **found}
        if settled is None:
            return _changed(watch, settled=found, settled_us=now_us)
        falls = _falls(settled, found)
        if not falls:
            return _changed(watch, settled={**settled, **found}, settled_us=now_us, falling=None)
        if watch.under_way:
            return watch
        before = watch.falling
        if before is None or not any(_falls(settled, before.totals).get(code) for code in falls):
            return _changed(watch, falling=Falling(since_us=now_us, reads=1, totals=found, wallets=wallets))
        falling = msgspec.structs.replace(before, reads=before.reads + 1, totals=found, wallets=wallets)
        earlier = _falls(settled, before.totals)
        agreed = {code: min(fall, earlier[code]) for code, fall in falls.items() if code in earlier}
        watch = _changed(watch, falling=falling)
        if any(amount > settled.get(code, ZERO) for code, amount in found.items()):
            return watch._settle_all(found, now_us)
        left = watch._after_orders(agreed)
        if not left:
            return watch._use_orders(agreed)._settle(agreed, falling, now_us)
        if before.asked_us is not None and now_us - before.asked_us < LEDGER_WAIT_US:
            return watch
        if before.asked_us is not None:
            return watch._judged(agreed, None, "no answer in time", rules, now_us)
        return _changed(watch, falling=msgspec.structs.replace(falling, asked_us=now_us, agreed=agreed))

    @property
    def wants_ledger(self) -> tuple[int, tuple[str, ...]] | None:
        """Since when the ledger is wanted (wall clock, µs), and of which currencies; None: it is not."""
        falling, settled = self.falling, self.settled
        if falling is None or falling.asked_us is None or settled is None:
            return None
        return self._ledger_from_us, tuple(sorted(falling.agreed))

    def ledger(
        self, entries: Iterable[LedgerEntry] | None, why: str, rules: MoneyRules, now_us: int
    ) -> MoneyWatch:
        """What the ledger says, which was asked because of a fall. None: it could not be read, and why."""
        falling, settled = self.falling, self.settled
        if falling is None or falling.asked_us is None or settled is None:
            return self
        listed = None if entries is None else tuple(entries)
        now = _falls(settled, falling.totals)
        agreed = {code: min(fall, now[code]) for code, fall in falling.agreed.items() if code in now}
        return self._judged(agreed, listed, why, rules, now_us)

    def ordered(self, fill: Fill | None, now_us: int) -> MoneyWatch:
        """An order of ours goes out, or has ended with this fill."""
        if fill is None:
            return _changed(self, under_way=True)
        taken = (*self.taken, Taken(now_us, fill.spent, fill.amount))[-MOST_LOSSES:]
        return _changed(self, under_way=False, taken=taken)

    def unsettled(self) -> MoneyWatch:
        """After a restart: nothing that is under way can say any more that it has ended."""
        falling = self.falling
        if not self.under_way and (falling is None or falling.asked_us is None):
            return self
        if falling is not None:
            falling = msgspec.structs.replace(falling, asked_us=None)
        return _changed(self, under_way=False, falling=falling)

    def acknowledged(self) -> MoneyWatch:
        """An operator knows: alarms about money that went end, and it counts as a loss no more."""
        kept = tuple(each for each in self.alarms if each.word is MoneyAlarm.BELOW_FLOOR)
        return self if kept == self.alarms and not self.lost else _changed(self, alarms=kept, lost={})

    def at(self, now_us: int) -> MoneyWatch:
        """The same at a later moment: alarms end, and orders are too old to account for anything."""
        alarms = tuple(
            each
            for each in self.alarms
            if each.word is MoneyAlarm.BELOW_FLOOR or now_us - each.since_us < STANDS_US
        )
        taken = tuple(each for each in self.taken if now_us - each.at_us < FILL_LASTS_US)
        if len(alarms) == len(self.alarms) and len(taken) == len(self.taken):
            return self
        return _changed(self, alarms=alarms, taken=taken)

    # --- how it is judged -------------------------------------------------------------------------------

    def _floors(
        self, found: Mapping[str, Decimal], unknown: frozenset[str], rules: MoneyRules, now_us: int
    ) -> MoneyWatch:
        watch, below = self, dict[str, int]()
        for code, floor in rules.floor.items():
            if code in unknown:
                below[code] = self.below.get(code, 0)  # what was known stays
                continue
            amount = found.get(code, ZERO)
            if amount >= floor:
                watch = watch._without(MoneyAlarm.BELOW_FLOOR, code)
                continue
            below[code] = min(AGREEING_READS, self.below.get(code, 0) + 1)
            if below[code] == AGREEING_READS and not watch._stands(MoneyAlarm.BELOW_FLOOR, code):
                before = (watch.settled or {}).get(code, amount)
                words = (
                    f"{plain(amount)} {code}, less than the floor of {plain(floor)}; {plain(before)} before"
                )
                watch = watch._alarm(MoneyAlarm.BELOW_FLOOR, code, before, amount, words, now_us)
        for each in watch.alarms:
            if each.word is MoneyAlarm.BELOW_FLOOR and each.currency not in rules.floor:
                watch = watch._without(each.word, each.currency)
        return _changed(watch, below=below) if below != watch.below else watch

    def _after_orders(self, falls: Mapping[str, Decimal]) -> dict[str, Decimal]:
        """What orders of ours do not account for."""
        left: dict[str, Decimal] = {}
        for code, fall in falls.items():
            amounts = [each.amount for each in self.taken if each.currency == code]
            if None in amounts:
                continue
            rest = _less(fall, *(each for each in amounts if each is not None))
            if rest > 0:
                left[code] = rest
        return left

    def _use_orders(self, falls: Mapping[str, Decimal]) -> MoneyWatch:
        """The orders that have accounted for these falls account for no later one."""
        return _changed(self, taken=tuple(each for each in self.taken if each.currency not in falls))

    def _judged(
        self,
        falls: Mapping[str, Decimal],
        entries: tuple[LedgerEntry, ...] | None,
        why: str,
        rules: MoneyRules,
        now_us: int,
    ) -> MoneyWatch:
        settled, falling = self.settled, self.falling
        if settled is None or falling is None:
            return self
        watch = self
        for code, rest in self._after_orders(falls).items():
            before, after = settled[code], _less(settled[code], falls[code])
            listed = [each for each in entries or () if self._counts(each, code, falling.wallets)]
            net = _less(ZERO, *(each.amount for each in listed))
            traded = _less(ZERO, *(each.amount for each in listed if each.kind.lower() in TRADES))
            lost = max(ZERO, _less(rest, max(ZERO, traded)))
            unexplained = max(ZERO, _less(rest, max(ZERO, net)))
            watch = watch._losing(code, lost, before, after, rules, now_us)
            if unexplained > before.copy_abs() * Decimal(str(rules.tolerance)):
                words = _words(
                    code, before, after, self.settled_us, _less(falls[code], rest), listed, entries, why
                )
                words += f"; not accounted for: {plain(unexplained)}"
                watch = watch._alarm(MoneyAlarm.UNEXPLAINED, code, before, after, words, now_us)
        newest_us = max((each.at_us for each in entries or ()), default=0)
        watch = _changed(watch._use_orders(falls), ledger_us=max(self.ledger_us, newest_us))
        return watch._settle(falls, falling, now_us)

    def _counts(self, entry: LedgerEntry, code: str, wallets: tuple[str, ...]) -> bool:
        """Whether a ledger entry is about what was read of this currency since it was settled."""
        is_new = entry.at_us >= self._ledger_from_us and entry.at_us > self.ledger_us
        return entry.currency == code and is_new and entry.wallet in ("", *wallets)

    @property
    def _ledger_from_us(self) -> int:
        return self.settled_us - LEDGER_BEFORE_US

    def _losing(
        self, code: str, amount: Decimal, before: Decimal, after: Decimal, rules: MoneyRules, now_us: int
    ) -> MoneyWatch:
        """So much has gone apart from trades: is it too much within the time?"""
        period_us = round(rules.loss_period_s * 1_000_000)
        losses = [each for each in self.lost.get(code, ()) if now_us - each.at_us < period_us]
        if amount > 0:
            losses.append(Loss(now_us, amount))
        if len(losses) > MOST_LOSSES:
            oldest, second = losses[:2]
            losses[:2] = [Loss(second.at_us, total((oldest.amount, second.amount)))]
        watch = _changed(self, lost={**self.lost, code: tuple(losses)})
        most, gone = rules.loss.get(code), total(each.amount for each in losses)
        if most is None or gone <= most or watch._stands(MoneyAlarm.LOSS_RATE, code):
            return watch
        words = (
            f"{plain(gone)} {code} went within {rules.loss_period_s:g} s apart from trades, more than "
            f"{plain(most)}; it fell from {plain(before)} to {plain(after)} last"
        )
        return watch._alarm(MoneyAlarm.LOSS_RATE, code, total((after, gone)), after, words, now_us)

    def _settle(self, falls: Mapping[str, Decimal], falling: Falling, now_us: int) -> MoneyWatch:
        """These falls are settled. What else has fallen in the newest read needs another one."""
        settled = {
            code: max(amount, (self.settled or {}).get(code, amount))
            for code, amount in falling.totals.items()
        }
        settled = {**(self.settled or {}), **settled}
        settled.update({code: _less(settled[code], fall) for code, fall in falls.items()})
        rest = _falls(settled, falling.totals)
        left = Falling(since_us=now_us, reads=1, totals=falling.totals, wallets=falling.wallets)
        return _changed(self, settled=settled, settled_us=now_us, falling=left if rest else None)

    def _settle_all(self, found: Mapping[str, Decimal], now_us: int) -> MoneyWatch:
        settled = {**(self.settled or {}), **found}
        return _changed(self, settled=settled, settled_us=now_us, falling=None)

    def _stands(self, word: MoneyAlarm, code: str) -> bool:
        return any(each.word is word and each.currency == code for each in self.alarms)

    def _without(self, word: MoneyAlarm, code: str) -> MoneyWatch:
        kept = tuple(each for each in self.alarms if not (each.word is word and each.currency == code))
        return self if len(kept) == len(self.alarms) else _changed(self, alarms=kept)

    def _alarm(
        self, word: MoneyAlarm, code: str, before: Decimal, after: Decimal, words: str, now_us: int
    ) -> MoneyWatch:
        alarm = MoneyAlarmData(
            word=word,
            currency=code,
            since_us=now_us,
            before=plain(before),
            after=plain(after),
            detail=words,
        )
        others = tuple(each for each in self.alarms if not (each.word is word and each.currency == code))
        return _changed(self, alarms=(alarm, *others)[:MAX_ALARMS])


def begun(before: MoneyWatch, after: MoneyWatch) -> Iterator[MoneyAlarmData]:
    """The alarms that have begun, each once."""
    known = {(each.word, each.currency, each.since_us) for each in before.alarms}
    return (each for each in after.alarms if (each.word, each.currency, each.since_us) not in known)


def totals_of(balance: Balance, doubted: frozenset[str]) -> tuple[dict[str, Decimal], frozenset[str]] | None:
    """The whole amount of each currency over all wallets, and the currencies whose amount is not known.

    None: a wallet could not be read, so money that moved there would be missed.
    """
    if any(wallet.trouble or wallet.holdings is None for wallet in balance.wallets.values()):
        return None
    found: dict[str, Decimal] = {}
    unknown = {*doubted, *balance.unread}
    places = (balance.holdings, *(wallet.holdings or {} for wallet in balance.wallets.values()))
    for holdings in places:
        for code, held in holdings.items():
            if held.total is None or held.unstated_since_us is not None:
                unknown.add(code)
            else:
                found[code] = total((found.get(code, ZERO), held.total))
    known = {code: amount for code, amount in found.items() if code not in unknown}
    return known, frozenset(unknown)


def _less(amount: Decimal, *others: Decimal) -> Decimal:
    """The exact difference."""
    return EXACT.subtract(amount, total(others))


def _falls(settled: Mapping[str, Decimal], found: Mapping[str, Decimal]) -> dict[str, Decimal]:
    return {
        code: _less(settled[code], amount)
        for code, amount in found.items()
        if code in settled and amount < settled[code]
    }


def _words(
    code: str,
    before: Decimal,
    after: Decimal,
    since_us: int,
    ordered: Decimal,
    listed: list[LedgerEntry],
    entries: tuple[LedgerEntry, ...] | None,
    why: str,
) -> str:
    """Before, after, and what was accounted for."""
    parts: list[str] = [f"orders of ours {plain(ordered)}"] if ordered > 0 else []
    kinds: dict[str, Decimal] = {}
    for each in listed:
        kinds[each.kind] = total((kinds.get(each.kind, ZERO), each.amount))
    parts += [f"ledger: {kind} {plain(amount)}" for kind, amount in sorted(kinds.items())]
    if entries is None:
        parts.append(f"its ledger could not be read ({why})")
    found = ", ".join(parts) or "no other currency rose, no order of ours, no entry in its ledger"
    fell = f"{code} fell from {plain(before)} to {plain(after)} since {utc_text(since_us)}"
    return f"{fell}; accounted for: {found}"


def _changed(watch: MoneyWatch, **values: object) -> MoneyWatch:
    return msgspec.structs.replace(watch, **values)
