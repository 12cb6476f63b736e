"""The orders of all accounts of a simulated exchange: placing, filling and cancelling them.

A call over HTTP, a scene of a script and a test's own arrangement meet here, so all of it happens under the
exchange's lock. Everything public may be called from any thread.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from decimal import Decimal
from typing import ClassVar

from brokerwatch.simulator import order_book
from brokerwatch.simulator.account import Account, BalanceSpec
from brokerwatch.simulator.ledger import Ledger
from brokerwatch.simulator.markets import Market, market_of
from brokerwatch.simulator.order_book import Fees
from brokerwatch.simulator.placed_order import EXPIRED, USER, PlacedOrder
from brokerwatch.simulator.trading import Flaw, Limits, Unplaceable, Wish, positive_amount


class OrderDesk(Ledger, ABC):
    """The part of a simulated exchange that takes orders.

    `fills_at_once`, `executes_dry_runs` and `charges_fees` are as `SimulatedExchange` has them.
    """

    fees: ClassVar[Fees]
    """What the exchange takes of each fill when it charges fees."""
    refuses_takers: ClassVar[bool] = True
    """A post-only order that would fill at once is refused, and not taken and cancelled."""

    def __init__(self) -> None:
        super().__init__()
        self.fills_at_once = True
        self.executes_dry_runs = False
        self.charges_fees = False
        self._depths: dict[str, Decimal] = {}
        self._rooms: dict[str, Decimal] = {}

    # --- what a test arranges -----------------------------------------------------------------------

    def set_price(self, symbol: str, price: str) -> None:
        """What a market costs from now on; limit orders that the price reaches fill at their limits.

        ValueError for an unknown market or no positive decimal.
        """
        with self._lock:
            super().set_price(symbol, price)
            if symbol in self._depths:
                self._rooms[symbol] = self._depths[symbol]
            self._match(symbol)

    def set_balance(self, balance: BalanceSpec, *, account: str | None = None) -> None:
        """As `Ledger` has it; open orders hold no more of it than it says is held."""
        with self._lock:
            super().set_balance(balance, account=account)
            order_book.held_within(self._account(account))

    def set_depth(self, symbol: str, base_amount: str | None) -> None:
        """Limit orders fill so much at each price, and the rest of them waits; None: no limit.

        `set_price` begins anew, also with the same price. Market orders fill whole in any case. ValueError
        for an unknown market, or for no decimal of 0 or more.
        """
        market = market_of(symbol)
        amount = None
        if base_amount is not None:
            amount = Decimal() if base_amount == "0" else positive_amount(base_amount)
            if amount is None:
                raise ValueError(f"{symbol}: {base_amount!r} is not a decimal string of 0 or more")
        with self._lock:
            if amount is None:
                self._depths.pop(market.symbol, None)
                self._rooms.pop(market.symbol, None)
            else:
                self._depths[market.symbol] = self._rooms[market.symbol] = amount
            self._match(market.symbol)

    def rest(
        self,
        symbol: str,
        side: str,
        base_amount: str,
        price: str,
        *,
        account: str | None = None,
        client_id: str = "",
    ) -> str:
        """Place a limit order as if by hand: it stays open, and its cost is held. Returns its id.

        It is cancelled and filled like any other. ValueError for an unknown market or side, and for an
        order that the exchange would not take.
        """
        market, size, limit = market_of(symbol), positive_amount(base_amount), positive_amount(price)
        if side not in ("buy", "sell") or size is None or limit is None:
            raise ValueError(f"{side!r} {base_amount!r} at {price!r}: not `buy` or `sell`, or no decimals")
        wish = Wish(market, side, size, in_quote=False, client_id=client_id, limit=limit)
        with self._lock:
            owner = self._account(account)
            try:
                return self._placed(owner, wish, at_once=False, by_hand=True).id
            except Unplaceable as refused:
                raise ValueError(f"{symbol}: the order cannot rest: {refused.flaw.name}") from refused

    def orders_of(self, account: str | None = None) -> list[PlacedOrder]:
        """What was ordered with an API key or by `rest`, oldest first; None is the first account's."""
        with self._lock:
            self.expire_orders()
            return list(self._account(account).orders.values())

    @property
    def placed_orders(self) -> int:
        """How many orders came over HTTP and were placed, in all accounts; not those of `rest`."""
        with self._lock:
            orders = [order for account in self._owners() for order in account.orders.values()]
            return sum(not order.by_hand for order in orders)

    def fill_open_orders(self) -> None:
        """Fill what is open, in all accounts, each at its limit or at the price when it was placed."""
        with self._lock:
            for account, order in self._open(lambda _order: True):
                self._fill(account, order, order.left_base, order.price)

    def fill_order(self, order_id: str, base_amount: str | None = None) -> PlacedOrder:
        """Fill an open order of any account at its limit, or only so much of it.

        Returns:
            The order afterwards.

        Raises:
            ValueError: No order with this id is open, or not so much of it is left.
        """
        with self._lock:
            for account, order in self._open(lambda order: order.id == order_id):
                amount = order.left_base if base_amount is None else positive_amount(base_amount)
                if amount is None or amount > order.left_base:
                    raise ValueError(f"{order_id}: {base_amount!r} is no part of {order.left_base:f}")
                return self._fill(account, order, amount, order.price)
        raise ValueError(f"no order {order_id!r} is open at the simulated {self.ccxt_id}")

    # --- what a handler of a subclass uses ----------------------------------------------------------

    def place(self, account: Account, wish: Wish) -> PlacedOrder:
        """Place an order at the price of now; trading.Unplaceable if it cannot be."""
        if self.is_closed(wish.market):
            raise Unplaceable(Flaw.CLOSED, wish)
        return self._placed(account, wish, at_once=self.fills_at_once)

    def place_dry(self, account: Account, wish: Wish) -> PlacedOrder:
        """What a dry run would place; trading.Unplaceable if it could not be."""
        return self.place(account if self.executes_dry_runs else account.rehearsal(), wish)

    def cancel(self, account: Account, order: PlacedOrder) -> PlacedOrder:
        """Cancel an open order as its user asks."""
        return order_book.cancel(account, order, now_s=self.now_s(), ended_by=USER)

    def amend(
        self, account: Account, order: PlacedOrder, size: Decimal | None, limit: Decimal | None
    ) -> PlacedOrder:
        """Give an open limit order another size, limit or both; trading.Unplaceable if it cannot be so."""
        market = market_of(order.symbol)
        wish = Wish(
            market,
            order.side,
            order.size if size is None else size,
            in_quote=False,
            client_id=order.client_id,
            limit=order.price if limit is None else limit,
            time_in_force=order.time_in_force,
            post_only=order.post_only,
        )
        if self.is_closed(market):
            raise Unplaceable(Flaw.CLOSED, wish)
        filled = order.filled_base
        met = self._met(market, at_once=self.fills_at_once)
        changed = order_book.amend(account, order, wish, met, now_s=self.now_s())
        self._settle_room(account, changed, changed.filled_base - filled)
        return changed

    def expire_orders(self) -> None:
        """End the orders whose time is over."""
        now_s = self.now_s()
        for account, order in self._open(lambda order: order.expires_s is not None):
            if order.expires_s is not None and order.expires_s <= now_s:
                order_book.cancel(account, order, now_s=now_s, ended_by=EXPIRED)

    def _placed(self, account: Account, wish: Wish, *, at_once: bool, by_hand: bool = False) -> PlacedOrder:
        met = self._met(wish.market, at_once=at_once)
        order = order_book.place(
            account, wish, met, order_id=self.new_order_id(), now_s=self.now_s(), by_hand=by_hand
        )
        self._settle_room(account, order, order.filled_base)
        return order

    def _met(self, market: Market, *, at_once: bool) -> order_book.Market:
        return order_book.Market(
            self._prices[market.symbol],
            self.limits(market),
            self._fees_now,
            self._rooms.get(market.symbol),
            at_once=at_once,
            refuses_takers=self.refuses_takers,
        )

    def _settle_room(self, account: Account, order: PlacedOrder, base: Decimal) -> None:
        # What is tried on a copy of an account takes nothing from the others.
        if account is self._accounts.get(account.api_key) and order.kind == "limit":
            self._take_room(order, base)

    @property
    def _fees_now(self) -> Fees:
        return self.fees if self.charges_fees else Fees()

    def _open(self, wanted: Callable[[PlacedOrder], bool]) -> list[tuple[Account, PlacedOrder]]:
        return [
            (account, order)
            for account in self._owners()
            for order in account.orders.values()
            if order.state == "open" and wanted(order)
        ]

    def _match(self, symbol: str) -> None:
        """Fill the limit orders of a market that its price reaches, as far as there is room."""
        price = self._prices[symbol]
        self.expire_orders()
        if not self.fills_at_once:
            return
        met = self._open(
            lambda order: (
                order.symbol == symbol and order.kind == "limit" and order_book.reached(order, price)
            )
        )
        for account, order in order_book.by_priority(met):
            room = self._rooms.get(symbol)
            amount = order.left_base if room is None else min(room, order.left_base)
            if amount:
                self._fill(account, order, amount, order.price)
                self._take_room(order, amount)

    def _fill(self, account: Account, order: PlacedOrder, base: Decimal, price: Decimal) -> PlacedOrder:
        return order_book.fill(account, order, base, price, self._fees_now, now_s=self.now_s())

    def _take_room(self, order: PlacedOrder, base: Decimal) -> None:
        if order.symbol in self._rooms:
            self._rooms[order.symbol] -= base

    # --- what differs -------------------------------------------------------------------------------

    def limits(self, market: Market) -> Limits:  # noqa: ARG002 - they may differ by market
        """What it asks of an amount in the quote currency."""
        return Limits()

    @abstractmethod
    def new_order_id(self) -> str:
        """An order's id of the form this exchange gives."""
