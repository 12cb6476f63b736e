"""Exchanges that state a part of an account, or have several: real ccxt asks one that answers over HTTP."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch import Broker, BrokerSpec, Cluster, ConfigError
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.config.loader import examine
from brokerwatch.errors import BalanceUnknown
from brokerwatch.gateway.catalogue import Catalogue
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
    Case(
        "binance",
        "/papi/v1/balance",
        [
            {
                "asset": "USDC",
                "totalWalletBalance": "66.5",
                "crossMarginAsset": "35.5",
                "crossMarginBorrowed": "0.0",
                "crossMarginFree": "35.5",
                "crossMarginInterest": "0.0",
                "crossMarginLocked": "0.0",
                "umWalletBalance": "31",
                "umUnrealizedPNL": "2",
                "cmWalletBalance": "0.0",
                "cmUnrealizedPNL": "0.0",
                "updateTime": 0,
                "negativeBalance": "0.0",
            }
        ],
        {"USDC": (None, None, "68.5")},
        values={"balance_params": {"portfolioMargin": True}},
    ),
    Case(
        "bitget",
        "/api/v2/margin/crossed/account/assets",
        {
            "code": "00000",
            "msg": "success",
            "data": [
                {"coin": "USDC", "totalAmount": "9", "available": "9", "frozen": "0", "borrow": "5"}
                | {"interest": "0", "net": "4", "coupon": "0"}
            ],
        },
        {"USDC": (None, None, "9")},
        values={"balance_params": {"marginMode": "cross"}},
    ),
    Case(
        "whitebit",
        "/collateral-account/balance",
        {"USDC": 1000, "BTC": 1},
        {"USDC": (None, None, "1000"), "BTC": (None, None, "1")},
        values={"balance_params": {"type": "swap"}},
    ),
    Case(
        "binance",
        "/sapi/v1/margin/isolated/account",
        {
            "assets": [
                {
                    "baseAsset": {
                        "asset": base,
                        "free": "1",
                        "locked": "0",
                        "borrowed": "0",
                        "interest": "0",
                    },
                    "quoteAsset": {"asset": "USDC", "free": "5", "locked": "1"}
                    | {"borrowed": "0", "interest": "0"},
                    "symbol": f"{base}USDC",
                }
                for base in ("BTC", "ETH")
            ]
        },
        {"USDC": (None, "2", "12"), "BTC": ("1", "0", "1"), "ETH": ("1", "0", "1")},
        values={"balance_params": {"marginMode": "isolated"}},
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


def test_the_parameters_of_the_configuration_go_to_the_exchange() -> None:
    account = {"subaccount": {"equity": "9", "freeCollateral": "7"}}
    case = Case(
        "dydx",
        "/subaccountNumber/3",
        account,
        {},
        WORDS,
        values={"balance_params": {"subaccountNumber": 3, "address": "dydx1other"}},
    )
    with asked(case) as (server, broker):
        assert broker.free("USDC") == Decimal(7)
        assert server.asked("/addresses/dydx1other/subaccountNumber/3") == 1


def test_an_account_that_is_chosen_by_other_parameters_starts_with_nothing_known(tmp_path: Path) -> None:
    def answer(request: Request) -> Reply:
        number = request.path.rpartition("/")[2]
        free = {"0": "7", "1": "9"}.get(number)
        return Reply({}, status=503) if free is None else Reply({"subaccount": {"freeCollateral": free}})

    with answering(answer) as server:

        def account(name: str, number: int) -> BrokerSpec:
            return spec_of(
                "dydx",
                server,
                name,
                credentials=WORDS,
                conf={"markets": {"BTC/USDC": market("BTC/USDC", "BTC-USDC")}},
                balance_params={"subaccountNumber": number},
            )

        settings = ClusterSettings(state=str(tmp_path / "s"), store=f"sqlite:///{tmp_path / 's.db'}")
        with Cluster([account("a", 0), account("b", 1)], settings) as cluster:
            assert cluster.broker("a").free("USDC") == Decimal(7)
            assert cluster.broker("b").free("USDC") == Decimal(9)
            cash = cluster.total_cash()["USD"]
            assert (cash.cash, cash.same_account) == (Decimal(16), ()), "two accounts of one key"
        with Cluster([account("a", 5), account("b", 1)], settings) as cluster:
            with pytest.raises(BalanceUnknown, match="never answered"):
                cluster.broker("a").free("USDC")
            assert cluster.broker("b").reading().cash == Decimal(9), "of the same account it is remembered"


@pytest.mark.parametrize(
    ("exchange", "credentials", "expected"),
    [
        ("kraken", KEYS, "the exchange krakenfutures"),
        ("coinbase", KEYS, "a key of the other portfolio"),
        ("okx", KEYS, "read_funding = true"),
        ("myokx", KEYS, "read_funding = true"),
    ],
)
def test_an_exchange_that_is_asked_without_parameters_says_what_to_do_instead(
    exchange: str, credentials: dict[str, str], expected: str
) -> None:
    spec = BrokerSpec("a", exchange=exchange, credentials=credentials, balance_params={"type": "swap"})
    with pytest.raises(ConfigError, match=expected), cluster_of(spec):
        pass


@pytest.mark.parametrize(
    ("exchange", "credentials", "expected"),
    [
        ("dydx", {}, "expected what dydx needs besides: the address"),
        ("pacifica", {"private_key": "1" * 64}, "expected what pacifica needs"),
        ("bullish", KEYS, "as ccxt.options.tradingAccountId, or balance_params.tradingAccountId"),
        ("gemini", {**KEYS, "api_key": "master-abc"}, "a key of one account, account-"),
    ],
)
def test_what_is_needed_besides_is_asked_for_before_any_request(
    exchange: str, credentials: dict[str, str], expected: str, tmp_path: Path
) -> None:
    spec = BrokerSpec("a", exchange=exchange, credentials=credentials)
    with pytest.raises(ConfigError) as raised, cluster_of(spec):
        pass
    [problem] = raised.value.problems
    assert expected in str(problem)
    path = tmp_path / "b.toml"
    path.write_text(f'version = 1\n[brokers.a]\nexchange = "{exchange}"\n')
    names = {"secret": "API_SECRET", "password": "API_PASSPHRASE"}
    variables = {f"A_{names.get(name, name.upper())}": value for name, value in credentials.items()}
    examined = examine(path, Catalogue(), environment=variables)
    [problem] = examined.broken["a"][1]
    assert expected in str(problem)
    assert problem.key == (f"brokers.a.{PLACES[exchange]}")


PLACES: Final = {
    "dydx": "wallet_address_env",
    "pacifica": "wallet_address_env",
    "bullish": "ccxt.options.tradingAccountId",
    "gemini": "api_key_env",
}


@pytest.mark.parametrize(
    ("exchange", "variables", "lines"),
    [
        ("dydx", {"A_WALLET_ADDRESS": WORDS["wallet_address"]}, ""),
        ("dydx", {}, '[brokers.a.balance_params]\naddress = "dydx1other"\n'),
        ("pacifica", {"A_PRIVATE_KEY": "1" * 64, "A_WALLET_ADDRESS": "w" * 44}, ""),
        ("bullish", KEYS, "[brokers.a.ccxt.options]\ntradingAccountId = 7\n"),
        ("bullish", KEYS, '[brokers.a.balance_params]\ntradingAccountId = "7"\n'),
        ("gemini", {**KEYS, "api_key": "account-abc"}, ""),
    ],
)
def test_any_of_its_ways_gives_what_is_needed(
    exchange: str, variables: dict[str, str], lines: str, tmp_path: Path
) -> None:
    path = tmp_path / "b.toml"
    path.write_text(f'version = 1\n[brokers.a]\nexchange = "{exchange}"\n{lines}')
    names = {"api_key": "A_API_KEY", "secret": "A_API_SECRET", "password": "A_API_PASSPHRASE"}
    environment = {names.get(name, name): value for name, value in variables.items()}
    assert not examine(path, Catalogue(), environment=environment).broken
