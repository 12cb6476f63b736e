"""What is answered where: accounts, waiting, operators, tokens and foreign pages, over real HTTP."""

from __future__ import annotations

import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.http_settings import HttpSettings
from tests.support.clusters import ONLY_WHEN_ASKED, Till, until
from tests.support.served import AUTHORIZED, TOKEN, Answered, asked, served

OPEN = HttpSettings(listen="127.0.0.1:0")
CLOSED = HttpSettings(listen="127.0.0.1:0", token=TOKEN)


def spec_of(till: Till | None = None, name: str = "a", **values: Any) -> BrokerSpec:
    return BrokerSpec(name, fetch=till or Till(), poll_interval_s=ONLY_WHEN_ASKED, **values)


def out(cluster: Cluster, till: Till, name: str = "a") -> None:
    """Make an account unavailable, and wait until the page has heard so."""
    till.failure = ConnectionError("down")
    for _ in range(3):
        cluster.broker(name).get_account_balance()
    until(lambda: not of(cluster, name).json["available"])


def of(cluster: Cluster, name: str, path: str = "", **more: Any) -> Answered:
    return asked(cluster.http_url, f"/v1/brokers/{name}{path}", **more)


def test_an_account_is_answered_200_while_it_is_available_503_while_not_and_404_where_there_is_none() -> None:
    till = Till({"USD": "100.50"})
    with served(spec_of(till)) as cluster:
        cluster.broker("a").get_account_balance()
        until(lambda: of(cluster, "a").json["cash"] == "100.50")
        assert (of(cluster, "a").status, of(cluster, "b").status) == (200, 404)
        assert of(cluster, "a").json["balance"]["USD"]["free"] == "100.50"
        out(cluster, till)
        gone = of(cluster, "a")
        assert (gone.status, gone.json["reason"], gone.json["meaning"]) == (
            503,
            "errors",
            "its last calls failed",
        )
        assert gone.json["cash"] == "100.50", "the last known balance"
        assert gone.json["unknown"] is None


def test_a_page_of_html_in_a_detail_is_told_as_its_title() -> None:
    till = Till()
    with served(spec_of(till)) as cluster:
        cluster.broker("a").get_account_balance()
        till.failure = ConnectionError("HTTP 502: <html><head><title>502 Bad Gateway</title></head></html>")
        cluster.broker("a").get_account_balance()
        until(lambda: of(cluster, "a").json["error_count"] == 1)
        assert of(cluster, "a").json["detail"].endswith("HTTP 502: 502 Bad Gateway")


def test_what_is_not_known_is_null_with_a_reason_and_never_zero() -> None:
    till = Till()
    till.failure = ConnectionError("down")
    with served(spec_of(till)) as cluster:
        until(lambda: of(cluster, "a").status != 404)
        never = of(cluster, "a").json
        assert (never["cash"], never["balance"], never["as_of_us"]) == (None, None, None)
        assert never["unknown"] == "no balance was ever read"


def test_amounts_stay_inside_when_they_are_not_to_be_published() -> None:
    with served(spec_of(Till({"USD": "31415.92"})), publish_balances=False) as cluster:
        cluster.broker("a").get_account_balance()
        until(lambda: of(cluster, "a").json["as_of_us"] is not None)
        for path in ("/v1/brokers", "/v1/brokers/a"):
            answered = asked(cluster.http_url, path)
            assert b"31415" not in answered.body
        assert "does not publish" in of(cluster, "a").json["unknown"]


def test_all_accounts_come_in_one_answer_in_the_order_of_their_names() -> None:
    with served(spec_of(name="b"), spec_of(name="a"), spec_of(name="c")) as cluster:
        until(lambda: len(asked(cluster.http_url, "/v1/brokers").json["brokers"]) == 3)
        found = asked(cluster.http_url, "/v1/brokers").json
        assert [each["broker"] for each in found["brokers"]] == ["a", "b", "c"]
        assert found["complete"] is True
        assert found["heard_ms"] >= 0


def test_a_reader_waits_for_the_next_change_and_is_told_when_nothing_changed() -> None:
    till = Till()
    with served(spec_of(till)) as cluster:
        cluster.broker("a").get_account_balance()
        until(lambda: of(cluster, "a").json["state"] == 1)

        def is_settled() -> bool:
            """The supervisor's word on the first success comes after the success itself."""
            first = asked(cluster.http_url, "/v1/brokers").headers["ETag"]
            known["If-None-Match"] = first
            return asked(cluster.http_url, "/v1/brokers", headers=known).status == 304

        known: dict[str, str] = {}
        until(is_settled)

        def is_known() -> bool:
            newest = {"If-None-Match": of(cluster, "a").headers["ETag"]}
            return of(cluster, "a", "?wait=0", headers=newest).status == 304

        until(is_known)
        found: list[Answered] = []
        waits = threading.Thread(
            target=lambda: found.append(asked(cluster.http_url, "/v1/brokers?wait=50", headers=known))
        )
        waits.start()
        out(cluster, till)
        waits.join()
        assert found[0].status == 200
        assert found[0].headers["ETag"] != known["If-None-Match"]


@pytest.mark.parametrize("wait", ["-1", "61", "soon", "nan", "inf", "1e400"])
def test_a_wait_that_cannot_be_is_refused(http: Cluster, wait: str) -> None:
    assert asked(http.http_url, f"/v1/brokers?wait={wait}").status == 400


@pytest.fixture(scope="module")
def http() -> Generator[Cluster]:
    with served(spec_of()) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory) -> Generator[Cluster]:
    state = tmp_path_factory.mktemp("state")
    with served(spec_of(), spec_of(name="b"), http=CLOSED, state=state) as cluster:
        yield cluster


PATHS = ("/v1/brokers", "/v1/brokers/a", "/v1/brokers/none", "/v1/events", "/openapi.json", "/unknown")


@pytest.mark.parametrize("path", PATHS)
def test_nothing_is_told_without_the_token(closed: Cluster, path: str) -> None:
    answered = asked(closed.http_url, path)
    assert answered.status == 401
    assert b'"a"' not in answered.body


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": f"Basic {TOKEN}"},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer é"},
        {"Cookie": f"brokerwatch={TOKEN}"},
        {"Cookie": "brokerwatch=\xff"},
    ],
    ids=["wrong", "basic", "empty", "no ASCII", "in a cookie", "no text"],
)
def test_nothing_but_the_token_as_a_bearer_is_the_token(closed: Cluster, headers: dict[str, str]) -> None:
    assert asked(closed.http_url, "/v1/brokers", headers=headers).status == 401
    in_url = asked(closed.http_url, f"/v1/brokers?token={TOKEN}")
    assert in_url.status == 401, "a URL is logged everywhere"


def test_probes_need_no_token_and_name_no_account(closed: Cluster) -> None:
    for path in ("/healthz", "/readyz"):
        for headers in ({}, {"Host": "10.1.2.3:80"}, {"Host": "some.container"}):
            answered = asked(closed.http_url, path, headers=headers)
            assert (answered.status, answered.json) == (200, {"ok": True, "why": ""})


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:1234", 200),
        ("[::1]:80", 200),
        ("LOCALHOST", 200),
        ("localhost.", 200),
        ("evil.example", 403),
        ("127.0.0.1.evil.example", 403),
        ("localhost.evil.example", 403),
        ("evil.example:5572", 403),
        ("user@localhost", 403),
        ("", 403),
    ],
)
def test_a_name_that_is_none_of_ours_is_not_answered(http: Cluster, host: str, status: int) -> None:
    """A page of another site may have its name point here."""
    assert asked(http.http_url, "/v1/brokers", headers={"Host": host}).status == status


def test_an_operator_holds_and_releases_an_account(tmp_path: Path) -> None:
    with served(spec_of(), http=CLOSED, state=tmp_path) as cluster:
        held = of(cluster, "a", "/hold", method="POST", headers=AUTHORIZED, body={"why": "audit"})
        assert (held.status, "held" in held.json["said"]) == (200, True)
        until(lambda: of(cluster, "a", headers=AUTHORIZED).json["reason"] == "held_out")
        assert of(cluster, "a", headers=AUTHORIZED).json["detail"] == "by the page: audit"
        assert of(cluster, "a", "/release", method="POST", headers=AUTHORIZED, body={}).status == 200
        until(lambda: of(cluster, "a", headers=AUTHORIZED).json["reason"] != "held_out")
        assert of(cluster, "a", "/release", method="POST", headers=AUTHORIZED, body={}).status == 409
        assert asked(cluster.http_url, "/v1/brokers", headers=AUTHORIZED).json["operable"] is True


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ({}, {"why": "x"}, 401),
        ({**AUTHORIZED, "Origin": "http://evil.example"}, {"why": "x"}, 403),
        ({**AUTHORIZED, "Origin": "null"}, {"why": "x"}, 403),
        ({**AUTHORIZED, "Content-Type": "text/plain"}, b'{"why": "x"}', 415),
        ({**AUTHORIZED, "Content-Type": "application/x-www-form-urlencoded"}, b"why=x", 415),
        (AUTHORIZED, {"why": ""}, 400),
        (AUTHORIZED, {"why": "x" * 161}, 400),
        (AUTHORIZED, {"why": "x", "by": "root"}, 400),
        (AUTHORIZED, {"why": "x", "until_us": -1}, 400),
        (AUTHORIZED, ["why"], 400),
        ({**AUTHORIZED, "Content-Type": "application/json"}, b"{", 400),
        ({**AUTHORIZED, "Content-Type": "application/json"}, b"\xff", 400),
        ({**AUTHORIZED, "Content-Type": "application/json"}, b"[" * 10_000, 400),
        ({**AUTHORIZED, "Content-Type": "application/json"}, b"x" * 20_000, 413),
    ],
)
def test_a_command_that_cannot_be_or_comes_from_elsewhere_changes_nothing(
    closed: Cluster, headers: dict[str, str], body: Any, status: int
) -> None:
    answered = of(closed, "a", "/hold", method="POST", headers=headers, body=body)
    assert answered.status == status
    assert of(closed, "a", headers=AUTHORIZED).json["reason"] != "held_out"


def test_without_a_token_no_command_is_taken(http: Cluster) -> None:
    answered = of(http, "a", "/hold", method="POST", body={"why": "x"})
    assert answered.status in (403, 501)
    assert asked(http.http_url, "/v1/brokers").json["operable"] is False


def test_a_login_gives_a_cookie_that_no_script_and_no_other_page_can_use(closed: Cluster) -> None:
    url = closed.http_url
    origin = {"Origin": url}
    assert asked(url, "/v1/login", method="POST", headers=origin, body={"token": "wrong"}).status == 401
    entered = asked(url, "/v1/login", method="POST", headers=origin, body={"token": TOKEN})
    assert entered.status == 204
    made = entered.headers["Set-Cookie"]
    assert "HttpOnly" in made
    assert "SameSite=Strict" in made
    assert TOKEN not in made
    cookie = {"Cookie": made.partition(";")[0]}
    assert asked(url, "/v1/brokers", headers=cookie).status == 200
    command = {"method": "POST", "body": {"why": "x"}}
    for tossed in (f"brokerwatch=other; {cookie['Cookie']}", f"{cookie['Cookie']}; brokerwatch=other; x"):
        assert asked(url, "/v1/brokers", headers={"Cookie": tossed}).status == 200, "of another program"
    assert of(closed, "a", "/hold", headers=cookie, **command).status == 403, "a browser says its Origin"
    assert (
        of(closed, "a", "/hold", headers={**cookie, "Origin": "http://localhost:1"}, **command).status == 403
    )
    assert of(closed, "none", "/hold", headers={**cookie, **origin}, **command).status == 404
    assert asked(url, "/v1/logout", method="POST", headers={**cookie, **origin}, body={}).status == 204
    assert asked(url, "/v1/brokers", headers=cookie).status == 401


@pytest.mark.parametrize(
    "path",
    ["/../etc/passwd", "/%2e%2e/etc/passwd", "/v1/brokers/%2e%2e%2f", "/v1/brokers/%00", "//etc/passwd"],
)
def test_no_path_leads_anywhere_else(http: Cluster, path: str) -> None:
    assert asked(http.http_url, path).status in (400, 404)


def test_every_answer_forbids_what_a_page_does_not_need(http: Cluster) -> None:
    for path in ("/v1/brokers", "/healthz", "/unknown", "/v1/brokers/none"):
        headers = asked(http.http_url, path).headers
        assert "default-src 'self'" in headers["Content-Security-Policy"]
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Server"] == "brokerwatch"


def test_a_file_of_the_state_folder_is_not_served(closed: Cluster, tmp_path: Path) -> None:
    for path in ("/brokerwatch.db", "/static/../brokerwatch.db", "/control.sock"):
        assert asked(closed.http_url, path, headers=AUTHORIZED).status == 404
