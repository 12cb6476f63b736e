"""A simulated exchange, a cluster on it and the handle, for tests that place orders."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

import pytest

from brokerwatch.clock import Clock
from brokerwatch.cluster.broker import Broker, requests_of
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.errors import BalanceUnknown
from brokerwatch.gateway.lease import TermOf, no_term
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from tests.support.clusters import cluster_of, simulated_spec, until

FIFTY = Decimal("50")


BALANCE_PATHS = {
    "kraken": "/0/private/BalanceEx",
    "coinbase": "/api/v3/brokerage/accounts",
    "okx": "/api/v5/account/balance",
}


ORDER_PATHS = {
    "kraken": "POST /0/private/AddOrder",
    "coinbase": "POST /api/v3/brokerage/orders",
    "okx": "POST /api/v5/trade/order",
}


LOOKUP_PATHS = {
    "kraken": ("POST /0/private/OpenOrders", "POST /0/private/ClosedOrders"),
    "coinbase": ("GET /api/v3/brokerage/orders/historical/batch",),
    "okx": ("GET /api/v5/trade/order",),
}


SYMBOLS = {"kraken": "BTC/USD", "coinbase": "BTC/USD", "okx": "BTC/USDT"}


KINDS = (SimulatedKraken, SimulatedCoinbase, SimulatedOkx)


def rich(exchange: SimulatedExchange) -> SimulatedExchange:
    exchange.set_balance(
        {"USD": ("10000", "0"), "USDT": ("10000", "0"), "BTC": ("0.5", "0.1"), "ETH": ("2", "0")}
    )
    return exchange


class Desk:
    """One simulated exchange, a cluster on it, and the handle."""

    def __init__(self, exchange: SimulatedExchange, cluster: Cluster) -> None:
        self.exchange, self.cluster = exchange, cluster
        self.broker: Broker = cluster.broker(f"{exchange.ccxt_id}-test")
        self.symbol = SYMBOLS[exchange.ccxt_id]
        self.order_path = ORDER_PATHS[exchange.ccxt_id]

    def buy(self, **values: Any) -> Any:
        chosen: dict[str, Any] = {"quote_amount": FIFTY, "validate_only": False, **values}
        return self.broker.place_market_order(self.symbol, "buy", **chosen)

    @property
    def counted(self) -> int:
        """How many private calls were counted against the budget of its key."""
        lane = requests_of(self.broker).account().access.lane
        return lane._tally.requests.total  # pyright: ignore[reportPrivateUsage] - the page has it by the key

    @property
    def placed(self) -> int:
        return self.exchange.placed_orders


PATIENT_S = 5.0
"""What an answer may take: a machine under load is late by seconds."""
gives_up_soon = pytest.mark.parametrize("deadline_s", [2.0])
"""For a test that waits until an answer is given up, where the fixture of its desk has a `deadline_s`."""


class Opened:
    """A desk on this exchange, from start to stop."""

    def __init__(
        self,
        exchange: SimulatedExchange,
        clock: Clock | None = None,
        state: str = "",
        term_of: TermOf = no_term,
        **values: Any,
    ) -> None:
        self.exchange, self.clock, self.term_of = exchange, clock, term_of
        self.settings: dict[str, Any] = {"state": state} if state else {}
        self.values: dict[str, Any] = {"trading": True, "fetch_deadline_s": PATIENT_S, **values}

    def __enter__(self) -> Desk:
        self.serving = serve(self.exchange)
        self.serving.__enter__()
        self.cluster = cluster_of(
            simulated_spec(self.exchange, **self.values),
            status_interval_s=float("inf"),
            clock=self.clock,
            term_of=self.term_of,
            **self.settings,
        )
        self.cluster.start()
        found = Desk(self.exchange, self.cluster)
        try:
            until(lambda: self.answers(found.broker))
        except BaseException:
            self.__exit__()
            raise
        return found

    @staticmethod
    def answers(broker: Broker) -> bool:
        """Ask once; on a busy machine a first answer may take longer than the deadline."""
        with contextlib.suppress(BalanceUnknown):
            broker.get_account_balance()
        reading = broker.reading()
        return reading.available and reading.error_count == 0 and reading.as_of is not None

    def __exit__(self, *_: object) -> None:
        self.cluster.stop()
        self.serving.__exit__(None, None, None)


def lose(desk: Desk, *, executed: bool, fault: str = "hang") -> None:
    """The next order's answer is lost, and it cannot be looked up either, until the exchange is mended."""
    desk.exchange.set_fault(fault, path=desk.order_path, executed=executed, times=1)
    for path in LOOKUP_PATHS[desk.exchange.ccxt_id]:
        desk.exchange.set_fault("http_502_html", path=path)


@pytest.fixture
def deadline_s() -> float:
    """Of `desk`; see `gives_up_soon`."""
    return PATIENT_S


@pytest.fixture(params=KINDS, ids=lambda kind: str(kind.ccxt_id))
def desk(request: pytest.FixtureRequest, deadline_s: float) -> Iterator[Desk]:
    """One on each exchange."""
    with Opened(rich(request.param()), fetch_deadline_s=deadline_s) as found:
        yield found
