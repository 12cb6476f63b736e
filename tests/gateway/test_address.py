"""The address that accounts leave by: a ban of it is shared, a limit of one key is not."""

from __future__ import annotations

import time
from typing import Any

import ccxt
import pytest

from brokerwatch.clock import ManualClock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import BalanceUnknown, CouldNotAsk
from brokerwatch.gateway.address import Address, address_key
from brokerwatch.gateway.catalogue import Catalogue
from brokerwatch.messages import Fault, FaultKind, Reason
from tests.support.clusters import cluster_of, until
from tests.support.other_exchange import OtherExchange, Reply, Request, answering, market, spec_of, urls

MARKETS = {"BTC/USDT": market("BTC/USDT", "BTCUSDT")}
BALANCE = Reply({"balances": [{"asset": "USDT", "free": "100", "locked": "0"}]})


def banned(_request: Request) -> Reply:
    until_ms = round((time.time() + 600) * 1_000)
    return Reply({"code": -1003, "msg": f"Too much; IP banned until {until_ms}."}, 418)


def limited(_request: Request) -> Reply:
    return Reply({"code": -1003, "msg": "Too many requests"}, 429, {"Retry-After": "600"})


def binance(server: OtherExchange, name: str, **conf: Any) -> BrokerSpec:
    return spec_of("binance", server, name, conf={"markets": MARKETS, **conf})


@pytest.mark.parametrize(("first", "shared"), [(banned, True), (limited, False)], ids=["ban", "limit"])
def test_a_ban_of_the_address_holds_for_every_account_that_leaves_by_it(first: Any, *, shared: bool) -> None:
    def answer(request: Request) -> Reply:
        key = request.headers.get("X-MBX-APIKEY")
        return first(request) if key == "a" else BALANCE

    with answering(answer) as server:
        specs = [
            binance(server, "a"),
            binance(server, "b"),
            binance(server, "proxied", httpProxy=server.url),
        ]
        with cluster_of(*specs) as cluster:
            a, b, proxied = (cluster.broker(name) for name in ("a", "b", "proxied"))
            for _ in range(3):
                with pytest.raises(BalanceUnknown):
                    a.get_account_balance()
            assert server.asked("account") == 1, "the first answer named the end"
            until(lambda: a.reading().reason is Reason.LOCKED_OUT)
            assert proxied.get_account_balance() == 100, "it leaves by another address"
            if shared:
                with pytest.raises(BalanceUnknown):
                    b.get_account_balance()
                until(lambda: b.reading().reason is Reason.LOCKED_OUT)
                assert "banned" in b.reading().detail
                with pytest.raises(CouldNotAsk, match="banned"):
                    b.get_candles("BTC/USDT")
            else:
                assert b.get_account_balance() == 100


def test_a_ban_without_an_end_doubles_until_there_is_an_answer() -> None:
    clock = ManualClock()
    address = Address(clock)
    for expected_s in (1.0, 2.0, 4.0, 8.0):
        address.note(Fault(FaultKind.RATE_LIMITED, "banned", bans_address=True))
        assert address.ban.until_s == clock.up_s() + expected_s
        assert address.is_banned
        clock.advance(expected_s)
        assert not address.is_banned
    for _ in range(20):
        address.note(Fault(FaultKind.RATE_LIMITED, "banned", bans_address=True))
    assert address.ban.until_s == clock.up_s() + 86_400.0
    clock.advance(86_400.0)
    address.answered()
    address.note(Fault(FaultKind.RATE_LIMITED, "banned", bans_address=True))
    assert address.ban.until_s == clock.up_s() + 1.0


def test_what_is_no_ban_bans_nothing_and_a_shorter_ban_ends_no_longer_one() -> None:
    clock = ManualClock()
    address = Address(clock)
    address.note(Fault(FaultKind.RATE_LIMITED, "slow down", retry_after_s=9.0))
    assert not address.is_banned
    address.note(Fault(FaultKind.RATE_LIMITED, "banned", retry_after_s=900.0, bans_address=True))
    address.note(Fault(FaultKind.RATE_LIMITED, "banned", retry_after_s=1.0, bans_address=True))
    assert address.ban.until_s == clock.up_s() + 900.0


def test_one_address_is_one_exchange_and_one_way_out() -> None:
    def key(exchange: str = "binance", own: Any = None, **conf: Any) -> str:
        chosen: Any = {"exchange": exchange if own is None else own, "credentials": {}}
        return address_key(BrokerSpec("x", ccxt=conf, **chosen), "", Catalogue.urls(exchange))

    here = urls("binance", "http://127.0.0.1:9")
    assert key() == key() == key(own=ccxt.binance()) == key(enableRateLimit=False)
    assert key() != key("kucoin")
    assert key() != key(httpsProxy="http://a:1")
    assert key(httpsProxy="http://a:1") == key(https_proxy="http://a:1")
    assert key(httpsProxy="http://a:1") == key(own=ccxt.binance({"httpsProxy": "http://a:1"}))
    assert key(httpsProxy="http://a:1") != key(httpsProxy="http://b:1")
    assert key(urls=here) != key()
    assert key(urls=here) == key(own=ccxt.binance({"urls": here}))
    through: Any = ccxt.binance()
    through.session.proxies = {"https": "http://a:1"}
    assert key(own=through) != key()
