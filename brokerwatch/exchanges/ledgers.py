"""What an exchange's own ledger says went into an account and out of it. Pure readers, one for each form."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final, cast

from brokerwatch.exchanges.balances import Code
from brokerwatch.exchanges.envelope import exact, listing, mapping, number, short, text
from brokerwatch.messages.money import LedgerEntry
from brokerwatch.money import EXACT

MOST_ENTRIES: Final = 500
"""Entries of one answer that are read: the newest."""

OKX_KINDS: Final[Mapping[str, str]] = MappingProxyType(
    {
        "1": "transfer",
        "2": "trade",
        "3": "delivery",
        "4": "conversion",
        "5": "liquidation",
        "7": "interest",
        "8": "funding",
        "12": "transfer",
        "13": "trade",
    }
)
"""The numbers of `type` in account/bills: https://www.okx.com/docs-v5/en/#trading-account-rest-api-get-bills-details-last-7-days"""


def kraken_ledger(result: Mapping[str, Any], code: Code) -> tuple[LedgerEntry, ...]:
    """The entries in the result of Ledgers. Raises UnprovenAnswer.

    https://docs.kraken.com/api-reference/account-data/get-ledgers-info
    """
    rows = mapping(result.get("ledger"), "the ledger")
    found: list[LedgerEntry] = []
    for name, entry in list(rows.items())[:MOST_ENTRIES]:
        row = mapping(entry, name)
        amount, fee = number(row.get("amount"), "amount"), number(row.get("fee", "0"), "fee")
        at_s = number(exact(row.get("time")), "time")
        # A code with a suffix (.S, .F) is the same money in another place of the account.
        asset = text(row.get("asset"), "asset").partition(".")[0]
        found.append(
            LedgerEntry(
                currency=code(asset),
                amount=EXACT.subtract(amount, fee),
                kind=text(row.get("type"), "type"),
                at_us=int(at_s * 1_000_000),
            )
        )
    return tuple(found)


def okx_bills(rows: list[Mapping[str, Any]], code: Code, *, wallet: str) -> tuple[LedgerEntry, ...]:
    """The entries in an answer to account/bills, or with a `wallet` to asset/bills. Raises UnprovenAnswer.

    Money that moves between the two wallets is in both, once with each sign.
    """
    found: list[LedgerEntry] = []
    for row in rows[:MOST_ENTRIES]:
        stated = str(row.get("type", ""))
        kind = stated if wallet else OKX_KINDS.get(stated, stated)
        found.append(
            LedgerEntry(
                currency=code(text(row.get("ccy"), "ccy")),
                amount=number(row.get("balChg"), "balChg"),
                kind=kind,
                at_us=int(number(row.get("ts"), "ts")) * 1_000,
                wallet=wallet,
            )
        )
    return tuple(found)


def unified_ledger(rows: object) -> tuple[LedgerEntry, ...]:
    """The entries in what ccxt's `fetch_ledger` gives. Raises UnprovenAnswer."""
    found: list[LedgerEntry] = []
    for entry in listing(rows, "the ledger")[-MOST_ENTRIES:]:
        row = mapping(entry, "an entry")
        amount = number(exact(row.get("amount")), "amount").copy_abs()
        fee: Any = row.get("fee")
        cost: object = cast("Mapping[str, object]", fee).get("cost") if isinstance(fee, Mapping) else None
        paid = Decimal(0) if cost is None else number(exact(cost), "fee")
        direction = row.get("direction")
        if direction not in ("in", "out"):
            amount = number(exact(row.get("amount")), "amount")
        elif direction == "out":
            amount = -amount
        found.append(
            LedgerEntry(
                currency=text(row.get("currency"), "currency"),
                amount=EXACT.subtract(amount, paid),
                kind=str(row.get("type") or short(row.get("id"))),
                at_us=int(number(exact(row.get("timestamp")), "timestamp")) * 1_000,
            )
        )
    return tuple(found)
