"""Each account takes the proxy that its own settings say, and no other account's."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, cast

import ccxt.async_support as ccxt_async
import pytest

from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import BalanceUnknown
from tests.gateway.test_async_source import GOOD, Stranger, stranger
from tests.support.clusters import ONLY_WHEN_ASKED, cluster_of

FAR = "http://exchange.example"
"""An address that exists behind the proxy alone."""


def spec(name: str, url: str, **options: Any) -> BrokerSpec:
    urls = {"api": dict.fromkeys(("public", "private"), url)}
    return BrokerSpec(
        name,
        exchange="kraken",
        credentials={"api_key": name, "secret": "c2VjcmV0"},
        ccxt={"urls": urls, **options},
        poll_interval_s=ONLY_WHEN_ASKED,
        simulated=True,
    )


def environment(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    for name in ("http", "https", "all", "no"):
        monkeypatch.delenv(f"{name}_proxy", raising=False)
        monkeypatch.delenv(f"{name.upper()}_PROXY", raising=False)
    monkeypatch.setenv("http_proxy", proxy)


def asked_for_balance(server: type[Stranger]) -> int:
    """How often it was; the exchange's status is asked for by the way."""
    return sum("/private/BalanceEx" in each for each in server.asked)


WAYS: Mapping[str, Any] = {
    "aiohttp_trust_env": True,
    "trust_env": True,
    "httpProxy": "{proxy}",
    "http_proxy": "{proxy}",
    "httpsProxy": "{proxy}",
    "aiohttp_proxy": "{proxy}",
}


@pytest.mark.parametrize("first", ["direct", "proxied"])
@pytest.mark.parametrize("way", WAYS)
def test_an_account_takes_its_own_proxy_and_no_other_does(
    monkeypatch: pytest.MonkeyPatch, way: str, first: str
) -> None:
    with stranger(200, GOOD) as (proxy, through), stranger(200, GOOD) as (near, directly):
        environment(monkeypatch, proxy)
        value = WAYS[way] if WAYS[way] is True else WAYS[way].format(proxy=proxy)
        specs = [spec("direct", near), spec("proxied", FAR, **{way: value})]
        with cluster_of(*(specs if first == "direct" else specs[::-1])) as cluster:
            for name in ("direct", "proxied") if first == "direct" else ("proxied", "direct"):
                assert cluster.broker(name).get_account_balance() == Decimal("31337.00")
        assert asked_for_balance(through) == asked_for_balance(directly) == 1
        assert all("proxied" not in each for each in directly.asked), "its key left through its proxy alone"


def test_a_callback_says_the_proxy_of_each_request(monkeypatch: pytest.MonkeyPatch) -> None:
    with stranger(200, GOOD) as (proxy, through):
        environment(monkeypatch, "http://127.0.0.1:9")

        def choose(*_: object) -> str:
            return proxy

        with cluster_of(spec("proxied", FAR, httpProxyCallback=choose)) as cluster:
            assert cluster.broker("proxied").get_account_balance() == Decimal("31337.00")
        assert asked_for_balance(through) == 1


@pytest.mark.parametrize("name", ["proxyUrl", "proxy_url", "proxy"])
def test_what_ccxt_does_not_manage_leaves_in_no_other_way(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    # ccxt 4.5.90 takes each of them for one proxy too many.
    with stranger(200, GOOD) as (near, directly):
        with cluster_of(spec("proxied", near, **{name: f"{near}/relay/"})) as cluster:
            with contextlib.suppress(BalanceUnknown):
                cluster.broker("proxied").get_account_balance()
            known = cluster.reading("proxied")
        assert all("/relay/" in each for each in directly.asked)
        assert known.cash is not None or "InvalidProxySettings" in caplog.text


def test_an_exchange_without_an_adapter_takes_the_proxies_of_the_environment_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with stranger(200, b"[]") as (proxy, through):
        environment(monkeypatch, proxy)
        urls = {
            "api": json.loads(
                json.dumps(cast("Any", ccxt_async.gate()).urls["api"]).replace("https://", "http://far.")
            )
        }
        account = BrokerSpec(
            "g",
            exchange="gate",
            credentials={"api_key": "k", "secret": "s"},
            ccxt={"urls": urls, "aiohttp_trust_env": True},
            poll_interval_s=ONLY_WHEN_ASKED,
            fetch_deadline_s=5.0,
            simulated=True,
        )
        with cluster_of(account) as cluster, contextlib.suppress(BalanceUnknown):
            cluster.broker("g").get_account_balance()
        assert through.asked
        assert all(each.startswith("http://far.") for each in through.asked)
