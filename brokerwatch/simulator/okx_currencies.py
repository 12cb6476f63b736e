"""The currencies of OKX, as it lists them."""

from __future__ import annotations

from collections.abc import Mapping

from brokerwatch.simulator.markets import ASSETS, FIAT

CURRENCIES: list[Mapping[str, object]] = [
    {
        "ccy": code,
        "name": name,
        # OKX has no chain for money of a state; ccxt tells fiat by that.
        "chain": "" if code in FIAT else f"{code}-{name}",
        "canDep": True,
        "canWd": True,
        "minWd": "0.001",
        "maxWd": "1000000",
        "fee": "0.0001",
        "wdTickSz": "8",
    }
    for code, name in ASSETS.items()
]
