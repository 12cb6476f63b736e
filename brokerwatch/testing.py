"""Simulated exchanges for your own tests: the failures that no exchange's sandbox gives.

    pytest_plugins = ["brokerwatch.testing"]

    def test_my_bot(simulated_kraken):
        bot = MyBot(ccxt.kraken(ccxt_config(simulated_kraken)))
        simulated_kraken.set_fault("empty_body")

`simulated` does the same without pytest. pytest is no dependency: it is imported for the fixtures where it is
installed. Nothing is loaded by itself; a test suite that wants the fixtures names this module.

PYTEST_DONT_REWRITE (nothing is asserted here, and a conftest.py may import this before it names it)
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Literal, overload

from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.simulator import (
    EXCHANGES,
    FAULTS,
    BalanceSpec,
    SimulatedCoinbase,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
)
from brokerwatch.simulator.ccxt_config import ccxt_config

__all__ = ["FAULTS", "broker_spec", "ccxt_config", "simulated"]


@overload
def simulated(
    name: Literal["kraken"], *, balance: BalanceSpec | None = None, port: int = 0
) -> AbstractContextManager[SimulatedKraken]: ...
@overload
def simulated(
    name: Literal["coinbase"], *, balance: BalanceSpec | None = None, port: int = 0
) -> AbstractContextManager[SimulatedCoinbase]: ...
@overload
def simulated(
    name: Literal["okx"], *, balance: BalanceSpec | None = None, port: int = 0
) -> AbstractContextManager[SimulatedOkx]: ...
@overload
def simulated(
    name: str, *, balance: BalanceSpec | None = None, port: int = 0
) -> AbstractContextManager[SimulatedExchange]: ...
def simulated(name: str, *, balance: BalanceSpec | None = None, port: int = 0) -> AbstractContextManager[Any]:
    """A simulated exchange, served on 127.0.0.1 until the block is left.

    Args:
        name: kraken, coinbase or okx.
        balance: What its first account has: currency to (free, held), as texts in units of the currency.
        port: The port to listen on; 0: one that the kernel picks.

    Returns:
        A context manager that gives the exchange.

    Raises:
        ValueError: No such exchange is simulated.
        PortUnavailable: Another program has the port. Raised when the block is entered.
    """
    if name not in EXCHANGES:
        raise ValueError(f"no exchange {name!r} is simulated; there are: {', '.join(EXCHANGES)}")
    exchange = EXCHANGES[name]()
    if balance is not None:
        exchange.set_balance(balance)
    return _served(exchange, port)


@contextmanager
def _served(exchange: SimulatedExchange, port: int) -> Generator[SimulatedExchange]:
    with serve(exchange, ports=[port]):
        yield exchange


def broker_spec(exchange: SimulatedExchange, name: str = "", **values: Any) -> BrokerSpec:
    """A broker for a Cluster on a simulated exchange. It polls only when it is asked to.

    Args:
        exchange: The exchange, while it is served.
        name: The broker's name; empty: the exchange's ccxt id.
        values: Further fields of `BrokerSpec`, which win over what is chosen here.

    Raises:
        ConfigError: A value cannot be.
    """
    chosen: dict[str, Any] = {
        "exchange": exchange.ccxt_id,
        "poll_interval_s": float("inf"),
        "credentials": exchange.credentials,
        "ccxt": exchange.ccxt_options(),
        "simulated": True,
        **values,
    }
    return BrokerSpec(name or exchange.ccxt_id, **chosen)


try:
    import pytest
except ImportError:
    pass
else:

    @pytest.fixture
    def simulated_kraken() -> Iterator[SimulatedKraken]:
        """A simulated Kraken of this test's own."""
        with simulated("kraken") as exchange:
            yield exchange

    @pytest.fixture
    def simulated_coinbase() -> Iterator[SimulatedCoinbase]:
        """A simulated Coinbase of this test's own."""
        with simulated("coinbase") as exchange:
            yield exchange

    @pytest.fixture
    def simulated_okx() -> Iterator[SimulatedOkx]:
        """A simulated OKX of this test's own."""
        with simulated("okx") as exchange:
            yield exchange
