"""How an amount is written and rounded, and which currencies may be added up: those pegged to one unit.

A dollar and a dollar stablecoin are one figure to a trader who asks for cash; a euro beside
them is not, and adding it up would be wrong by the exchange rate. A currency that is not
listed is a unit of its own. (A peg is a promise of the issuer, not a market price.)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Context, Decimal
from types import MappingProxyType
from typing import Final

EXACT: Final = Context(prec=250)
"""Arithmetic without rounding, whatever precision the caller's thread computes with: no two of our numbers
have more digits together. Used by its methods, from any thread."""

DEFAULT_CASH: Final = ("USD", "USDT", "USDC")
"""What counts as cash unless the configuration says otherwise."""

_PEGGED: Final = {
    "USD": "USD USDT USDC BUSD DAI TUSD USDP GUSD FDUSD PYUSD USDD USDS USDG RLUSD LUSD USDE USD1 USDQ",
    "EUR": "EUR EURT EURC EURS EURR EURQ EURI AEUR",
    "GBP": "GBP GBPT TGBP",
    "JPY": "JPY GYEN",
    "CHF": "CHF XCHF",
    "AUD": "AUD AUDD",
    "CAD": "CAD QCAD",
    "TRY": "TRY TRYB",
    "BRL": "BRL BRZ BRLA",
    "SGD": "SGD XSGD",
}
_UNIT: Final[Mapping[str, str]] = MappingProxyType(
    {code: unit for unit, codes in _PEGGED.items() for code in codes.split()}
)

ALIASES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "XBT": "BTC",
        "XDG": "DOGE",
        # Kraken's long codes, each by name: most codes that begin with an X or a Z are no long codes.
        **{f"X{code}": code for code in ("ETC", "ETH", "LTC", "MLN", "REP", "XLM", "XMR", "XRP", "ZEC")},
        **{f"Z{code}": code for code in ("AUD", "CAD", "EUR", "GBP", "JPY", "USD")},
        "XXBT": "BTC",
        "XXDG": "DOGE",
    }
)
"""Other names of currencies. They count only where there is no currency of that very name."""
_CAPITALS: Final = str.maketrans("abcdefghijklmnopqrstuvwxyz", "ABCDEFGHIJKLMNOPQRSTUVWXYZ")
"""Only these are the same letters: Python's own `upper` would make an S of a long s, and a dollar of it."""


def capitals(code: str) -> str:
    """The code in capitals."""
    return code.translate(_CAPITALS)


def common_code(code: str) -> str:
    """A currency code in capitals, by its common name."""
    return ALIASES.get(capitals(code), capitals(code))


def unit(currency: str) -> str:
    """The unit that a currency is pegged to; itself when it is pegged to none."""
    return _UNIT.get(currency, currency)


def is_money(currency: str) -> bool:
    """Whether it is a fiat currency or a stablecoin, as against an asset whose price moves."""
    return currency in _UNIT


def units(currencies: Iterable[str]) -> tuple[str, ...]:
    """The different units among `currencies`, in their order."""
    return tuple(dict.fromkeys(unit(code) for code in currencies))


def floor_to_step(amount: Decimal, step: Decimal) -> Decimal:
    """The largest multiple of `step` that is not more than `amount`, exactly. Both are positive."""
    return Decimal(plain(EXACT.multiply(EXACT.divide_int(amount, step), step)))


def plain(number: Decimal) -> str:
    """All its digits, without zeros that say nothing and without an exponent."""
    text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def plain_or_unknown(number: Decimal | None) -> str:
    """All its digits as `plain` writes them; `unknown` for an amount that is not known."""
    return "unknown" if number is None else plain(number)
