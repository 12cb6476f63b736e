"""The questions that ccxt asks before the one for a balance, and what their answers must state.

By them ccxt chooses which account it asks about, and it takes what is missing for the simplest kind. So a
broken answer would have another account read, or a part of this one. What ccxt has chosen by it stays in its
options, which are set back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, cast
from urllib.parse import urlsplit

from brokerwatch.exchanges.envelope import UnprovenAnswer

Heard = Iterable[tuple[str, object]]
"""The address of each request that was answered, and its answer."""


@dataclass(frozen=True, slots=True)
class Prelude:
    """One question before the balance."""

    path: str
    """The end of its address."""
    states: Callable[[Mapping[str, Any]], bool]
    """Whether a map that answers it states what ccxt looks for."""


def _inner(answer: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    inner = answer.get(key)
    return cast("Mapping[str, Any]", inner) if isinstance(inner, Mapping) else {}


def _is_flag(value: object) -> bool:
    return str(value) in ("0", "1", "2")


def _names_a_spot_account(answer: Mapping[str, Any]) -> bool:
    rows = answer.get("data")
    accounts = cast("list[object]", rows) if isinstance(rows, list) else []
    known = [cast("Mapping[str, object]", one) for one in accounts if isinstance(one, Mapping)]
    whole = len(known) == len(accounts) and all(one.get("id") and one.get("type") for one in known)
    return whole and any(one.get("type") == "spot" for one in known)


_BYBIT: Final = (
    Prelude(
        "/v5/user/query-api",
        lambda answer: all(_is_flag(_inner(answer, "result").get(key)) for key in ("unified", "uta")),
    ),
)
_GATE: Final = (Prelude("/account/detail", lambda answer: _is_flag(_inner(answer, "key").get("mode"))),)
_KUCOIN: Final = (
    Prelude("/account/mode", lambda answer: isinstance(_inner(answer, "data").get("selfAccountMode"), str)),
)
_HTX: Final = (Prelude("/account/accounts", _names_a_spot_account),)

PRELUDES: Final[Mapping[str, tuple[Prelude, ...]]] = MappingProxyType(
    {
        "bittrade": _HTX,
        "bybit": _BYBIT,
        "bybiteu": _BYBIT,
        "bybitid": _BYBIT,
        "gate": _GATE,
        "gateeu": _GATE,
        "htx": _HTX,
        "kucoin": _KUCOIN,
        "kucoinfutures": _KUCOIN,
    }
)
"""By ccxt id, as `fetch_balance` and what it calls ask in ccxt 4.5.90."""


CHOSEN: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {
        **dict.fromkeys(("bybit", "bybiteu", "bybitid"), ("enableUnifiedMargin", "enableUnifiedAccount")),
        **dict.fromkeys(("gate", "gateeu"), ("unifiedAccount",)),
        **dict.fromkeys(("kucoin", "kucoinfutures"), ("uta",)),
    }
)
"""The options in which ccxt keeps what it has chosen."""


def prove(exchange: str, heard: Heard) -> None:
    """Raise UnprovenAnswer where an answer to a question before the balance does not state its part.

    Held to it is an answer that is a map, as all of these are.
    """
    for prelude in PRELUDES.get(exchange, ()):
        for url, answer in heard:
            if not urlsplit(url).path.endswith(prelude.path) or not isinstance(answer, Mapping):
                continue
            if not prelude.states(cast("Mapping[str, Any]", answer)):
                raise UnprovenAnswer(f"{prelude.path} does not state which account is asked about")


def was_answered(exchange: str, heard: Heard) -> bool:
    """Whether each question before the balance was answered. ccxt passes over some that failed."""
    paths = [urlsplit(url).path for url, _ in heard]
    return all(any(path.endswith(each.path) for path in paths) for each in PRELUDES.get(exchange, ()))
