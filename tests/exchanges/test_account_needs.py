"""Which account is read, and what it needs: held to ccxt, whose calls are made and not sent."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any, Final

import ccxt
import pytest

from brokerwatch.exchanges.account_needs import NEEDS, account_mistakes
from brokerwatch.exchanges.registry import FAMILIES, profile_of

DOCS: Final = Path(__file__).parents[2] / "docs" / "configuration.md"
ANSWERED: Final = {
    "enableUnifiedMargin": False, "enableUnifiedAccount": False, "unifiedAccount": False, "uta": False,
    "accountIndex": 1,
}  # fmt: skip
"""What questions before the balance were answered with."""
KEY: Final = "0x" + "1" * 64
SECRET: Final = "A" * 43 + "="
COINS: Final[dict[str, Any]] = {
    code: {"id": code, "code": code, "info": {}} for code in ("USDT", "BTC", "USD")
}


class Sent(Exception):
    """A request that would go out."""


def request_of(exchange: str, params: dict[str, Any], **credentials: str) -> str:
    """The first request of `fetch_balance`. Raises what ccxt raises."""
    of: Any = getattr(ccxt, exchange)

    class Unsent(of):  # type: ignore[misc] # ccxt has no annotations
        def fetch(self, url: str, method: str = "GET", headers: Any = None, body: Any = None) -> Any:
            shown = f"{method} {url} {body}"
            raise Sent(re.sub(r"(?i)(signature|sign|timestamp|nonce|tonce|ts)[=\"':]+ ?[^&,}]*", "", shown))

        def load_markets(self, *request: object) -> Any:
            del request
            return self.markets

    Unsent.__name__ = exchange
    made: Any = Unsent()
    needed = [name for name, is_needed in made.requiredCredentials.items() if is_needed]
    for name in needed:
        setattr(made, name, SECRET if name == "secret" else KEY)
    for name, value in credentials.items():
        setattr(made, name, value)
    made.markets, made.markets_by_id, made.currencies, made.currencies_by_id = {}, {}, COINS, COINS
    made.options.update(ANSWERED)
    try:
        made.fetch_balance(params)
    except Sent as sent:
        return str(sent)
    raise AssertionError("nothing was asked")


def documented() -> list[tuple[str, dict[str, Any]]]:
    """Each exchange of the table of accounts, with each of its parameters."""
    section = (
        DOCS.read_text("utf-8").partition("## Sub-accounts, margin and futures")[2].partition("\n## ")[0]
    )
    found: list[tuple[str, dict[str, Any]]] = []
    for row in section.partition("| account |")[2].partition("\n\n")[0].splitlines():
        cells = row.split("|")
        for exchange in re.findall(r"`(\w+)`", cells[1]) if len(cells) > 3 else ():
            found += [
                (exchange, tomllib.loads(f"p = {written}")["p"])
                for written in re.findall(r"`(\{.*?\})`", cells[3])
            ]
    return found


def test_the_documentation_has_a_table_of_accounts() -> None:
    assert len(documented()) > 20


@pytest.mark.parametrize(("exchange", "params"), documented(), ids=str)
def test_documented_parameters_reach_another_account(exchange: str, params: dict[str, Any]) -> None:
    wallet = {"walletAddress": "0x" + "a" * 40}
    assert not list(account_mistakes(exchange, [("wallet_address", "x")], {}, params))
    assert request_of(exchange, params, **wallet) != request_of(exchange, {}, **wallet)


@pytest.mark.parametrize("exchange", [name for name in NEEDS if name not in ("bullish",)])
def test_ccxt_sends_nothing_without_what_is_needed_besides(exchange: str) -> None:
    with pytest.raises((ccxt.ArgumentsRequired, ccxt.AuthenticationError)):
        request_of(exchange, {})


def test_every_exchange_that_sends_nothing_with_all_that_ccxt_requires_is_known() -> None:
    lacking: set[str] = set()
    for exchange in ccxt.exchanges:
        try:
            request_of(exchange, {})
        except (ccxt.ArgumentsRequired, ccxt.AuthenticationError, ccxt.PermissionDenied):
            lacking.add(exchange)
        except Exception:  # noqa: BLE001 - a made-up key that cannot sign is another matter
            continue
    assert lacking == NEEDS.keys() - {"bullish"}, "bullish asks for its accounts first"


@pytest.mark.parametrize("exchange", sorted(FAMILIES))
def test_an_exchange_with_an_adapter_of_its_own_says_how_its_other_accounts_are_reached(
    exchange: str,
) -> None:
    assert profile_of(FAMILIES[exchange]).other_accounts
    [(key, expected)] = account_mistakes(exchange, (), {}, {"type": "swap"})
    assert key == "balance_params"
    assert f"expected none for {exchange}: " in expected
    assert not list(account_mistakes(exchange, (), {}, {}))
