"""Where an exchange without an adapter of its own states what an API key may do: one row for each.

Only what the documentation of the exchange says is read. What it does not state stays None.
A row names a method of ccxt whose answer states it; none of them is meant to be refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Protocol

from brokerwatch.exchanges.envelope import UnprovenAnswer, exact, listing, mapping, number, short, text
from brokerwatch.exchanges.key_info import KeyFacts, may_withdraw, staying


class ReadKey(Protocol):
    """Reads an answer about keys."""

    def __call__(self, answer: object, *, api_key: str) -> KeyFacts:
        """The facts about the key `api_key`. Raises UnprovenAnswer."""
        ...


@dataclass(frozen=True, slots=True)
class KeyForm:
    """How one exchange states it."""

    method: str
    """ccxt's name of the question."""
    read: ReadKey
    states: str
    """What it states: of rights, end and addresses."""

    @property
    def states_rights(self) -> bool:
        """Whether it states what the key may do."""
        return "rights" in self.states


def _flag(row: Mapping[str, Any], name: str) -> bool | None:
    """What a flag states; None: it is not there."""
    value = row.get(name)
    if value is not None and not isinstance(value, bool):
        raise UnprovenAnswer(f"{name} is {short(value)}")
    return value


def _bit(value: object, what: str) -> bool:
    """What a 0 or a 1 states. Numbers of an answer come as they were written, as text."""
    if isinstance(value, bool) or str(value) not in ("0", "1"):
        raise UnprovenAnswer(f"{what} is {short(value)}")
    return str(value) == "1"


def _second(stated: object, what: str) -> float | None:
    """The second, since 1970, that an ISO date names; None where there is none."""
    if stated in (None, ""):
        return None
    try:
        moment = datetime.fromisoformat(text(stated, what))
    except ValueError:
        raise UnprovenAnswer(f"{what} is {short(stated)}") from None
    if moment.tzinfo is None:
        raise UnprovenAnswer(f"{what} names no time zone: {short(stated)}")
    return moment.timestamp()


_BINANCE_TRADES: Final = (
    "enableSpotAndMarginTrading",
    "enableMargin",
    "enableFutures",
    "enablePortfolioMarginTrading",
)
_BINANCE_RIGHTS: Final = (
    "enableReading",
    *_BINANCE_TRADES,
    "enableVanillaOptions",
    "permitsUniversalTransfer",
    "enableInternalTransfer",
    "enableFixApiTrade",
    "enableFixReadOnly",
)


def binance(answer: object, *, api_key: str) -> KeyFacts:
    """https://developers.binance.com/docs/wallet/account/api-key-permission"""
    del api_key
    row = mapping(answer, "the answer")
    reading, withdraw = _flag(row, "enableReading"), _flag(row, "enableWithdrawals")
    if reading is None and withdraw is None:
        raise UnprovenAnswer("the answer states no right")
    named = tuple(name for name in _BINANCE_RIGHTS if _flag(row, name))
    # The end of the right to trade is the end of what a trader uses the key for.
    ends = row.get("tradingAuthorityExpirationTime")
    ends_ms = None if ends in (None, "", 0, "0") else number(exact(ends), "tradingAuthorityExpirationTime")
    bound = _flag(row, "ipRestrict")
    return KeyFacts(
        query=reading,
        trade=_flag(row, "enableSpotAndMarginTrading"),
        withdraw=withdraw,
        rights=", ".join((*named, *(["enableWithdrawals"] if withdraw else []))) or "nothing",
        named=named,
        addresses=() if bound is False else None,
        bound=bound,
        ends_s=None if ends_ms is None else float(ends_ms) / 1_000,
    )


def bybit(answer: object, *, api_key: str) -> KeyFacts:
    """https://bybit-exchange.github.io/docs/v5/user/apikey-info"""
    row = mapping(mapping(answer, "the answer").get("result"), "the result")
    stated_key = text(row.get("apiKey"), "apiKey")
    if api_key and stated_key != api_key:
        raise UnprovenAnswer("the answer is about another key")
    read_only = _bit(row.get("readOnly"), "readOnly")
    groups = mapping(row.get("permissions"), "permissions")
    rights = [
        f"{group}.{text(right, group)}" for group, each in groups.items() for right in listing(each, group)
    ]
    found = [text(each, "an address") for each in listing(row.get("ips"), "ips")]
    addresses = () if "*" in found else tuple(found)
    ends_s = _second(row.get("expiredAt"), "expiredAt")
    # A key that may only read keeps the names of its rights, and can use none of them.
    writes = not read_only
    trades = [right for right in rights if right.startswith("Spot.")]
    return KeyFacts(
        account=f"account {row['userID']}" if row.get("userID") else "",
        api_key=stated_key,
        query=True,
        trade=writes and bool(trades),
        withdraw=writes and may_withdraw(rights),
        rights=", ".join(["read", *(rights if writes else [])]),
        named=("read", *(staying(rights) if writes else ())),
        addresses=addresses,
        ends_s=ends_s,
        # "Only for those api key with no IP bound or the password has been changed."
        never_ends=ends_s is None and bool(addresses),
    )


def bitfinex(answer: object, *, api_key: str) -> KeyFacts:
    """https://docs.bitfinex.com/reference/key-permissions"""
    del api_key
    may: dict[tuple[str, str], bool] = {}
    for entry in listing(answer, "the permissions"):
        row = listing(entry, "a permission")
        if len(row) < 3:
            raise UnprovenAnswer(f"a permission is {short(row)}")
        scope = text(row[0], "a scope")
        may[scope, "read"], may[scope, "write"] = _bit(row[1], scope), _bit(row[2], scope)
    if not may:
        raise UnprovenAnswer("no permission is stated")
    rights = [f"{scope}:{kind}" for (scope, kind), allowed in may.items() if allowed]
    outward = [right for right in rights if "withdraw" in right]
    stated = {scope for scope, _ in may}
    return KeyFacts(
        query=may.get(("wallets", "read")) if "wallets" in stated else None,
        trade=may.get(("orders", "write")) if "orders" in stated else None,
        # The right to see withdrawals moves nothing.
        withdraw=any(right.endswith(":write") for right in outward)
        if {"withdraw", "ui_withdraw"} & stated
        else None,
        rights=", ".join(rights) or "nothing",
        named=staying(rights),
    )


def gate(answer: object, *, api_key: str) -> KeyFacts:
    """https://www.gate.com/docs/developers/apiv4/#get-account-detail

    It states from where the key may be used, and none of its rights.
    """
    del api_key
    row = mapping(answer, "the answer")
    return KeyFacts(
        account=f"account {row['user_id']}" if row.get("user_id") else "",
        addresses=tuple(
            text(each, "an address") for each in listing(row.get("ip_whitelist"), "ip_whitelist")
        ),
        doubt="the exchange does not state what the key may do",
    )


def upbit(answer: object, *, api_key: str) -> KeyFacts:
    """https://docs.upbit.com/kr/reference/list-api-keys, and of the same form
    https://apidocs.bithumb.com/reference/api-키-리스트-조회

    It states when each key of the account ends, and none of its rights.
    """
    for entry in listing(answer, "the keys"):
        row = mapping(entry, "a key")
        if text(row.get("access_key"), "access_key") == api_key:
            return KeyFacts(
                api_key=api_key,
                ends_s=_second(row.get("expire_at"), "expire_at"),
                doubt="the exchange does not state what the key may do",
            )
    raise UnprovenAnswer("the key is not in the list of keys")


KEY_FORMS: Final[Mapping[str, KeyForm]] = MappingProxyType(
    {
        "binance": KeyForm("sapiGetAccountApiRestrictions", binance, "rights, end, addresses"),
        "binancecoinm": KeyForm("sapiGetAccountApiRestrictions", binance, "rights, end, addresses"),
        "binanceusdm": KeyForm("sapiGetAccountApiRestrictions", binance, "rights, end, addresses"),
        "bybit": KeyForm("privateGetV5UserQueryApi", bybit, "rights, end, addresses"),
        "bybiteu": KeyForm("privateGetV5UserQueryApi", bybit, "rights, end, addresses"),
        "bybitid": KeyForm("privateGetV5UserQueryApi", bybit, "rights, end, addresses"),
        "bitfinex": KeyForm("privatePostAuthRPermissions", bitfinex, "rights"),
        "gate": KeyForm("privateAccountGetDetail", gate, "addresses"),
        "gateeu": KeyForm("privateAccountGetDetail", gate, "addresses"),
        "upbit": KeyForm("privateGetApiKeys", upbit, "end"),
        "bithumb": KeyForm("privateGetV1ApiKeys", upbit, "end"),
    }
)
"""By ccxt id. An exchange that is not here states nothing that is known to us."""
