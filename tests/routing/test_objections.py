"""What speaks against an account for an order, each with its code and its sentence."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from decimal import Context, Decimal, localcontext
from typing import Any

import pytest

from brokerwatch.clock import Instant, utc_text
from brokerwatch.messages import (
    Capability,
    CapabilityState,
    HealthState,
    Holding,
    Reason,
    Side,
)
from brokerwatch.messages.trading import ClosedMarket
from brokerwatch.routing.need import Need
from brokerwatch.routing.objections import Candidate, RefusalCode
from brokerwatch.routing.selection import choose
from tests.support.candidates import (
    BUY,
    CLOCK,
    MARKETS,
    SELL,
    TICK,
    candidate,
    degraded,
    free,
    market,
    names_of,
    need_of,
    refusal,
    with_reading,
)

# --- amounts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("places", [Decimal(0), TICK])
@pytest.mark.parametrize("precision", [5, 28])
def test_the_last_digit_of_an_amount_decides_whatever_the_thread_computes_with(
    places: Decimal, precision: int
) -> None:
    whole = Decimal("123456789012345678901234567890")
    amount = Context(prec=60).add(whole, places)
    one = candidate(balance=free(USD=str(amount)))
    with localcontext(prec=precision):
        exact = Context(prec=60)
        enough = Need(symbol="BTC/USD", side="buy", quote_amount=amount)
        too_much = dataclasses.replace(enough, quote_amount=exact.add(amount, TICK))
        assert choose(enough, [one]).broker == "a"
        assert refusal(choose(too_much, [one]))[0] is RefusalCode.NOT_ENOUGH


def test_steps_are_exact_too() -> None:
    fine = market(base_step=TICK, base_minimum=Decimal("123456.7"))
    with localcontext(prec=5):
        for amount, fits_ in (("123456.7", True), ("123456.699999999999999999", False)):
            choice = choose(need_of(base_amount=Decimal(amount)), [candidate(products=fine)])
            assert bool(choice) == fits_, choice.why()


def test_a_buy_looks_at_the_quote_and_a_sale_at_the_base() -> None:
    dollars, coins = candidate(balance=free(USD="500")), candidate(balance=free(BTC="0.5"))
    assert choose(BUY, [dollars]).broker == choose(SELL, [coins]).broker == "a"
    assert refusal(choose(BUY, [coins])) == (RefusalCode.NOT_ENOUGH, "has 0 USD free, needs 500")
    assert refusal(choose(SELL, [dollars])) == (RefusalCode.NOT_ENOUGH, "has 0 BTC free, needs 0.5")
    assert choose(BUY, [dollars]).ranked[0].free == Decimal(500)
    assert choose(SELL, [coins]).ranked[0].free == Decimal("0.5")


def test_what_orders_hold_is_not_free() -> None:
    held = {"USD": Holding(free=Decimal("120.50"), used=Decimal(900), total=Decimal("1020.50"))}
    assert refusal(choose(BUY, [candidate(balance=held)]))[1] == "has 120.5 USD free, needs 500"


def test_what_is_unknown_sizes_no_entry_and_another_currency_is_as_it_was() -> None:
    unknown = Holding(free=None, used=None, total=Decimal(1_000))
    held = {"USD": unknown, **free(BTC="0.5")}
    assert refusal(choose(BUY, [candidate(balance=held)])) == (
        RefusalCode.BALANCE_UNKNOWN,
        "how much of its USD is free is unknown: the exchange did not state it",
    )
    assert choose(SELL, [candidate(balance=held)]).broker == "a"
    unread = candidate(balance=free(BTC="0.5"))
    unread = with_reading(unread, unread=frozenset({"USD"}))
    assert refusal(choose(BUY, [unread]))[0] is RefusalCode.BALANCE_UNKNOWN


@pytest.mark.parametrize("how", ["not stated any more", "not readable"])
def test_an_exit_from_a_coin_in_doubt_is_not_refused(how: str) -> None:
    doubted = Holding(free=None, used=None, total=Decimal(2), unstated_since_us=1)
    held = candidate(balance={"BTC": doubted} if how == "not stated any more" else {})
    if how == "not readable":
        held = with_reading(held, unread=frozenset({"BTC"}))
    chosen = choose(dataclasses.replace(SELL, exit=True), [held])
    assert chosen.broker == "a"
    assert chosen.best is not None
    assert any("is unknown" in caution for caution in chosen.best.cautions)


@pytest.mark.parametrize("other", ["USDT", "USDC", "EUR", "USD.F", "usd"])
def test_the_quote_currency_is_never_replaced_by_another(other: str) -> None:
    only_other = candidate(balance=free(**{other: "100000", "BTC": "1"}))
    assert refusal(choose(BUY, [only_other]))[1] == "has 0 USD free, needs 500"
    elsewhere = candidate(products=market(symbol=f"BTC/{other}", quote=other))
    code, text = refusal(choose(BUY, [elsewhere]))
    assert (code, text) == (RefusalCode.NO_SUCH_MARKET, "has no market BTC/USD")


def test_two_accounts_are_never_added_up() -> None:
    halves = [candidate(name, balance=free(USD="250")) for name in "ab"]
    assert not choose(BUY, halves)


@pytest.mark.parametrize(
    ("side", "amounts", "spends"),
    [
        ("buy", {"base_amount": Decimal(7)}, "USD"),
        ("sell", {"quote_amount": Decimal(7)}, "BTC"),
    ],
)
def test_where_only_a_price_would_tell_there_must_be_something_and_a_caution_says_so(
    side: str, amounts: dict[str, Decimal], spends: str
) -> None:
    need = need_of(side=side, **amounts)
    [best] = choose(need, [candidate(balance=free(**{spends: "0.001"}))]).ranked
    assert best.free == Decimal("0.001")
    [caution] = best.cautions
    assert "only a price tells" in caution
    assert f"0.001 {spends}" in caution
    nothing = choose(need, [candidate(balance=free(**{spends: "0"}))])
    assert refusal(nothing) == (RefusalCode.NOT_ENOUGH, f"has 0 {spends} free, needs some")


def test_a_need_without_an_amount_asks_only_that_there_is_something() -> None:
    need = Need(symbol="BTC/USD", side="buy")
    [best] = choose(need, [candidate(balance=free(USD="0.01"))]).ranked
    assert best.cautions == ()
    assert not choose(need, [candidate(balance=free(USD="0"))])
    assert not choose(need, [candidate(balance=free(USD="-3"))])


def decimals(numbers: Mapping[str, str]) -> dict[str, Decimal]:
    return {key: Decimal(number) for key, number in numbers.items()}


@pytest.mark.parametrize(
    ("amounts", "product", "text"),
    [
        ({"base_amount": "0.4"}, {"base_minimum": "0.4"}, None),
        (
            {"base_amount": "0.39"},
            {"base_minimum": "0.4"},
            "takes no less than 0.4 BTC, and 0.39 is wanted",
        ),
        (
            {"base_amount": "0.49"},
            {"base_minimum": "0.41", "base_step": "0.1"},
            "takes no less than 0.41 BTC, and 0.49 is wanted, 0.4 in its steps",
        ),
        ({"base_amount": "0.09"}, {"base_step": "0.1"}, "0.09 BTC is less than its smallest step, 0.1"),
        ({"base_amount": "0.1"}, {"base_step": "0.1"}, None),
        ({"quote_amount": "10"}, {"quote_minimum": "10"}, None),
        ({"quote_amount": "9.99"}, {"quote_minimum": "10"}, "takes no less than 10 USD, and 9.99 is wanted"),
        # Of the other currency's minimum only a price would tell.
        ({"quote_amount": "10"}, {"base_minimum": "100", "base_step": "100"}, None),
        ({"base_amount": "0.1"}, {"quote_minimum": "100", "quote_step": "100"}, None),
        ({}, {"quote_minimum": "1e9", "base_minimum": "1e9"}, None),
    ],
)
def test_less_than_the_market_takes_is_refused(
    amounts: dict[str, str], product: dict[str, str], text: str | None
) -> None:
    one = candidate(products=market(**decimals(product)))
    for side in Side:
        for closing in (False, True):
            choice = choose(need_of(side=side, exit=closing, **decimals(amounts)), [one])
            assert bool(choice) == (text is None), choice.why()
            if text is not None:
                assert refusal(choice) == (RefusalCode.BELOW_MINIMUM, text)


# --- refusals ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "code", "text"),
    [
        pytest.param(
            candidate(available=False, reason=Reason.ERRORS, state=HealthState.UNAVAILABLE, errors=4),
            RefusalCode.NOT_AVAILABLE,
            "not available: errors, 4 in a row",
            id="out",
        ),
        pytest.param(
            candidate(available=False, reason=Reason.HELD_OUT),
            RefusalCode.NOT_AVAILABLE,
            "not available: held_out",
            id="held out",
        ),
        pytest.param(
            candidate(left_s=0.0),
            RefusalCode.EXPIRED,
            "its reading ran out and was not renewed",
            id="ran out",
        ),
        pytest.param(
            candidate(trade=CapabilityState.DOWN),
            RefusalCode.TRADE_DOWN,
            "takes no orders: cancel_only (until noon)",
            id="trade down",
        ),
        pytest.param(
            candidate(trade=CapabilityState.LIMITED),
            RefusalCode.TRADE_LIMITED,
            "takes no market orders: cancel_only (until noon)",
            id="cancel only",
        ),
        pytest.param(
            dataclasses.replace(candidate(), unaccounted="abc (no answer)"),
            RefusalCode.ORDER_UNKNOWN,
            "an order is not accounted for: abc (no answer)",
            id="order unknown",
        ),
        pytest.param(
            candidate(trading=False),
            RefusalCode.TRADING_DISABLED,
            "its configuration does not say trading = true",
            id="trading disabled",
        ),
        pytest.param(
            candidate(products=None),
            RefusalCode.PRODUCTS_UNKNOWN,
            "its markets are not known yet",
            id="markets",
        ),
        pytest.param(
            candidate(products=market(active=False)),
            RefusalCode.MARKET_CLOSED,
            "BTC/USD is not open for trading",
            id="market closed",
        ),
        pytest.param(
            candidate(age_s=None, balance=None),
            RefusalCode.BALANCE_UNKNOWN,
            "its balance was never read",
            id="never read",
        ),
        pytest.param(
            candidate(balance=None),
            RefusalCode.BALANCE_UNKNOWN,
            "its cluster keeps balances to itself, or has not told this one yet",
            id="kept to itself",
        ),
        pytest.param(
            candidate(overtaken=True),
            RefusalCode.OVERTAKEN,
            "an order was sent after its balance was read",
            id="overtaken",
        ),
        pytest.param(
            candidate(age_s=30.001),
            RefusalCode.BALANCE_STALE,
            "its balance is 30.0 s old, and at most 30 s are asked for",
            id="too old",
        ),
        pytest.param(
            degraded(balance=free(USD="120.5")),
            RefusalCode.NOT_ENOUGH,
            "has 120.5 USD free by a stale balance, needs 500",
            id="not enough, by a stale balance",
        ),
    ],
)
def test_each_refusal_has_its_code_and_its_sentence(one: Candidate, code: RefusalCode, text: str) -> None:
    choice = choose(BUY, [one])
    assert not choice
    assert (choice.broker, choice.best, choice.ranked) == (None, None, ())
    assert refusal(choice) == (code, text)
    assert choice.why() == f"buy for 500 USD on BTC/USD: nobody\n  -  a: {code}: {text}"


def test_of_several_reasons_the_one_that_lasts_longest_is_told() -> None:
    worst = candidate(
        products={}, trading=False, available=False, trade=CapabilityState.DOWN, age_s=None, balance=None
    )
    choices = (
        dataclasses.replace(BUY, only=["b"]),
        BUY,
    )
    assert [refusal(choose(need, [worst]))[0] for need in choices] == [
        RefusalCode.NOT_WANTED,
        RefusalCode.NO_SUCH_MARKET,
    ]


def test_the_exchanges_own_words_stay_on_one_line() -> None:
    out = candidate(available=False, reason=Reason.ERRORS)
    choice = choose(BUY, [with_reading(out, detail="<html>\n  sorry\n</html>")])
    assert refusal(choice)[1] == "not available: errors (<html> sorry </html>)"
    assert len(choice.why().splitlines()) == 2


@pytest.mark.parametrize("state", [CapabilityState.OK, CapabilityState.UNKNOWN])
def test_a_capability_that_works_or_was_not_tried_refuses_nothing(state: CapabilityState) -> None:
    assert choose(BUY, [candidate(trade=state)])


def test_a_data_outage_refuses_neither_entries_nor_exits() -> None:
    down = Capability(state=CapabilityState.DOWN, reason="network", detail="", since_us=0)
    one = with_reading(candidate(), capabilities={"data": down})
    cautions = choose(BUY, [one]).ranked[0].cautions
    assert cautions == ("gives no prices just now: network",)


def test_a_balance_that_states_no_dollars_has_none_and_one_that_is_unknown_is_not_zero() -> None:
    assert refusal(choose(BUY, [candidate(balance={})]))[1] == "has 0 USD free, needs 500"
    unknown = choose(BUY, [candidate(balance=None)])
    assert "free" not in unknown.why()
    exit_ = dataclasses.replace(SELL, exit=True)
    assert choose(exit_, [candidate(balance=None)]).ranked[0].free is None
    never = candidate(age_s=None, balance={}, available=True)
    assert choose(exit_, [never]).ranked[0].free is None, "a balance without its moment is none"


def test_names_that_are_nobodys_are_told() -> None:
    need = dataclasses.replace(BUY, prefer=["krakn", "a"], only=["a", "okex", "krakn"])
    choice = choose(need, [candidate()])
    assert choice.broker == "a"
    assert [(one.broker, one.code) for one in choice.refused] == [
        ("krakn", RefusalCode.NO_SUCH_BROKER),
        ("okex", RefusalCode.NO_SUCH_BROKER),
    ]


def test_only_restricts_and_an_empty_one_admits_nobody() -> None:
    both = [candidate("a"), candidate("b")]
    choice = choose(dataclasses.replace(BUY, only=["b"]), both)
    assert names_of(choice) == ["b"]
    assert refusal(choice) == (RefusalCode.NOT_WANTED, "the need admits only b")
    assert not choose(dataclasses.replace(BUY, only=[]), both)
    assert names_of(choose(BUY, both)) == ["a", "b"]


@pytest.mark.parametrize("need", [BUY, dataclasses.replace(SELL, exit=True)], ids=["entry", "exit"])
def test_what_is_avoided_is_not_chosen_although_it_is_preferred(need: Need) -> None:
    both = [candidate("a"), candidate("b")]
    choice = choose(dataclasses.replace(need, avoid=["a"], prefer=["a"]), both)
    assert names_of(choice) == ["b"]
    assert refusal(choice) == (RefusalCode.NOT_WANTED, "the need avoids it")
    assert not choose(dataclasses.replace(need, avoid=["a"], only=["a"]), both)
    assert not choose(dataclasses.replace(need, avoid=["b", "a"]), both)


def test_an_avoided_name_that_no_broker_has_is_listed() -> None:
    choice = choose(dataclasses.replace(BUY, avoid=["krakn"]), [candidate("a")])
    assert choice.broker == "a"
    assert [(one.broker, one.code) for one in choice.refused] == [("krakn", RefusalCode.NO_SUCH_BROKER)]


def test_who_only_listens_does_not_know_the_markets_and_is_cautioned() -> None:
    [best] = choose(BUY, [candidate(products=None, trading=None)], strict_products=False).ranked
    assert best.cautions == ("whether it has a market BTC/USD is not known",)
    known = choose(BUY, [candidate(products={})], strict_products=False)
    assert refusal(known)[0] is RefusalCode.NO_SUCH_MARKET, "what is known counts all the same"


@pytest.mark.parametrize("closing", [False, True])
@pytest.mark.parametrize("own", [{"exchange": "custom"}, {"knowable": False}])
def test_whose_markets_nobody_can_know_is_cautioned_and_a_fresh_exchange_is_refused(
    own: dict[str, Any], closing: bool
) -> None:
    mine = with_reading(
        candidate("mine", products=None, trading=None), exchange=own.get("exchange", "kraken")
    )
    mine = dataclasses.replace(mine, knowable=own.get("knowable", True))
    choice = choose(dataclasses.replace(BUY, exit=closing), [mine, candidate("new", products=None)])
    assert choice.broker == "mine"
    assert choice.ranked[0].cautions == ("its markets cannot be known: make sure that it has BTC/USD",)
    assert closing or refusal(choice, "new")[0] is RefusalCode.PRODUCTS_UNKNOWN
    assert "make sure that it has" in choice.why()


# --- markets that are closed for one account ---------------------------------------------------------


def test_a_market_that_is_closed_for_one_account_leaves_it_out_of_that_market_alone() -> None:
    until = Instant(CLOCK.now().wall_us + 300_000_000, CLOCK.up_s() + 300.0)
    detail = "ETH trading restricted for NL."
    shut = ClosedMarket(reason="permission", detail=detail, since_us=0, until=until)
    ether = market(symbol="ETH/USD", base="ETH", id="XETHZUSD")
    markets = {**MARKETS, **ether}
    closed = with_reading(candidate(products=markets), closed_markets={"ETH/USD": shut})
    other = candidate("b", products=markets)
    wanted = dataclasses.replace(BUY, symbol="ETH/USD")
    assert choose(BUY, [closed, other]).broker == "a"
    choice = choose(wanted, [closed, other])
    assert choice.broker == "b"
    code, text = refusal(choose(wanted, [closed]))
    assert code is RefusalCode.MARKET_CLOSED
    assert text == (
        f"ETH/USD is closed for this account until {utc_text(until.wall_us)}: permission ({detail})"
    )
    over = ClosedMarket(reason="permission", detail=detail, since_us=0, until=CLOCK.now())
    assert choose(wanted, [with_reading(closed, closed_markets={"ETH/USD": over})]).broker == "a"
