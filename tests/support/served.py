"""A cluster's page and API for a test: served over real sockets, and asked over real HTTP."""

from __future__ import annotations

import http.client
import json
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPMessage
from typing import Any, Final
from urllib.parse import urlsplit

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.http_settings import HttpSettings
from tests.support.clusters import PATIENCE_S, cluster_of, until

TOKEN: Final = "a-token-made-up-for-tests"
AUTHORIZED: Final = {"Authorization": f"Bearer {TOKEN}"}


@dataclass(frozen=True)
class Answered:
    """What a server answered."""

    status: int
    headers: HTTPMessage
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


def asked(
    url: str,
    path: str,
    *,
    method: str = "GET",
    headers: Mapping[str, str] | None = None,
    body: Any = None,
) -> Answered:
    """One request. A body that is no bytes is sent as JSON, with its type."""
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=PATIENCE_S)
    given = dict(headers or {})
    if body is not None and not isinstance(body, bytes):
        body = json.dumps(body).encode()
        given.setdefault("Content-Type", "application/json")
    try:
        connection.putrequest(method, path, skip_host="Host" in given)
        for name, value in given.items():
            connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        response = connection.getresponse()
        return Answered(response.status, response.headers, response.read())
    finally:
        connection.close()


@contextmanager
def served(*specs: BrokerSpec, http: HttpSettings | None = None, **values: Any) -> Generator[Cluster]:
    """A running cluster that serves HTTP, once it answers."""
    settings = HttpSettings(listen="127.0.0.1:0") if http is None else http
    with cluster_of(*specs, http=settings, **values) as cluster:
        until(lambda: cluster.http_url)
        until(lambda: asked(cluster.http_url, "/readyz").status == 200)
        yield cluster
