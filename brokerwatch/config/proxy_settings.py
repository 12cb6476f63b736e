"""Which proxy an account's requests take, as ccxt's options say it, and what of that cannot be honoured.

A setting that ccxt passes over would let signed requests leave directly, without a word. So each is read by
its exact name, and what the asynchronous side of ccxt does not read is a mistake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from typing import Any, Final
from urllib.parse import urlsplit
from urllib.request import getproxies

_SCHEMES: Final[Mapping[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("httpProxy", "http_proxy", "httpsProxy", "https_proxy", "aiohttp_proxy"), ("http", "https")
    ),
    **dict.fromkeys(("socksProxy", "socks_proxy"), ("socks4", "socks5", "socks5h")),
    **dict.fromkeys(("proxyUrl", "proxy_url", "proxy"), ("http", "https")),
}
"""The names that ccxt reads, and how an address begins there."""
_CALLBACKS: Final = frozenset(
    ("httpProxyCallback", "http_proxy_callback", "httpsProxyCallback", "https_proxy_callback",
     "socksProxyCallback", "socks_proxy_callback", "proxyUrlCallback", "proxy_url_callback")
)  # fmt: skip
_TRUST: Final = ("aiohttp_trust_env", "trust_env")
_READ: Final = "httpProxy, httpsProxy, socksProxy, aiohttp_proxy or aiohttp_trust_env"


def proxy_mistakes(options: Mapping[str, Any]) -> Iterator[str]:
    """What was expected, for each setting of a proxy in ccxt's options that cannot be honoured."""
    chosen = [name for name, value in options.items() if _is_about_a_proxy(name) and value]
    for name in chosen:
        value: object = options[name]
        if name in _TRUST:
            yield from _environment(name, value)
        elif name in _CALLBACKS or (name == "proxy" and callable(value)):
            if not callable(value):
                yield f"{name}: expected a function; in a file, {_READ}"
        elif name not in _SCHEMES:
            yield f"{name}: expected {_READ}; ccxt passes over this one, and requests would leave directly"
        else:
            yield from _address(name, value)
    proxies = [name for name in chosen if name not in _TRUST]
    if len(proxies) > 1:
        yield f"expected one proxy, and there are {len(proxies)}: {', '.join(proxies)}"


def unused_proxies(options: Mapping[str, Any], environment: Mapping[str, str]) -> tuple[str, ...]:
    """The variables that name a proxy which an account with these options passes by, in their own letters."""
    if any(_is_about_a_proxy(name) and value for name, value in options.items()):
        return ()
    names = ("http_proxy", "https_proxy", "all_proxy")
    return tuple(sorted(name for name, value in environment.items() if name.lower() in names and value))


def _is_about_a_proxy(name: str) -> bool:
    plain = name.replace("_", "").lower()
    if plain.startswith(("ws", "wss")):
        return False  # for connections that brokerwatch does not make
    return "prox" in plain or plain.endswith("trustenv")


def _address(name: str, value: object) -> Iterator[str]:
    schemes = _SCHEMES[name]
    try:
        parts = urlsplit(value) if isinstance(value, str) else None
        is_one = (
            parts is not None and parts.scheme in schemes and bool(parts.hostname) and (parts.port or 1) > 0
        )
    except ValueError:
        is_one = False
    if not is_one:
        # The value is not repeated: it may hold a password.
        yield f"{name}: expected an address that begins with {' or '.join(f'{each}://' for each in schemes)}"
    elif schemes[0].startswith("socks") and find_spec("aiohttp_socks") is None:
        yield f"{name}: expected the package aiohttp_socks to be installed, or a proxy of another kind"


def _environment(name: str, value: object) -> Iterator[str]:
    if value is not True:
        yield f"{name}: expected true or false"
        return
    found = getproxies()
    if "all" in found and not {"http", "https"} <= found.keys():
        yield f"{name}: expected HTTP_PROXY and HTTPS_PROXY in the environment; ALL_PROXY is not read"
    for scheme in ("http", "https"):
        if scheme in found and urlsplit(found[scheme]).scheme != "http":
            variable = f"{scheme.upper()}_PROXY"
            yield f"{name}: expected an address that begins with http:// in {variable}; others are not read"
