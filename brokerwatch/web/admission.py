"""Who is let in: the rules for `Host`, `Origin`, tokens, cookies and proxies. Pure: the time is an argument.

A page in a trader's browser can send requests to every address of this machine, under any name that its
author's DNS gives. So the name in `Host` is checked on each request. What changes something also needs its
own `Origin` and a body of JSON, which no form of another page can send. Source: OWASP's cheat sheet on
cross-site request forgery.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

from brokerwatch.config.http_settings import HttpSettings

SESSION_S: Final = 12 * 3_600.0
"""How long a login lasts."""
MOST_SESSIONS: Final = 1_000
"""The oldest of more is ended."""
COOKIE: Final = "brokerwatch"


@dataclass(frozen=True, slots=True)
class Caller:
    """What is believed of the sender of a request."""

    address: str
    is_proxy: bool
    """Whether the connection comes from a proxy that the configuration names."""
    host: str
    """The name that the reader typed, with its port."""
    scheme: str
    """`http` or `https`, as the reader sees it."""
    header: str = ""
    """The header `Host` as it came; behind a proxy that may be another name than `host`."""


def caller(
    settings: HttpSettings,
    peer: str,
    host: str,
    forwarded_for: str,
    forwarded_host: str,
    forwarded_proto: str,
    *,
    is_tls: bool,
) -> Caller:
    """Who sent a request. What is forwarded counts only from a proxy that the configuration names.

    Args:
        settings: the [http] table.
        peer: the address at the other end of the connection.
        host: the header `Host`.
        forwarded_for: the header `X-Forwarded-For`, empty where there is none; so are the two after it.
        forwarded_host: `X-Forwarded-Host`.
        forwarded_proto: `X-Forwarded-Proto`.
        is_tls: whether the connection itself is encrypted.
    """
    scheme = "https" if is_tls else "http"
    if not _is_among(peer, settings.proxies):
        return Caller(peer, is_proxy=False, host=host, scheme=scheme, header=host)
    # Each proxy appends the address that it sees; what stands before it was written by the sender.
    hops = [hop.strip() for hop in forwarded_for.split(",") if hop.strip()]
    while len(hops) > 1 and _is_among(hops[-1], settings.proxies):
        hops.pop()
    named = forwarded_proto.strip().lower()
    return Caller(
        hops[-1] if hops else peer,
        is_proxy=True,
        host=forwarded_host.strip() or host,
        scheme=named if named in ("http", "https") else scheme,
        header=host,
    )


def objection(settings: HttpSettings, sender: Caller) -> str:
    """Why this sender is not answered at all; empty when it is."""
    if why := _name_objection(settings, sender.host):
        return why
    # A browser on the proxy's machine has the proxy's address, and a page under a name that its author's DNS
    # points here can make up what is forwarded, but not `Host`. With a token it has nothing to show.
    if sender.is_proxy and not settings.token and (why := _name_objection(settings, sender.header)):
        return why
    if settings.beyond_loopback and not settings.tls_certificate and not sender.is_proxy:
        return "it is reached through its proxy alone, which encrypts"
    return ""


def _name_objection(settings: HttpSettings, text: str) -> str:
    """Why this server is not to be reached by this name, with or without a port; empty when it is."""
    name = re.fullmatch(r"(\[[0-9A-Fa-f:.]+\]|[^:\[\]/@\s]+)(:[0-9]{1,5})?", text)
    if name is None:
        return "the header Host is missing or cannot be"
    host = name[1].strip("[]").lower().rstrip(".")
    # An address cannot be rebound to another one, and a name can.
    if _is_address(host) or host == "localhost" or host in {each.lower() for each in settings.hosts}:
        return ""
    return f"{host} is none of its names; an operator can add it to hosts in [http]"


def is_own_origin(sender: Caller, origin: str) -> bool:
    """Whether a request was sent by a page of ours. A sender that is no browser has no `Origin`."""
    return origin.lower() == f"{sender.scheme}://{sender.host}".lower()


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_among(address: str, networks: tuple[str, ...]) -> bool:
    try:
        found = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    return any(found in ip_network(each, strict=False) for each in networks)


@dataclass(slots=True)
class Sessions:
    """The logins that last. Used by one thread.

    Args:
        token: what a reader has to show; empty: every reader is let in.
    """

    token: str = field(repr=False)
    _until_s: dict[str, float] = field(default_factory=dict[str, float], repr=False)
    """A digest of each cookie, and the monotonic second at which it ends."""

    def is_token(self, shown: str) -> bool:
        """Whether this is the token. It takes as long for one that begins rightly as for any other."""
        return bool(self.token) and hmac.compare_digest(_bytes(shown), _bytes(self.token))

    def begin(self, cookie: str, now_s: float) -> None:
        """Let in each reader who shows this cookie from now on."""
        self._until_s = {each: until_s for each, until_s in self._until_s.items() if now_s < until_s}
        while len(self._until_s) >= MOST_SESSIONS:
            self._until_s.pop(next(iter(self._until_s)))
        self._until_s[_digest(cookie)] = now_s + SESSION_S

    def end(self, cookie: str) -> None:
        """Let this cookie in no more."""
        self._until_s.pop(_digest(cookie), None)

    def is_let_in(self, cookie: str, now_s: float) -> bool:
        """Whether a login with this cookie lasts."""
        return now_s < self._until_s.get(_digest(cookie), float("-inf"))


def _digest(cookie: str) -> str:
    # A look-up in a dict takes longer for a key that is nearly right; a digest of it tells nothing.
    return hashlib.sha256(_bytes(cookie)).hexdigest()


def _bytes(text: str) -> bytes:
    # A header may hold bytes that are no UTF-8; aiohttp hands them on as halves of surrogate pairs.
    return text.encode("utf-8", "surrogateescape")
