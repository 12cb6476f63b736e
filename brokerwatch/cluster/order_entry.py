"""Place and close: whether this order may go out now.

Before anything goes out the exchange must have the symbol and must take the amounts. An entry needs more: an
account that can be trusted, a balance that is fresh, and a verification where one is asked for. An exit needs
none of that. The order itself is sent by `orders/executor.py`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import TYPE_CHECKING, Final

from brokerwatch.actors.board import Slot
from brokerwatch.cluster.queries import Queries
from brokerwatch.cluster.repeated_order import RepeatedOrder
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import (
    BalanceUnknown,
    CouldNotAsk,
    EarlierOrderUnknown,
    EntryRefused,
    InvalidOrder,
    OrderNotSent,
    TradingDisabled,
    VerificationRequired,
)
from brokerwatch.exchanges import order_request
from brokerwatch.exchanges.order_request import OrderRequest
from brokerwatch.exchanges.unlisted_market import unlisted
from brokerwatch.log import logger
from brokerwatch.messages import Order, Product, Side
from brokerwatch.orders.not_sent import refuse_outside_term
from brokerwatch.orders.ticket import Ticket

if TYPE_CHECKING:
    from brokerwatch.gateway.gateway import Access
    from brokerwatch.orders.executor import OrderExecutor
    from brokerwatch.orders.gate import Gate

_log: Final = logger(__name__)

ENTRY_ATTEMPTS: Final = 3
"""How often an entry waits for a balance that another order has just overtaken."""


class OrderEntry:
    """Decides whether an order of one account may go out now, and hands it to the executor.

    `place` and `close` run on the account's loop; the rest may be called from any thread.
    """

    def __init__(
        self,
        spec: BrokerSpec,
        slot: Slot,
        access: Access,
        executor: OrderExecutor,
        queries: Queries,
        remembers: Callable[[], bool] = lambda: True,
        gate: Gate | None = None,
    ) -> None:
        self._spec = spec
        self._slot = slot
        self._access = access
        self._executor = executor
        self._queries = queries
        self._remembers = remembers
        """Whether it is known what was ordered before this start."""
        self._gate = gate
        """Where entries need a verification; None: they need none."""

    @property
    def unverified(self) -> str:
        """Why entries need a verification first, in words; empty when they need none, or there is one."""
        if self._gate is None:
            return ""
        return self._gate.trouble(self._access.report_key, self._spec.name, elsewhere=self._access.elsewhere)

    def look_up_verification(self) -> None:
        """Have the files looked at for a newer report, if that is due. Never waits."""
        if self._gate is not None:
            self._gate.look_soon(self._access.report_key)

    async def place(
        self,
        symbol: str,
        side: Side | str,
        base_amount: Decimal | None,
        quote_amount: Decimal | None,
        client_order_id: str,
        ticket: Ticket,
        *,
        validate_only: bool,
        repeated: bool,
    ) -> Order:
        """Place a market order, or have it checked."""
        asked = (symbol, side, base_amount, quote_amount, client_order_id, ticket)

        def work() -> Awaitable[Order]:
            return self._place(*asked, validate_only=validate_only, repeated=repeated)

        if validate_only or not repeated:
            return await work()
        return await self._unless_known(work, RepeatedOrder(*asked))

    async def _unless_known(self, work: Callable[[], Awaitable[Order]], order: RepeatedOrder) -> Order:
        """What `work` gives; an order that may have been sent before is looked up before it is refused."""
        return await order.unless_known(
            work, self._executor, lambda: self._access.venue.known, remembers=self._remembers
        )

    async def _place(
        self,
        symbol: str,
        side: Side | str,
        base_amount: Decimal | None,
        quote_amount: Decimal | None,
        client_order_id: str,
        ticket: Ticket,
        *,
        validate_only: bool,
        repeated: bool,
    ) -> Order:
        product = await self._tradable(symbol)
        request = order_request.requested(
            product,
            side,
            base_amount,
            quote_amount,
            client_order_id,
            rules=self._executor.profile.order_rules,
        )
        price = await self._price_if_needed(request)

        def check() -> None:
            order_request.refuse_below_minimum(request, price)
            self._admit_entry(request)

        if not repeated:  # what was placed under an id before is looked up first, whatever it costs now
            order_request.refuse_below_minimum(request, price)
        if self._gate is not None and (
            unknown := await self._gate.looked(self._access.report_key, self._spec.name)
        ):
            raise VerificationRequired(unknown)
        for attempt in range(1, ENTRY_ATTEMPTS + 1):
            if self._overtaken() or self._is_vouched_for():
                await self._queries.read_again()
            self._admit_entry(request)
            try:
                return await self._executor.order(
                    request, ticket, validate_only=validate_only, repeated=repeated, check=check
                )
            except EntryRefused:
                # Another order may have gone out while this one waited: its balance is read again.
                if attempt == ENTRY_ATTEMPTS or not self._overtaken():
                    raise
        raise AssertionError("unreachable: the last attempt returns or raises")

    async def close(
        self,
        symbol: str,
        base_amount: Decimal | None,
        client_order_id: str,
        ticket: Ticket,
        *,
        validate_only: bool,
        repeated: bool,
    ) -> Order:
        """Sell what is held of a coin, or a part of it. Never refused for the state of the account."""

        def work() -> Awaitable[Order]:
            return self._close(
                symbol, base_amount, client_order_id, ticket, validate_only=validate_only, repeated=repeated
            )

        if validate_only or not repeated:
            return await work()
        order = RepeatedOrder(symbol, Side.SELL, base_amount, None, client_order_id, ticket)
        return await self._unless_known(work, order)

    async def _close(
        self,
        symbol: str,
        base_amount: Decimal | None,
        client_order_id: str,
        ticket: Ticket,
        *,
        validate_only: bool,
        repeated: bool,
    ) -> Order:
        product = await self._tradable(symbol, leaving=True)
        if base_amount is None:
            if repeated and not validate_only:
                # What is held now is what that order left.
                before = await self._executor.sold_before(product, client_order_id)
                if before is not None:
                    return before
            sent = self._executor.recorded(client_order_id) if repeated else None
            if sent is None:
                # What an order with an unknown outcome has bought is to be sold too.
                await self._executor.look_round()
                base_amount = await self._free(product)
            else:
                base_amount = sent.base_amount  # the same order again, whatever is held by now
        request = order_request.requested(
            product,
            Side.SELL,
            base_amount,
            None,
            client_order_id,
            rules=self._executor.profile.order_rules,
            leaving=True,
        )
        return await self._executor.order(
            request,
            ticket,
            validate_only=validate_only,
            repeated=repeated,
            check=lambda: None,
            leaving=True,
        )

    async def _tradable(self, symbol: str, *, leaving: bool = False) -> Product:
        if not self._spec.trading:
            raise TradingDisabled(
                f"{self._spec.name}: orders are off; nothing was sent. To place any, set trading = true "
                f"under [brokers.{self._spec.name}], or trading=True in its BrokerSpec"
            )
        for shortcoming in self._executor.shortcomings:
            if shortcoming.forbids:
                raise OrderNotSent(f"{self._spec.name}: {shortcoming.text}; nothing was sent")
        refuse_outside_term(self._spec.name, self._access.lane)
        try:
            products = await self._queries.products()
        except CouldNotAsk as error:
            named = unlisted(self._executor.profile.market_id, symbol) if leaving else None
            if named is not None:
                _log.warning("%s: its markets are not known, so an exit goes without", self._spec.name)
                return named
            raise OrderNotSent(f"{self._spec.name}: its markets are not known: {error}") from error
        return products.product(symbol)

    async def _price_if_needed(self, request: OrderRequest) -> Decimal | None:
        """A price that says whether an amount is too small; None where none is needed or can be had soon.

        It is needed where the smallest order is stated in the other currency than the amount. Without it the
        exchange itself refuses what is too small. An exit is not held up by this.
        """
        venue, product = self._access.venue, request.product
        if order_request.smallest_by_price(request, Decimal(1)) is None:
            return None
        earlier = venue.earlier_price(product)
        if earlier is not None and order_request.is_plenty(request, earlier):
            return earlier
        return await venue.price(product)

    def _overtaken(self) -> bool:
        """Whether an order of this key, through any of its brokers, came after the balance was asked for."""
        reading = self._slot.reading
        asked_s = float("inf") if reading.as_of is None else reading.as_of.up_s
        return reading.overtaken or asked_s < self._access.lane.ordered_s

    def _is_vouched_for(self) -> bool:
        """Whether the newest read is too old for an entry, and only a live stream says that it stands."""
        reading = self._slot.reading
        too_old = reading.age_ms is not None and reading.age_ms > self._spec.entry_age_s * 1_000
        return too_old and reading.vouched_s is not None

    def _admit_entry(self, request: OrderRequest) -> None:
        """Raise EntryRefused unless the account can be trusted with an entry this very moment."""
        reading, name = self._slot.reading, self._spec.name
        if unverified := self.unverified:
            raise VerificationRequired(unverified)
        refuse_outside_term(name, self._access.lane)
        if not reading.available:
            raise EntryRefused(f"{name} is not available: {reading.reason}: {reading.detail}".rstrip(": "))
        if not self._remembers():
            raise EntryRefused(
                f"{name}: what was ordered before this start cannot be read yet: the store does not answer"
            )
        if reading.age_ms is None:
            raise EntryRefused(f"{name} has never answered with a balance")
        if self._overtaken():
            raise EntryRefused(f"{name}: an order was sent after its balance was read; read it again first")
        if reading.known_ms > self._spec.entry_age_s * 1_000:
            raise EntryRefused(
                f"{name}: its balance is {reading.known_ms / 1_000:.0f} s old, and entries need one of at "
                f"most {self._spec.entry_age_s:g} s; read it again with get_account_balance()"
            )
        spent = request.product.quote if request.side is Side.BUY else request.product.base
        held = None if reading.balance is None else reading.balance.get(spent)
        if spent in reading.unread or (held is not None and held.unstated_since_us is not None):
            raise EntryRefused(
                f"{name}: the exchange does not state its {spent} any more, so it is unknown how much is free"
            )

    async def _free(self, product: Product) -> Decimal:
        """What can be sold of a coin: read now, or the last known when that fails.

        A last known balance that shows nothing free proves nothing once an order has overtaken it.
        """
        known = self._slot.known()[1]
        holding = None if known is None else known.holdings.get(product.base)
        has_some = holding is not None and holding.free is not None and holding.free > 0
        # Polls of other accounts on the key may hang one after the other. Then it sells the last known.
        read = await self._queries.read_again(self._spec.fetch_deadline_s if has_some else float("inf"))
        balance = read or self._slot.known()[1]
        if balance is None:
            raise BalanceUnknown(
                f"{self._spec.name} has never answered with a balance, so it is unknown how much "
                f"{product.base} it holds; give base_amount"
            )
        held = balance.holdings.get(product.base)
        if product.base in balance.unread or (held is not None and held.free is None):
            raise BalanceUnknown(
                f"{self._spec.name}: the exchange did not state how much of its {product.base} is free; "
                "give base_amount"
            )
        if held is None or held.free is None or held.free <= 0:
            for sent in self._executor.lost():
                earlier = sent.request
                if (earlier.side, earlier.product.base) == (Side.BUY, product.base):
                    raise EarlierOrderUnknown(
                        f"{self._spec.name} holds no {product.base} that is free to be sold, and it "
                        f"is unknown what became of {earlier.client_order_id}, which buys it ({sent.why})",
                        earlier.client_order_id,
                    )
            if read is None and self._overtaken():
                # An order may have bought the coin since. That it is not held is not known.
                raise BalanceUnknown(
                    f"{self._spec.name}: its balance could not be read again after an order, so it is "
                    f"unknown how much {product.base} it holds; give base_amount"
                )
            raise InvalidOrder("symbol", f"{self._spec.name} holds no {product.base} that is free to be sold")
        return held.free
