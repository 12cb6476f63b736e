"""The program behind `brokerwatch doctor`: a look at a whole configuration that changes nothing.

One line for each thing, in the order in which an operator mends them. Exchanges and a PostgreSQL are asked
from the beginning, all at once, and each is waited for at its place. The looks are on a thread of their
own, so that Ctrl-C works while an answer is waited for. A look that is left behind ends with the process.
"""

from __future__ import annotations

import platform
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Final

from brokerwatch.config.cluster_settings import ClusterSettings, is_in_a_file
from brokerwatch.config.loader import Examined
from brokerwatch.config.redaction import (
    SHORTEST_SECRET,
    credential_spellings,
    longest_first,
    redacted,
    without_passwords,
)
from brokerwatch.errors import StoreError
from brokerwatch.gateway.catalogue import order_traits
from brokerwatch.preflight import store_checks
from brokerwatch.preflight.curve_checks import curve_lines
from brokerwatch.preflight.diagnosis import (
    Line,
    LineOutcome,
    credentials,
    fail,
    ok,
    open_files,
    problem,
    skip,
    trading,
)
from brokerwatch.preflight.exchange_checks import Reachability
from brokerwatch.preflight.host_checks import (
    endpoint_line,
    is_heard,
    key_files,
    key_users,
    soft_limit,
    state_folder,
)
from brokerwatch.preflight.http_checks import http_lines
from brokerwatch.preflight.notify_checks import notify_lines
from brokerwatch.preflight.pool_checks import pool_lines
from brokerwatch.preflight.push_checks import push_lines
from brokerwatch.preflight.supervisor_checks import supervisor_lines
from brokerwatch.storage.database_url import secrets_of
from brokerwatch.storage.state_folder import running, store_of

HEARD_S: Final = 5.0
"""So long at the most a running cluster is listened for."""


class Diagnostics:
    """Everything that is looked at, in its order. Used by one thread; what it waits for, any may ask."""

    def __init__(self, path: Path, examined: Examined) -> None:
        self._path = path
        self._examined = examined
        self._outside = Reachability(examined.brokers)
        self._server: ServerLook | None = None
        self.waits_for = "the configuration"
        self.width = len("configuration")
        """Of the widest subject that is known."""
        self._secrets = _secrets(examined)

    def __enter__(self) -> Diagnostics:
        self._outside.__enter__()
        subjects = [f"broker {spec.name}" for spec in self._examined.brokers]
        subjects += [f"exchange {name}" for name in self._outside.names]
        self.width = max(len(subject) for subject in ("configuration", "health_endpoint", *subjects))
        cluster = self._examined.cluster
        if cluster is not None and cluster.remember and not is_in_a_file(cluster):
            self._server = ServerLook(cluster)
        return self

    def __exit__(self, *_: object) -> None:
        self._outside.__exit__(None, None, None)

    def lines(self) -> Iterator[Line]:
        """Every line, without a secret in it."""
        for line in self._lines():
            yield replace(line, evidence=self._shown(line.evidence), advice=self._shown(line.advice))

    def _lines(self) -> Iterator[Line]:
        examined = self._examined
        cluster, brokers = examined.cluster, examined.brokers
        yield from self._configuration()
        own_cluster = "" if cluster is None else running(cluster)
        users = key_users(brokers, own_cluster)
        for spec in brokers:
            self.waits_for = f"broker {spec.name}"
            yield credentials(spec, self._outside.unsigned(spec.name))
            yield from key_files(spec)
            if spec.name in users:
                yield users[spec.name]
            gate = cluster is not None and cluster.require_verification_max_age_s is not None
            traits = order_traits(spec)
            shortcomings = () if traits is None else traits.shortcomings()
            yield trading(spec, verified=gate, shortcomings=shortcomings)
            yield from push_lines(spec)
        if cluster is None:
            for subject in ("state folder", "store", "endpoints"):
                yield skip(subject, "cluster", "[cluster] is wrong", "correct it first")
        else:
            yield from self._of_cluster(cluster, own_cluster)
        number = len(self._outside.names)
        self.waits_for = f"{number} exchange{'' if number == 1 else 's'}"
        yield from self._outside.lines()
        versions = ", ".join(f"{name} {version(name)}" for name in ("brokerwatch", "ccxt"))
        yield ok("versions", "installed", f"{versions}, Python {platform.python_version()}")
        yield open_files(soft_limit(), len(brokers) + len(examined.broken))

    def _configuration(self) -> Iterator[Line]:
        examined = self._examined
        problems = [*examined.problems, *(one for _, many in examined.broken.values() for one in many)]
        if problems:
            yield from map(problem, problems)
            return
        number, name = len(examined.brokers), examined.cluster.name if examined.cluster else ""
        if examined.reported:
            said = (
                f"cluster {name}, {examined.reported} account{'' if examined.reported == 1 else 's'} of nodes"
            )
            yield ok("configuration", "file", f"{self._path} is read: {said}")
            return
        yield ok(
            "configuration", "file",
            f"{self._path} is read: cluster {name}, {number} broker{'' if number == 1 else 's'}",
        )  # fmt: skip

    def _of_cluster(self, cluster: ClusterSettings, own_cluster: str) -> Iterator[Line]:
        self.waits_for = "this machine"
        folder = state_folder(cluster, own_cluster)
        yield from folder
        is_sound = folder[0].outcome is not LineOutcome.FAIL
        self.waits_for = "the store"
        yield self._store(cluster, own_cluster, is_sound=is_sound)
        self.waits_for = "the endpoints"
        yield from curve_lines(cluster.curve, reports=bool(cluster.supervisors))
        patience_s = min(HEARD_S, 1.0 + 2 * cluster.heartbeat_of(len(self._examined.brokers)))
        health, brokers = cluster.health_endpoint, cluster.broker_endpoint
        yield endpoint_line("health_endpoint", health, own_cluster, lambda: is_heard(cluster, patience_s))
        # It has no publisher that could be listened to.
        yield endpoint_line("broker_endpoint", brokers, own_cluster, lambda: True)
        yield from supervisor_lines(cluster, HEARD_S)
        self.waits_for = "the pool"
        yield from pool_lines(cluster, self._examined.brokers)
        yield from http_lines(cluster.http, own_cluster)
        self.waits_for = "the messages to people"
        yield from notify_lines(cluster.notify)

    def _store(self, cluster: ClusterSettings, own_cluster: str, *, is_sound: bool) -> Line:
        if not cluster.remember:
            return ok("store", "file", "none is needed: remember = false")
        if self._server is not None:
            return self._server.line()
        if not cluster.store and not is_sound:
            return skip("store", "file", "it is in the state folder", "mend that first")
        try:
            return store_checks.file_line(store_of(cluster), in_use=bool(own_cluster))
        except StoreError as error:
            return fail("store", "file", str(error), "correct `store` under [cluster]")

    def _shown(self, text: str) -> str:
        return without_passwords(redacted(text, self._secrets))


@dataclass
class ServerLook:
    """The look at a PostgreSQL, on a thread that may hang as long as it likes."""

    cluster: ClusterSettings

    def __post_init__(self) -> None:
        self._found: list[Line | BaseException] = []
        self._until_s = time.monotonic() + store_checks.SERVER_S
        self._thread = threading.Thread(target=self._look, name="brokerwatch-store", daemon=True)
        self._thread.start()

    def _look(self) -> None:
        try:
            self._found.append(store_checks.server_line(store_of(self.cluster)))
        except StoreError as error:
            self._found.append(fail("store", "database", str(error), "correct `store` under [cluster]"))
        except BaseException as error:  # noqa: BLE001 - raised again by who waits for the line
            self._found.append(error)

    def line(self) -> Line:
        """What came of it; it waits no longer than a few seconds from the beginning."""
        self._thread.join(max(0.0, self._until_s - time.monotonic()))
        if not self._found:
            return store_checks.no_answer(store_of(self.cluster).where)
        (found,) = self._found
        if isinstance(found, BaseException):
            raise found
        return found


def _secrets(examined: Examined) -> tuple[str, ...]:
    """Everything that may stand in no line."""
    found = {*credential_spellings(one for spec in examined.brokers for one in spec.credentials.values())}
    if examined.cluster is not None:
        found.update(secrets_of(examined.cluster.store))
    return longest_first(one for one in found if len(one) >= SHORTEST_SECRET)
