"""Which of my exchange accounts can be trusted right now, and how much money is in each?

    import brokerwatch

    with brokerwatch.Cluster.from_config("brokerwatch.toml") as cluster:
        kraken = cluster.broker("kraken-main")
        if kraken.is_available():          # reads memory, never waits
            print(kraken.get_account_balance())

Every name here is loaded when it is first used: a process that only listens must not carry ccxt,
which is 100 MB and most of a second.
"""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brokerwatch.broker import Broker
    from brokerwatch.changes import Change
    from brokerwatch.cluster import Cluster
    from brokerwatch.config import BrokerSpec, ClusterSettings
    from brokerwatch.dropin import guard
    from brokerwatch.errors import (
        BalanceUnknown,
        BlockingCallInLoop,
        BrokerwatchError,
        ClusterStopped,
        CodecError,
        ConfigError,
        ControlError,
        CouldNotAsk,
        EarlierOrderUnknown,
        EndpointUnavailable,
        EntryRefused,
        InsideLane,
        InvalidOrder,
        InvalidSymbol,
        ListenerStopped,
        NotAllowed,
        NotSupported,
        OrderError,
        OrderNotSent,
        OrderRefused,
        OrderStateUnknown,
        StateFolderTaken,
        StoreError,
        SymbolError,
        TradingDisabled,
        UnknownBroker,
        UnknownSymbol,
        ValidationNotSupported,
        VerificationRequired,
    )
    from brokerwatch.health import BROKER_MAX_CONSECUTIVE_ERRORS
    from brokerwatch.listener import Listener
    from brokerwatch.messages import (
        Candle,
        Capability,
        CapabilityState,
        DetailedBalance,
        Holding,
        Order,
        OrderState,
        Position,
        Product,
        Reading,
        Side,
        Wallet,
    )
    from brokerwatch.policy import GUARDED, SIMPLE, Rules
    from brokerwatch.router import Router
    from brokerwatch.selection import Choice, Need, Refusal

__all__ = [
    "BROKER_MAX_CONSECUTIVE_ERRORS",
    "GUARDED",
    "SIMPLE",
    "BalanceUnknown",
    "BlockingCallInLoop",
    "Broker",
    "BrokerSpec",
    "BrokerwatchError",
    "Candle",
    "Capability",
    "CapabilityState",
    "Change",
    "Choice",
    "Cluster",
    "ClusterSettings",
    "ClusterStopped",
    "CodecError",
    "ConfigError",
    "ControlError",
    "CouldNotAsk",
    "DetailedBalance",
    "EarlierOrderUnknown",
    "EndpointUnavailable",
    "EntryRefused",
    "Holding",
    "InsideLane",
    "InvalidOrder",
    "InvalidSymbol",
    "Listener",
    "ListenerStopped",
    "Need",
    "NotAllowed",
    "NotSupported",
    "Order",
    "OrderError",
    "OrderNotSent",
    "OrderRefused",
    "OrderState",
    "OrderStateUnknown",
    "Position",
    "Product",
    "Reading",
    "Refusal",
    "Router",
    "Rules",
    "Side",
    "StateFolderTaken",
    "StoreError",
    "SymbolError",
    "TradingDisabled",
    "UnknownBroker",
    "UnknownSymbol",
    "ValidationNotSupported",
    "VerificationRequired",
    "Wallet",
    "guard",
]

_HOME = {
    "guard": "dropin",
    "Change": "changes",
    "Router": "router",
    "Refusal": "selection",
    "Choice": "selection",
    "Need": "selection",
    "BROKER_MAX_CONSECUTIVE_ERRORS": "health",
    "Broker": "broker",
    "BrokerSpec": "config",
    "Cluster": "cluster",
    "ClusterSettings": "config",
    "DetailedBalance": "messages",
    "Side": "messages",
    "Product": "messages",
    "Position": "messages",
    "OrderState": "messages",
    "Order": "messages",
    "CapabilityState": "messages",
    "Capability": "messages",
    "Candle": "messages",
    "GUARDED": "policy",
    "Holding": "messages",
    "Listener": "listener",
    "Reading": "messages",
    "Rules": "policy",
    "SIMPLE": "policy",
    "Wallet": "messages",
}
"""Where each name lives; the errors are in `errors`."""

# Applications decide what is logged; without a handler of theirs we are silent.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version(__name__)
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME.get(name, 'errors')}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
