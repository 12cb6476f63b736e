"""Which part of a cluster is handed to which."""

from __future__ import annotations

from typing import TYPE_CHECKING

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import BrokerSpec

if TYPE_CHECKING:
    from brokerwatch.gateway.gateway import Access
    from brokerwatch.orders.executor import OrderExecutor, Teller
    from brokerwatch.orders.in_flight import InFlightOrders


def wired_executor(
    spec: BrokerSpec, access: Access, in_flight: InFlightOrders, clock: Clock, teller: Teller
) -> OrderExecutor:
    """The executor of one account's orders; `teller` is told how its calls end."""
    from brokerwatch.orders.executor import OrderExecutor

    return OrderExecutor(spec, access, in_flight, clock, teller)
