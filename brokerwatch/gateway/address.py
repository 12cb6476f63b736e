"""The address that calls to one exchange leave by, and the ban that the exchange may have laid on it.

An exchange counts some requests for each address and not for each key, and bans the address. So all accounts
at that exchange which leave by the same address, by the same proxy or by none, wait for the same end. A
request that goes out meanwhile makes such a ban longer. Where no end is named, the pause doubles from ban to
ban, up to a day.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any, Final, NamedTuple, cast
from urllib.parse import urlsplit
from urllib.request import getproxies

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.exchanges.pauses import LONGEST_PAUSE_S
from brokerwatch.messages import Fault

FIRST_PAUSE_S: Final = 1.0
"""The pause after a first ban for which the exchange names no end."""
_DOUBLINGS: Final = 30
"""The most doublings of it; it has reached its limit long before."""
_NO_WAY_OUT: Final = ("ws", "wss")
"""Proxies of ccxt for connections that brokerwatch does not make begin with these."""


class Ban(NamedTuple):
    """A ban that the exchange laid on an address."""

    until_s: float
    """Monotonic seconds."""
    why: str
    """In the exchange's own words."""


class Address:
    """One address at one exchange, shared by the lanes of all accounts there. Any thread may use it."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._ban = Ban(float("-inf"), "")
        self._bans = 0
        """So many bans came one after the other, without an answer between them."""

    @property
    def ban(self) -> Ban:
        """The newest ban; it may be over."""
        return self._ban

    @property
    def is_banned(self) -> bool:
        """Whether nothing may go out from here now."""
        return self._clock.up_s() < self._ban.until_s

    def note(self, fault: Fault) -> None:
        """Learn from a fault whether the address is banned, and for how long."""
        if not fault.bans_address:
            return
        doubled_s = min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2.0 ** min(self._bans, _DOUBLINGS))
        pause_s = fault.retry_after_s or doubled_s
        self._bans += 1
        until_s = self._clock.up_s() + pause_s
        if until_s > self._ban.until_s:
            self._ban = Ban(until_s, fault.detail)

    def answered(self) -> None:
        """A call was answered."""
        self._bans = 0


def address_key(spec: BrokerSpec, family: str, described: Mapping[str, Any]) -> str:
    """What the accounts have in common that leave by one address to one exchange.

    Args:
        spec: The account.
        family: The name of its exchange's adapter; empty: it has none of its own.
        described: The addresses of the exchange as ccxt has them.
    """
    own = spec.instance
    urls: Any = described if own is None else own.urls
    given: object = {} if own is not None else spec.ccxt.get("urls")
    # What is configured replaces single addresses of ccxt's own table.
    hosts = sorted({*_hosts(_merged(urls.get("api"), cast("dict[str, Any]", given or {}).get("api")))})
    settings = dict(spec.ccxt) if own is None else cast("dict[str, Any]", dict(own.__dict__))
    return json.dumps([family or spec.exchange, hosts, sorted(_ways_out(settings))], default=repr)


def _merged(known: object, given: object) -> object:
    theirs, ours = _map(known), _map(given)
    if theirs is None or ours is None:
        return known if given is None else given
    return {name: _merged(theirs.get(name), ours.get(name)) for name in (*theirs, *ours)}


def _map(value: object) -> dict[str, object] | None:
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _hosts(urls: object) -> Iterator[str]:
    if isinstance(urls, dict):
        for each in cast("dict[str, object]", urls).values():
            yield from _hosts(each)
    elif isinstance(urls, str):
        yield urlsplit(urls).netloc


def _ways_out(settings: Mapping[str, Any]) -> Iterator[str]:
    """The proxies in the settings of a ccxt instance; ccxt has two spellings of each name."""
    for name, value in settings.items():
        plain = name.replace("_", "").lower()
        if value and "prox" in plain and not plain.startswith(_NO_WAY_OUT):
            yield f"{plain}={value!r}"
    session_proxies: object = getattr(settings.get("session"), "proxies", None)
    if session_proxies:
        yield f"session={session_proxies!r}"
    if any(value and name.replace("_", "").lower().endswith("trustenv") for name, value in settings.items()):
        yield f"environment={sorted(getproxies().items())!r}"
