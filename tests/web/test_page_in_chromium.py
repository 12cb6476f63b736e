"""The page in a real browser: it shows the roster, soon, and says so when it hears nothing."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch.bus.listener import Listener
from brokerwatch.clock import SystemClock
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.simulator import SimulatedKraken, serve
from brokerwatch.web.server import HttpServer
from brokerwatch.web.view import View
from tests.support.chromium import Browser, Page
from tests.support.clusters import PATIENCE_S, Till, cluster_of, simulated_spec
from tests.support.served import TOKEN, served
from tests.web.test_routes import CLOSED, OPEN, spec_of

FLIP_S: Final = 2.0
"""So soon after a flip the page shows it."""
HOSTILE: Final = "</script><img src=x onerror=\"document.title='owned'\"><b>bold</b>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One browser for the module."""
    with Browser() as started:
        yield started


@contextmanager
def shown(
    browser: Browser, *specs: BrokerSpec, http: HttpSettings | None = None, width: int = 1280, **values: Any
) -> Generator[tuple[Cluster, Page]]:
    """A cluster and its page, which asks no other server and breaks no rule of its own."""
    with served(*specs, http=http, **values) as cluster, browser.page(width=width) as page:
        page.open(cluster.http_url)
        yield cluster, page
        assert {url for url in page.requests if not url.startswith(cluster.http_url)} <= {"about:blank"}
        assert [each for each in page.complaints if "401" not in each] == []


def of(name: str, what: str) -> str:
    """The words of one account at one place, as JavaScript."""
    return f"document.querySelector('#a-{name} [data-is={what}]').textContent"


def fall(cluster: Cluster, till: Till, name: str, words: str) -> None:
    till.failure = ConnectionError(words)
    for _ in range(3):
        cluster.broker(name).get_account_balance()


def test_it_shows_the_roster_within_two_seconds_of_a_flip(browser: Browser) -> None:
    till = Till({"USD": "12500.5"})
    with shown(browser, spec_of(name="a"), spec_of(till, "b")) as (cluster, page):
        for name in ("a", "b"):
            cluster.broker(name).get_account_balance()
        page.wait(f"{of('b', 'verdict')} === 'Available' && {of('b', 'cash')} === '12\u202f500.50 USD'")
        page.wait(f"/^\\d+ s old$/.test({of('b', 'age')})")
        page.find("(window.kept = document.querySelector('#a-b')) && true")
        took_s: list[float] = []
        # A machine under load holds any browser up; of several flips one is shown as soon as it should be.
        while len(took_s) < 6 and min(took_s, default=FLIP_S) >= FLIP_S:
            fall(cluster, till, "b", "502")
            assert not cluster.broker("b").is_available()
            began_s = time.monotonic()
            page.wait(f"{of('b', 'verdict')} === 'Not available'")
            took_s.append(time.monotonic() - began_s)
            assert page.find(of("b", "reason")) == "its last calls failed"
            assert page.find(of("b", "age")).startswith("last known, ")
            page.wait("document.title === '1/2 available · brokerwatch'")
            till.failure = None
            cluster.broker("b").get_account_balance()
            page.wait(f"{of('b', 'verdict')} === 'Available'")
        assert min(took_s) < FLIP_S
        assert page.find("[...document.querySelectorAll('article')].map((one) => one.id)") == ["a-a", "a-b"]
        assert page.find("window.kept === document.querySelector('#a-b')"), "no node is made anew"


def test_what_an_exchange_or_a_label_says_is_text_to_the_letter_and_nothing_of_it_runs(
    browser: Browser,
) -> None:
    till = Till({"USD": "1"})
    hostile = replace(spec_of(till, "b"), labels={"desk": HOSTILE})
    with shown(browser, hostile) as (cluster, page):
        cluster.broker("b").get_account_balance()
        fall(cluster, till, "b", HOSTILE)
        page.wait(f"{of('b', 'verdict')} === 'Not available'")
        assert HOSTILE in page.find(of("b", "detail"))
        assert page.find(of("b", "exchange")) == f"custom · desk:\u00a0{HOSTILE}"
        assert page.find("document.querySelectorAll('article img, article b').length") == 0
        assert page.find("document.title") == "0/1 available · brokerwatch"


def test_what_is_unknown_is_said_and_never_shown_as_zero(browser: Browser) -> None:
    till = Till()
    till.failure = ConnectionError("down")
    with shown(browser, spec_of(till)) as (_, page):
        page.wait(f"{of('a', 'cash')} === 'unknown: no balance was ever read'")
        assert "0" not in page.find(of("a", "cash") + "+" + of("a", "age"))


def test_a_warning_about_a_key_stands_beside_the_account(browser: Browser) -> None:
    exchange = SimulatedKraken()
    often = {"key_watch_interval_s": 0.2, "requests_per_s": 1_000.0, "request_burst": 1_000.0}
    with (
        serve(exchange),
        shown(browser, simulated_spec(exchange, "a", poll_interval_s=0.2, **often)) as (_, page),
    ):
        page.wait(f"{of('a', 'verdict')} === 'Available'")
        row = "document.querySelector('#a-a [data-is=key]')"
        assert page.find(f"getComputedStyle({row}.parentNode).display") == "none"
        exchange.set_permissions({"query", "trade", "withdraw"})
        page.wait(f"{row}.innerText.includes('withdraw')")
        assert page.find(of("a", "verdict")) == "Available"


def test_the_timeline_says_by_keyboard_what_each_time_was_and_is_hatched_where_nothing_was_heard(
    browser: Browser, tmp_path: Path
) -> None:
    with shown(browser, spec_of(Till({"USD": "5"})), state=tmp_path / "state") as (cluster, page):
        cluster.broker("a").get_account_balance()
        page.wait("document.querySelectorAll('#a-a .bar g rect').length > 1")
        assert (
            page.find("document.querySelector('#a-a .bar g rect').getAttribute('fill')") == "url(#p-unheard)"
        )
        page.tab_to(".bar")
        page.press("ArrowLeft", 3)
        assert page.find(of("a", "moment")).endswith(": not watched")
        assert page.find("document.activeElement.ariaValueText") == page.find(of("a", "moment"))
        page.press("End")
        assert "available" in page.find(of("a", "moment"))
        page.find("document.querySelector('[value=\"7d\"]').click()")
        page.wait(f"{of('a', 'begin')} === '7 days ago'")


def test_a_page_that_hears_nothing_greys_out_and_says_so(browser: Browser) -> None:
    with served(spec_of(Till({"USD": "5"}))) as cluster, browser.page() as page:
        page.open(cluster.http_url)
        cluster.broker("a").get_account_balance()
        page.wait(f"{of('a', 'verdict')} === 'Available'")
        cluster.stop()
        page.wait("document.body.hasAttribute('data-deaf')")
        assert page.find(of("a", "verdict")) == "Not known"
        assert page.find(of("a", "cash")) == "5.00 USD"
        assert page.find(of("a", "age")).startswith("last known, ")
        assert "hears nothing since" in page.text("#deaf")
        assert page.find("getComputedStyle(document.querySelector('main')).filter") != "none"
        assert page.find("document.title").startswith("?/1")


def test_a_page_that_works_beside_a_cluster_that_is_gone_says_which_of_the_two_is_missing(
    browser: Browser,
) -> None:
    with cluster_of(spec_of(Till({"USD": "5"}))) as cluster, Listener(cluster.health_endpoint) as listener:
        server = HttpServer(View(OPEN, listener, SystemClock()))
        server.start()
        try:
            with browser.page() as page:
                page.open(server.url)
                cluster.broker("a").get_account_balance()
                page.wait(f"{of('a', 'verdict')} === 'Available'")
                assert page.find("document.querySelector('#deaf').hidden")
                cluster.stop()
                page.wait("!document.querySelector('#deaf').hidden")
                assert "nothing is heard from the cluster" in page.text("#deaf")
                assert page.find(of("a", "verdict")) == "Not available"
                assert page.find(of("a", "cash")) == "5.00 USD"
                assert page.find(of("a", "age")).startswith("last known, ")
                assert not page.find("document.body.hasAttribute('data-deaf')"), (
                    "the page itself hears its server"
                )
        finally:
            assert server.stop(PATIENCE_S)


def test_an_operator_logs_in_holds_and_releases_by_keyboard(browser: Browser, tmp_path: Path) -> None:
    with shown(browser, spec_of(Till({"USD": "5"})), http=CLOSED, state=tmp_path / "state") as (
        cluster,
        page,
    ):
        page.wait("document.querySelector('#login').open")
        assert page.find("document.querySelectorAll('article').length") == 0
        for token in ("wrong", TOKEN):
            page.tab_to("#token")
            page.find("document.activeElement.select()")
            page.write(token)
            page.press("Enter")
            page.wait(
                "document.querySelector('#login .wrong').textContent"
                if token == "wrong"
                else "!document.querySelector('#login').open"
            )
        assert "Token" not in page.find("document.cookie"), "no script reads the cookie"
        page.wait("document.querySelector('#a-a')")
        page.tab_to("[data-is=operate]")
        page.press("Enter")
        page.wait("document.activeElement.id === 'why'")
        page.write("audit <b>today</b>")
        page.press("Enter")
        page.wait(f"{of('a', 'reason')} === 'an operator holds it out'")
        assert "audit <b>today</b>" in page.find(of("a", "detail"))
        assert cluster.broker("a").reading().reason == "held_out"
        page.wait(f"!document.querySelector('#hold').open && {of('a', 'operate')} === 'Release'")
        page.tab_to("[data-is=operate]")
        page.press("Enter")
        page.wait(f"{of('a', 'operate')} !== 'Release'")
        assert cluster.broker("a").reading().reason != "held_out"
        page.tab_to("#logout")
        page.press("Enter")
        page.wait("document.querySelector('#login').open && !document.querySelector('article')")


@pytest.mark.parametrize("width", [360, 1920])
def test_no_width_needs_a_sideways_scroll(browser: Browser, width: int) -> None:
    long = "a" + "-very" * 9
    till = Till({"USD": "123456789012345678901234567.123456789"})
    with shown(browser, spec_of(till, long), spec_of(name="b"), width=width) as (cluster, page):
        cluster.broker(long).get_account_balance()
        fall(cluster, till, long, "x" * 250)
        page.wait(f"{of(long, 'verdict')} === 'Not available'")
        page.wait("document.querySelector('.bar g rect')")
        assert page.find("document.documentElement.scrollWidth") == width
        beyond = "(one) => one.getBoundingClientRect().right > innerWidth + 1"
        assert page.find(f"[...document.querySelectorAll('article *')].filter({beyond}).length") == 0
