"""A market named without the exchange's list of markets: for an exit, while that list cannot be had.

Only where the exchange documents how it names a pair, and only for currencies that are called the same
there as everywhere. Its steps and its smallest order are not known; the exchange itself refuses what it
does not take.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from brokerwatch.messages import Product
from brokerwatch.money import ALIASES

_PAIR: Final = re.compile(r"([A-Z0-9]{2,12})[-/_]([A-Z0-9]{2,12})")
_RENAMED: Final = frozenset(
    {"AE", "AET", "BCHSV", "BSV", "CELO", "CGLD", "FEE", "KFEE", "LUNA", "LUNA2", "LUNC", "REP"}
    | {"REPV1", "REPV2", "UST", "USTC"}
)
"""What exchanges call differently: a guess might sell another coin."""


def unlisted(market_id: Callable[[str, str], str] | None, text: object) -> Product | None:
    """The spot market that `text` names; None when that takes the exchange's list.

    `market_id` gives the exchange's own name for a base and a quote currency; None: it documents none.
    """
    pair = _PAIR.fullmatch(text.upper()) if isinstance(text, str) and text.isascii() else None
    if pair is None or market_id is None:
        return None
    base, quote = (ALIASES.get(code, code) for code in pair.groups())
    if base == quote or {base, quote} & _RENAMED:
        return None
    return Product(symbol=f"{base}/{quote}", base=base, quote=quote, id=market_id(base, quote))
