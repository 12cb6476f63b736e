"""The money watch: what accounts for a fall, what does not, and what is never judged."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from itertools import pairwise
from typing import Any, Final

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.clock import Instant
from brokerwatch.config.money_watch_settings import MoneyRules
from brokerwatch.health.money_watch import MoneyWatch, begun
from brokerwatch.health.stated import Fill
from brokerwatch.messages import Balance, Holding, Wallet
from brokerwatch.messages.money import LedgerEntry, MoneyAlarm

NOW_US: Final = 1_800_000_000_000_000
MINUTE_US: Final = 60_000_000
RULES: Final = MoneyRules()


def held(amounts: Mapping[str, str], staked: str = "0") -> dict[str, Holding]:
    return {
        code: Holding(
            free=Decimal(amount) - Decimal(staked),
            used=Decimal(staked),
            total=Decimal(amount),
            staked=Decimal(staked),
        )
        for code, amount in amounts.items()
    }


def balance(funding: Mapping[str, str] | None = None, trouble: str = "", **amounts: str) -> Balance:
    as_of = Instant(NOW_US, 0.0)
    wallets = {}
    if funding is not None:
        wallets = {"funding": Wallet(holdings=held(funding), as_of=as_of, trouble=trouble)}
    return Balance(holdings=held(amounts), as_of=as_of, wallets=wallets)


class Desk:
    """Reads balances a minute apart, and keeps each alarm that begins."""

    def __init__(self, rules: MoneyRules = RULES) -> None:
        self.rules = rules
        self.watch = MoneyWatch()
        self.now_us = NOW_US
        self.told: list[tuple[str, str]] = []
        self.words: list[str] = []

    def take(self, watch: MoneyWatch) -> None:
        for each in begun(self.watch, watch):
            self.told.append((str(each.word), each.currency))
            self.words.append(each.detail)
        self.watch = msgspec.json.decode(msgspec.json.encode(watch), type=MoneyWatch)

    def read(self, doubted: tuple[str, ...] = (), times: int = 1, **more: Any) -> Desk:
        for _ in range(times):
            self.now_us += MINUTE_US
            self.take(self.watch.seen(balance(**more), doubted, self.rules, self.now_us))
        return self

    @property
    def asks(self) -> bool:
        return self.watch.wants_ledger is not None

    def ledger(self, *entries: LedgerEntry, why: str = "") -> Desk:
        assert self.asks
        self.take(self.watch.ledger(None if why else entries, why, self.rules, self.now_us))
        return self

    def order(self, fill: Fill | None) -> Desk:
        self.take(self.watch.ordered(fill, self.now_us))
        return self

    def entry(self, currency: str, amount: str, kind: str = "withdrawal", ago_us: int = 1) -> LedgerEntry:
        return LedgerEntry(currency=currency, amount=Decimal(amount), kind=kind, at_us=self.now_us - ago_us)


UNEXPLAINED: Final = [("unexplained", "USD")]


def test_a_fall_that_nothing_accounts_for_is_told_after_two_agreeing_reads_and_explains_itself() -> None:
    desk = Desk().read(USD="1000", BTC="1")
    desk.read(USD="400", BTC="1")
    assert not desk.asks
    desk.read(USD="400", BTC="1")
    assert desk.watch.wants_ledger == (NOW_US, ("USD",))
    assert not desk.told, "the ledger comes first"
    desk.ledger()
    assert desk.told == UNEXPLAINED
    assert "USD fell from 1000 to 400" in desk.words[0]
    assert "accounted for: no other currency rose, no order of ours, no entry in its ledger" in desk.words[0]
    [alarm] = desk.watch.alarms
    assert (alarm.before, alarm.after) == ("1000", "400")
    desk.read(times=5, USD="400", BTC="1")
    assert desk.told == UNEXPLAINED, "once"


def test_a_fall_that_the_next_read_takes_back_is_none() -> None:
    desk = Desk().read(USD="1000").read(USD="0").read(USD="1000").read(USD="0").read(USD="1000", times=3)
    assert not desk.told
    assert desk.watch.falling is None


@pytest.mark.parametrize(
    "after",
    [
        {"USD": "400", "BTC": "1.01"},  # a trade by hand on the exchange's own site, or a conversion
        {"USD": "400", "BTC": "1", "ETH": "0.5"},  # of something that was not there
        {"USD": "400", "BTC": "0.5", "EUR": "40000"},  # a basket; dust that is converted
    ],
)
def test_money_that_became_something_else_is_accounted_for(after: dict[str, Any]) -> None:
    desk = Desk().read(USD="1000", BTC="1").read(times=3, **after)
    assert not desk.told
    assert not desk.asks
    assert desk.watch.settled is not None
    assert desk.watch.settled["USD"] == 400


def test_what_was_bought_may_show_a_read_later() -> None:
    desk = Desk().read(USD="1000", BTC="1").read(USD="400", BTC="1").read(USD="400", BTC="1.01", times=2)
    assert not desk.told
    assert not desk.asks


def test_money_that_moves_between_wallets_or_is_staked_is_no_fall() -> None:
    desk = Desk().read(funding={"USDT": "0"}, USDT="100").read(funding={"USDT": "100"}, USDT="0", times=3)
    assert not desk.told
    assert desk.watch.falling is None
    staked = MoneyWatch().seen(Balance(holdings=held({"ETH": "2"}), as_of=Instant(0, 0.0)), (), RULES, NOW_US)
    later = staked.seen(
        Balance(holdings=held({"ETH": "2"}, staked="1.5"), as_of=Instant(0, 0.0)), (), RULES, NOW_US
    )
    assert later.falling is None


def test_nothing_is_judged_while_a_wallet_cannot_be_read() -> None:
    desk = Desk().read(funding={"USDT": "0"}, USDT="100")
    desk.read(funding={"USDT": "0"}, trouble="no answer", USDT="0", times=5)
    assert not desk.told
    assert desk.watch.falling is None
    desk.read(funding={"USDT": "100"}, USDT="0", times=3)
    assert not desk.told


def test_a_currency_in_doubt_is_never_told_of_and_what_is_believed_gone_is() -> None:
    desk = Desk(MoneyRules(floor={"BTC": Decimal("0.5")})).read(USD="1000", BTC="1")
    desk.read(doubted=("BTC",), USD="1000", times=4)
    assert not desk.told
    desk.read(USD="1000", times=2).ledger()
    assert desk.told == [("below_floor", "BTC"), ("unexplained", "BTC")]


def test_an_order_of_ours_accounts_for_what_it_took_and_nothing_is_judged_while_it_is_under_way() -> None:
    desk = Desk().read(USD="1000").order(None)
    desk.read(USD="400", times=4)
    assert desk.watch.falling is None
    desk.order(Fill(spent="USD", received="BTC", amount=Decimal(600)))
    desk.read(USD="400", times=3)
    assert not desk.told
    assert not desk.asks
    desk.read(USD="300", times=2).ledger()
    assert desk.told == UNEXPLAINED, "the order accounts for its own amount once"


def test_more_than_an_order_took_is_told_with_what_was_accounted_for() -> None:
    desk = Desk().read(USD="1000").order(None).order(Fill("USD", "BTC", Decimal(100)))
    desk.read(USD="400", times=2).ledger(desk.entry("USD", "-50", "fee"))
    assert desk.told == UNEXPLAINED
    assert "orders of ours 100, ledger: fee -50; not accounted for: 450" in desk.words[0]


def test_an_order_of_which_the_amount_is_not_known_accounts_for_what_it_spent() -> None:
    desk = Desk().read(USD="1000").order(None).order(Fill("USD", "BTC", None)).read(USD="400", times=3)
    assert not desk.told


@pytest.mark.parametrize("kind", ["withdrawal", "funding", "interest", "transfer"])
def test_what_the_ledger_has_is_accounted_for(kind: str) -> None:
    desk = Desk().read(USD="1000").read(USD="400", times=2)
    desk.ledger(desk.entry("USD", "-600", kind))
    assert not desk.told
    desk.read(USD="400", times=3)
    assert not desk.told


def test_entries_of_before_of_other_money_and_of_wallets_that_are_not_read_do_not_count() -> None:
    desk = Desk().read(USD="1000").read(USD="400", times=2)
    other = msgspec.structs.replace(desk.entry("USD", "-600"), wallet="funding")
    desk.ledger(desk.entry("USD", "-600", ago_us=30 * MINUTE_US), desk.entry("EUR", "-600"), other)
    assert desk.told == UNEXPLAINED


def test_an_entry_of_the_ledger_accounts_for_one_fall_only() -> None:
    desk = Desk().read(USD="1000").read(USD="900", times=2)
    withdrawal = desk.entry("USD", "-100")
    desk.ledger(withdrawal).read(USD="800", times=2).ledger(withdrawal)
    assert desk.told == UNEXPLAINED


def test_what_falls_while_the_ledger_is_read_needs_two_reads_of_its_own() -> None:
    desk = Desk().read(USD="1000", BTC="1").read(USD="400", BTC="1", times=2)
    desk.read(USD="300", BTC="0.5")
    desk.ledger()
    assert desk.told == UNEXPLAINED
    assert "USD fell from 1000 to 400" in desk.words[0]
    desk.read(USD="300", BTC="1", times=2).ledger()
    assert desk.told == [*UNEXPLAINED, *UNEXPLAINED], "BTC was back, and USD had gone on falling"
    assert "USD fell from 400 to 300" in desk.words[1]


def test_after_a_restart_the_ledger_is_asked_again() -> None:
    desk = Desk().read(USD="1000").read(USD="400", times=2)
    asked = [desk.asks]
    desk.take(desk.watch.unsettled())
    asked.append(desk.asks)
    desk.read(USD="400")
    asked.append(desk.asks)
    assert asked == [True, False, True]
    assert not MoneyWatch(under_way=True).unsettled().under_way


def test_a_ledger_that_cannot_be_read_is_said_and_not_waited_for() -> None:
    desk = Desk().read(USD="1000").read(USD="400", times=2).ledger(why="permission: denied")
    assert desk.told == UNEXPLAINED
    assert "its ledger could not be read (permission: denied)" in desk.words[0]
    silent = Desk().read(USD="1000").read(USD="400", times=3)
    assert not silent.told
    silent.read(USD="400", times=2)
    assert silent.told == UNEXPLAINED


def test_fees_and_funding_payments_are_no_alarm_by_themselves_and_count_as_a_loss() -> None:
    desk = Desk(MoneyRules(loss={"USD": Decimal(20)}))
    amount = Decimal(1000)
    for _ in range(5):
        desk.read(USD=str(amount))
        amount -= 9
        desk.read(USD=str(amount), times=2).ledger()
    assert desk.told == [("loss_rate", "USD")]
    assert "27 USD went within 3600 s" in desk.words[0]


def test_a_loss_counts_withdrawals_and_no_trades_and_is_forgotten_after_its_time() -> None:
    desk = Desk(MoneyRules(loss={"USD": Decimal(500)}, loss_period_s=600.0)).read(USD="5000")
    desk.read(USD="4600", times=2).ledger(desk.entry("USD", "-400"))
    desk.read(USD="4100", times=2).ledger(desk.entry("USD", "-500", "trade"))
    assert not desk.told
    desk.read(USD="4100", times=12)
    desk.read(USD="3700", times=2).ledger(desk.entry("USD", "-400"))
    assert not desk.told
    desk.read(USD="3500", times=2).ledger(desk.entry("USD", "-200"))
    assert desk.told == [("loss_rate", "USD")]


def test_a_floor_is_told_after_two_reads_whatever_accounts_for_it_and_ends_when_it_is_reached() -> None:
    desk = Desk(MoneyRules(floor={"USD": Decimal(500)})).read(USD="1000", BTC="1")
    desk.read(USD="400", BTC="1.1")
    assert not desk.told
    desk.read(USD="400", BTC="1.1")
    assert desk.told == [("below_floor", "USD")]
    assert desk.words == ["400 USD, less than the floor of 500; 1000 before"]
    assert [(each.before, each.after) for each in desk.watch.alarms] == [("1000", "400")]
    desk.read(USD="400", BTC="1.1", times=3)
    assert len(desk.told) == 1
    desk.read(USD="500", BTC="1.1")
    assert not desk.watch.alarms
    desk.read(USD="499", BTC="1.2", times=2)
    assert len(desk.told) == 2


def test_an_alarm_about_money_that_went_ends_by_a_person_or_after_a_day() -> None:
    desk = Desk(MoneyRules(floor={"USD": Decimal(500)})).read(USD="1000").read(USD="400", times=2).ledger()
    assert desk.told == [("below_floor", "USD"), ("unexplained", "USD")]
    assert [each.word for each in desk.watch.acknowledged().alarms] == [MoneyAlarm.BELOW_FLOOR]
    later = desk.watch.at(desk.now_us + 25 * 60 * MINUTE_US)
    assert [each.word for each in later.alarms] == [MoneyAlarm.BELOW_FLOOR]


@given(st.lists(st.tuples(st.sampled_from(("100", "60", "30")), st.sampled_from(("1", "2"))), max_size=10))
def test_whatever_is_read_a_deposit_alone_is_no_alarm_and_each_alarm_is_told_once(
    reads: list[tuple[str, str]],
) -> None:
    desk = Desk()
    for usd, btc in reads:
        desk.read(USD=usd, BTC=btc)
        if desk.asks:
            desk.ledger()
    assert len(desk.told) <= 2 * max(0, len(reads) - 1)
    only_rises = all(int(a) <= int(b) for one, two in pairwise(reads) for a, b in zip(one, two, strict=True))
    if only_rises:
        assert not desk.told
