"""The document of the API, which the docs repeat and the answers keep to."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any

from brokerwatch.web.openapi import document
from tests.support.served import asked, served
from tests.web.test_routes import spec_of

jsonschema: Any = importlib.import_module("jsonschema")  # it has no annotations
DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_the_document_in_the_docs_is_the_one_that_is_served() -> None:
    written = (DOCS / "openapi.json").read_bytes()
    assert written == document() + b"\n", (
        "write it again: python -m brokerwatch.web.openapi > docs/openapi.json"
    )


def test_what_is_answered_keeps_to_the_document() -> None:
    found = json.loads(document())
    with served(spec_of()) as cluster:
        cluster.broker("a").get_account_balance()
        assert asked(cluster.http_url, "/openapi.json").json == found
        for path, name in (("/v1/brokers", "BrokersAnswer"), ("/v1/brokers/a", "BrokerAnswer")):
            schema = {"$ref": f"#/components/schemas/{name}", "components": found["components"]}
            jsonschema.Draft202012Validator(schema).validate(asked(cluster.http_url, path).json)


def test_every_route_stands_in_the_document() -> None:
    paths = set(json.loads(document())["paths"])
    with served(spec_of()) as cluster:
        for path in paths - {"/v1/events"}:
            answered = asked(cluster.http_url, path.replace("{broker}", "a"))
            assert answered.status != 404, path
