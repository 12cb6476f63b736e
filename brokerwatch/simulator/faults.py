"""The faults that can be set on every simulated exchange, and the bytes of an answer.

Three kinds, which never mix: a page comes from something in front of the exchange (a proxy, a load
balancer) and looks the same on all three; a refusal is the exchange's own error, in a table beside
each exchange; a broken connection is described in connections.py. What remains spoils a healthy answer.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

FAULTS: Mapping[str, str] = MappingProxyType(
    {
        "http_500_html": "500 with an HTML page",
        "http_500_json": "500 with JSON in the exchange's own envelope",
        "http_502_html": "502 Bad Gateway from a proxy, with an HTML page",
        "http_503_json": "503 with JSON of a load balancer, which is no envelope of the exchange",
        "http_429": "429 from a proxy, with Retry-After and an HTML page",
        "http_403_html": "403 page of a proxy or a web firewall; no word about the key",
        "http_401_html": "401 page of a proxy that wants its own login; no word about the key",
        "unmapped_status_529": "529, a status that ccxt's table does not know, with an HTML page",
        "http_404": "404 with an HTML page",
        "empty_body": "200 with no body at all",
        "null_body": "200 with the JSON value null",
        "html_200": "200 with an HTML page instead of JSON",
        "redirect": "302 to a login page, which answers 200 with HTML",
        "redirect_loop": "302 to a page that redirects to itself for ever",
        "wrong_envelope": "200 with valid JSON of some other service",
        "cut_json": "200 with the healthy answer cut in the middle, lengths consistent",
        "cut_body": "a Content-Length larger than what is sent, then the connection closes",
        "cut_chunks": "an answer in chunks whose last one never comes; the connection closes",
        "bad_chunks": "an answer in chunks, one of which has no number for its length",
        "not_http": "bytes that are not HTTP, then the connection closes",
        "closed": "the connection closes without a byte of an answer",
        "reset": "the connection is reset without an answer",
        "reset_in_body": "the connection is reset in the middle of the body",
        "hang": "the request is read and never answered",
        "stalled": "the headers come, and never the body",
        "stalled_body": "half of the body comes, and never the rest",
        "drip": "a good status line, then one byte each 0.2 s for ever",
        "exchange_down": "the exchange says that it is unavailable",
        "maintenance": "the exchange says that it is in maintenance; its status endpoint says so too",
        "rate_limited": "the exchange says that this key asks too often",
        "locked_out": "the exchange shuts this key out for a while after too many calls",
        "bad_key": "the exchange says that the API key is unknown",
        "bad_signature": "the exchange says that the signature is wrong",
        "bad_nonce": "the exchange says that the nonce or the timestamp is not acceptable",
        "permission": "the exchange says that the key may not do this",
        "empty_result": "success in the exchange's own envelope, without anything that proves a balance",
        "nan_amount": "the first amount of the balance is NaN",
        "infinite_amount": "the first amount of the balance is Infinity",
        "text_amount": "the first amount of the balance is a word",
        "missing_amount": "the first amount of the balance is left out",
        "partial_page": "the second page of the balance fails; without pages, the same as cut_json",
        "warning_beside_result": "a healthy balance with a warning of the exchange beside it",
    }
)
# What a call meets when no fault is set.
HEALTHY = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """One HTTP answer: status, body as sent, content type, further headers."""

    status: int
    body: bytes
    content_type: str
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


class Refused(Exception):
    """A call is not accepted; carries the exchange's answer to it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(answer.status)
        self.answer = answer


def json_answer(value: object, status: int = 200, **headers: str) -> Answer:
    """JSON without spaces, as the exchanges send it. Header names are given with underscores."""
    body = json.dumps(value, separators=(",", ":")).encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, body, "application/json; charset=utf-8", named)


def html_answer(title: str, status: int, **headers: str) -> Answer:
    """A page as proxies and load balancers send it. Header names are given with underscores."""
    body = f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>".encode()
    named = {name.replace("_", "-"): text for name, text in headers.items()}
    return Answer(status, body, "text/html; charset=utf-8", named)


def cut_in_half(answer: Answer) -> Answer:
    """The same answer with half of its body, honest about its length."""
    return Answer(answer.status, answer.body[: len(answer.body) // 2], answer.content_type, answer.headers)


PAGES: Mapping[str, Answer] = {
    "http_500_html": html_answer("500 Internal Server Error", 500),
    "http_502_html": html_answer("502 Bad Gateway", 502),
    "http_503_json": json_answer({"message": "Service Unavailable"}, 503),
    "http_429": html_answer("429 Too Many Requests", 429, Retry_After="2"),
    "http_403_html": html_answer("Access denied | error code 1020", 403),
    "http_401_html": html_answer("401 Authorization Required", 401, WWW_Authenticate='Basic realm="proxy"'),
    "unmapped_status_529": html_answer("529 Site is overloaded", 529),
    "http_404": html_answer("404 Not Found", 404),
    "empty_body": Answer(200, b"", "application/json; charset=utf-8"),
    "null_body": Answer(200, b"null", "application/json; charset=utf-8"),
    "html_200": html_answer("Please wait", 200),
    "redirect": Answer(302, b"", "text/html; charset=utf-8", {"Location": "/login"}),
    "redirect_loop": Answer(302, b"", "text/html; charset=utf-8", {"Location": "/moved"}),
    "wrong_envelope": json_answer({"status": "ok", "service": "gateway"}),
}

# The targets of the two redirects. They are not counted as calls of an account.
REDIRECT_TARGETS: Mapping[str, Answer] = {
    "/login": html_answer("Log in", 200),
    "/moved": PAGES["redirect_loop"],
}
