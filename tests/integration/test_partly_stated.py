"""Exchanges that state one of free, used and total alone, asked over HTTP: the rest is unknown, no zero."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

import pytest

from brokerwatch import Broker
from brokerwatch.errors import BalanceUnknown
from tests.support.clusters import cluster_of
from tests.support.other_exchange import OtherExchange, Reply, Request, answering, market, spec_of

WORDS: Final = {"wallet_address": "dydx1" + "a" * 38, "private_key": "0x" + "1" * 64}
KEYS: Final = {"api_key": "k" * 32, "secret": "s" * 32, "password": "p" * 8}
Parts = tuple[str | None, str | None, str | None]
"""What is free, used and the total, as far as they are known."""


@dataclass(frozen=True)
class Case:
    """An account whose exchange does not state all, and what is known of it."""

    exchange: str
    path: str
    body: Any
    holds: Mapping[str, Parts]
    credentials: Mapping[str, str] = field(default_factory=lambda: KEYS)
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])
    values: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def __str__(self) -> str:
        return f"{self.exchange} {self.path}"


CASES: Final = [
    Case(
        "paradex",
        "/v1/balance",
        {"results": [{"token": "USDC", "size": "99980.25", "last_updated_at": 1718529757240}]},
        {"USDC": (None, None, "99980.25")},
        WORDS,
        {"authToken": "t", "expires": 99_999_999_999},
    ),
    Case(
        "cex",
        "/get_my_wallet_balance",
        {"ok": "ok", "data": {"USDC": {"balance": "7.5"}, "AI": {"balance": "25.6"}}},
        {"USDC": (None, None, "7.5"), "AI": (None, None, "25.6")},
    ),
    Case(
        "coinspot",
        "/my/balances",
        {"status": "ok", "balances": [{"USDC": {"balance": 9.25, "audbalance": 16.59, "rate": 1.5}}]},
        {"USDC": (None, None, "9.25")},
    ),
    Case(
        "dydx",
        "/subaccountNumber/0",
        {
            "subaccount": {
                "address": WORDS["wallet_address"],
                "subaccountNumber": 0,
                "equity": "161451.040416029",
                "freeCollateral": "152508.5",
                "openPerpetualPositions": {},
                "assetPositions": {"USDC": {"size": "608580.951601", "side": "LONG"}},
            }
        },
        {"USDC": ("152508.5", None, None)},
        WORDS,
    ),
    Case(
        "derive",
        "/private/get_all_portfolios",
        {
            "result": [
                {
                    "subaccount_id": 1,
                    "positions_initial_margin": "-1.5",
                    "open_orders_margin": "-0.5",
                    "collaterals": [{"currency": "ETH", "amount": "2", "asset_type": "erc20"}],
                }
            ]
        },
        {"ETH": (None, None, "2")},
        {"wallet_address": "0x" + "a" * 40, "private_key": "0x" + "1" * 64},
    ),
]


@contextmanager
def asked(case: Case) -> Generator[tuple[OtherExchange, Broker]]:
    def answer(request: Request) -> Reply:
        path = request.path.partition("?")[0]
        return Reply(case.body) if path.endswith(case.path) else Reply({"error": "?"}, status=404)

    with answering(answer) as server:
        spec = spec_of(
            case.exchange,
            server,
            credentials=dict(case.credentials),
            conf={"markets": {"BTC/USDC": market("BTC/USDC", "BTC-USDC")}, "options": dict(case.options)},
            **case.values,
        )
        with cluster_of(spec) as cluster:
            yield server, cluster.broker("other")


def decimals(parts: Parts) -> tuple[Decimal | None, ...]:
    return tuple(None if each is None else Decimal(each) for each in parts)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_what_is_stated_is_known_and_what_is_not_is_unknown_and_no_zero(case: Case) -> None:
    with asked(case) as (_, broker):
        detailed = broker.get_account_balance_detailed()
        assert {code: (held.free, held.used, held.total) for code, held in detailed.holdings.items()} == {
            code: decimals(parts) for code, parts in case.holds.items()
        }
        assert (broker.is_available(), broker.get_error_count()) == (True, 0), "what it states is proof"
        reading = broker.reading()
        assert reading.balance is not None
        assert all(held.known for held in reading.balance.values())
        code, (free, _, _) = next(iter(case.holds.items()))
        if free is not None:
            assert broker.free(code) == broker.get_account_balance() == Decimal(free)
            assert f"in all of {code} (" in reading.detail
            return
        with pytest.raises(BalanceUnknown, match="no order can be sized by it"):
            broker.free(code)
        assert f"how much is free of {code} (" in reading.detail
        if code == "USDC":
            assert reading.cash is None
            with pytest.raises(BalanceUnknown, match="unknown, not zero"):
                broker.get_account_balance()
