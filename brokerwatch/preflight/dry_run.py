"""Orders that are rehearsed: checked by the exchange itself, and placed nowhere.

Only where an exchange has a dry run; where it has none, a trial would be a real order, so nothing is
sent. And an exchange's word for it is not enough: afterwards the order is looked for, and the balance read.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import ROUND_UP, Decimal
from typing import Final

from brokerwatch.errors import BalanceUnknown, CouldNotAsk, NotAllowed, NotSupported, OrderError, OrderRefused
from brokerwatch.exchanges.open_orders import OpenOrder
from brokerwatch.exchanges.positions import held_positions
from brokerwatch.exchanges.registry import adapter_for
from brokerwatch.gateway.catalogue import order_traits
from brokerwatch.messages import FaultKind, Holding, Order, OrderState, Product, Side
from brokerwatch.money import plain
from brokerwatch.orders.ticket import new_order_id
from brokerwatch.preflight.account_probe import AccountProbe, NotDone
from brokerwatch.verification.checklist import Judgement, failed, passed, warned
from brokerwatch.verification.dry_run_findings import Snapshot, traces

SOME_MORE: Final = Decimal("1.2")
"""The rehearsed order is larger than the smallest one by so much: prices move while we ask."""


class DryRun:
    """Sends orders as dry runs, on one thread. `trading`: whether the account is configured to trade."""

    def __init__(self, probe: AccountProbe, *, trading: bool) -> None:
        self._probe = probe
        self._trading = trading
        self.accepted: bool | None = None
        """Whether the exchange took an order in a dry run; None: none was sent, or it is not known."""
        self._executed = ""
        """What a dry run has really done; empty: nothing, for all that was seen."""
        self._sent: list[_Sent] = []
        self.look_up_denied = ""
        """Why the exchange does not let the key look orders up; empty: it does, for all that was seen."""

    def _rehearsable(self) -> None:
        """Raise NotDone unless an order may be rehearsed: nothing may ever be executed here."""
        if not adapter_for(self._probe.access.connection).has_dry_run:
            traits = order_traits(self._probe.spec)
            lacking = () if traits is None else (each.text for each in traits.shortcomings())
            no_trial = "has no dry run: any order would be a real one, so none is sent"
            raise NotDone("; ".join((f"{self._probe.spec.exchange} {no_trial}", *lacking)))
        if self._executed:
            raise NotDone("not done, since the dry run before it placed a real order")
        self._probe.need("connection.authentication", "balance.simple")
        self._probe.known_products()

    def market_order(self) -> Judgement:
        """Buy a little more than the smallest amount of BTC there is."""
        self._rehearsable()
        before = self._looked()
        if not self._probe.broker.is_available():
            raise NotDone(f"the account is not available: {self._probe.broker.reading().reason}")
        product, base, cost = self._affordable(before.holdings)
        order_id = new_order_id()
        # By the amount of coins where an exchange has its own way of saying the cost; some buy by cost.
        by_cost = base is None or adapter_for(self._probe.access.connection).profile.buys_by_cost
        what = f"{plain(cost)} {product.quote}" if by_cost else f"{plain(base or cost)} {product.base}"
        return self._rehearsed(
            lambda: self._probe.broker.place_market_order(
                product.symbol,
                Side.BUY,
                base_amount=None if by_cost else base,
                quote_amount=cost if by_cost else None,
                validate_only=True,
                client_order_id=order_id,
            ),
            _Sent(
                product,
                Side.BUY,
                order_id,
                f"buy {product.base} for {what} at market" if by_cost else f"buy {what} at market",
                before,
            ),
        )

    def _affordable(self, holdings: Mapping[str, Holding]) -> tuple[Product, Decimal | None, Decimal]:
        """A market, and an amount a little above its smallest order that the account can pay: in coins, where
        it is known what they cost, and in money."""
        try:
            price = None if self._probe.price is None else self._probe.price[1]
        except (CouldNotAsk, NotDone):
            price = None
        wanted: list[str] = []
        for quote in dict.fromkeys(("USD", *self._probe.spec.cash_currencies)):
            product = self._probe.products.pair("BTC", quote)
            if product is None or not product.active or quote not in self._probe.spec.cash_currencies:
                continue
            if product.base_minimum is not None and price is None:
                continue
            least = max(product.quote_minimum or Decimal(1), (product.base_minimum or 0) * (price or 0))
            cost = _above(least * SOME_MORE, product.quote_step or Decimal("0.01"))
            held = holdings.get(quote)
            if held is not None and held.free is not None and held.free >= cost:
                base = None
                if price is not None and product.base_step is not None:
                    base = _above(least * SOME_MORE / price, product.base_step)
                return product, base, cost
            wanted.append(f"{plain(cost)} {quote}")
        if not wanted:
            raise NotDone("not done: no market of BTC that is open, or none with a price")
        raise NotDone(f"not done: the smallest order takes {' or '.join(wanted)}, and that is not free")

    def close(self) -> Judgement:
        """Sell all of a coin that is held."""
        self._rehearsable()
        before = self._looked()
        product, free = self._sellable(before.holdings)
        order_id = new_order_id()
        return self._rehearsed(
            lambda: self._probe.broker.close_position(
                product.symbol, validate_only=True, client_order_id=order_id
            ),
            _Sent(product, Side.SELL, order_id, f"sell all {plain(free)} {product.base} at market", before),
        )

    def _sellable(self, holdings: Mapping[str, Holding]) -> tuple[Product, Decimal]:
        """A coin that is held, by its market, and how much of it is free."""
        listed = self._probe.products
        for position in held_positions(holdings, listed, self._probe.spec.cash_currencies):
            product = listed.by_symbol.get(position.symbol)
            if product is None or not product.active:
                continue
            free = position.free or Decimal(0)  # what is unknown is not sold
            if free > 0 and free >= (product.base_minimum or Decimal(0)):
                return product, free
        raise NotDone("not done: the account holds no coin of which enough is free to be sold")

    def _rehearsed(self, order: Callable[[], Order], sent: _Sent) -> Judgement:
        """What became of an order that was only to be checked; and proof that nothing else became of it."""
        refused, denied = "", False
        try:
            state = self._probe.patiently(order).state
            refused = "" if state is OrderState.VALIDATED else f"the order is {state}"
        except OrderRefused as error:
            refused, denied = str(error), error.kind == FaultKind.PERMISSION
        except (OrderError, CouldNotAsk) as error:
            refused = str(error)
        self._sent.append(sent)
        self._executed, doubt = self._what_happened(sent)
        if self._executed:
            return failed(f"EXECUTED, though only a dry run was asked for: {sent.what}: {self._executed}")
        if denied:
            self.accepted = False
            if not self._trading:
                raise NotDone(f"the key may not trade, and trading is off: {refused}")
        if refused:
            return failed(f"{sent.what}: {refused}")
        self.accepted = True
        if doubt:
            return warned(f"accepted in a dry run: {sent.what}; whether nothing was placed: {doubt}")
        return passed(f"accepted in a dry run: {sent.what}; nothing was placed")

    def _looked(self) -> Snapshot:
        """How the account is. Raises BalanceUnknown, CouldNotAsk."""
        try:
            orders: tuple[OpenOrder, ...] | None = self._probe.read_orders()
        except (CouldNotAsk, NotSupported):
            orders = None
        return Snapshot(self._probe.read_detailed().holdings, orders)

    def _what_happened(self, sent: _Sent) -> tuple[str, str]:
        """What a dry run has really done, or nothing; and why that is not known, where it is not."""
        doubts: list[str] = []
        try:
            found = self._probe.broker.find_order(sent.product.symbol, sent.order_id)
            if found is not None:
                return f"order {found.order_id}", ""
        except NotAllowed as error:
            self.look_up_denied = str(error)
            doubts.append(f"the key may not look orders up: {error}")
        except (OrderError, CouldNotAsk, NotSupported):
            pass  # the account itself shows what has happened
        try:
            left = traces(sent.before, self._looked(), sent.product, sent.side)
        except (BalanceUnknown, CouldNotAsk) as error:
            return "", "; ".join((*doubts, f"the account could not be read: {error}"))
        if left.moved:
            doubts.append(f"meanwhile the account moved by {left.moved}")
        return left.placed, "; ".join(doubts)

    @property
    def has_sent(self) -> bool:
        """Whether any dry run was sent that seemed to place nothing."""
        return bool(self._sent) and not self._executed

    def last_look(self) -> str:
        """What has come of the dry runs since; empty: nothing."""
        try:
            now = self._looked()
        except (BalanceUnknown, CouldNotAsk):
            return ""
        for sent in self._sent:
            left = traces(self._sent[0].before, now, sent.product, sent.side)
            if left.placed:
                return f"EXECUTED, though only dry runs were asked for: {sent.what}: {left.placed}"
        return ""


@dataclass(frozen=True, slots=True)
class _Sent:
    """An order that went out as a dry run."""

    product: Product
    side: Side
    order_id: str
    what: str
    """In words."""
    before: Snapshot


def _above(amount: Decimal, step: Decimal) -> Decimal:
    """The amount, rounded up to a multiple of the step."""
    return (amount / step).to_integral_value(ROUND_UP) * step
