"""What becomes of an order: it fills, rests, or is cancelled, and the account changes with it.

There is one price for each market. A buy whose limit is at the price or above it fills at once, at the price
and as a taker; so does a sell whose limit is at the price or below it. Any other limit order rests and holds
what it will cost. It fills at its own limit, as a maker, once the price reaches that. A market order always
fills whole. What can fill at one price may be limited (`room`), and then limit orders fill in part.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import ROUND_FLOOR, ROUND_HALF_UP, Decimal, localcontext

from brokerwatch.simulator.account import Account
from brokerwatch.simulator.amounts import EXACT
from brokerwatch.simulator.placed_order import FOK, IOC, UNFILLED, WOULD_TAKE, Fill, PlacedOrder
from brokerwatch.simulator.trading import Flaw, Limits, Unplaceable, Wish


@dataclass(frozen=True, slots=True)
class Fees:
    """What an exchange takes of each fill, as a part of it: 0.004 is 0.4 %."""

    maker: Decimal = Decimal()
    taker: Decimal = Decimal()
    of_received: bool = False
    """It is taken from what the account gets. Otherwise it is paid in the quote currency, also by a buyer."""
    in_size: bool = False
    """The size of a market order in the quote currency includes the fee."""
    step: Decimal | None = None
    """The smallest fee; None: it is not rounded."""

    def rate(self, *, maker: bool) -> Decimal:
        """The part of a fill that is taken."""
        return self.maker if maker else self.taker

    def of(self, order: PlacedOrder, base: Decimal, price: Decimal, *, maker: bool) -> Decimal:
        """The fee of a fill, in the currency that `currency` says."""
        amount = base if self.currency(order) == order.base else base * price
        fee = amount * self.rate(maker=maker)
        return fee if self.step is None else fee.quantize(self.step, ROUND_HALF_UP)

    def currency(self, order: PlacedOrder) -> str:
        """In which currency an order's fees are."""
        return order.base if self.of_received and order.side == "buy" else order.quote


@dataclass(frozen=True, slots=True)
class Market:
    """What an order meets: the price, what the exchange asks of it, and how much can fill."""

    price: Decimal
    limits: Limits
    fees: Fees
    room: Decimal | None = None
    """How much a limit order can fill at the price, in the base currency; None: all of it."""
    at_once: bool = True
    """Orders fill when they come. Otherwise each one stays open until a test fills it."""
    refuses_takers: bool = True
    """A post-only order that would fill at once is refused. Otherwise it is taken, and cancelled."""


def place(
    account: Account, wish: Wish, market: Market, *, order_id: str, now_s: float, by_hand: bool = False
) -> PlacedOrder:
    """Place an order and change the account by it; Unplaceable, with nothing changed, if it cannot be."""
    with localcontext(EXACT):
        price = market.price if wish.limit is None else wish.limit
        base = _base_of(wish, market, price)
        order = PlacedOrder(
            id=order_id,
            client_id=wish.client_id,
            symbol=wish.market.symbol,
            side=wish.side,
            base_amount=base,
            quote_amount=base * price,
            price=price,
            size=wish.size,
            in_quote=wish.in_quote,
            placed_s=now_s,
            state="open",
            reference=wish.reference,
            kind=wish.kind,
            by_hand=by_hand,
            time_in_force=wish.time_in_force,
            post_only=wish.post_only,
            expires_s=wish.expires_s,
            updated_s=now_s,
        )
        taken = _taken_at_once(order, market)
        if taken and wish.post_only:
            if market.refuses_takers:
                raise Unplaceable(Flaw.WOULD_TAKE, wish)
            return _kept(account, replace(order, state="canceled", ended_by=WOULD_TAKE))
        rests = _may_rest(order, market)
        if order.time_in_force == FOK and market.at_once and taken < base:
            taken = Decimal()
        held = _hold(order, base - taken, market.fees) if rests else Decimal()
        needed = held + _paid(order, taken, market.price, market.fees, maker=False)
        if wish.in_quote and wish.side == "buy":
            # An order by cost needs all of it, even where the lot size leaves a rest that is not spent.
            needed = max(needed, wish.size)
        if needed > account.free(order.paid_in):
            raise Unplaceable(Flaw.FUNDS, wish)
        account.move(order.paid_in, free=-held, held=held)
        order = _kept(account, replace(order, held=held))
        if taken:
            order = fill(account, order, taken, market.price, market.fees, now_s=now_s, waited=False)
        if order.state == "open" and not rests:
            order = cancel(account, order, now_s=now_s, ended_by=UNFILLED)
        return order


def fill(
    account: Account,
    order: PlacedOrder,
    base: Decimal,
    price: Decimal,
    fees: Fees,
    *,
    now_s: float,
    waited: bool = True,
) -> PlacedOrder:
    """Fill so much of an open order at a price; what it held for that part pays for it.

    What fills when the order comes (`waited` is False) was never held. An order that the account cannot pay
    for any more, because its balance was set anew, is cancelled.
    """
    with localcontext(EXACT):
        left, maker = order.left_base - base, waited and order.kind == "limit"
        held = min(order.held, _hold(order, left, fees)) if waited else order.held
        released = order.held - held
        fee, fee_currency = fees.of(order, base, price, maker=maker), fees.currency(order)
        paid = _paid(order, base, price, fees, maker=maker)
        if paid - released > account.free(order.paid_in):
            return cancel(account, order, now_s=now_s, ended_by=UNFILLED)
        account.move(order.paid_in, free=released - paid, held=-released)
        if order.side == "buy":
            account.move(order.base, free=base - (fee if fee_currency == order.base else 0))
        else:
            account.move(order.quote, free=base * price - fee)
        done = Fill(base, price, fee, fee_currency, maker, now_s)
        return _kept(
            account,
            replace(
                order,
                fills=(*order.fills, done),
                held=held,
                state="open" if left else "filled",
                updated_s=now_s,
            ),
        )


def amend(account: Account, order: PlacedOrder, wish: Wish, market: Market, *, now_s: float) -> PlacedOrder:
    """Give an open limit order the size and the limit of `wish`; Unplaceable, with nothing changed, if not.

    The size is that of the whole order, with what is filled already.
    """
    with localcontext(EXACT):
        price = order.price if wish.limit is None else wish.limit
        base = _base_of(wish, market, price)
        if base <= order.filled_base:
            raise Unplaceable(Flaw.BASE_MINIMUM, wish)
        changed = replace(
            order, base_amount=base, quote_amount=base * price, price=price, size=base, updated_s=now_s
        )
        taken = min(_taken_at_once(changed, market), changed.left_base)
        if taken and order.post_only:
            raise Unplaceable(Flaw.WOULD_TAKE, wish)
        held = _hold(changed, changed.left_base - taken, market.fees)
        needed = held + _paid(changed, taken, market.price, market.fees, maker=False)
        if needed - order.held > account.free(order.paid_in):
            raise Unplaceable(Flaw.FUNDS, wish)
        account.move(order.paid_in, free=order.held - held, held=held - order.held)
        changed = _kept(account, replace(changed, held=held))
        if not taken:
            return changed
        return fill(account, changed, taken, market.price, market.fees, now_s=now_s, waited=False)


def cancel(account: Account, order: PlacedOrder, *, now_s: float, ended_by: str) -> PlacedOrder:
    """Cancel an open order: what it held is free again."""
    account.move(order.paid_in, free=order.held, held=-order.held)
    return _kept(
        account, replace(order, state="canceled", held=Decimal(), updated_s=now_s, ended_by=ended_by)
    )


def reached(order: PlacedOrder, price: Decimal) -> bool:
    """Whether a limit order fills at this price."""
    return order.price >= price if order.side == "buy" else order.price <= price


def by_priority(orders: Iterable[tuple[Account, PlacedOrder]]) -> list[tuple[Account, PlacedOrder]]:
    """In which order they fill: the better limit first, and of the same limit the earlier one."""
    return sorted(orders, key=lambda each: -each[1].price if each[1].side == "buy" else each[1].price)


def _taken_at_once(order: PlacedOrder, market: Market) -> Decimal:
    if not market.at_once:
        return Decimal()
    if order.kind == "market":
        return order.base_amount
    if not reached(order, market.price):
        return Decimal()
    return order.base_amount if market.room is None else min(order.base_amount, market.room)


def _may_rest(order: PlacedOrder, market: Market) -> bool:
    return not market.at_once or (order.kind == "limit" and order.time_in_force not in (IOC, FOK))


def _hold(order: PlacedOrder, base: Decimal, fees: Fees) -> Decimal:
    """What an order holds for a part that waits: a buyer's fee with it where it is paid on top."""
    return _paid(order, base, order.price, fees, maker=order.kind == "limit")


def _paid(order: PlacedOrder, base: Decimal, price: Decimal, fees: Fees, *, maker: bool) -> Decimal:
    if order.side == "sell":
        return base
    on_top = fees.of(order, base, price, maker=maker) if fees.currency(order) == order.quote else Decimal()
    return base * price + on_top


def _kept(account: Account, order: PlacedOrder) -> PlacedOrder:
    account.orders[order.id] = order
    return order


def _base_of(wish: Wish, market: Market, price: Decimal) -> Decimal:
    """How much of the base currency is asked for; Unplaceable for an amount or a limit that is not taken."""
    limits, lot = market.limits, Decimal(wish.market.amount_step)
    if wish.limit is not None and wish.limit % Decimal(wish.market.price_step):
        raise Unplaceable(Flaw.PRICE_PRECISION, wish)
    step = limits.quote_step if wish.in_quote else lot
    if step is not None and wish.size % step:
        raise Unplaceable(Flaw.PRECISION, wish)
    base, cost = wish.size, wish.size * price
    if wish.in_quote:
        spent = wish.size / (1 + market.fees.taker) if market.fees.in_size else wish.size
        base, cost = (spent / price).quantize(lot, ROUND_FLOOR), wish.size
    if limits.quote_minimum is not None and cost < limits.quote_minimum:
        raise Unplaceable(Flaw.QUOTE_MINIMUM, wish)
    if base < Decimal(wish.market.minimum):
        raise Unplaceable(Flaw.BASE_MINIMUM, wish)
    return base


def held_within(account: Account) -> None:
    """Let no open order hold more than the account's balance says is held."""
    left = {currency: Decimal(held) for currency, (_, held) in account.balance.items()}
    for order in [order for order in account.orders.values() if order.state == "open"]:
        held = min(order.held, left.get(order.paid_in, Decimal()))
        left[order.paid_in] = left.get(order.paid_in, Decimal()) - held
        _kept(account, replace(order, held=held))
