"""The mode of an OKX account, and how a spot order has to say it.

OKX refuses an order whose `tdMode` is none of the account's mode (`acctLv`). In spot and futures mode a spot
order is `cash`; in multi-currency and portfolio margin it is `cross`, also where nothing is borrowed. In
futures mode `cross` would be an order on margin. So `cross` is said only where OKX has just stated one of the
other two; `cash` borrows nothing in any mode.
("Place order" and "Get account configuration", www.okx.com/docs-v5/en)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, cast

from brokerwatch.exchanges.envelope import short

CASH: Final = "cash"
CROSS: Final = "cross"

_MODES: Final[Mapping[str, tuple[str, str]]] = MappingProxyType(
    {
        "1": (CASH, "spot"),
        "2": (CASH, "futures"),
        "3": (CROSS, "multi-currency margin"),
        "4": (CROSS, "portfolio margin"),
    }
)


@dataclass(frozen=True, slots=True)
class AccountMode:
    """How spot orders of one account are placed."""

    trade_mode: str = CASH
    """Their `tdMode`; empty: in this mode none is placed."""
    unsupported: str = ""
    """Why none is placed, in words."""
    borrows: str = ""
    """That an order may borrow what is missing, in words; empty: it may not."""


def account_mode(row: Mapping[str, Any]) -> AccountMode:
    """The mode that a row of account/config states. A row that states none is an account of old: `cash`."""
    level = str(row.get("acctLv") or "1")
    if level not in _MODES:
        return AccountMode(
            "", f"OKX says of this account a mode that is not known here, acctLv {short(level)}"
        )
    trade_mode, name = _MODES[level]
    lends = [key for key in ("autoLoan", "enableSpotBorrow") if row.get(key) in (True, "true")]
    borrows = (
        f"the account is in {name} mode with {' and '.join(lends)}, so an order may borrow what is missing"
    )
    return AccountMode(trade_mode, borrows=borrows if lends else "")


def trade_quote(options: Mapping[str, Any], quote: str) -> str:
    """The `tradeQuoteCcy` of an order in a market with this quote currency; empty: OKX's own, the quote.

    It is ccxt's option of that name: a currency for all orders, or a table of them by the market's quote. For
    instance BTC-USD is paid in USDC with `{"USD": "USDC"}`.
    """
    chosen: object = options.get("tradeQuoteCcy")
    if isinstance(chosen, Mapping):
        chosen = cast("Mapping[str, object]", chosen).get(quote)
    return chosen if isinstance(chosen, str) else ""


def refuses_mode(words: str) -> bool:
    """Whether OKX's words about a refused order say that its `tdMode` is none of the account's mode."""
    return "51000" in words and "tdmode" in words.lower()
