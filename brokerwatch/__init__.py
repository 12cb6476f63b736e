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
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

if find_spec("fcntl") is None:
    raise ImportError(
        "brokerwatch runs on Linux and macOS and not on Windows, which has no file locks of their kind; "
        "under Windows use WSL 2"
    )

if TYPE_CHECKING:
    from brokerwatch.bus.listener import Listener
    from brokerwatch.cluster.broker import Broker
    from brokerwatch.cluster.cluster import Cluster
    from brokerwatch.cluster.reloaded import Reloaded
    from brokerwatch.config.broker_spec import BrokerSpec
    from brokerwatch.config.cluster_settings import ClusterSettings
    from brokerwatch.config.curve_settings import CurveSettings
    from brokerwatch.config.notify_settings import NotifySettings
    from brokerwatch.config.policy import GUARDED, SIMPLE, Rules
    from brokerwatch.dropin.guard import guard
    from brokerwatch.errors import (
        BalanceUnknown,
        BlockingCallInLoop,
        BrokerwatchError,
        ClaimLost,
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
        KeyInUse,
        ListenerStopped,
        NodeNameTaken,
        NotAllowed,
        NotSupported,
        OrderError,
        OrderNotSent,
        OrderRefused,
        OrderStateUnknown,
        StateFolderTaken,
        StoreError,
        SymbolError,
        TooFewDescriptors,
        TradingDisabled,
        UnknownBroker,
        UnknownSymbol,
        ValidationNotSupported,
        VerificationRequired,
    )
    from brokerwatch.health.changes import Change
    from brokerwatch.health.state_machine import BROKER_MAX_CONSECUTIVE_ERRORS
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
    from brokerwatch.routing.need import Need
    from brokerwatch.routing.objections import Refusal
    from brokerwatch.routing.router import Router
    from brokerwatch.routing.selection import Choice


# Written out and not computed: type checkers read it, and they cannot read one that is computed.
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
    "ClaimLost",
    "Cluster",
    "ClusterSettings",
    "ClusterStopped",
    "CodecError",
    "ConfigError",
    "ControlError",
    "CouldNotAsk",
    "CurveSettings",
    "DetailedBalance",
    "EarlierOrderUnknown",
    "EndpointUnavailable",
    "EntryRefused",
    "Holding",
    "InsideLane",
    "InvalidOrder",
    "InvalidSymbol",
    "KeyInUse",
    "Listener",
    "ListenerStopped",
    "Need",
    "NodeNameTaken",
    "NotAllowed",
    "NotSupported",
    "NotifySettings",
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
    "Reloaded",
    "Router",
    "Rules",
    "Side",
    "StateFolderTaken",
    "StoreError",
    "SymbolError",
    "TooFewDescriptors",
    "TradingDisabled",
    "UnknownBroker",
    "UnknownSymbol",
    "ValidationNotSupported",
    "VerificationRequired",
    "Wallet",
    "guard",
]

_HOME = {
    "guard": "dropin.guard",
    "Change": "health.changes",
    "Router": "routing.router",
    "Refusal": "routing.selection",
    "Choice": "routing.selection",
    "Need": "routing.need",
    "BROKER_MAX_CONSECUTIVE_ERRORS": "health.state_machine",
    "Broker": "cluster.broker",
    "BrokerSpec": "config.broker_spec",
    "Cluster": "cluster.cluster",
    "Reloaded": "cluster.reloaded",
    "ClusterSettings": "config.cluster_settings",
    "NotifySettings": "config.notify_settings",
    "CurveSettings": "config.curve_settings",
    "DetailedBalance": "messages",
    "Side": "messages",
    "Product": "messages",
    "Position": "messages",
    "OrderState": "messages",
    "Order": "messages",
    "CapabilityState": "messages",
    "Capability": "messages",
    "Candle": "messages",
    "GUARDED": "config.policy",
    "Holding": "messages",
    "Listener": "bus.listener",
    "Reading": "messages",
    "Rules": "config.policy",
    "SIMPLE": "config.policy",
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
