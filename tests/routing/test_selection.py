"""The choice of a broker: whom nothing speaks against, in one order that amounts have no part in."""

from __future__ import annotations

import ast
import dataclasses
import inspect
import random
from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

import msgspec
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from brokerwatch.clock import ManualClock
from brokerwatch.messages import (
    CapabilityState,
    HealthState,
    Product,
    Reason,
    Side,
    Verdict,
)
from brokerwatch.routing import need as needs_module
from brokerwatch.routing import objections, selection
from brokerwatch.routing.need import Need
from brokerwatch.routing.objections import Candidate, RefusalCode
from brokerwatch.routing.selection import choose
from tests.support import strategies as our
from tests.support.candidates import (
    BUY,
    CLOCK,
    MARKETS,
    RICH,
    SELL,
    TICK,
    candidate,
    degraded,
    free,
    listing,
    market,
    names_of,
    refusal,
    with_reading,
)

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
        return {} if kind == "none" else market(symbol="BTC/USDT", quote="USDT")
    minimum = st.sampled_from((None, None, Decimal("0.4"), Decimal(500), Decimal("500.01")))
    step = st.sampled_from((None, None, Decimal("0.1"), Decimal(0), Decimal(200), Decimal(1_000)))
    return market(
        active=draw(st.sampled_from((True, True, True, False))),
        base_step=draw(step),
        quote_step=draw(step),
        base_minimum=draw(minimum),
        quote_minimum=draw(minimum),
    )


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
        avoid=draw(st.just(()) | names),
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
    if has is None:
        return False
    trade = told.capabilities.get("trade")
    return (
        (need.only is None or told.broker in need.only)
        and told.broker not in need.avoid
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
            with_reading(
                one,
                verdict=Verdict(available=True, reason=one.reading.verdict.reason),
                balance=MappingProxyType(free(USD="900", BTC="900")),
                as_of=one.reading.as_of or CLOCK.now(),
                valid_until_s=CLOCK.up_s() + 1,
                overtaken=False,
                capabilities={},
            ),
            products=listing(MARKETS),
            trading=None,
        )
        for one in given_
    ]
    open_need = dataclasses.replace(need, only=None, avoid=(), max_age_s=float("inf"))
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
    wanted = [*need.prefer, *(need.only or ()), *need.avoid]
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
        code: msgspec.structs.replace(holding, free=None if holding.free is None else holding.free + more)
        for code, holding in held.items()
    }
    return with_reading(one, balance=grown)


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


@pytest.mark.parametrize(
    ("age_s", "max_age_s", "fits_"),
    [(0.0, 2.3, True), (2.3, 2.3, True), (2.301, 2.3, False), (3.0, 2.3, False), (1e8, float("inf"), True)],
)
def test_an_age_up_to_the_limit_will_do_and_any_age_when_the_limit_is_infinite(
    age_s: float, max_age_s: float, fits_: bool
) -> None:
    assert bool(choose(dataclasses.replace(BUY, max_age_s=max_age_s), [candidate(age_s=age_s)])) == fits_


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
