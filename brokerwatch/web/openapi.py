"""The OpenAPI document of the API, made from the classes that it answers with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from brokerwatch.web.answers import (
    BrokerAnswer,
    BrokersAnswer,
    DoneAnswer,
    HoldRequest,
    LoginRequest,
    ProbeAnswer,
    ProblemAnswer,
)
from brokerwatch.web.events import Tick
from brokerwatch.web.past import MOST_LINES, USUAL_LINES, WINDOWS, HistoryAnswer, TimelinesAnswer
from brokerwatch.web.pool_routes import PoolAnswer

_CLASSES: Final = (
    BrokerAnswer,
    BrokersAnswer,
    DoneAnswer,
    HistoryAnswer,
    HoldRequest,
    LoginRequest,
    PoolAnswer,
    ProbeAnswer,
    ProblemAnswer,
    Tick,
    TimelinesAnswer,
)
_BROKER: Final = {
    "name": "broker",
    "in": "path",
    "required": True,
    "description": "The configured name of the account.",
    "schema": {"type": "string"},
}
_ONE_BROKER: Final = {
    "name": "broker",
    "in": "query",
    "description": "The configured name of one account; without it all are meant.",
    "schema": {"type": "string"},
}
_WINDOW: Final = {
    "name": "window",
    "in": "query",
    "description": "The time that is looked at; it ends now.",
    "schema": {"type": "string", "enum": list(WINDOWS), "default": "24h"},
}
_SINCE: Final = {
    "name": "since",
    "in": "query",
    "description": "Microseconds since 1970, 2026-11-29T12:00:00Z, or how long ago: 90m, 24h, 7d.",
    "schema": {"type": "string"},
}
_LIMIT: Final = {
    "name": "limit",
    "in": "query",
    "description": "How many lines at most: the newest.",
    "schema": {"type": "integer", "minimum": 1, "maximum": MOST_LINES, "default": USUAL_LINES},
}
_METRICS: Final[Mapping[str, Any]] = {"text/plain": {}, "application/openmetrics-text": {}}
_WAIT: Final = {
    "name": "wait",
    "in": "query",
    "description": "Seconds to wait for something else than what If-None-Match names.",
    "schema": {"type": "number", "minimum": 0, "maximum": 60, "default": 0},
}
_KNOWN: Final = {
    "name": "If-None-Match",
    "in": "header",
    "description": "The ETag of the answer that the reader has.",
    "schema": {"type": "string"},
}


def document() -> bytes:
    """The document as JSON, the same in each run."""
    _, components = msgspec.json.schema_components(_CLASSES, ref_template="#/components/schemas/{name}")
    found: dict[str, Any] = {
        "openapi": "3.1.0",
        "info": {
            "title": "brokerwatch",
            "version": "1",
            "description": "Which exchange accounts can be trusted right now, and how much money is in each. "
            "Amounts are text; what is unknown is null, with a reason beside it.",
        },
        "paths": _paths(),
        "components": {
            "schemas": components,
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer"},
                "cookie": {"type": "apiKey", "in": "cookie", "name": "brokerwatch"},
            },
        },
        "security": [{}, {"token": []}, {"cookie": []}],
    }
    return msgspec.json.format(msgspec.json.encode(found, order="sorted"), indent=1)


def _paths() -> Mapping[str, Any]:
    problem = {
        "401": _said("The token is missing or wrong.", ProblemAnswer),
        "403": _said("This sender is not let in.", ProblemAnswer),
    }
    probe = {
        "200": _said("The watcher itself works.", ProbeAnswer),
        "503": _said("It does not.", ProbeAnswer),
    }
    command = {
        **problem,
        "200": _said("What was done.", DoneAnswer),
        "400": _said("The body cannot be used.", ProblemAnswer),
        "404": _said("There is no account of this name.", ProblemAnswer),
        "409": _said("The cluster refused the command.", ProblemAnswer),
        "415": _said("The body is not JSON.", ProblemAnswer),
        "501": _said("No cluster can be told anything from here.", ProblemAnswer),
    }
    return {
        "/healthz": {
            "get": _call("Whether the watcher itself works; exchanges are none of it.", probe, open_=True)
        },
        "/readyz": {"get": _call("Whether each account has been heard since the start.", probe, open_=True)},
        "/openapi.json": {
            "get": _call(
                "This document.",
                {**problem, "200": {"description": "It.", "content": {"application/json": {}}}},
            )
        },
        "/metrics": {
            "get": _call(
                "The metrics, for Prometheus.",
                {**problem, "200": {"description": "They.", "content": _METRICS}},
            )
        },
        "/v1/brokers": {
            "get": _call(
                "Every account.",
                {
                    **problem,
                    "200": _said("The accounts.", BrokersAnswer),
                    "304": {"description": "Nothing but ages is other than under this ETag."},
                    "400": _said("`wait` cannot be used.", ProblemAnswer),
                },
                _WAIT,
                _KNOWN,
            )
        },
        "/v1/brokers/{broker}": {
            "get": _call(
                "One account.",
                {
                    **problem,
                    "200": _said("It is available.", BrokerAnswer),
                    "304": {"description": "It is available; only ages are other than under this ETag."},
                    "400": _said("`wait` cannot be used.", ProblemAnswer),
                    "404": _said("There is no account of this name.", ProblemAnswer),
                    "503": _said("It is not available; the body says why.", BrokerAnswer),
                },
                _BROKER,
                _WAIT,
                _KNOWN,
            )
        },
        "/v1/brokers/{broker}/hold": {
            "post": _call("Hold an account out.", command, _BROKER, body=HoldRequest)
        },
        "/v1/brokers/{broker}/release": {"post": _call("End a hold.", command, _BROKER)},
        "/v1/events": {
            "get": _call(
                "Server-sent events: `accounts` once with all accounts, `account` with each change, `tick` "
                "each second.",
                {
                    **problem,
                    "200": {
                        "description": "A stream without an end; the data of its events are BrokersAnswer, "
                        "BrokerAnswer and Tick.",
                        "content": {"text/event-stream": {}},
                    },
                },
            )
        },
        "/v1/timeline": {
            "get": _call(
                "Each account over time: availability, recovery, a bar by reason, and the cash.",
                {
                    **problem,
                    "200": _said(
                        "The timelines; the spans only where one account is named.", TimelinesAnswer
                    ),
                    "400": _said("A parameter cannot be used.", ProblemAnswer),
                    "503": _said("What was written down cannot be read.", ProblemAnswer),
                },
                _WINDOW,
                _ONE_BROKER,
            )
        },
        "/v1/history": {
            "get": _call(
                "The transitions of the accounts, oldest first.",
                {
                    **problem,
                    "200": _said("The lines.", HistoryAnswer),
                    "400": _said("A parameter cannot be used.", ProblemAnswer),
                    "503": _said("The history cannot be read.", ProblemAnswer),
                },
                _ONE_BROKER,
                _SINCE,
                _LIMIT,
            )
        },
        "/v1/pool": {
            "get": _call(
                "The nodes of the pool, and which of them has which account.",
                {
                    **problem,
                    "200": _said("They.", PoolAnswer),
                    "503": _said("The database cannot be asked.", ProblemAnswer),
                },
            )
        },
        "/v1/login": {
            "post": _call(
                "Exchange the token for a cookie.",
                {
                    "204": {"description": "The cookie is set."},
                    "400": _said("The body cannot be used.", ProblemAnswer),
                    "401": _said("It is not the token.", ProblemAnswer),
                },
                body=LoginRequest,
                open_=True,
            )
        },
        "/v1/logout": {"post": _call("End the login.", {**problem, "204": {"description": "It is ended."}})},
    }


def _call(
    summary: str,
    responses: Mapping[str, Any],
    *parameters: Mapping[str, Any],
    body: type[msgspec.Struct] | None = None,
    open_: bool = False,
) -> Mapping[str, Any]:
    made: dict[str, Any] = {"summary": summary, "responses": dict(sorted(responses.items()))}
    if parameters:
        made["parameters"] = list(parameters)
    if body is not None:
        made["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": _reference(body)}},
        }
    if open_:
        made["security"] = [{}]
    return made


def _said(description: str, kind: type[msgspec.Struct]) -> Mapping[str, Any]:
    return {"description": description, "content": {"application/json": {"schema": _reference(kind)}}}


def _reference(kind: type[msgspec.Struct]) -> Mapping[str, str]:
    return {"$ref": f"#/components/schemas/{kind.__name__}"}


if __name__ == "__main__":
    import sys

    sys.stdout.buffer.write(document() + b"\n")
