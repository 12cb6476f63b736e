"""Kraken, Coinbase and OKX as local HTTP servers, so that ccxt can be tried unmodified and offline.

What stays true: each server checks the real signature, nonce and timestamp rules of its exchange;
it listens on 127.0.0.1 only; its accounts and keys are made up; and nothing here imports the rest of
brokerwatch, so a mistake there cannot be repeated here.
"""

from collections.abc import Mapping
from types import MappingProxyType

from brokerwatch.simulator.account import BalanceSpec
from brokerwatch.simulator.coinbase import SimulatedCoinbase
from brokerwatch.simulator.connections import Broken, Ending
from brokerwatch.simulator.credentials import steady_credentials
from brokerwatch.simulator.exchange import SimulatedExchange
from brokerwatch.simulator.faults import FAULTS
from brokerwatch.simulator.kraken import SimulatedKraken
from brokerwatch.simulator.okx import SimulatedOkx
from brokerwatch.simulator.server import OPERATOR_PATH, PortUnavailable, ServedCall, serve

__all__ = [
    "EXCHANGES",
    "FAULTS",
    "OPERATOR_PATH",
    "BalanceSpec",
    "Broken",
    "Ending",
    "PortUnavailable",
    "ServedCall",
    "SimulatedCoinbase",
    "SimulatedExchange",
    "SimulatedKraken",
    "SimulatedOkx",
    "serve",
    "steady_credentials",
]

EXCHANGES: Mapping[str, type[SimulatedExchange]] = MappingProxyType(
    {exchange.ccxt_id: exchange for exchange in (SimulatedKraken, SimulatedCoinbase, SimulatedOkx)}
)
"""Every exchange that is simulated, by its ccxt id."""
