"""The files of the page, over HTTP: open to read, closed to everything else, and plain."""

from __future__ import annotations

import re
from importlib.resources import files
from typing import Final

import pytest

from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.health.uptime import Kind
from brokerwatch.web.page import FILES
from tests.support.served import TOKEN, asked, served
from tests.web.test_routes import spec_of

STATIC: Final = files("brokerwatch.web") / "static"
SCRIPT: Final = (STATIC / "page.js").read_text(encoding="utf-8")
MARKUP: Final = (STATIC / "index.html").read_text(encoding="utf-8")
SHEET: Final = (STATIC / "page.css").read_text(encoding="utf-8")


def test_the_page_is_served_without_a_token_and_what_it_shows_is_not() -> None:
    with served(spec_of(name="secret-name"), http=HttpSettings(listen="127.0.0.1:0", token=TOKEN)) as cluster:
        for path, (_, kind) in FILES.items():
            answered = asked(cluster.http_url, path)
            assert answered.status == 200
            assert answered.headers["Content-Type"] == f"{kind}; charset=utf-8"
            assert answered.headers["Content-Security-Policy"].startswith("default-src 'self';")
            assert b"secret-name" not in answered.body
        for path in ("/v1/brokers", "/v1/events", "/v1/timeline", "/v1/history"):
            assert asked(cluster.http_url, path).status == 401


@pytest.mark.parametrize(
    "path",
    ["/static/", "/static/../page.py", "/static/%2e%2e/page.py", "/static//etc/passwd", "/index.html", "//"],
)
def test_nothing_else_is_served(path: str) -> None:
    with served(spec_of()) as cluster:
        assert asked(cluster.http_url, path).status == 404


def test_every_file_of_the_folder_is_served() -> None:
    assert {each.name for each in STATIC.iterdir()} == {name for name, _ in FILES.values()}


def test_the_page_is_plain_and_asks_no_other_server() -> None:
    assert len(SCRIPT.splitlines()) < 300
    assert not re.search(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|setAttribute\(.style", SCRIPT
    )
    assert not re.search(r"<script(?![^>]*src=)|<style|\sstyle=|\son[a-z]+=", MARKUP), "nothing inline"
    words = (SCRIPT + MARKUP + SHEET).replace("http://www.w3.org/2000/svg", "")
    assert not re.search(r"https?://|@import|url\((?!#)", words.replace("url(#", "url(#"))


def test_each_kind_of_time_has_a_word_a_colour_and_but_for_green_a_pattern_and_an_icon() -> None:
    for kind in Kind:
        assert re.search(rf"\b{kind}: \"", SCRIPT), kind
        assert f".k-{kind} " in SHEET
        assert f'id="i-{kind}"' in MARKUP
        assert kind is Kind.OK or f'id="p-{kind}"' in MARKUP
