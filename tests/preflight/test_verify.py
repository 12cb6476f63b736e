"""The verifier is verified: on healthy exchanges it finds everything in order, and with one fault planted it
finds exactly that fault.

Every fault is a real one, over HTTP: nothing of the verification is replaced. What a fault makes impossible
to check is a skip, never a pass.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

import pytest

from brokerwatch.clock import Instant
from brokerwatch.cluster.requests import Requests
from brokerwatch.config.broker_spec import BrokerSpec, Origin
from brokerwatch.config.policy import GUARDED
from brokerwatch.exchanges.symbols import Products
from brokerwatch.health.state_machine import Health
from brokerwatch.messages import Balance, Fault
from brokerwatch.preflight.verify import Verification
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from brokerwatch.simulator.exchange import Call
from brokerwatch.simulator.kraken_pairs import PAIR_LIST
from brokerwatch.simulator.markets import MARKETS
from brokerwatch.verification.checklist import CHECKLIST, MAXIMUM, Check, CheckOutcome
from brokerwatch.verification.report import Report, encoded
from tests.support.clusters import simulated_spec
from tests.support.verification import Indifferent, evidence, fails, not_passed, skips

KINDS: Final = (SimulatedKraken, SimulatedCoinbase, SimulatedOkx)
K, C, X = "kraken", "coinbase", "okx"
WITH_DRY_RUN: Final = (K, C)
every_kind: Final = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: str(kind.ccxt_id))


def spec_of(exchange: SimulatedExchange, **values: Any) -> BrokerSpec:
    """The account as an operator configures it, with its keys in variables."""
    origins = {name: Origin("variable", f"TEST_{name.upper()}") for name in exchange.credentials}
    chosen: dict[str, Any] = {
        "trading": True,
        "policy": "guarded",
        "fetch_deadline_s": 4.0,
        "poll_interval_s": 10.0,
        "origins": MappingProxyType(origins),
        **values,
    }
    return simulated_spec(exchange, **chosen)


def verified(exchange: SimulatedExchange, **values: Any) -> Report:
    """The report on an account there, which holds for every report."""
    with serve(exchange), pytest.MonkeyPatch.context() as patched:
        patched.setattr(
            "brokerwatch.preflight.account_probe.SLOWER_S", 0.01
        )  # calls are not counted here unless a test says so
        found = Verification(spec_of(exchange, **values), Indifferent()).run()
    text = encoded(found).decode()
    for secret in exchange.credentials.values():
        assert secret not in text
        assert json.dumps(secret)[1:-1] not in text
    checks = [check for category in found.categories for check in category.checks]
    assert [check.name for check in checks] == [check.name for check in CHECKLIST]
    assert all(check.evidence for check in checks)
    assert found.points == sum(
        check.maximum for check in checks if check.outcome in (CheckOutcome.PASS, CheckOutcome.WARN)
    )
    assert found.maximum == MAXIMUM
    return found


NO_DRY_RUN: Final = skips("trade.market_order", "trade.close")
BY_BALANCE: Final = skips(
    "balance.detailed", "balance.held", "health.available", "health.error_count", "health.fallback",
    "health.flip", "health.recovery", "positions.structure", "positions.open_orders", "trade.market_order",
    "trade.close",
)  # fmt: skip
"""What cannot be checked without a balance."""
BY_KEY: Final = {
    **BY_BALANCE,
    **skips("connection.account", "balance.simple", "safety.withdraw", "safety.rights", "safety.nonce"),
}
"""What cannot be checked when no signed question is answered."""
UNSIGNED: Final = {**BY_KEY, **fails("connection.authentication")}
"""Every outcome but a pass when no signed question is answered."""
NO_ORDERS: Final = fails("trade.market_order", "trade.close")
"""Neither dry run shows that an order would be taken."""
EXECUTED: Final = {**fails("trade.market_order"), **skips("trade.close")}
"""The first dry run executed, so there is no second."""
BY_MARKETS: Final = skips(
    "balance.held", "market_data.candles_fresh", "market_data.candles_ordered",
    "market_data.candles_plausible", "symbols.normalised", "symbols.busd_refused", "symbols.usd_supported",
    "positions.structure", "positions.open_orders", "trade.market_order", "trade.close",
)  # fmt: skip
"""What cannot be checked without the list of markets."""


def dry_runs_missing(kind: type[SimulatedExchange]) -> dict[str, str]:
    """What a sound account does not pass there: OKX has no dry run."""
    return NO_DRY_RUN if kind is SimulatedOkx else {}


# --- healthy -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [SimulatedKraken, SimulatedCoinbase], ids=lambda kind: str(kind.ccxt_id))
def test_a_healthy_account_reaches_every_point(kind: type[SimulatedExchange]) -> None:
    exchange = kind()
    found = verified(exchange)
    assert not_passed(found) == {}
    assert (found.points, found.maximum, found.exit_status) == (110, 110, 0)
    assert exchange.placed_orders == 0


def test_where_there_is_no_dry_run_the_rest_is_reached_and_nothing_is_sent() -> None:
    okx = SimulatedOkx()
    found = verified(okx)
    assert not_passed(found) == NO_DRY_RUN
    assert (found.points, found.maximum, found.exit_status) == (100, 110, 3)
    assert (okx.placed_orders, okx.calls_to("/api/v5/trade/order")) == (0, 0)
    assert "no dry run" in evidence(found, "trade.close")


@pytest.mark.parametrize(
    ("values", "outcome", "said"),
    [
        ({}, {}, "; policy guarded"),
        ({"trading": False, "policy": ""}, {}, "; policy simple"),
        ({"policy": ""}, {"health.available": "warn"}, "policy guarded, the default with trading = true"),
        (
            {"policy": "simple"},
            {"health.available": "warn"},
            "policy simple: with trading = true",
        ),
        (
            {"rules": replace(GUARDED, start_unknown=False)},
            {"health.available": "warn"},
            "policy guarded: with trading = true the account is available before its first answer",
        ),
    ],
    ids=["chosen", "no trading", "by default", "simple", "guarded, but for the start"],
)
def test_the_report_names_the_policy_and_warns_of_one_that_was_not_chosen_or_starts_available(
    values: dict[str, Any], outcome: dict[str, str], said: str
) -> None:
    found = verified(SimulatedKraken(), **values)
    left_out = {} if values.get("trading", True) else NO_DRY_RUN
    assert {name: how for name, how in not_passed(found).items() if name not in left_out} == outcome
    assert said in evidence(found, "health.available")
    assert found.policy in said


@every_kind
def test_a_guarded_account_is_verified_by_its_own_rules(kind: type[SimulatedExchange]) -> None:
    found = verified(kind(), policy="guarded", max_consecutive_errors=5)
    assert not_passed(found) == dry_runs_missing(kind)
    assert "1, 2, 3, 4, 5" in evidence(found, "health.error_count")
    assert f"after {GUARDED.successes_to_recover} successes" in evidence(found, "health.recovery")


def test_many_errors_in_a_row_are_tried_with_fewer_and_that_is_said() -> None:
    found = verified(SimulatedKraken(), max_consecutive_errors=500)
    assert not_passed(found) == {}
    assert "tried with 10 in place of the configured 500" in evidence(found, "health.flip")


@every_kind
def test_open_orders_and_what_they_hold_are_in_order(kind: type[SimulatedExchange]) -> None:
    exchange = kind()
    quote = "USDT" if kind is SimulatedOkx else "USD"
    exchange.rest(f"BTC/{quote}", "buy", "0.001", "50000")
    exchange.rest("BTC/USD", "sell", "0.1", "99000")
    found = verified(exchange)
    assert not_passed(found) == dry_runs_missing(kind)
    assert f"0.1 BTC, 50 {quote}" in evidence(found, "balance.held") or (
        f"50 {quote}, 0.1 BTC" in evidence(found, "balance.held")
    )


def test_the_provoked_outage_stays_on_our_side() -> None:
    kraken = SimulatedKraken()
    heard: list[int] = []

    class Listening(Indifferent):
        def begins(self, check: Check, number: int) -> None:
            if check.category == "health":
                heard.append(kraken.private_calls)

    with serve(kraken):
        Verification(spec_of(kraken), Listening()).run()
    # One fetch before the outage and two after it, as `guarded` asks: of the three that failed none arrived.
    assert heard[-1] - heard[0] == 3


def test_each_question_is_really_asked() -> None:
    kraken = SimulatedKraken()
    verified(kraken)
    for path in ("BalanceEx", "OpenOrders", "OpenPositions", "AddOrder", "WithdrawInfo", "GetApiKeyInfo"):
        assert kraken.calls_to(f"POST /0/private/{path}") >= 1, path
    for path in ("Time", "SystemStatus", "AssetPairs", "OHLC", "Ticker"):
        assert kraken.calls_to(f"GET /0/public/{path}") >= 1, path


def test_keys_that_a_program_gave_are_a_remark() -> None:
    found = verified(SimulatedKraken(), origins=MappingProxyType({}))
    assert not_passed(found) == {"credentials.kept": "warn"}
    assert (found.points, found.exit_status) == (110, 3)


@every_kind
def test_a_key_that_only_watches_is_in_order_where_trading_is_off(kind: type[SimulatedExchange]) -> None:
    exchange = kind()
    exchange.set_permissions({"query"})
    assert not_passed(verified(exchange, trading=False)) == NO_DRY_RUN


def test_orders_are_rehearsed_although_trading_is_off() -> None:
    assert not_passed(verified(SimulatedKraken(), trading=False)) == {}


# --- one fault each ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Planted:
    """One fault, and what a verification must make of it: every check that does not simply pass."""

    name: str
    plant: Callable[[Any], object]
    at: tuple[str, ...] = (K, C, X)
    expected: Mapping[str, str] = field(default_factory=dict[str, str])
    differs: Mapping[str, Mapping[str, str]] = field(default_factory=dict[str, Mapping[str, str]])
    """Where one exchange has another outcome."""
    executed: int = 0
    """Orders that the exchange executes against our will."""


def path_fault(paths: Mapping[str, str], name: str, **values: Any) -> Callable[[SimulatedExchange], object]:
    return lambda exchange: exchange.set_fault(name, path=paths[exchange.ccxt_id], **values)


ORDERS: Final = {K: "POST /0/private/AddOrder", C: "POST /api/v3/brokerage/orders/preview"}
OPEN_ORDERS: Final = {
    K: "POST /0/private/OpenOrders",
    C: "GET /api/v3/brokerage/orders/historical/batch",
    X: "GET /api/v5/trade/orders-pending",
}
POSITIONS: Final = {
    K: "POST /0/private/OpenPositions",
    C: "GET /api/v3/brokerage/cfm/positions",
    X: "GET /api/v5/account/positions",
}
CLOCKS: Final = {
    K: ("GET /0/public/Time",),
    C: ("GET /v2/time", "GET /api/v3/brokerage/time"),
    X: ("GET /api/v5/public/time",),
}
MAY: Final = ("query-funds", "query-open-trades", "query-closed-trades", "modify-trades")


def key_says(**changes: object) -> str:
    """Kraken's answer about a key that may do all that is needed and no more, but for these changes."""
    result = {"permissions": [*MAY], "ipAllowlist": ["127.0.0.1"], "iban": "AA88 N84G WOAK NMOI", **changes}
    return json.dumps({"error": [], "result": result})


KEYS: Final = {
    K: "POST /0/private/GetApiKeyInfo",
    C: "GET /api/v3/brokerage/key_permissions",
    X: "GET /api/v5/account/config",
}
CANDLES: Final = {
    K: "GET /0/public/OHLC",
    C: "GET /api/v3/brokerage/market/products/{product_id}/candles",
    X: "GET /api/v5/market/candles",
}
MARKET_LISTS: Final = {
    K: "GET /0/public/AssetPairs",
    C: "GET /api/v3/brokerage/market/products",
    X: "GET /api/v5/public/instruments",
}
HALF: Final = tuple(market.symbol for number, market in enumerate(MARKETS) if number % 2)


def minutes(*closes: str) -> list[tuple[int, str, str, str, str, str]]:
    """Candles of the newest minutes with these closing prices."""
    now = int(time.time()) // 60 * 60
    first = now - 60 * (len(closes) - 1)
    return [(first + 60 * n, close, close, close, close, "1") for n, close in enumerate(closes)]


def in_maintenance_by_its_own_word(exchange: Any) -> None:
    if exchange.ccxt_id == K:
        exchange.set_status("maintenance")
    else:
        exchange.set_maintenance("upgrade", "ongoing")


def relisted(kraken: SimulatedExchange, change: Callable[[dict[str, Any]], object]) -> None:
    """Have it list its pairs with a change."""
    pairs: dict[str, Any] = json.loads(json.dumps(PAIR_LIST))
    change(pairs)
    kraken.set_answer(json.dumps({"error": [], "result": pairs}), path=MARKET_LISTS[K], public=True)


def flagged(flag: str) -> Callable[[SimulatedExchange], object]:
    """Coinbase says this of BTC/USD, and ccxt does not pass it on."""

    def plant(coinbase: SimulatedExchange) -> None:
        listed = products_of(coinbase)
        for row in listed["products"]:
            row[flag] = row["product_id"] == "BTC-USD"
        coinbase.set_answer(json.dumps(listed), path=MARKET_LISTS[C], public=True)

    return plant


def products_of(coinbase: SimulatedExchange) -> Any:
    asked = Call("GET", MARKET_LISTS[C].removeprefix("GET "), "", {}, {}, b"")
    return json.loads(json.dumps(coinbase.public_routes["GET", asked.path](asked)))


def listed_again(coinbase: SimulatedExchange) -> None:
    listed = products_of(coinbase)
    listed["products"].append(listed["products"][0])
    coinbase.set_answer(json.dumps(listed), path=MARKET_LISTS[C], public=True)


def exchanged_names(kraken: SimulatedExchange) -> None:
    def change(pairs: dict[str, Any]) -> None:
        pairs["SOLUSD"], pairs["ADAUSD"] = pairs["ADAUSD"], pairs["SOLUSD"]

    relisted(kraken, change)


def listed_twice(kraken: SimulatedExchange) -> None:
    relisted(kraken, lambda pairs: pairs.update({"SOLUSD2": pairs["SOLUSD"]}))


def executes(exchange: SimulatedExchange) -> None:
    exchange.executes_dry_runs = True


def executes_without_bitcoin(exchange: SimulatedExchange) -> None:
    exchange.set_balance({"USD": ("1000", "0"), "ETH": ("1", "0")})
    executes(exchange)


def refuses_and_executes(exchange: SimulatedExchange) -> None:
    executes(exchange)
    refusal = '{"error":["EOrder:Insufficient funds"]}'
    exchange.set_answer(refusal, path=ORDERS[exchange.ccxt_id], executed=True)


def closes_really(exchange: SimulatedExchange) -> None:
    """The second dry run sells everything, and from then on the coin is not in the balance any more."""
    whole = exchange.respond
    dry_runs = 0

    def respond(call: Any, *trouble: Any) -> Any:
        nonlocal dry_runs
        if f"{call.method} {call.path}" == ORDERS[exchange.ccxt_id]:
            dry_runs += 1
            if dry_runs == 2:
                before = {code: row for code, row in exchange.default_balance.items() if code != "BTC"}
                exchange.set_balance({**before, "USD": ("10000", "0")})
        return whole(call, *trouble)

    vars(exchange)["respond"] = respond  # of this one exchange


def no_clock(exchange: SimulatedExchange) -> None:
    for path in CLOCKS[exchange.ccxt_id]:
        exchange.set_fault("http_502_html", path=path, public=True)


def an_order_without_a_hold(exchange: SimulatedExchange) -> None:
    exchange.rest("BTC/USD", "sell", "0.1", "99000")
    exchange.holds = "zero"


def named_fault(name: str, **values: Any) -> Callable[[SimulatedExchange], object]:
    return lambda exchange: exchange.set_fault(name, **values)


def key_that_says(**changes: object) -> Callable[[SimulatedExchange], object]:
    return lambda kraken: kraken.set_answer(key_says(**changes), path=KEYS[K])


def withdrawal_answered(error: str) -> Callable[[SimulatedExchange], object]:
    answer = json.dumps({"error": [error]})
    return lambda kraken: kraken.set_answer(answer, path="POST /0/private/WithdrawInfo")


FAULTS: Final = (
    # What the key may do.
    Planted(
        "a key that can withdraw",
        lambda x: x.set_permissions({"query", "trade", "withdraw"}),
        expected=fails("safety.withdraw"),
    ),
    Planted(
        "a key that cannot withdraw by its list, and is not denied a withdrawal",
        withdrawal_answered("EFunding:Unknown withdraw key"),
        at=(K,),
        expected=fails("safety.withdraw"),
    ),
    Planted(
        "the exchange does not say whether the key can withdraw",
        lambda x: (
            x.set_answer('{"error":["EGeneral:Unknown method"]}', path=KEYS[K]),
            x.set_fault("http_502_html", path="POST /0/private/WithdrawInfo"),
        ),
        at=(K,),
        expected=fails("safety.withdraw"),
    ),
    Planted(
        "the question about the key is not answered",
        path_fault(KEYS, "http_502_html"),
        expected={**fails("connection.account", "safety.withdraw"), **skips("safety.rights")},
        # There a withdrawal is denied all the same.
        differs={K: {**fails("connection.account"), **skips("safety.rights")}},
    ),
    Planted(
        "a key that may not trade",
        lambda x: x.set_permissions({"query"}),
        expected=fails("trade.market_order", "trade.close", "safety.rights"),
        differs={X: {**NO_DRY_RUN, **fails("safety.rights")}},
    ),
    Planted(
        "a key that may not read the balance",
        lambda x: x.set_permissions({"trade"}),
        expected=UNSIGNED,
    ),
    Planted(
        "a key that does not list the right to see orders",
        key_that_says(permissions=["query-funds", "modify-trades"]),
        at=(K,),
        expected=fails("safety.rights"),
    ),
    Planted(
        "a key that may not look orders up, by its list",
        key_that_says(permissions=["query-funds", "query-open-trades", "modify-trades"]),
        at=(K,),
        expected={"safety.rights": "warn"},
    ),
    Planted(
        "a right to withdraw by another name",
        key_that_says(permissions=[*MAY, "Withdraw-Crypto"]),
        at=(K,),
        expected=fails("safety.withdraw"),
    ),
    Planted(
        "a withdrawal that is neither allowed nor denied",
        withdrawal_answered("EGeneral:Invalid arguments:key"),
        at=(K,),
        expected={"safety.withdraw": "warn"},
    ),
    Planted(
        "a key that ends tomorrow",
        lambda x: x.set_answer(key_says(validUntil=f"{time.time() + 86_400:.0f}"), path=KEYS[K]),
        at=(K,),
        expected={"safety.rights": "warn"},
    ),
    Planted(
        "an answer about another key than the one that asked",
        key_that_says(apiKey="another"),
        at=(K,),
        expected=fails("connection.account"),
    ),
    Planted(
        "a key that is bound to no address",
        lambda x: setattr(x, "key_ip", ""),
        at=(K, X),
        expected={"safety.rights": "warn"},
    ),
    *(
        Planted(name, named_fault(fault), expected=UNSIGNED)
        for name, fault in (("a key that is not known", "bad_key"), ("a wrong secret", "bad_signature"))
    ),
    Planted(
        "every number is refused",
        named_fault("bad_nonce"),
        expected=UNSIGNED,
        differs={K: {**BY_KEY, **fails("connection.authentication", "safety.nonce")}},
    ),
    Planted(
        "one number is refused",
        named_fault("bad_nonce", times=1),
        at=(K,),
        expected=fails("safety.nonce"),
    ),
    # The clock.
    Planted(
        "a clock that is 10 s slow",
        lambda x: setattr(x, "clock_skew_s", 10.0),
        expected=fails("safety.clock"),
    ),
    Planted(
        "a clock that is 5 s fast", lambda x: setattr(x, "clock_skew_s", -5.0), expected=fails("safety.clock")
    ),
    Planted(
        "a clock that is 90 s slow",
        lambda x: setattr(x, "clock_skew_s", 90.0),
        expected=fails("safety.clock"),
        # There a signature is worth half a minute.
        differs={X: {**BY_KEY, **fails("connection.authentication", "safety.clock")}},
    ),
    Planted(
        "a clock that does not answer",
        no_clock,
        expected={**fails("connection.reach"), **skips("safety.clock")},
    ),
    # Markets and prices.
    Planted("half of the products gone", lambda x: x.delist(*HALF), expected=fails("market_data.products")),
    Planted(
        "BTC/USD gone from the list",
        lambda x: x.delist("BTC/USD"),
        expected=fails("market_data.products", "symbols.usd_supported"),
        differs={X: {**fails("market_data.products"), **skips("symbols.usd_supported"), **NO_DRY_RUN}},
    ),
    Planted(
        "a list of markets that does not come",
        path_fault(MARKET_LISTS, "http_502_html", public=True),
        expected={**BY_MARKETS, **fails("market_data.products")},
        differs={C: {**BY_MARKETS, **fails("market_data.products"), **skips("connection.open")}},
    ),
    *(
        Planted(f"BTC/USD that is {flag}", flagged(flag), at=(C,), expected=fails("connection.open"))
        for flag in ("cancel_only", "limit_only", "post_only", "is_disabled", "auction_mode")
    ),
    Planted("BTC/USD closed", lambda x: x.close_market("BTC/USD"), expected=fails("connection.open")),
    Planted(
        "stale candles",
        lambda x: setattr(x, "candle_lag_s", 3_600.0),
        expected=fails("market_data.candles_fresh"),
    ),
    Planted(
        "candles of the future",
        lambda x: setattr(x, "candle_lag_s", -600.0),
        at=(K, X),
        expected=fails("market_data.candles_fresh"),
    ),
    Planted(
        "candles with a hole of 40 minutes",
        lambda x: x.set_candle_gaps("BTC/USD", range(20, 60)),
        expected=fails("market_data.candles_ordered"),
    ),
    Planted(
        "two minutes without a candle",
        lambda x: x.set_candle_gaps("BTC/USD", [20, 30]),
        expected={"market_data.candles_ordered": "warn"},
    ),
    Planted(
        "candles of another market",
        lambda x: x.swap_candles("BTC/USD", "ETH/USD", disguised=True),
        expected=fails("market_data.candles_plausible"),
    ),
    Planted(
        "candles under the name of another market",
        lambda x: x.swap_candles("BTC/USD", "ETH/USD"),
        at=(K,),
        expected={
            **fails("market_data.candles_plausible"),
            **skips("market_data.candles_fresh", "market_data.candles_ordered"),
        },
    ),
    Planted(
        "a price that jumps by half",
        lambda x: x.set_candles("BTC/USD", minutes(*["40000"] * 60, *["60000"] * 40)),
        expected=fails("market_data.candles_plausible"),
    ),
    Planted(
        "candles that do not come",
        path_fault(CANDLES, "http_502_html", public=True),
        expected={
            **fails("market_data.candles_fresh"),
            **skips("market_data.candles_ordered", "market_data.candles_plausible"),
        },
    ),
    # The balance.
    Planted(
        "an amount that is NaN",
        named_fault("nan_amount"),
        expected={**BY_BALANCE, **fails("balance.simple")},
    ),
    Planted(
        "holds that are missing",
        lambda x: setattr(x, "holds", "missing"),
        at=(K, C),
        expected={**BY_BALANCE, **fails("balance.simple")},
    ),
    Planted(
        "holds that are zero although an order is open",
        an_order_without_a_hold,
        expected=fails("balance.held", "positions.open_orders"),
    ),
    Planted(
        "an account without money",
        lambda x: x.set_balance({}),
        expected={"balance.detailed": "warn", **NO_DRY_RUN},
    ),
    Planted(
        "an account that owes",
        lambda x: x.set_balance({"USD": ("-5", "0"), "BTC": ("0.5", "0")}),
        at=(K,),
        expected={**fails("balance.detailed"), **skips("trade.market_order")},
    ),
    Planted(
        "an account that owes where that cannot be",
        lambda x: x.set_balance({"USD": ("-5", "0"), "BTC": ("0.5", "0")}),
        at=(C,),
        expected={**BY_BALANCE, **fails("balance.simple")},
    ),
    # Positions and open orders.
    Planted(
        "positions that are malformed",
        lambda x: x.set_positions([{"pair": "XETHZUSD", "type": "buy", "product_id": "X", "instId": "X"}]),
        expected={**fails("positions.structure"), **skips("positions.open_orders")},
    ),
    Planted(
        "positions that the key may not read",
        path_fault(POSITIONS, "permission"),
        expected={**fails("positions.structure", "safety.rights"), **skips("positions.open_orders")},
    ),
    Planted(
        "a price that is no number",
        lambda x: x.set_answer(
            '{"error":[],"result":{"XXBTZUSD":[[1800000000,"1","1","1","NaN","1","1",1]],"last":0}}',
            path=CANDLES[K],
            public=True,
        ),
        at=(K,),
        expected={
            **fails("market_data.candles_plausible"),
            **skips("market_data.candles_fresh", "market_data.candles_ordered"),
        },
    ),
    Planted(
        "two markets that have each other's names",
        exchanged_names,
        at=(K,),
        expected=fails("symbols.normalised"),
    ),
    Planted("a market that is listed twice", listed_twice, at=(K,), expected=fails("market_data.products")),
    Planted(
        "a market that is listed twice under one id",
        listed_again,
        at=(C,),
        expected=fails("market_data.products"),
    ),
    Planted(
        "positions that only an account with futures may ask for",
        lambda x: x.set_answer(
            '{"error":"PERMISSION_DENIED","message":"not approved for futures"}', 403, path=POSITIONS[C]
        ),
        at=(C,),
        expected={},
    ),
    Planted(
        "positions that the key lacks the right to see, which is called after futures",
        lambda x: x.set_answer(
            '{"error":"PERMISSION_DENIED","message":"Missing required scope futures:read"}',
            403,
            path=POSITIONS[C],
        ),
        at=(C,),
        expected={**fails("positions.structure", "safety.rights"), **skips("positions.open_orders")},
    ),
    Planted(
        "an account that owes where that is possible",
        lambda x: x.set_balance({"USDT": ("1000", "0"), "USD": ("-5", "0"), "BTC": ("0.5", "0")}),
        at=(X,),
        expected={"balance.detailed": "warn"},
    ),
    Planted(
        "positions that do not come",
        path_fault(POSITIONS, "http_502_html"),
        expected={**fails("positions.structure"), **skips("positions.open_orders")},
    ),
    Planted(
        "open orders that do not come",
        path_fault(OPEN_ORDERS, "http_502_html"),
        at=(K, X),
        expected=fails("balance.held", "positions.open_orders"),
    ),
    Planted(
        "an open order in a market that is not listed",
        lambda x: (x.rest("ETH/EUR", "sell", "0.5", "9000"), x.delist("ETH/EUR")),
        expected={**fails("market_data.products", "positions.open_orders"), "balance.held": "warn"},
    ),
    # Orders.
    Planted(
        "an order that is refused",
        lambda x: x.set_answer('{"error":["EOrder:Insufficient funds"]}', path=ORDERS[K]),
        at=(K,),
        expected=NO_ORDERS,
    ),
    Planted(
        "an order that is denied to the key",
        path_fault(ORDERS, "permission"),
        at=WITH_DRY_RUN,
        expected=fails("trade.market_order", "trade.close", "safety.rights"),
    ),
    Planted(
        "orders that the key may not look up",
        named_fault("permission", path="POST /0/private/ClosedOrders"),
        at=(K,),
        expected={"trade.market_order": "warn", "trade.close": "warn", "safety.rights": "warn"},
    ),
    Planted(
        "a dry run that executes and says no",
        refuses_and_executes,
        at=(K,),
        expected=EXECUTED,
        executed=1,
    ),
    Planted(
        "a dry run that executes into a coin that was not there",
        executes_without_bitcoin,
        at=WITH_DRY_RUN,
        expected=EXECUTED,
        executed=1,
    ),
    Planted(
        "a dry run of a close that executes, and the coin is gone from the answer",
        closes_really,
        at=(C,),
        expected={**fails("trade.close")},
    ),
    *(
        Planted(f"a dry run that is {name}", path_fault(ORDERS, fault), at=WITH_DRY_RUN, expected=NO_ORDERS)
        for name, fault in (("answered with a page", "html_200"), ("not answered", "hang"))
    ),
    Planted(
        "a dry run that executes",
        executes,
        at=WITH_DRY_RUN,
        expected=EXECUTED,
        executed=1,
    ),
    Planted(
        "a preview that is answered with the id of an order",
        lambda x: x.set_answer(
            '{"order_id":"11111111-aaaa","errs":[],"base_size":"1","quote_size":"1"}', path=ORDERS[C]
        ),
        at=(C,),
        expected=NO_ORDERS,
    ),
    Planted(
        "a key that is told to slow down now and then",
        lambda x: [
            x.set_fault("rate_limited", times=1, path=paths[x.ccxt_id]) for paths in (OPEN_ORDERS, ORDERS)
        ],
        at=(K,),
        expected={},
    ),
    Planted(
        "a dry run that is answered with the id of an order",
        lambda x: x.set_answer(
            '{"error":[],"result":{"descr":{"order":"buy"},"txid":["OUF4EM-FRGI2-MQMWZD"]}}', path=ORDERS[K]
        ),
        at=(K,),
        expected=NO_ORDERS,
    ),
    # The exchange as a whole.
    Planted(
        "maintenance by its own word",
        in_maintenance_by_its_own_word,
        at=(K, X),
        expected=fails("connection.open"),
        differs={K: {**BY_KEY, **fails("connection.open", "connection.authentication")}},
    ),
    Planted(
        "maintenance that is announced",
        lambda x: x.set_maintenance("upgrade"),
        at=(X,),
        expected={"connection.open": "warn"},
    ),
    Planted(
        "only cancels are taken",
        lambda x: x.set_status("cancel_only"),
        at=(K,),
        expected=fails("connection.open", "trade.market_order", "trade.close"),
    ),
    *(
        Planted(name, named_fault(fault), expected=UNSIGNED)
        for name, fault in (
            ("private questions that find it down", "exchange_down"),
            ("private questions that are told to slow down", "rate_limited"),
            ("another service that answers", "wrong_envelope"),
        )
    ),
    *(
        Planted(
            f"everything answered with {name}",
            named_fault(name, public=True),
            expected={
                **BY_KEY,
                **BY_MARKETS,
                **skips("safety.clock"),
                **fails(
                    "connection.reach", "connection.open", "connection.authentication", "market_data.products"
                ),
            },
            differs={
                C: {
                    **BY_KEY,
                    **BY_MARKETS,
                    **skips("safety.clock", "connection.open"),
                    **fails("connection.reach", "connection.authentication", "market_data.products"),
                }
            },
        )
        for name in ("http_502_html", "html_200", "reset", "empty_body", "null_body", "cut_json")
    ),
)


def cases() -> Iterator[Any]:
    for fault in FAULTS:
        for kind in KINDS:
            if kind.ccxt_id in fault.at:
                yield pytest.param(fault, kind, id=f"{kind.ccxt_id}-{fault.name}".replace(" ", "_"))


def test_there_are_enough_faults_and_each_stands_alone() -> None:
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) >= 25


@pytest.mark.parametrize(("fault", "kind"), list(cases()))
def test_exactly_the_checks_fail_that_should(fault: Planted, kind: type[SimulatedExchange]) -> None:
    exchange = kind()
    fault.plant(exchange)
    found = verified(exchange)
    expected = {**dry_runs_missing(kind), **fault.differs.get(exchange.ccxt_id, fault.expected)}
    assert not_passed(found) == expected
    assert exchange.placed_orders == fault.executed
    assert found.exit_status == (1 if "fail" in expected.values() else 3 if expected else 0)


def test_a_dry_run_that_is_executed_late_is_found_at_the_end() -> None:
    coinbase = SimulatedCoinbase()

    class Late(Indifferent):
        def begins(self, check: Check, number: int) -> None:
            if check.name == "safety.nonce":
                coinbase.set_balance({**coinbase.default_balance, "USD": ("3000", "0"), "BTC": ("0.2", "0")})

    with serve(coinbase):
        found = Verification(spec_of(coinbase), Late()).run()
    assert found.failures() == ("trade.market_order", "trade.close")
    assert "EXECUTED" in evidence(found, "trade.close")


# --- a product that is broken ------------------------------------------------------------------------


def test_a_product_that_counts_no_errors_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def uncounted(health: Health, fault: Fault, now: Instant) -> Health:
        del fault, now
        return health

    monkeypatch.setattr(Health, "failed", uncounted)
    assert {"health.error_count", "health.fallback", "health.flip"} <= set(
        verified(SimulatedKraken()).failures()
    )


def test_a_product_with_a_balance_that_is_hard_coded_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def hard_coded(requests: Requests) -> Decimal:
        del requests
        return Decimal(1000)

    monkeypatch.setattr(Requests, "cash", hard_coded)
    found = verified(SimulatedKraken())
    assert "balance.detailed" in not_passed(found)
    assert "health.fallback" in found.failures()


def test_a_product_that_forgets_its_last_known_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    whole: Callable[[Requests], Decimal] = vars(Requests)["cash"]

    def forgetful(requests: Requests) -> Decimal:
        return Decimal(0) if requests.slot.reading.fault else whole(requests)

    monkeypatch.setattr(Requests, "cash", forgetful)
    assert verified(SimulatedKraken()).failures() == ("health.fallback",)


def test_a_product_whose_orders_raise_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken_order(*_: object, **__: object) -> Any:
        raise TypeError("unexpected keyword argument")

    monkeypatch.setattr(Requests, "placing", broken_order)
    found = verified(SimulatedKraken())
    assert found.failures() == ("trade.market_order",)
    assert "brokerwatch itself failed" in evidence(found, "trade.market_order")


def test_a_product_that_puts_another_currency_in_the_place_of_busd_does_not_pass(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    whole = Products.symbol

    def obliging(products: Products, text: str) -> str:
        return whole(products, text.replace("BUSD", "USD"))

    monkeypatch.setattr(Products, "symbol", obliging)
    assert verified(SimulatedKraken()).failures() == ("symbols.busd_refused",)


def test_a_product_that_never_comes_back_does_not_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Health.seen

    def stubborn(health: Health, balance: Balance, now: Instant) -> Health:
        return health if health.error_count >= health.threshold else whole(health, balance, now)

    monkeypatch.setattr(Health, "seen", stubborn)
    assert {"health.error_count", "health.recovery"} <= set(verified(SimulatedKraken()).failures())


def test_a_check_that_breaks_has_not_passed(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object, **__: object) -> Any:
        raise ZeroDivisionError

    monkeypatch.setattr("brokerwatch.verification.account_findings.clock", broken)
    assert verified(SimulatedKraken()).failures() == ("safety.clock",)
