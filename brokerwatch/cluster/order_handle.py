"""The orders of one account, as the handle of a trader places and finds them."""

from __future__ import annotations

from decimal import Decimal

from brokerwatch.cluster.requests import Requests
from brokerwatch.messages import Order, Side
from brokerwatch.orders.ticket import FRESH


class OrderHandle:
    """The part of a `Broker` that places orders; any thread may use it."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests

    def place_market_order(
        self,
        symbol: str,
        side: Side | str,
        *,
        base_amount: Decimal | None = None,
        quote_amount: Decimal | None = None,
        validate_only: bool = True,
        client_order_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Order:
        """Place a market order; by default only have it checked, where the exchange has a dry run.

        It needs `trading = true`, an account that is available, and a balance of at most `entry_max_age_s`.
        The amount is rounded down to the market's steps.

        Args:
            symbol: The market, in any spelling.
            side: "buy" or "sell".
            base_amount: Amount in the currency that is traded. Exactly one amount must be given.
            quote_amount: Amount in the currency that pays.
            validate_only: Whether the order is only checked, and not placed.
            client_order_id: An id of your own, or of `new_order_id`. An order with an id that was placed
                already is not placed again: the earlier one is looked up first. Without it each call is an
                order of its own.
            timeout_s: Seconds to wait. An order that has not gone out by then is withdrawn.

        Returns:
            The order as the exchange took it; its state is `validated` for a dry run.

        Raises:
            OrderStateUnknown: The order was sent, and it is not known whether it was taken. This is the only
                error that leaves that open: look it up with `find_order`, and do not send it again.
            OrderRefused: The exchange refused it.
            OrderNotSent: Nothing was sent. ClaimLost, EarlierOrderUnknown and InsideLane are kinds of it.
            EntryRefused: Nothing was sent, with this id neither now nor before: the account cannot be trusted
                with an entry now. VerificationRequired, for a key that is not verified, is a kind of it.
            TradingDisabled: Nothing was sent: the configuration does not say `trading = true`.
            ValidationNotSupported: Nothing was sent: the exchange has no dry run.
            InvalidOrder: Nothing was sent: the amounts, or the id, cannot be.
            InvalidSymbol: The symbol cannot be read, or could mean two markets.
            UnknownSymbol: The exchange has no such market.
        """
        ordering = self._requests.placing(
            symbol, side, base_amount, quote_amount, client_order_id, validate_only=validate_only
        )
        with ordering.reported(self._requests.name):
            return self._requests.wait_for("place_market_order", ordering.work, timeout_s, ordering.is_out)

    def close_position(
        self,
        symbol: str,
        *,
        base_amount: Decimal | None = None,
        validate_only: bool = True,
        client_order_id: str | None = None,
        timeout_s: float | None = None,
    ) -> Order:
        """Sell what is held of a coin at market; all that is free of it, or `base_amount`.

        It is an exit: it is not refused while the account is not available or its balance is old. Where the
        balance cannot be read the last known is sold.

        Args:
            symbol: The market, in any spelling.
            base_amount: Amount of the coin; None sells all that is free.
            validate_only: As for `place_market_order`.
            client_order_id: As for `place_market_order`.
            timeout_s: As for `place_market_order`.

        Returns:
            The order as the exchange took it.

        Raises:
            BalanceUnknown: No amount was given, and it is not known how much is free: the account has never
                answered, its exchange does not state it, or it could not be read again after an order and
                held nothing free before it.
            OrderStateUnknown: As for `place_market_order`, with all that it raises but EntryRefused.
        """
        ordering = self._requests.closing(symbol, base_amount, client_order_id, validate_only=validate_only)
        with ordering.reported(self._requests.name):
            return self._requests.wait_for("close_position", ordering.work, timeout_s, ordering.is_out)

    def new_order_id(self) -> str:
        """An id for one order, in the form that the exchange takes, to be stored before the order is sent.

        Never waits.

        brokerwatch knows that it is new, so its first order in this process is sent without looking it up. An
        order with any other id, or with this one again, is looked up first.
        """
        return FRESH.make(self._requests.new_order_id())

    def find_order(
        self, symbol: str, client_order_id: str, *, timeout_s: float | None = None
    ) -> Order | None:
        """Look an order of yours up at the exchange.

        Args:
            symbol: The market, in any spelling.
            client_order_id: The id that was given to the order.
            timeout_s: Seconds to wait.

        Returns:
            The order as the exchange has it; None when the exchange answers that there is none.

        Raises:
            CouldNotAsk: There was no answer. It says nothing about the order.
            OrderStateUnknown: The order was sent, is not listed, and may still arrive.
            InvalidOrder: The id is not one that an order here can have, or is that of another order.
        """
        return self._requests.wait_for(
            "find_order", self._requests.queries_in_turn().find(symbol, client_order_id), timeout_s
        )

    def forget_order(self, client_order_id: str, *, timeout_s: float | None = None) -> bool:
        """Stop looking for an order with an unknown outcome: you found out by yourself what became of it.

        Until then it holds up entries.

        Args:
            client_order_id: The id that was given to the order.
            timeout_s: Seconds to wait.

        Returns:
            False when no order with this id was being looked for.
        """
        return self._requests.wait_for(
            "forget_order", self._requests.queries().forget(client_order_id), timeout_s
        )
