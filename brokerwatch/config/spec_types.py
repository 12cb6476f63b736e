"""The type of each value of a broker. A file is read by type; a spec in Python comes as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from brokerwatch.config.money_watch_settings import MoneyRules
from brokerwatch.config.policy import Rules


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_switch(value: object) -> bool:
    return isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)


def _or_none(fits: Callable[[object], bool]) -> Callable[[object], bool]:
    return lambda value: value is None or fits(value)


_NUMBERS: Final = ("poll_interval_s", "fetch_deadline_s", "reserved_requests")
_NUMBERS_OR_NONE: Final = (
    *("quiet_poll_interval_s", "requests_per_s", "request_burst", "entry_max_age_s", "max_proof_age_s"),
    "key_watch_interval_s",
)
_MAPS: Final = ("labels", "pin", "credentials", "origins", "ccxt", "balance_params")
_SWITCHES: Final = (
    *("read_funding", "simulated", "trading", "repeat_exits", "allow_empty", "same_account"),
    *("push", "nonce_fence"),
)
_TYPES: Final[Mapping[str, tuple[Callable[[object], bool], str]]] = {
    **dict.fromkeys(("name", "policy", "nonce_fence_confirmed"), (_is_text, "text")),
    **dict.fromkeys(_NUMBERS, (_is_number, "a number")),
    **dict.fromkeys(_NUMBERS_OR_NONE, (_or_none(_is_number), "a number, or None")),
    **dict.fromkeys(_SWITCHES, (_is_switch, "True or False")),
    **dict.fromkeys(_MAPS, (_is_map, "a mapping")),
    "max_consecutive_errors": (
        lambda value: isinstance(value, int) and not isinstance(value, bool),
        "a whole number",
    ),
    "cash_currencies": (lambda value: isinstance(value, tuple | list), "a tuple of texts"),
    "egress_address": (_or_none(_is_text), "text, or None"),
    "fetch": (_or_none(callable), "an async callable, or None"),
    "money_watch": (_or_none(lambda value: isinstance(value, MoneyRules)), "MoneyRules, or None"),
    "rules": (lambda value: isinstance(value, Rules), "Rules"),
}


def type_mistakes(spec: Any) -> Iterator[tuple[str, str]]:
    """(key, what was expected) for each value of a broker that is of another type.

    No value is repeated: what stands at the wrong key may be a secret.
    """
    for key, (fits, expected) in _TYPES.items():
        value: object = getattr(spec, key)
        if not fits(value):
            yield key, f"expected {expected}, not {type(value).__name__}"
