"""The routes to the time before now, over real HTTP."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.web.openapi import document
from tests.cluster.test_reload import settings_of
from tests.support.clusters import Till, until
from tests.support.served import asked, served
from tests.web.test_routes import of, out, spec_of

jsonschema: Any = importlib.import_module("jsonschema")  # it has no annotations


def told(cluster: Cluster, path: str) -> Any:
    answered = asked(cluster.http_url, path)
    assert answered.status == 200, answered.body
    return answered.json


def assert_kept_to(name: str, found: Any) -> None:
    schema = {"$ref": f"#/components/schemas/{name}", "components": json.loads(document())["components"]}
    jsonschema.Draft202012Validator(schema).validate(found)


def test_an_outage_is_in_the_timeline_and_in_the_history(tmp_path: Path) -> None:
    till = Till({"USD": "100.50"})
    with served(spec_of(till), spec_of(name="b"), state=tmp_path / "state") as cluster:
        cluster.broker("a").get_account_balance()
        until(lambda: of(cluster, "a").json["cash"] == "100.50")
        out(cluster, till)
        until(lambda: told(cluster, "/v1/timeline?broker=a")["brokers"][0]["kinds_ms"].get("errors"))
        found = told(cluster, "/v1/timeline?broker=a&window=7d")
        assert_kept_to("TimelinesAnswer", found)
        assert found["brokers"][0]["spans"][-1]["reason"] == "errors"
        assert found["brokers"][0]["cash"][-1]["cash"] == "100.50"
        everything = told(cluster, "/v1/timeline")
        assert [each["broker"] for each in everything["brokers"]] == ["a", "b"]
        assert all(
            sum(run["cells"] for run in each["bar"]) == everything["cells"] for each in everything["brokers"]
        )
        until(
            lambda: [
                line
                for line in told(cluster, "/v1/history?broker=a")["lines"]
                if line["after"] == "unavailable"
            ]
        )
        lines = told(cluster, "/v1/history?since=1h&limit=1")
        assert_kept_to("HistoryAnswer", lines)
        assert (len(lines["lines"]), lines["more"]) == (1, True)
        assert told(cluster, "/v1/history?since=9000000000000000")["lines"] == []


def test_without_a_store_the_history_is_what_was_heard() -> None:
    till = Till({"USD": "1"})
    with served(spec_of(till)) as cluster:
        cluster.broker("a").get_account_balance()
        out(cluster, till)
        until(lambda: [line for line in told(cluster, "/v1/history")["lines"] if line["after"] == "errors"])
        assert told(cluster, "/v1/history")["lines"][-1]["event"] == "heard"


def test_no_amount_and_no_word_of_an_exchange_leaves_where_none_is_published(tmp_path: Path) -> None:
    till = Till({"USD": "31415.92"})
    with served(spec_of(till), state=tmp_path / "state", publish_balances=False) as cluster:
        cluster.broker("a").get_account_balance()
        till.failure = ConnectionError("31415.92 are gone")
        for _ in range(3):
            cluster.broker("a").get_account_balance()
        until(
            lambda: [line for line in told(cluster, "/v1/history")["lines"] if line["after"] == "unavailable"]
        )
        for path in ("/v1/history", "/v1/timeline", "/v1/timeline?broker=a"):
            assert b"31415" not in asked(cluster.http_url, path).body


def test_amounts_stay_inside_from_the_reload_on_also_those_of_an_account_that_goes(tmp_path: Path) -> None:
    a, b = spec_of(Till({"USD": "31415"})), spec_of(Till({"USD": "31415"}), name="b")
    paths = ("/v1/timeline", "/v1/timeline?window=30d", "/v1/timeline?broker=a", "/v1/timeline?broker=b")
    with served(a, b, state=tmp_path / "state") as cluster:
        cluster.broker("a").get_account_balance()
        cluster.broker("b").get_account_balance()
        until(lambda: all(b"31415" in asked(cluster.http_url, path).body for path in paths))
        cluster.reload(settings_of(cluster, a, publish_balances=False))
        until(lambda: b"31415" not in asked(cluster.http_url, "/v1/brokers").body)
        until(lambda: of(cluster, "b").status == 404)
        for path in paths:
            assert b"31415" not in asked(cluster.http_url, path).body, path


def test_words_of_an_exchange_stay_inside_from_the_reload_on_that_says_so(tmp_path: Path) -> None:
    till = Till({"USD": "1"})
    spec = spec_of(till)
    with served(spec, state=tmp_path / "state") as cluster:
        cluster.broker("a").get_account_balance()
        till.failure = ConnectionError("31415.92 are gone")
        for _ in range(3):
            cluster.broker("a").get_account_balance()
        until(lambda: b"31415" in asked(cluster.http_url, "/v1/history").body)
        cluster.reload(settings_of(cluster, spec, publish_balances=False))
        assert b"31415" not in asked(cluster.http_url, "/v1/history").body


@pytest.mark.parametrize(
    "path",
    [
        "/v1/timeline?window=1y",
        "/v1/timeline?broker=../a",
        "/v1/history?limit=0",
        "/v1/history?limit=x",
        "/v1/history?limit=1001",
        "/v1/history?since=yesterday",
        "/v1/history?broker=%0a",
    ],
)
def test_a_parameter_that_cannot_be_is_named(path: str) -> None:
    with served(spec_of()) as cluster:
        answered = asked(cluster.http_url, path)
        assert answered.status == 400
        assert answered.json["error"].partition(":")[0] in ("window", "broker", "limit", "since")


def test_a_chronicle_that_cannot_be_read_is_503_and_the_accounts_are_still_answered(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    (state / "chronicle.db").mkdir()
    with served(spec_of(), state=state) as cluster:
        answered = asked(cluster.http_url, "/v1/timeline")
        assert answered.status == 503
        assert "chronicle.db" in answered.json["error"]
        assert asked(cluster.http_url, "/v1/brokers").status == 200
        assert asked(cluster.http_url, "/healthz").status == 200
