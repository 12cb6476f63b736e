"""Each setting of a proxy is honoured for its account alone, or refused when the configuration is read."""

from __future__ import annotations

from typing import Any

import pytest

from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.proxy_settings import proxy_mistakes, unused_proxies
from brokerwatch.errors import ConfigError

PROXY = "http://trader:hush@127.0.0.1:3128"


def said(*_: object) -> str:
    """A callback of ccxt's, which is asked for the proxy of each request."""
    return PROXY


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"httpProxy": PROXY},
        {"https_proxy": PROXY},
        {"aiohttp_proxy": PROXY, "httpProxy": ""},
        {"proxyUrl": "https://relay.example/?"},
        {"httpProxyCallback": said},
        {"aiohttp_trust_env": True},
        {"aiohttp_trust_env": False, "requests_trust_env": False, "proxies": None},
        {"wsProxy": PROXY, "options": {"defaultType": "spot"}},
    ],
    ids=lambda options: " ".join(options) or "none",
)
def test_a_setting_that_ccxt_reads_is_taken(options: dict[str, Any]) -> None:
    assert list(proxy_mistakes(options)) == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"proxies": {"https": PROXY}}, "proxies: expected httpProxy"),
        ({"requests_trust_env": True}, "requests_trust_env: expected httpProxy"),
        ({"aiohttpTrustEnv": True}, "aiohttpTrustEnv: expected httpProxy"),
        ({"HTTP_PROXY": PROXY}, "HTTP_PROXY: expected httpProxy"),
        ({"httpproxy": PROXY}, "httpproxy: expected httpProxy"),
        ({"aiohttp_trust_env": "true"}, "aiohttp_trust_env: expected true or false"),
        ({"httpProxy": "127.0.0.1:3128"}, "begins with http:// or https://"),
        ({"httpProxy": "socks5://127.0.0.1:1080"}, "begins with http:// or https://"),
        ({"httpProxy": "http://127.0.0.1:port"}, "begins with http:// or https://"),
        ({"socksProxy": PROXY}, "begins with socks4://"),
        ({"httpProxy": 3128}, "begins with http:// or https://"),
        ({"httpProxyCallback": PROXY}, "expected a function"),
        (
            {"httpProxy": PROXY, "socksProxy": ""} | {"https_proxy": PROXY},
            "expected one proxy, and there are 2",
        ),
        ({"aiohttp_proxy": PROXY, "proxyUrl": PROXY}, "expected one proxy, and there are 2"),
    ],
    ids=str,
)
def test_a_setting_that_would_be_passed_over_is_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(ConfigError) as refused:
        BrokerSpec("k", exchange="kraken", ccxt=options)
    [problem] = refused.value.problems
    assert problem.key == "brokers.k.ccxt"
    assert expected in problem.expected
    assert "hush" not in problem.expected


@pytest.mark.parametrize(
    ("variable", "value", "expected"),
    [
        ("ALL_PROXY", PROXY, "ALL_PROXY is not read"),
        ("https_proxy", "socks5://127.0.0.1:1080", "begins with http:// in HTTPS_PROXY"),
        ("HTTP_PROXY", "https://127.0.0.1:3128", "begins with http:// in HTTP_PROXY"),
    ],
)
def test_a_proxy_of_the_environment_that_would_be_passed_over_is_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, expected: str
) -> None:
    monkeypatch.setenv(variable, value)
    [mistake] = proxy_mistakes({"aiohttp_trust_env": True})
    assert expected in mistake
    assert list(proxy_mistakes({})) == []


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "https_proxy", "ALL_PROXY"])
def test_a_proxy_of_the_environment_that_is_passed_by_is_named(variable: str) -> None:
    assert unused_proxies({}, {variable: PROXY, "no_proxy": "x"}) == (variable,)
    assert unused_proxies({"aiohttp_trust_env": True}, {variable: PROXY}) == ()
    assert unused_proxies({"httpsProxy": PROXY}, {variable: PROXY}) == ()
    assert unused_proxies({}, {variable: ""}) == ()
