"""A market named without the exchange's list of markets: for an exit, while that list cannot be had.

Only where the exchange documents how it names a pair, and only for currencies that are called the same
there as everywhere. Its steps and its smallest order are not known; the exchange itself refuses what it
does not take.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from brokerwatch.exchanges.symbols import ALIASES
from brokerwatch.messages import Product

_PAIR: Final = re.compile(r"([A-Z0-9]{2,12})[-/_]([A-Z0-9]{2,12})")
_KRAKEN: Final[Mapping[str, str]] = MappingProxyType({"BTC": "XBT", "DOGE": "XDG"})
"""Its short names, where they differ (https://docs.kraken.com/api/docs/rest-api/get-asset-info)."""
_RENAMED: Final = frozenset(
    {"AE", "AET", "BCHSV", "BSV", "CELO", "CGLD", "FEE", "KFEE", "LUNA", "LUNA2", "LUNC", "REP"}
    | {"REPV1", "REPV2", "UST", "USTC"}
)
"""What exchanges call differently: a guess might sell another coin."""
_IDS: Final[Mapping[str, Callable[[str, str], str]]] = MappingProxyType(
    {
        "kraken": lambda base, quote: _KRAKEN.get(base, base) + _KRAKEN.get(quote, quote),
        "coinbase": lambda base, quote: f"{base}-{quote}",
        "okx": lambda base, quote: f"{base}-{quote}",
    }
)


def unlisted(family: str, text: object) -> Product | None:
    """The spot market that `text` names at an exchange of this family; None when that takes its list."""
    pair = _PAIR.fullmatch(text.upper()) if isinstance(text, str) and text.isascii() else None
    if pair is None or family not in _IDS:
        return None
    base, quote = (ALIASES.get(code, code) for code in pair.groups())
    if base == quote or {base, quote} & _RENAMED:
        return None
    return Product(symbol=f"{base}/{quote}", base=base, quote=quote, id=_IDS[family](base, quote))
