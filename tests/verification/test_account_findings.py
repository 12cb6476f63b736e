"""What a verification makes of answers about the account, its key and the clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal, localcontext
from itertools import product as combined
from typing import Any, Final

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from brokerwatch.clock import Instant
from brokerwatch.exchanges.key_info import KeyFacts
from brokerwatch.exchanges.open_orders import OpenOrder
from brokerwatch.exchanges.symbols import Products
from brokerwatch.messages import DetailedBalance, Holding, Position, Product, Side
from brokerwatch.messages.balance import known_total
from brokerwatch.messages.trading import Status, StatusWord
from brokerwatch.verification.account_findings import (
    KEY_ENDS_S,
    against_orders,
    clock,
    detailed,
    held,
    moment,
    money,
    opened,
    positions,
    rights,
    skew_ms,
    withdraw,
)
from brokerwatch.verification.checklist import CheckOutcome
from tests.support import strategies as our

PASS, WARN, FAIL, SKIP = CheckOutcome.PASS, CheckOutcome.WARN, CheckOutcome.FAIL, CheckOutcome.SKIP
CASH: Final = ("USD", "USDT")
BTC: Final = Product(symbol="BTC/USD", base="BTC", quote="USD", id="XXBTZUSD")
ETH: Final = Product(symbol="ETH/USD", base="ETH", quote="USD", id="XETHZUSD")
LISTED: Final = Products((BTC, ETH))


def holding(free: str, used: str = "0", total: str | None = None, **parts: Any) -> Holding:
    whole = Decimal(free) + Decimal(used) if total is None else Decimal(total)
    return Holding(free=Decimal(free), used=Decimal(used), total=whole, **parts)


UNKNOWN: Final = Holding(free=None, used=None, total=Decimal(5))


def balance(holdings: Mapping[str, Holding], cash: str | None = None) -> DetailedBalance:
    free = known_total(held.free for code, held in holdings.items() if code in CASH)
    return DetailedBalance(
        broker="main",
        holdings=holdings,
        cash=free if cash is None else Decimal(cash),
        held=Decimal(0),
        wallets={},
        as_of=Instant(0, 0.0),
        age_ms=0,
        stale=False,
        available=True,
        fault=None,
        detail="",
    )


def order(
    amount: str | None, currency: str = "BTC", *, side: Side = Side.SELL, listed: bool = True
) -> OpenOrder:
    holds = None if amount is None else (currency, Decimal(amount))
    return OpenOrder("O1", "BTC/USD" if listed else "FOO-USD", side, holds, listed)


def coin(symbol: str, base: str, free: str = "", *, kind: str = "spot", side: str = "long") -> Position:
    amounts = {"base_amount": Decimal(base), "free": Decimal(free or base)}
    return Position(symbol=symbol, kind=kind, side=side, **amounts)


# --- the clock ----------------------------------------------------------------------------------------

GRID_MS: Final = 50


@settings(max_examples=our.examples(300))
@given(
    sent=st.integers(0, 120),
    took=st.integers(0, 100),
    theirs=st.integers(0, 220) | st.integers(0, 11).map(lambda seconds: seconds * 20),
)
def test_a_skew_is_what_no_moments_of_both_clocks_can_explain(sent: int, took: int, theirs: int) -> None:
    sent_ms, received_ms, theirs_ms = sent * GRID_MS, (sent + took) * GRID_MS, theirs * GRID_MS
    second = 1_000 if theirs_ms % 1_000 == 0 else 0
    # Every moment of ours at which it may have been written, and every one of theirs that it may say.
    pairs = [
        there - here
        for here in range(sent_ms, received_ms + 1, GRID_MS)
        for there in range(theirs_ms, theirs_ms + second + 1, GRID_MS)
    ]
    assert skew_ms(sent_ms, theirs_ms, received_ms) == min(pairs, key=abs)
    event("none" if 0 in pairs else "ahead" if pairs[0] > 0 else "behind")


@pytest.mark.parametrize(
    ("answer", "skew"),
    [
        ((10_000, 10_100.5, 10_200), 0.0),
        ((10_000, 12_700.5, 10_200), 2_500.5),
        ((10_000, 7_500.5, 10_200), -2_499.5),
        ((10_000, 9_000, 10_000), 0.0),
        ((10_000, 8_000, 10_000), -1_000.0),
        ((10_000, 8_001, 10_000), -1_999.0),
        ((10_000, 11_000, 10_000), 1_000.0),
    ],
)
def test_the_sign_of_a_skew_says_who_is_ahead(answer: tuple[float, float, float], skew: float) -> None:
    assert skew_ms(*answer) == skew


@pytest.mark.parametrize(
    ("skew", "took_ms", "outcome", "words"),
    [
        (0.0, 80.0, PASS, "no difference to be seen"),
        (40.0, 80.0, PASS, "no difference to be seen"),
        (900.0, 80.0, PASS, "0.9 s behind"),
        (-1_000.0, 80.0, PASS, "1.0 s ahead of"),
        (1_000.5, 80.0, WARN, "1.0 s behind"),
        (-2_000.0, 80.0, WARN, "2.0 s ahead of"),
        (2_000.5, 80.0, FAIL, "NTP"),
        (-86_400_000.0, 80.0, FAIL, "86400.0 s ahead of"),
        (0.0, 2_000.0, PASS, ""),
        (0.0, 2_000.5, WARN, "the answer took 2.0 s"),
        (2_000.5, 9_000.0, FAIL, ""),
        (float("nan"), 80.0, FAIL, ""),
        (float("inf"), 80.0, FAIL, ""),
    ],
)
def test_clocks_agree_within_a_second_and_fail_beyond_two(
    skew: float, took_ms: float, outcome: CheckOutcome, words: str
) -> None:
    found = clock(skew, took_ms)
    assert found.outcome is outcome
    assert words in found.evidence
    if abs(skew) > 50:
        assert "no difference" not in found.evidence


def test_a_moment_that_no_calendar_has_is_still_said() -> None:
    assert moment(1_800_000_000.0) == "2027-01-15 08:00:00 UTC"
    assert "1e+17" in moment(1e17)
    assert "nan" in moment(float("nan"))


# --- what the exchange says of itself and of the key ---------------------------------------------------

CLOSED: Final = Product(symbol="BTC/USD", base="BTC", quote="USD", id="x", active=False)


@pytest.mark.parametrize(
    ("status", "market", "outcome"),
    [
        (None, None, SKIP),
        (None, BTC, PASS),
        (None, CLOSED, FAIL),
        (Status(StatusWord.ONLINE), None, PASS),
        (Status(StatusWord.ONLINE), BTC, PASS),
        (Status(StatusWord.ONLINE), CLOSED, FAIL),
        (Status(StatusWord.ONLINE, "upgrade on Sunday"), BTC, WARN),
        (Status(StatusWord.ONLINE, "upgrade on Sunday"), None, WARN),
        (Status(StatusWord.ONLINE, "upgrade on Sunday"), CLOSED, FAIL),
        *((Status(word, "why"), BTC, FAIL) for word in StatusWord if word is not StatusWord.ONLINE),
        *((Status(word), None, FAIL) for word in StatusWord if word is not StatusWord.ONLINE),
    ],
)
def test_trading_is_open_where_somebody_says_so_and_nobody_else_denies_it(
    status: Status | None, market: Product | None, outcome: CheckOutcome
) -> None:
    found = opened("kraken", status, market)
    assert found.outcome is outcome
    assert status is None or status.detail in found.evidence or outcome is FAIL


@pytest.mark.parametrize(
    ("facts", "outcome", "words"),
    [
        (KeyFacts(withdraw=False), PASS, "denied"),
        (KeyFacts(withdraw=False, rights="query-funds"), PASS, "query-funds"),
        (KeyFacts(withdraw=True), FAIL, "CAN WITHDRAW"),
        (KeyFacts(withdraw=True, rights="withdraw-funds"), FAIL, "withdraw-funds"),
        (KeyFacts(), FAIL, "it is not known whether"),
        (KeyFacts(rights="query, trade", query=True, trade=True), FAIL, "it is not known whether"),
        (KeyFacts(doubt="HTTP 502"), FAIL, "HTTP 502"),
    ],
)
def test_a_key_passes_only_if_it_is_known_that_it_cannot_withdraw(
    facts: KeyFacts, outcome: CheckOutcome, words: str
) -> None:
    found = withdraw("kraken", facts)
    assert found.outcome is outcome
    assert words in found.evidence


NOW_S: Final = 1_800_000_000.0
KNOWN: Final = (True, False, None)
BOUND: Final = (None, (), ("203.0.113.7",))
FAR_S: Final = NOW_S + KEY_ENDS_S
ENDS_S: Final = (None, FAR_S, FAR_S - 1, NOW_S - 9e8, -1e20)


def test_the_rights_of_a_key_are_judged_in_every_combination() -> None:
    seen: set[CheckOutcome] = set()
    for some in combined(KNOWN, KNOWN, KNOWN, (True, False), BOUND, ENDS_S):
        query, trade, dry_run, trading, addresses, ends_s = some
        facts = KeyFacts(query=query, trade=trade, addresses=addresses, ends_s=ends_s, rights="these")
        found = rights(facts, trading=trading, dry_run=dry_run, now_s=NOW_S, exchange="kraken")
        may_trade = dry_run if trade is None else trade
        if query is False or (trading and may_trade is False) or (ends_s or FAR_S) < NOW_S:
            wanted = FAIL
        elif (trading and may_trade is None) or (ends_s or FAR_S) < FAR_S or addresses == ():
            wanted = WARN
        else:
            wanted = PASS
        assert found.outcome is wanted, some
        if wanted is not FAIL:
            assert ("trade" in found.evidence) <= (may_trade is True or wanted is WARN), found.evidence
            assert ("it may read" in found.evidence) <= (query is True), "what is not said is not claimed"
        if wanted is PASS and addresses:
            assert "203.0.113.7" in found.evidence
        seen.add(found.outcome)
    assert seen == {PASS, WARN, FAIL}


@pytest.mark.parametrize(
    ("values", "trading", "outcome", "words"),
    [
        ({"unsupported": "acctLv '7'"}, True, FAIL, "no order can be placed: acctLv '7'"),
        ({"unsupported": "acctLv '7'"}, False, PASS, "it may read"),
        ({"borrows": "an order may borrow"}, True, WARN, "an order may borrow"),
        ({"borrows": "an order may borrow"}, False, PASS, "it may read"),
    ],
)
def test_a_mode_in_which_orders_cannot_be_placed_or_borrow_is_said_where_orders_are_on(
    values: dict[str, Any], trading: bool, outcome: CheckOutcome, words: str
) -> None:
    facts = KeyFacts(query=True, trade=True, addresses=("203.0.113.7",), **values)
    found = rights(facts, trading=trading, dry_run=None, now_s=NOW_S, exchange="okx")
    assert found.outcome is outcome
    assert words in found.evidence


# --- the balance ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("holdings", "cash", "simple", "may_owe", "outcome", "words"),
    [
        ({"USD": holding("100.5", "20")}, None, "100.5", False, PASS, "120.5 USD"),
        ({"USD": holding("7"), "USDT": holding("3.5"), "ETH": holding("1")}, None, "10.5", False, PASS, ""),
        ({"USD": holding("100.5")}, "100.4", "100.4", False, FAIL, "100.4"),
        ({"BTC": holding("100.5")}, "100.5", "100.5", False, FAIL, "add up to 0"),
        ({"USD": holding("0")}, "1000", "1000", False, FAIL, "1000"),
        ({f"C{n}": holding("1") for n in range(6)}, None, "0", False, PASS, "1 C5; cash 0"),
        ({f"C{n}": holding("1") for n in range(8)}, None, "0", False, PASS, "1 C5 and 2 more; cash 0"),
        ({"USD": holding("0.1"), "USDT": holding("0.2")}, "0.30000000000000004", "0.3", False, FAIL, ""),
        ({"USD": holding("100.5")}, None, "99", False, WARN, "another program"),
        ({}, "0", "0", False, WARN, "empty"),
        ({}, "0", "1000", False, WARN, "1000"),
        ({}, "5", "5", False, FAIL, ""),
        ({"USD": holding("1"), "BTC": holding("-2")}, None, "1", False, FAIL, "less than nothing"),
        ({"USD": holding("1"), "BTC": holding("-2")}, None, "1", True, WARN, "less than nothing"),
        ({"BTC": holding("2", "-1")}, None, "0", True, FAIL, "-1"),
        ({"BTC": holding("2", staked=Decimal(-3))}, None, "0", True, FAIL, "-3"),
        ({"BTC": holding("2", "1", total="4"), "USD": holding("1")}, None, "1", False, WARN, "of BTC"),
        ({"BTC": UNKNOWN, "USD": holding("1")}, None, "1", False, WARN, "free of BTC is unknown"),
        ({"USD": UNKNOWN}, None, "0", False, FAIL, "the cash is unknown"),
        ({"USD": UNKNOWN}, "5", "5", False, FAIL, "add up to unknown"),
    ],
)
def test_every_currency_adds_up_and_so_does_the_cash(
    holdings: Any, cash: str | None, simple: str, may_owe: bool, outcome: CheckOutcome, words: str
) -> None:
    found = detailed(balance(holdings, cash), Decimal(simple), CASH, may_owe=may_owe)
    assert found.outcome is outcome
    assert words in found.evidence


@given(st.lists(our.amounts(), min_size=1, max_size=4))
def test_cash_is_added_up_exactly_whatever_the_thread_reckons_with(free: list[Decimal]) -> None:
    rows = [Holding(free=amount, used=Decimal(0), total=amount) for amount in free]
    holdings = {f"C{number}": row for number, row in enumerate(rows)}
    with localcontext() as context:
        context.prec = 90
        cash = sum(free, Decimal(0))
        one_more = cash + Decimal(1).scaleb(-18)
    with localcontext() as context:
        context.prec = 3
        exact = detailed(balance(holdings, str(cash)), cash, [*holdings], may_owe=True)
        off = detailed(balance(holdings, str(one_more)), one_more, [*holdings], may_owe=True)
    assert exact.outcome is (WARN if any(amount < 0 for amount in free) else PASS)
    assert off.outcome is FAIL


@pytest.mark.parametrize(
    ("holdings", "orders", "outcome", "words"),
    [
        ({"BTC": holding("1", "0.5")}, [order("0.5")], PASS, "0.5 BTC"),
        ({"BTC": holding("1", "0.4995")}, [order("0.5")], PASS, ""),
        ({"BTC": holding("1", "0.4994")}, [order("0.5")], FAIL, "0.4994"),
        ({"BTC": holding("1", "0.5")}, [order("0.5"), order("0.01")], FAIL, "0.51 BTC"),
        ({"BTC": holding("1", "0.5", staked=Decimal("0.3"))}, [order("0.5")], FAIL, "0.2"),
        ({"USD": holding("1")}, [order("0.5")], FAIL, "0 is held"),
        ({}, [order("50", "USD", side=Side.BUY)], FAIL, "50 USD"),
        ({"BTC": holding("1", "0.5")}, [], PASS, "held: 0.5 BTC"),
        ({}, [], PASS, "held: nothing"),
        ({"BTC": holding("1", "0.5")}, [order(None)], WARN, "cannot be told"),
        ({"BTC": holding("1", "0.5")}, [order("0.5"), order(None)], WARN, "of 1 what they hold"),
        ({"USD": holding("1")}, [order("0.5"), order(None)], FAIL, ""),
        ({"USD": holding("1")}, [order("0")], PASS, ""),
        ({"BTC": UNKNOWN}, [order("0.5")], WARN, "how much of BTC is held is unknown"),
        ({"BTC": UNKNOWN}, [], PASS, "held: nothing"),
    ],
)
def test_what_open_orders_hold_is_said_to_be_held(
    holdings: Mapping[str, Holding], orders: Sequence[OpenOrder], outcome: CheckOutcome, words: str
) -> None:
    found = held(balance(holdings), orders)
    assert found.outcome is outcome
    assert words in found.evidence


def test_amounts_are_shown_with_all_their_digits() -> None:
    amounts = {"BTC": Decimal("1.50"), "USD": Decimal("1E+2"), "DOGE": Decimal("1E-8")}
    assert money(amounts) == "1.5 BTC, 100 USD, 0.00000001 DOGE"
    assert money({}) == "nothing"


# --- positions ------------------------------------------------------------------------------------------

HELD: Final = {"BTC": holding("0.4", "0.1"), "USD": holding("10"), "EUR": holding("7"), "FOO": holding("3")}
WHOLE: Final = (coin("BTC/USD", "0.5", "0.4"), coin("FOO", "3"))


@pytest.mark.parametrize(
    ("found", "outcome", "words"),
    [
        (WHOLE, PASS, "2 coins held: BTC, FOO; nothing else"),
        ((*WHOLE, coin("BTC/USD", "2", kind="margin", side="short")), PASS, "1 derivatives open"),
        ((coin("BTC/USD", "0.5", "0"), WHOLE[1]), PASS, "BTC, FOO"),
        (WHOLE[:1], FAIL, "3 FOO is held, and is no position"),
        ((), FAIL, "is no position"),
        ((coin("BTC/USD", "0.4"), WHOLE[1]), FAIL, "0.5 is held"),
        ((*WHOLE, coin("ETH/USD", "1")), FAIL, "ETH"),
        ((*WHOLE, coin("EUR", "7")), FAIL, "EUR"),
        ((*WHOLE, WHOLE[0]), FAIL, "twice"),
        ((coin("BTC/USD", "0.5", "0.4", side="short"), WHOLE[1]), FAIL, "short"),
        ((*WHOLE, coin("BTC/USD", "2", kind="margin", side="up")), FAIL, "no side"),
        ((*WHOLE, coin("BTC/USD", "2", kind="margin", side="")), FAIL, "no side"),
        ((*WHOLE, coin("BTC/USD", "0", "0", kind="margin")), FAIL, "of 0"),
        ((*WHOLE, coin("BTC/USD", "-2", "0", kind="swap")), FAIL, "of -2"),
        ((*WHOLE, coin("BTC/USD", "2", "-1", kind="swap")), FAIL, "-1 free"),
    ],
)
def test_positions_are_what_the_balance_says(
    found: Sequence[Position], outcome: CheckOutcome, words: str
) -> None:
    judged = positions(found, HELD, LISTED, CASH)
    assert judged.outcome is outcome
    assert words in judged.evidence


@pytest.mark.parametrize("gone", [{}, {"BTC": holding("0")}, {"BTC": holding("-1")}, {"USD": holding("5")}])
def test_an_account_without_coins_has_no_positions(gone: Mapping[str, Holding]) -> None:
    assert positions((), gone, LISTED, CASH).outcome is PASS
    assert positions((coin("BTC/USD", "0.5"),), gone, LISTED, CASH).outcome is FAIL


@pytest.mark.parametrize(
    ("orders", "outcome", "words"),
    [
        ([], PASS, "no order is open"),
        ([order("0.1")], PASS, "1 open orders"),
        ([order("0.1001")], PASS, ""),
        ([order("0.1002")], FAIL, "only 0.1 of it is not free"),
        ([order("0.06"), order("0.06")], FAIL, "0.12 BTC"),
        ([order("0.6")], FAIL, "0.5 is held"),
        ([order("1", "ETH")], FAIL, "0 is held"),
        ([order("0", "ETH")], PASS, ""),
        ([order("5000", "USD", side=Side.BUY)], PASS, ""),
        # Money that is sold for other money is no position.
        ([order("5", "EUR")], PASS, ""),
        ([order(None)], WARN, "cannot be told"),
        ([order("0.1"), order(None)], WARN, "of 1"),
        ([order("0.1"), order(None, side=Side.BUY)], PASS, ""),
        ([order(None, listed=False)], FAIL, "FOO-USD"),
        ([order("0.1"), order(None, listed=False)], FAIL, "FOO-USD"),
    ],
)
def test_what_is_being_sold_is_there_and_is_not_free(
    orders: Sequence[OpenOrder], outcome: CheckOutcome, words: str
) -> None:
    judged = against_orders(WHOLE, LISTED, orders)
    assert judged.outcome is outcome
    assert words in judged.evidence


def test_a_derivative_does_not_stand_in_for_a_coin_that_is_sold() -> None:
    found = (coin("BTC/USD", "9", "0", kind="margin"),)
    assert against_orders(found, LISTED, [order("0.1")]).outcome is FAIL
