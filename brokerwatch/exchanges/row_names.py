"""The currency that a row of a balance is about, where ccxt finds it in another way than for other names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, Final

from brokerwatch.exchanges.balances import Code


def named_by(instance: Any, code: Code) -> Code:
    """The common code of what names a row at the exchange of this ccxt instance."""
    naming = _NAMINGS.get(instance.id)
    return code if naming is None else lambda name: naming(instance, code, name)


def _alpaca(instance: Any, code: Code, name: str) -> str:
    """A position is in `BTCUSD` or `BTC/USD`; that in a share is none of a currency."""
    del instance
    coin, slash, _ = name.partition("/")
    return code(coin if slash or name == "USD" else name.removesuffix("USD"))


def _bitbns(instance: Any, code: Code, name: str) -> str:
    del instance
    return "INR" if name == "Money" else code(name)


def _delta(instance: Any, code: Code, name: str) -> str:
    del code
    found = instance.options.get("currenciesByNumericId", {}).get(name)
    return name if found is None else str(found["code"])


def _hyperliquid(instance: Any, code: Code, name: str) -> str:
    return str(instance.update_spot_currency_code(code(name)))


def _nado(instance: Any, code: Code, name: str) -> str:
    found = code(name)
    if found != name:
        return found
    return "USDT0" if name == "0" else str(instance.safe_market(name, None, None, "spot")["base"])


_NAMINGS: Final[Mapping[str, Callable[[Any, Code, str], str]]] = MappingProxyType(
    {
        "alpaca": _alpaca,
        "bitbns": _bitbns,
        "delta": _delta,
        "hyperliquid": _hyperliquid,
        "nado": _nado,
    }
)
