"""Who is let in, without a socket."""

from __future__ import annotations

import dataclasses

import pytest

from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.web.admission import SESSION_S, Caller, Sessions, caller, is_own_origin, objection

PROXIED = HttpSettings(
    listen="0.0.0.0:5572", token="x" * 16, hosts=("watch.example",), proxies=("10.0.0.2", "10.1.0.0/16")
)


def seen(peer: str, *, hops: str = "", name: str = "", scheme: str = "") -> Caller:
    return caller(PROXIED, peer, "10.0.0.9:5572", hops, name, scheme, is_tls=False)


def test_what_is_forwarded_counts_from_a_proxy_that_is_named_and_from_no_other() -> None:
    told = {"hops": "1.2.3.4", "name": "watch.example", "scheme": "https"}
    host = "10.0.0.9:5572"
    named = Caller("1.2.3.4", is_proxy=True, host="watch.example", scheme="https", header=host)
    assert seen("10.0.0.2", **told) == named
    other = Caller("10.0.0.3", is_proxy=False, host=host, scheme="http", header=host)
    assert seen("10.0.0.3", **told) == other
    assert seen("::ffff:10.0.0.2", **told).is_proxy, "an IPv4 address on a socket of IPv6"
    assert not seen("", **told).is_proxy


def test_the_address_is_the_last_one_that_no_proxy_of_ours_has() -> None:
    assert seen("10.0.0.2", hops="6.6.6.6, 1.2.3.4, 10.1.2.3").address == "1.2.3.4"
    assert seen("10.0.0.2").address == "10.0.0.2"


def test_beyond_loopback_without_tls_only_the_proxy_is_answered() -> None:
    assert objection(PROXIED, seen("10.0.0.3")) != ""
    assert objection(PROXIED, seen("10.0.0.2", name="watch.example")) == ""
    assert objection(PROXIED, seen("10.0.0.2", name="WATCH.example.:443")) == ""
    assert objection(PROXIED, seen("10.0.0.2", name="other.example")) != ""


@pytest.mark.parametrize("forwarded", ["", "localhost", "watch.example", "127.0.0.1:5572"])
def test_a_page_on_the_proxys_machine_cannot_make_up_the_name_by_which_it_came(forwarded: str) -> None:
    near = HttpSettings("127.0.0.1:5572", hosts=("watch.example",), proxies=("127.0.0.1",))

    def why(host: str, settings: HttpSettings) -> str:
        return objection(settings, caller(settings, "127.0.0.1", host, "", forwarded, "", is_tls=False))

    assert why("evil.example:5572", near) != ""
    assert [why(host, near) for host in ("127.0.0.1:5572", "watch.example")] == ["", ""]
    if forwarded:
        guarded = dataclasses.replace(near, token="x" * 16)
        assert why("upstream", guarded) == "", "what a proxy calls it counts where every reader shows a token"


@pytest.mark.parametrize(
    ("origin", "is_own"),
    [
        ("http://10.0.0.9:5572", True),
        ("https://10.0.0.9:5572", False),
        ("http://10.0.0.9", False),
        ("http://10.0.0.9:5572.evil.example", False),
        ("null", False),
        ("", False),
    ],
)
def test_an_origin_is_ours_when_it_is_the_same_to_the_letter(origin: str, *, is_own: bool) -> None:
    assert is_own_origin(seen("10.0.0.3"), origin) is is_own


def test_a_login_ends_after_its_time_or_when_it_is_ended() -> None:
    sessions = Sessions("x" * 16)
    sessions.begin("one", 0.0)
    sessions.begin("two", 0.0)
    assert sessions.is_let_in("one", SESSION_S - 1)
    assert not sessions.is_let_in("one", SESSION_S)
    sessions.end("two")
    assert not sessions.is_let_in("two", 1.0)
    assert not sessions.is_let_in("", 1.0)


def test_the_oldest_of_too_many_logins_ends() -> None:
    sessions = Sessions("x" * 16)
    for number in range(1_001):
        sessions.begin(str(number), float(number))
    assert not sessions.is_let_in("0", 1_001.0)
    assert sessions.is_let_in("1000", 1_001.0)


def test_no_token_is_shown_by_an_empty_one() -> None:
    assert not Sessions("").is_token("")
    assert Sessions("é" * 16).is_token("é" * 16)
    assert "secret" not in repr(Sessions("secret-secret-secret"))
