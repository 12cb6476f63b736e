"""The choice of a broker: whom nothing speaks against, in one order that amounts have no part in."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import random
from collections.abc import Mapping
from decimal import Context, Decimal, localcontext
from types import MappingProxyType
from typing import Any, Final

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from brokerwatch.clock import Clock, Instant, ManualClock
from brokerwatch.errors import InvalidOrder, InvalidSymbol
from brokerwatch.exchanges.symbols import Products
from brokerwatch.messages import (
    Capability,
    CapabilityState,
    FaultKind,
    HealthState,
    Holding,
    Product,
    Reading,
    Reason,
    Side,
    Verdict,
)
from brokerwatch.routing import need as needs_module
from brokerwatch.routing import objections, selection
from brokerwatch.routing.need import Need
from brokerwatch.routing.objections import Candidate, RefusalCode
from brokerwatch.routing.selection import Choice, choose
from tests.support import strategies as our

CLOCK: Final = ManualClock()
"""No test pushes it: every age and expiry in this file is relative to its one moment."""
BTC_USD: Final = Product(symbol="BTC/USD", base="BTC", quote="USD", id="XXBTZUSD")
MARKETS: Final[Mapping[str, Product]] = {"BTC/USD": BTC_USD}
BUY: Final = Need(symbol="BTC/USD", side="buy", quote_amount=Decimal(500))
SELL: Final = Need(symbol="BTC/USD", side="sell", base_amount=Decimal("0.5"))


def free(**amounts: str) -> dict[str, Holding]:
    return {
        code: Holding(free=Decimal(text), used=Decimal(0), total=Decimal(text))
        for code, text in amounts.items()
    }


RICH: Final = free(USD="1000", BTC="1")


def reading(
    broker: str = "a",
    *,
    state: HealthState = HealthState.HEALTHY,
    available: bool = True,
    reason: Reason = Reason.OK,
    errors: int = 0,
    age_s: float | None = 1.0,
    balance: Mapping[str, Holding] | None = RICH,
    left_s: float = 5.0,
    overtaken: bool = False,
    max_age_s: float | None = None,
    trade: CapabilityState | None = None,
    clock: Clock = CLOCK,
) -> Reading:
    now = clock.now()
    capabilities: Mapping[str, Capability] = {}
    if trade is not None:
        capabilities = {
            "trade": Capability(state=trade, reason="cancel_only", detail="until noon", since_us=0)
        }
    return Reading(
        broker=broker,
        exchange="kraken",
        simulated=False,
        broker_epoch="",
        version=1,
        state=state,
        verdict=Verdict(available, reason),
        detail="",
        since_us=0,
        error_count=errors,
        fault=FaultKind.NETWORK if errors else None,
        as_of=None if age_s is None else Instant(now.wall_us, now.up_s - age_s),
        cash=None,
        balance=None if balance is None else MappingProxyType(dict(balance)),
        labels={},
        valid_until_s=now.up_s + left_s,
        clock=clock,
        max_age_s=max_age_s,
        overtaken=overtaken,
        capabilities=capabilities,
    )


def listing(by_symbol: Mapping[str, Product] | None) -> Products | None:
    return None if by_symbol is None else Products(by_symbol.values())


def candidate(
    broker: str = "a",
    *,
    products: Mapping[str, Product] | None = MARKETS,
    listed: int = 0,
    trading: bool | None = True,
    **known: Any,
) -> Candidate:
    return Candidate(
        reading=reading(broker, **known), products=listing(products), listed=listed, trading=trading
    )


def degraded(broker: str = "a", *, errors: int = 1, **known: Any) -> Candidate:
    return candidate(broker, state=HealthState.DEGRADED, errors=errors, **known)


def need_of(**arguments: Any) -> Need:
    """A need of whatever arguments, also such as no type checker would let through."""
    given_: dict[str, Any] = {"symbol": "BTC/USD", "side": "buy", **arguments}
    return Need(**given_)


def refusal(choice: Choice, broker: str = "a") -> tuple[RefusalCode, str]:
    return next((one.code, one.text) for one in choice.refused if one.broker == broker)


# --- what properties are drawn from ------------------------------------------------------------------

TICK: Final = Decimal("0.000000000000000001")
AMOUNTS: Final = st.sampled_from(
    ("-1", "0", "0.000000000000000001", "0.5", "499.999999999999999999", "500", "500.000000000000000001")
)
CAPABILITIES: Final = st.sampled_from((None, *CapabilityState))


@st.composite
def products_known(draw: DrawFn) -> Mapping[str, Product] | None:
    kind = draw(st.sampled_from(("unknown", "none", "other", "there", "there", "there", "there")))
    if kind == "unknown":
        return None
    if kind in ("none", "other"):
        other = msgspec.structs.replace(BTC_USD, symbol="BTC/USDT", quote="USDT")
        return {} if kind == "none" else {"BTC/USDT": other}
    minimum = st.sampled_from((None, None, Decimal("0.4"), Decimal(500), Decimal("500.01")))
    step = st.sampled_from((None, None, Decimal("0.1"), Decimal(0), Decimal(200), Decimal(1_000)))
    product = msgspec.structs.replace(
        BTC_USD,
        active=draw(st.sampled_from((True, True, True, False))),
        base_step=draw(step),
        quote_step=draw(step),
        base_minimum=draw(minimum),
        quote_minimum=draw(minimum),
    )
    return {"BTC/USD": product}


@st.composite
def candidates(draw: DrawFn, most: int = 5) -> list[Candidate]:
    """Brokers of different names; each is as good or as bad as can be, with a liking for the good."""
    good = st.sampled_from((True, True, True, True, False))
    found: list[Candidate] = []
    for name in draw(st.lists(st.sampled_from("abcdefgh"), max_size=most, unique=True)):
        state = draw(st.sampled_from((HealthState.HEALTHY, HealthState.HEALTHY, *HealthState)))
        currencies = draw(st.dictionaries(st.sampled_from(("USD", "BTC", "USDT")), AMOUNTS, max_size=3))
        found.append(
            candidate(
                name,
                products=draw(products_known()),
                listed=draw(st.integers(0, 2)),
                trading=draw(st.sampled_from((None, True, True, True, False))),
                state=state,
                available=draw(good),
                reason=draw(st.sampled_from((Reason.OK, Reason.OK, Reason.ERRORS, Reason.HELD_OUT))),
                errors=draw(st.sampled_from((0, 0, 1, 2))),
                age_s=draw(st.sampled_from((0.0, 1.0, 29.5, 30.0, 30.125, 1e6, None))),
                balance=draw(st.none() | st.just(RICH) | st.just(RICH) | st.just(free(**currencies))),
                left_s=draw(st.sampled_from((5.0, 5.0, 5.0, 0.5, 0.0, -1.0))),
                overtaken=not draw(good),
                max_age_s=draw(st.sampled_from((None, None, 10.0))),
                trade=draw(CAPABILITIES) if not draw(good) else None,
            )
        )
    return found


@st.composite
def needs(draw: DrawFn, *, closing: bool | None = None) -> Need:
    amount = draw(st.sampled_from((None, Decimal("0.5"), Decimal(500))))
    by_quote = draw(st.booleans())
    names = st.lists(st.sampled_from("abcdefghx"), max_size=3)
    return Need(
        symbol="BTC/USD",
        side=draw(st.sampled_from(Side)),
        quote_amount=amount if by_quote else None,
        base_amount=None if by_quote else amount,
        prefer=draw(names),
        only=draw(st.none() | st.none() | names),
        max_age_s=draw(st.sampled_from((30.0, 30.0, 1.0, float("inf")))),
        exit=draw(st.booleans()) if closing is None else closing,
    )


def fits(need: Need, one: Candidate, *, strict: bool) -> bool:
    """The oracle: whether nothing speaks against an entry, written as one plain sentence."""
    told = one.reading
    if told.as_of is None or told.balance is None:
        return False
    spent, amount = ("USD", need.quote_amount) if need.side == "buy" else ("BTC", need.base_amount)
    has = told.balance[spent].free if spent in told.balance else Decimal(0)
    trade = told.capabilities.get("trade")
    return (
        (need.only is None or told.broker in need.only)
        and one.trading is not False
        and told.verdict.available
        and CLOCK.up_s() < told.valid_until_s
        and not told.overtaken
        and CLOCK.up_s() - told.as_of.up_s <= need.max_age_s
        and (trade is None or trade.state in (CapabilityState.OK, CapabilityState.UNKNOWN))
        and has > 0
        and (amount is None or has >= amount)
        and (not strict if one.products is None else market_takes(need, one.products.by_symbol))
    )


def market_takes(need: Need, products: Mapping[str, Product]) -> bool:
    product = products.get("BTC/USD")
    if product is None or not product.active:
        return False
    if need.base_amount is not None:
        amount, step, minimum = need.base_amount, product.base_step, product.base_minimum
    elif need.quote_amount is not None:
        amount, step, minimum = need.quote_amount, product.quote_step, product.quote_minimum
    else:
        return True
    rounded = amount // step * step if step else amount
    return rounded > 0 and (minimum is None or rounded >= minimum)


def standing(need: Need, one: Candidate) -> tuple[object, ...]:
    """The oracle of the order for entries: the criteria as they are promised, the smaller the better."""
    told = one.reading
    wishes = list(need.prefer)
    evidence = ("HEALTHY", "DEGRADED", "RECOVERING", "MAINTENANCE", "UNAVAILABLE", "UNKNOWN")
    return (
        wishes.index(told.broker) if told.broker in wishes else 9,
        told.stale,
        evidence.index(told.state.name),
        told.error_count,
        one.listed,
        told.broker,
    )


def names_of(choice: Choice) -> list[str]:
    return [one.broker for one in choice.ranked]


# --- properties --------------------------------------------------------------------------------------


@settings(max_examples=our.examples(150))
@given(need=needs(closing=False), given_=candidates(), strict=st.booleans())
def test_an_entry_admits_exactly_those_against_whom_nothing_speaks(
    need: Need, given_: list[Candidate], strict: bool
) -> None:
    choice = choose(need, given_, strict_products=strict)
    admitted = {one.reading.broker for one in given_ if fits(need, one, strict=strict)}
    assert set(names_of(choice)) == admitted
    assert bool(choice) == bool(admitted)
    assert choice.broker in admitted or not admitted
    assert all(one.reading.available for one in choice.ranked)
    event("one is admitted" if admitted else "none is admitted")


@settings(max_examples=our.examples(100))
@given(need=needs(closing=False), given_=candidates())
def test_the_order_of_entries_is_the_one_that_is_promised(need: Need, given_: list[Candidate]) -> None:
    # Everybody fits, so that the order is what is looked at.
    fit = [
        dataclasses.replace(
            one,
            products=listing(MARKETS),
            trading=None,
            reading=msgspec.structs.replace(
                one.reading,
                verdict=Verdict(available=True, reason=one.reading.verdict.reason),
                balance=MappingProxyType(free(USD="900", BTC="900")),
                as_of=one.reading.as_of or CLOCK.now(),
                valid_until_s=CLOCK.up_s() + 1,
                overtaken=False,
                capabilities={},
            ),
        )
        for one in given_
    ]
    open_need = dataclasses.replace(need, only=None, max_age_s=float("inf"))
    choice = choose(open_need, fit)
    promised = sorted(fit, key=lambda one: standing(open_need, one))
    assert names_of(choice) == [one.reading.broker for one in promised], choice.why()
    event(f"{len(fit)} brokers")


@settings(max_examples=our.examples(100))
@given(need=needs(), given_=candidates(), strict=st.booleans(), seed=st.integers(0, 2**32))
def test_the_choice_does_not_depend_on_the_order_in_which_candidates_are_handed_in(
    need: Need, given_: list[Candidate], strict: bool, seed: int
) -> None:
    shuffled = list(given_)
    random.Random(seed).shuffle(shuffled)
    one, other = (choose(need, handed, strict_products=strict) for handed in (given_, iter(shuffled)))
    assert one == other
    assert one.why() == other.why() == str(one)


@settings(max_examples=our.examples(100))
@given(need=needs(), given_=candidates())
def test_everybody_is_either_ranked_or_refused_and_once(need: Need, given_: list[Candidate]) -> None:
    choice = choose(need, given_)
    here = [one.reading.broker for one in given_]
    refused = [one.broker for one in choice.refused if one.code is not RefusalCode.NO_SUCH_BROKER]
    assert sorted(names_of(choice) + refused) == sorted(here)
    by_place = sorted(given_, key=lambda one: (one.listed, one.reading.broker))
    assert refused == [one.reading.broker for one in by_place if one.reading.broker in refused]
    strangers = [one.broker for one in choice.refused if one.code is RefusalCode.NO_SUCH_BROKER]
    wanted = [*need.prefer, *(need.only or ())]
    assert strangers == list(dict.fromkeys(name for name in wanted if name not in here))
    assert [one.broker for one in choice.refused] == refused + strangers
    assert choice.broker == next(iter(names_of(choice)), None)
    lines = choice.why().splitlines()
    assert all(sum(f" {name}: " in line for line in lines[1:]) == 1 for name in here), lines
    assert [one.behind == "" for one in choice.ranked] == [place == 0 for place in range(len(choice.ranked))]


@settings(max_examples=our.examples(100))
@given(need=needs(), given_=candidates(), data=st.data())
def test_a_candidate_more_or_less_never_changes_how_the_others_stand(
    need: Need, given_: list[Candidate], data: st.DataObject
) -> None:
    whole = names_of(choose(need, given_))
    if not given_:
        return
    gone = data.draw(st.sampled_from(given_)).reading.broker
    rest = names_of(choose(need, [one for one in given_ if one.reading.broker != gone]))
    assert rest == [name for name in whole if name != gone]
    event("the winner went" if whole[:1] == [gone] else "another went")


@settings(max_examples=our.examples(100))
@given(given_=candidates(), need=needs(closing=False), more=st.sampled_from((TICK, Decimal(1_000_000))))
def test_money_beyond_what_is_needed_moves_nobody(given_: list[Candidate], need: Need, more: Decimal) -> None:
    first = choose(need, given_)
    for lucky in names_of(first):
        richer = [with_more(one, more) if one.reading.broker == lucky else one for one in given_]
        assert names_of(choose(need, richer)) == names_of(first)


def with_more(one: Candidate, more: Decimal) -> Candidate:
    held = one.reading.balance or {}
    grown = {
        code: msgspec.structs.replace(holding, free=holding.free + more) for code, holding in held.items()
    }
    return dataclasses.replace(one, reading=msgspec.structs.replace(one.reading, balance=grown))


@settings(max_examples=our.examples(100))
@given(need=needs(closing=True), given_=candidates(), strict=st.booleans())
def test_health_age_and_configuration_never_refuse_an_exit(
    need: Need, given_: list[Candidate], strict: bool
) -> None:
    choice = choose(need, given_, strict_products=strict)
    facts = {
        *(RefusalCode.NOT_WANTED, RefusalCode.NO_SUCH_BROKER, RefusalCode.NO_SUCH_MARKET),
        *(RefusalCode.BELOW_MINIMUM, RefusalCode.NOT_ENOUGH),
    }
    assert {one.code for one in choice.refused} <= facts
    stale = {one.reading.broker for one in given_ if one.reading.stale}
    short = {one.broker for one in choice.refused if one.code is RefusalCode.NOT_ENOUGH}
    assert not short & stale, "a stale balance may be wrong, so it blocks nothing"
    entry = choose(dataclasses.replace(need, exit=False), given_, strict_products=strict)
    assert set(names_of(entry)) <= set(names_of(choice)), "an exit is never stricter than an entry"
    if entry:
        assert choice.broker == entry.broker, "those that could enter come first, and in the same order"
        assert names_of(choice)[: len(entry.ranked)] == names_of(entry)
    for one in choice.ranked:
        if one.broker not in names_of(entry):
            assert one.cautions, "what would refuse an entry is said"


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
    fine = msgspec.structs.replace(BTC_USD, base_step=TICK, base_minimum=Decimal("123456.7"))
    with localcontext(prec=5):
        for amount, fits_ in (("123456.7", True), ("123456.699999999999999999", False)):
            choice = choose(need_of(base_amount=Decimal(amount)), [candidate(products={"BTC/USD": fine})])
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


@pytest.mark.parametrize("other", ["USDT", "USDC", "EUR", "USD.F", "usd"])
def test_the_quote_currency_is_never_replaced_by_another(other: str) -> None:
    only_other = candidate(balance=free(**{other: "100000", "BTC": "1"}))
    assert refusal(choose(BUY, [only_other]))[1] == "has 0 USD free, needs 500"
    market = {f"BTC/{other}": msgspec.structs.replace(BTC_USD, symbol=f"BTC/{other}", quote=other)}
    code, text = refusal(choose(BUY, [candidate(products=market)]))
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
    market = msgspec.structs.replace(BTC_USD, **{key: Decimal(number) for key, number in product.items()})
    one = candidate(products={"BTC/USD": market})
    for side in Side:
        for closing in (False, True):
            need = need_of(
                side=side,
                exit=closing,
                **{key: Decimal(number) for key, number in amounts.items()},
            )
            choice = choose(need, [one])
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
            candidate(products={"BTC/USD": msgspec.structs.replace(BTC_USD, active=False)}),
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
    told = msgspec.structs.replace(out.reading, detail="<html>\n  sorry\n</html>")
    choice = choose(BUY, [dataclasses.replace(out, reading=told)])
    assert refusal(choice)[1] == "not available: errors (<html> sorry </html>)"
    assert len(choice.why().splitlines()) == 2


@pytest.mark.parametrize("state", [CapabilityState.OK, CapabilityState.UNKNOWN])
def test_a_capability_that_works_or_was_not_tried_refuses_nothing(state: CapabilityState) -> None:
    assert choose(BUY, [candidate(trade=state)])


def test_a_data_outage_refuses_neither_entries_nor_exits() -> None:
    down = Capability(state=CapabilityState.DOWN, reason="network", detail="", since_us=0)
    one = candidate()
    told = msgspec.structs.replace(one.reading, capabilities={"data": down})
    cautions = choose(BUY, [dataclasses.replace(one, reading=told)]).ranked[0].cautions
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
    mine = candidate("mine", products=None, trading=None)
    mine = dataclasses.replace(
        mine,
        reading=msgspec.structs.replace(mine.reading, exchange=own.get("exchange", "kraken")),
        knowable=own.get("knowable", True),
    )
    choice = choose(dataclasses.replace(BUY, exit=closing), [mine, candidate("new", products=None)])
    assert choice.broker == "mine"
    assert choice.ranked[0].cautions == ("its markets cannot be known: make sure that it has BTC/USD",)
    assert closing or refusal(choice, "new")[0] is RefusalCode.PRODUCTS_UNKNOWN
    assert "make sure that it has" in choice.why()


# --- spellings ---------------------------------------------------------------------------------------


def markets(*symbols: str, **ids: str) -> Mapping[str, Product]:
    rows = [
        Product(symbol=symbol, base=base, quote=quote, id=ids.get(f"{base}{quote}", symbol.replace("/", "")))
        for symbol in symbols
        for base, quote in [symbol.split("/")]
    ]
    return Products(rows).by_symbol


SPELLINGS: Final = ("BTC-USD", "BTCUSD", "XBTUSD", "btc_usd", "XBT/USD", "XXBTZUSD", "btc/usd", "BTC/ZUSD")


@pytest.mark.parametrize("known", [markets("BTC/USD", BTCUSD="XXBTZUSD"), MARKETS])
@pytest.mark.parametrize("text", SPELLINGS)
def test_a_need_takes_every_spelling_and_the_choice_says_what_was_meant(
    text: str, known: Mapping[str, Product]
) -> None:
    choice = choose(need_of(symbol=text, quote_amount=Decimal(500)), [candidate(products=known)])
    assert choice.broker == "a", choice.why()
    assert choice.need == BUY
    assert choice.why().startswith("buy for 500 USD on BTC/USD: a")
    short = choose(need_of(symbol=text, quote_amount=Decimal(1001)), [candidate(products=known)])
    assert refusal(short) == (RefusalCode.NOT_ENOUGH, "has 1000 USD free, needs 1001")


@pytest.mark.parametrize("text", [text for text in SPELLINGS if text not in ("XBT/USD", "BTC/ZUSD")])
def test_where_nobody_knows_the_markets_the_letters_must_do(text: str) -> None:
    unknown = [candidate(products=None)]
    assert choose(need_of(symbol=text), unknown, strict_products=False).need.symbol == "BTC/USD"
    assert choose(need_of(symbol=text), []).need.symbol == "BTC/USD"


@pytest.mark.parametrize("text", ["XTZUSD", "ABLUSD"])
def test_letters_that_could_be_two_markets_are_refused_and_both_are_named(text: str) -> None:
    with pytest.raises(InvalidSymbol, match=r"could mean \S+ or \S+; write which one"):
        choose(need_of(symbol=text), [candidate(products=None)], strict_products=False)


@pytest.mark.parametrize("text", ["XYZQQQ", "BTC.USD"])
def test_letters_that_nobody_can_read_are_refused_when_the_market_is_looked_for(text: str) -> None:
    with pytest.raises(ValueError, match="cannot be told apart"):
        choose(need_of(symbol=text), [candidate()])


def test_the_markets_that_are_listed_decide_and_never_the_letters() -> None:
    tezos = [candidate(products=markets("XTZ/USD"), balance=free(USD="1000"))]
    assert choose(need_of(symbol="XTZUSD"), tezos).need.symbol == "XTZ/USD"
    two = [candidate("a", products=markets("BTC/BUSD")), candidate("b", products=markets("BTCB/USD"))]
    with pytest.raises(InvalidSymbol, match="could mean BTC/BUSD or BTCB/USD"):
        choose(need_of(symbol="BTCBUSD"), two)
    # Who does not come into question has no word in it.
    assert choose(need_of(symbol="BTCBUSD", only=["b"]), two).need.symbol == "BTCB/USD"
    alike = [candidate(products=markets("aB/USD", "AB/USD"))]
    assert choose(need_of(symbol="aB/USD"), alike).need.symbol == "aB/USD"
    assert choose(need_of(symbol="AB-USD"), alike).need.symbol == "AB/USD"


def test_a_derivative_of_that_name_is_no_market_for_a_need() -> None:
    perpetual = Product(symbol="BTC/USD:BTC", base="BTC", quote="USD", id="XBTUSD", kind="swap")
    choice = choose(need_of(symbol="XBTUSD"), [candidate(products=Products([perpetual]).by_symbol)])
    assert choice.need.symbol == "BTC/USD"
    assert refusal(choice)[0] is RefusalCode.NO_SUCH_MARKET


def test_a_need_says_its_currencies_only_where_they_are_sure() -> None:
    need = need_of(symbol="XTZUSD", quote_amount=Decimal(5))
    assert str(need) == "buy for 5 of the quote currency on XTZUSD"
    with pytest.raises(InvalidSymbol):
        _ = need.quote
    assert str(need_of(symbol="BTC-USD", base_amount=Decimal(5))) == "buy 5 BTC on BTC-USD"


# --- order -------------------------------------------------------------------------------------------


def test_a_preferred_broker_comes_first_even_with_a_stale_balance_and_says_so() -> None:
    need = dataclasses.replace(BUY, prefer=["b"])
    choice = choose(need, [candidate("a"), degraded("b", age_s=12.34)])
    assert names_of(choice) == ["b", "a"]
    assert [one.stale for one in choice.ranked] == [True, False]
    assert choice.ranked[0].cautions == ("its balance is stale: the last known, read 12.3 s ago",)
    assert choice.why() == (
        "buy for 500 USD on BTC/USD: b\n"
        "  1. b: chosen; 1000 USD free (stale); its balance is stale: the last known, read 12.3 s ago\n"
        "  2. a: behind, preferred less; 1000 USD free"
    )


def test_a_fresh_balance_goes_before_a_stale_one_however_much_there_is() -> None:
    much = degraded("a", balance=free(USD="1000000"))
    little = candidate("b", balance=free(USD="500"), listed=9)
    assert names_of(choose(BUY, [much, little])) == ["b", "a"]


@pytest.mark.parametrize(
    ("better", "worse", "behind"),
    [
        (candidate("b", listed=1), degraded("a"), "its balance is stale"),
        (candidate("b", age_s=20.0, max_age_s=10.0, listed=1), degraded("a"), "its evidence is worse"),
        (degraded("b", listed=1), degraded("a", errors=2), "more errors in a row"),
        (candidate("b", listed=1), candidate("a", listed=2), "later in the configuration"),
        (candidate("a"), candidate("b"), "later by its name"),
    ],
)
def test_each_criterion_decides_when_those_before_it_are_equal(
    better: Candidate, worse: Candidate, behind: str
) -> None:
    choice = choose(BUY, [worse, better])
    assert names_of(choice) == [better.reading.broker, worse.reading.broker]
    assert choice.ranked[1].behind == behind


def test_the_names_of_prefer_rank_in_their_order_and_the_first_mention_counts() -> None:
    three = [candidate(name) for name in "abc"]
    assert names_of(choose(dataclasses.replace(BUY, prefer=["c", "b", "c"]), three)) == ["c", "b", "a"]


def test_an_exit_prefers_who_surely_has_it_then_who_is_well_and_then_the_wish() -> None:
    exit_ = dataclasses.replace(SELL, exit=True, prefer=["unread", "empty", "out", "well"])
    out = candidate("out", available=False, reason=Reason.ERRORS, state=HealthState.UNAVAILABLE)
    empty = degraded("empty", balance=free(BTC="0"))
    unread = candidate("unread", balance=None)
    choice = choose(exit_, [unread, empty, out, candidate("well")])
    assert names_of(choice) == ["well", "out", "unread", "empty"]
    assert [one.behind for one in choice.ranked] == [
        "",
        "more speaks against it",
        "whether it has enough is not known",
        "preferred less",
    ]
    assert choice.ranked[1].cautions[0] == "not available: errors"
    fresh = choose(exit_, [candidate("empty", balance=free(BTC="0"))])
    assert refusal(fresh, "empty") == (RefusalCode.NOT_ENOUGH, "has 0 BTC free, needs 0.5")


def test_nobody_to_choose_from_is_said() -> None:
    choice = choose(BUY, [])
    assert str(choice) == "buy for 500 USD on BTC/USD: nobody\n  there is no broker to choose from"


def test_two_candidates_of_one_name_are_a_mistake_of_the_caller() -> None:
    with pytest.raises(ValueError, match="same name"):
        choose(BUY, [candidate(listed=0), candidate(listed=1)])


# --- time --------------------------------------------------------------------------------------------


class Ticking(ManualClock):
    """A clock on which a second passes whenever it is looked at, as on a machine that stalls."""

    looks = 0

    def up_s(self) -> float:
        self.looks += 1
        self.advance(1.0)
        return super().up_s()


def test_who_runs_out_while_he_is_judged_is_not_chosen() -> None:
    clock = Ticking()
    one = candidate(clock=clock, left_s=1_000.0, max_age_s=1e9)
    assert choose(dataclasses.replace(BUY, max_age_s=1e9), [one])
    looks = clock.looks
    # The last look of all is the one that asks whether it is available.
    for left in range(looks):
        soon = candidate(clock=clock, left_s=left + 0.5, max_age_s=1e9)
        choice = choose(dataclasses.replace(BUY, max_age_s=1e9), [soon])
        assert refusal(choice)[0] is RefusalCode.EXPIRED, left


@pytest.mark.parametrize(("age_s", "fits_"), [(0.0, True), (2.3, True), (2.301, False), (3.0, False)])
def test_an_age_of_exactly_the_limit_is_not_older_than_it(age_s: float, fits_: bool) -> None:
    assert bool(choose(dataclasses.replace(BUY, max_age_s=2.3), [candidate(age_s=age_s)])) == fits_


def test_any_age_will_do_when_the_limit_is_infinite() -> None:
    assert choose(dataclasses.replace(BUY, max_age_s=float("inf")), [candidate(age_s=1e8)])


# --- needs -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "argument", "words"),
    [
        ({"symbol": "BTC"}, "symbol", "BTC/USD"),
        ({"symbol": "usd"}, "symbol", "BTC/USD"),
        ({"symbol": "BTC-USD-PERP"}, "symbol", "BTC/USD"),
        ({"symbol": "BTC-btc"}, "symbol", "BTC/USD"),
        ({"symbol": "BTC/USD/EUR"}, "symbol", "BTC/USD"),
        ({"symbol": "BTC/"}, "symbol", "BTC/USD"),
        ({"symbol": "/USD"}, "symbol", "BTC/USD"),
        ({"symbol": ""}, "symbol", "BTC/USD"),
        ({"symbol": "BTC/BTC"}, "symbol", "BTC/USD"),
        ({"symbol": "BTC /USD"}, "symbol", "BTC/USD"),
        ({"symbol": "BTC/USD\n"}, "symbol", "BTC/USD"),
        ({"symbol": "BTC/USDT:USDT"}, "symbol", "spot"),
        ({"symbol": None}, "symbol", "NoneType"),
        ({"side": "long"}, "side", "'long'"),
        ({"side": "BUY"}, "side", "'buy' or 'sell'"),
        ({"side": None}, "side", "None"),
        ({"quote_amount": 500.0}, "quote_amount", 'Decimal("500")'),
        ({"base_amount": 0.5}, "base_amount", "a float is not exact"),
        ({"quote_amount": 500}, "quote_amount", "expected a Decimal"),
        ({"quote_amount": "500"}, "quote_amount", "expected a Decimal"),
        ({"quote_amount": True}, "quote_amount", "expected a Decimal"),
        ({"quote_amount": Decimal(0)}, "quote_amount", "above 0"),
        ({"quote_amount": Decimal("-0")}, "quote_amount", "above 0"),
        ({"base_amount": Decimal(-1)}, "base_amount", "above 0"),
        ({"base_amount": Decimal("NaN")}, "base_amount", "finite"),
        ({"base_amount": Decimal("sNaN")}, "base_amount", "finite"),
        ({"base_amount": Decimal("Infinity")}, "base_amount", "finite"),
        ({"quote_amount": Decimal("1e30")}, "quote_amount", "can hold"),
        ({"quote_amount": Decimal("1e999999")}, "quote_amount", "can hold"),
        ({"quote_amount": Decimal("9e-19")}, "quote_amount", "can hold"),
        ({"quote_amount": Decimal(1), "base_amount": Decimal(1)}, "base_amount", "not both"),
        ({"prefer": "kraken"}, "prefer", "list of names"),
        ({"prefer": {"kraken"}}, "prefer", "list of names"),
        ({"prefer": ["kraken", 3]}, "prefer", "names of brokers"),
        ({"only": "kraken"}, "only", "list of names"),
        ({"max_age_s": 0}, "max_age_s", "above 0"),
        ({"max_age_s": -1.0}, "max_age_s", "above 0"),
        ({"max_age_s": float("nan")}, "max_age_s", "above 0"),
        ({"max_age_s": "30"}, "max_age_s", "above 0"),
        ({"max_age_s": True}, "max_age_s", "above 0"),
    ],
)
def test_a_need_that_cannot_be_names_the_argument(wrong: dict[str, Any], argument: str, words: str) -> None:
    with pytest.raises(InvalidOrder) as caught:
        need_of(**wrong)
    assert caught.value.argument == argument
    assert str(caught.value).startswith(f"{argument}: ")
    assert words in str(caught.value)


def test_a_need_takes_what_can_be_and_keeps_it_as_values() -> None:
    thirds = Decimal(500) / Decimal(3)
    names = ["b", "a"]
    need = Need(symbol="BTC/USD", side="sell", quote_amount=thirds, prefer=names, only=names, max_age_s=5)
    names.clear()
    assert (need.side, need.prefer, need.only) == (Side.SELL, ("b", "a"), ("b", "a"))
    assert (need.base, need.quote, need.spends, need.spent) == ("BTC", "USD", "BTC", None)
    assert {need: 1}[need] == 1
    assert str(need) == f"sell for {thirds} USD on BTC/USD"
    assert str(dataclasses.replace(SELL, exit=True)) == "exit, sell 0.5 BTC on BTC/USD"
    assert str(Need(symbol="BTC/USD", side=Side.BUY)) == "buy on BTC/USD"
    assert str(Need(symbol="BTC/USD", side="buy", quote_amount=Decimal("5.00E+2"))).startswith(
        "buy for 500 USD"
    )


def test_an_amount_at_the_edges_can_be() -> None:
    for text in ("0.000000000000000001", "999999999999999999999999999999.9", "1e29"):
        assert Need(symbol="BTC/USD", side="buy", base_amount=Decimal(text)).spent is None


def test_the_selection_knows_no_clock_and_no_chance() -> None:
    imported = {
        alias.name.partition(".")[0]
        for module in (selection, objections, needs_module)
        for node in ast.walk(ast.parse(inspect.getsource(module)))
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
    }
    assert "dataclasses" in imported
    assert imported.isdisjoint({"time", "datetime", "random", "threading", "os", "asyncio"})
