"""Every exchange that has no adapter of its own, as ccxt's unified calls give it.

The class is what the rest of the program asks. Above it stand the pure readers of ccxt's structures, which
raise `UnprovenAnswer` for what is no proof. An exchange whose words of error we know and nothing else is a
subclass with another `profile`: see CONTRIBUTING.md, "How to add an exchange".
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar, Final, cast

from brokerwatch.errors import InvalidOrder, NotSupported
from brokerwatch.exchanges.adapter import (
    ORDERS_PER_PAGE,
    SKEW_US,
    BalanceTurn,
    Caller,
    PrivateQuestion,
    Profile,
)
from brokerwatch.exchanges.balances import FetchedBalance
from brokerwatch.exchanges.candles import candle, newest, row_of
from brokerwatch.exchanges.envelope import UnprovenAnswer, exact, listing, mapping, number, short, text
from brokerwatch.exchanges.key_forms import KEY_FORMS
from brokerwatch.exchanges.key_info import KeyFacts
from brokerwatch.exchanges.ledgers import unified_ledger
from brokerwatch.exchanges.open_orders import Market, OpenOrder, resting_order
from brokerwatch.exchanges.order_answers import FoundOrder
from brokerwatch.exchanges.order_deadline import OrderDeadline
from brokerwatch.exchanges.order_request import OrderRequest
from brokerwatch.exchanges.order_traits import OrderTraits
from brokerwatch.exchanges.positions import Named, position, position_rows
from brokerwatch.exchanges.preludes import CHOSEN, prove, was_answered
from brokerwatch.exchanges.refusals import trusted_answer
from brokerwatch.exchanges.unified_balance import holdings, stated
from brokerwatch.exchanges.unified_orders import found_order, order_at, placed
from brokerwatch.messages import Candle, Position, Product
from brokerwatch.messages.money import LedgerEntry
from brokerwatch.messages.trading import Status

PROFILE: Final = Profile()
"""What we know of an exchange of which we know nothing but ccxt's calls."""

SHORTEST_PAGE: Final = 10
"""Where ccxt does not say how long a page is, one with fewer orders is not full: of the pages that it knows
the shortest has 50."""


def open_orders(rows: object, market: Market) -> tuple[OpenOrder, ...]:
    """The orders in what ccxt's `fetch_open_orders` gives, exact. Raises UnprovenAnswer."""
    found: list[OpenOrder] = []
    for entry in listing(rows, "the orders"):
        row = mapping(entry, "an order")
        order_id = text(row.get("id"), "the id of an order")
        remaining, price = row.get("remaining"), row.get("price")
        left = None if remaining is None else number(exact(remaining), f"remaining of {order_id}")
        if left is not None and left < 0:
            raise UnprovenAnswer(f"of {order_id} {left} remains")
        # An order that waits for a trigger has the type of what it will be then.
        waits = any(row.get(key) not in (None, "", 0, "0") for key in ("triggerPrice", "stopPrice"))
        found.append(
            resting_order(
                order_id,
                text(row.get("symbol"), f"symbol of {order_id}"),
                row.get("side"),
                market,
                left,
                exact(price),
                plain=row.get("type") == "limit" and price is not None and not waits,
            )
        )
    return tuple(found)


def candles(rows: object) -> tuple[Candle, ...]:
    """The candles in what ccxt's `fetch_ohlcv` gives, oldest first. Raises UnprovenAnswer."""
    given = [row_of(row, 6) for row in listing(rows, "the candles")]
    rows_read = [[exact(value) for value in row] for row in given]
    return newest([candle(row, range(6), 1_000) for row in rows_read], len(rows_read))


def positions(rows: object) -> tuple[Position, ...]:
    """The positions in what ccxt's `fetch_positions` gives. Raises UnprovenAnswer."""
    found: list[Position] = []
    for row in position_rows(rows):
        symbol = text(row.get("symbol"), "the symbol of a position")
        contracts: object = row.get("contracts")
        size = number(exact(contracts), f"contracts of {symbol}").copy_abs()
        side = row.get("side")
        if side not in ("long", "short") and size:
            raise UnprovenAnswer(f"the side of {symbol} is {short(side)}")
        found += position(symbol, _kind(symbol), str(side), size)
    return tuple(found)


def _kind(symbol: str) -> str:
    """What a symbol of ccxt is a symbol of: BTC/USDT:USDT-260327-100000-C is an option."""
    _, _, settled = symbol.partition(":")
    return ("swap", "future", "future", "option")[min(settled.count("-"), 3)] if settled else "margin"


class Unified:
    """Any other exchange, by ccxt's unified calls. Whether it has a dry run, ccxt does not say."""

    profile: ClassVar[Profile] = PROFILE
    ids_are_final = False
    has_dry_run = False
    needs_markets = True
    prepare_calls = 0
    says_its_status = False

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._ask = caller.call

    @property
    def find_calls(self) -> int:
        """One by our id, or one for each list."""
        traits = OrderTraits.of(self._caller.instance)
        return 1 if traits.asked_by("") is not None else max(1, len(traits.lists.names))

    async def prepare(self) -> str:
        return ""

    async def place(self, request: OrderRequest, deadline: OrderDeadline | None = None) -> str:
        del deadline  # ccxt has no common word for one
        traits = OrderTraits.of(self._caller.instance)
        symbol, side = request.product.symbol, str(request.side)
        ours: dict[str, object] = {}
        if traits.knows_ids:
            ours[traits.form.parameter] = traits.form.given(request.client_order_id)
        if request.quote_amount is not None and side == "buy" and traits.cost_as_parameter:
            ours["cost"] = request.size
            answer = await self._ask("create_order", symbol, "market", side, request.size, None, ours)
        elif request.quote_amount is not None:
            method = (
                "create_market_buy_order_with_cost" if side == "buy" else "create_market_sell_order_with_cost"
            )
            self._needs(request, method)
            answer = await self._ask(method, symbol, request.size, ours)
        else:
            answer = await self._ask("create_order", symbol, "market", side, request.size, None, ours)
        return placed(answer)

    def _needs(self, request: OrderRequest, method: str) -> None:
        camel = "createMarketBuyOrderWithCost" if "buy" in method else "createMarketSellOrderWithCost"
        instance, quote = self._caller.instance, request.product.quote
        if not instance.has.get(camel):
            raise InvalidOrder(
                "quote_amount",
                f"{instance.id} takes no amount in {quote} to {request.side}; expected base_amount",
            )

    async def validate(self, request: OrderRequest) -> None:
        raise AssertionError(f"there is no dry run of {request}")

    async def find(self, product: Product, client_order_id: str, since_us: int | None) -> FoundOrder | None:
        since_ms = None if since_us is None else (since_us - SKEW_US) // 1000
        traits = OrderTraits.of(self._caller.instance)
        if not traits.knows_ids:
            raise NotSupported(f"an order at {self._caller.instance.id} cannot be told by an id of ours")
        by_id = traits.asked_by(client_order_id)
        if by_id is not None:
            return await self._find_by(by_id, product, client_order_id, traits)
        lists: list[tuple[object, int]] = []
        for name in traits.lists.names:
            limit = self._page(name)
            asked = min(limit, ORDERS_PER_PAGE) if limit else None
            lists.append((await self._ask(name, product.symbol, since_ms, asked), asked or SHORTEST_PAGE))
        found = found_order(lists, client_order_id, product, traits.form)
        if found is None and not traits.lists.whole:
            raise NotSupported(f"{self._caller.instance.id} does not list its orders of every state")
        return found

    async def _find_by(
        self, by_id: tuple[str, dict[str, str]], product: Product, client_order_id: str, traits: OrderTraits
    ) -> FoundOrder | None:
        """The order that ccxt's `fetch_order` gives for our id; None where the exchange has none."""
        order_id, parameters = by_id
        try:
            row = await self._ask("fetch_order", order_id, product.symbol, parameters)
        except Exception as error:
            failure = self._caller.failure(error)
            unknown = failure.exact_code and failure.classes[:1] == ("OrderNotFound",)
            if unknown and trusted_answer(failure):
                return None
            raise
        # It was asked for by this id, so a row that does not repeat the id is ours too.
        order = mapping(row, "the order")
        said = {**order, "clientOrderId": order.get("clientOrderId") or client_order_id}
        found = found_order([([said], SHORTEST_PAGE)], client_order_id, product, traits.form)
        if found is None:
            raise UnprovenAnswer(f"another order than {client_order_id}")
        return found

    def _page(self, name: str) -> int | None:
        """How many orders a page of this list has at most; None: ccxt does not know."""
        features: object = self._caller.instance.features
        for key in ("spot", name, "limit"):
            features = (
                cast("Mapping[str, object]", features).get(key) if isinstance(features, Mapping) else None
            )
        return features if isinstance(features, int) and features > 0 else None

    async def look_at(self, product: Product, order_id: str) -> FoundOrder:
        if self._caller.instance.has.get("fetchOrder") is not True:
            raise NotSupported(f"{self._caller.instance.id} cannot be asked for one order")
        return order_at(await self._ask("fetch_order", order_id, product.symbol), order_id, product)

    async def positions(self, named: Named) -> tuple[Position, ...]:
        del named
        if not self._caller.instance.has.get("fetchPositions"):
            return ()
        return positions(await self._ask("fetch_positions"))

    async def candles(self, product: Product, timeframe: str, count: int, now_us: int) -> tuple[Candle, ...]:
        del now_us
        instance = self._caller.instance
        if timeframe not in (instance.timeframes or {}):
            known = ", ".join(instance.timeframes or ()) or "none"
            raise NotSupported(f"{instance.id} has no candles of {timeframe}; it has: {known}")
        return candles(await self._ask("fetch_ohlcv", product.symbol, timeframe, None, count))

    async def status(self, now_us: int) -> Status | None:
        del now_us
        return None

    async def balance(self, turn: BalanceTurn) -> FetchedBalance:
        caller, params = self._caller, turn.params
        structure = await self._proven_call(*([params] if params else ()))
        return stated(caller.instance, structure, caller.code, caller.used.last_body, turn.params)

    async def _proven_call(self, *arguments: object) -> object:
        """What `fetch_balance` gives, if the questions that ccxt asks before it were answered."""
        instance, options = self._caller.instance, self._caller.instance.options
        chosen = {name: options.get(name) for name in CHOSEN.get(instance.id, ())}
        heard: list[tuple[str, object]] = []
        instance.heard = heard
        try:
            structure = await self._ask("fetch_balance", *arguments)
            prove(instance.id, heard)
            after = self._caller.used.options  # where calls block, those of the copy that made it
            new = any(after.get(name) is not None for name, before in chosen.items() if before is None)
            if new and not was_answered(instance.id, heard):
                raise UnprovenAnswer("a question before the balance was not answered")
        except Exception:
            options.update(chosen)  # it is asked again
            raise
        finally:
            instance.heard = None
        return structure

    def proves_answered(self, answer: object) -> object:
        return holdings(answer)

    async def key_facts(self, ask: PrivateQuestion) -> KeyFacts:
        form = KEY_FORMS.get(self._caller.instance.id)
        if form is None or not form.states_rights:
            raise NotSupported(f"ccxt has no way to ask {self._caller.instance.id} what a key may do")
        return await self.stated_key(ask)

    async def stated_key(self, ask: PrivateQuestion) -> KeyFacts:
        instance = self._caller.instance
        form = KEY_FORMS.get(instance.id)
        if form is None or not hasattr(instance, form.method):
            raise NotSupported(f"it is not known how {instance.id} is asked what a key may do")
        return await ask(partial(form.read, api_key=str(instance.apiKey or "")), form.method)

    async def ledger(
        self, ask: PrivateQuestion, currencies: tuple[str, ...], since_us: int
    ) -> tuple[LedgerEntry, ...]:
        if self._caller.instance.has.get("fetchLedger") is not True:
            raise NotSupported(f"{self._caller.instance.id} has no ledger that ccxt can read")
        found: list[LedgerEntry] = []
        for code in currencies:
            found += await ask(unified_ledger, "fetch_ledger", code, since_us // 1_000)
        return tuple(found)

    @property
    def lists_open_orders(self) -> bool:
        return self._caller.instance.has.get("fetchOpenOrders") is True

    async def open_orders(self, ask: PrivateQuestion, market: Market) -> tuple[OpenOrder, ...]:
        return await ask(lambda rows: open_orders(rows, market), "fetch_open_orders")

    async def market_ids(self) -> frozenset[str]:
        raise NotSupported(f"{self._caller.instance.id} has no second list")

    async def market_count(self) -> int:
        raise NotSupported(f"{self._caller.instance.id} does not count its markets")
