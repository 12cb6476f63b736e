"""What an exchange needs for its balance although ccxt does not call it required, and who gets no parameters.

Each need is what ccxt 4.5.90 raises ArgumentsRequired or AuthenticationError for while it makes the request
of `fetch_balance`, or after a first answer; found by reading and by running that call of all its exchanges.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, cast

from brokerwatch.exchanges.registry import FAMILIES, profile_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """One thing that must be given, in any of these ways."""

    what: str
    """What it is and where it is found, for people."""
    credential: str = ""
    """The credential that gives it, in snake_case; empty: none does."""
    option: str = ""
    """The option of ccxt that gives it; empty: none does."""
    parameters: tuple[str, ...] = ()
    """The parameters of `fetch_balance` of which any gives it."""
    part: str = ""
    """What must stand in the credential."""


NEEDS: Final[Mapping[str, Need]] = MappingProxyType(
    {
        "bullish": Need(
            what="the trading account's id, which Bullish shows beside each of them",
            option="tradingAccountId",
            parameters=("tradingAccountId",),
        ),
        "dydx": Need(
            what="the address on its own chain, dydx1…, by which its indexer finds the account",
            credential="wallet_address",
            parameters=("address", "user"),
        ),
        "gemini": Need(
            what="a key of one account, account-…, since ccxt takes no master key",
            credential="api_key",
            part="account",
        ),
        "pacifica": Need(
            what="the address of the account, by which its API finds it",
            credential="wallet_address",
            parameters=("account", "address"),
        ),
    }
)


def account_mistakes(
    exchange: str, given: Iterable[tuple[str, str]], options: object, params: Mapping[str, object]
) -> Iterator[tuple[str, str]]:
    """(key, what was expected) for what an account's configuration lacks, or has too much.

    Args:
        exchange: the ccxt id.
        given: the credentials, in snake_case, with their values.
        options: ccxt's options of the configuration.
        params: the parameters of `fetch_balance`.
    """
    instead = profile_of(FAMILIES.get(exchange, "")).other_accounts
    if params and instead:
        yield "balance_params", f"expected none for {exchange}: {instead}"
    need = NEEDS.get(exchange)
    if need is None:
        return
    credentials = dict(given)
    value = credentials.get(need.credential, "")
    if (value and need.part in value) or any(params.get(name) for name in need.parameters):
        return
    if need.option and _has(options, need.option):
        return
    if need.part and not value:
        return  # the credential itself is asked for already
    ways = [
        *([f"{need.credential}_env or {need.credential}_file"] if need.credential else ()),
        *([f"ccxt.options.{need.option}"] if need.option else ()),
        *(f"balance_params.{name}" for name in need.parameters[:1]),
    ]
    key = f"{need.credential}_env" if need.credential else f"ccxt.options.{need.option}"
    yield key, f"expected what {exchange} needs besides: {need.what}; as {', or '.join(ways)}"


def _has(options: object, name: str) -> bool:
    """Whether an option is set, or stands among those of one call."""
    if not isinstance(options, Mapping):
        return False
    found = cast("Mapping[str, object]", options)
    return bool(found.get(name)) or any(
        cast("Mapping[str, object]", each).get(name) for each in found.values() if isinstance(each, Mapping)
    )
