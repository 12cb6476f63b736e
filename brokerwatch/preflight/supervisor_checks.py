"""What `brokerwatch doctor` says of [[supervisors]]: whether each is heard, and takes what a node reports.

Nothing is sent: a connection in each direction is made as a node makes it, and ended.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

from brokerwatch.bus.curve import CurveClient
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.sockets import Bus, Waker
from brokerwatch.bus.subscriber import Subscriber
from brokerwatch.cluster.startup import client_of
from brokerwatch.config.cluster_settings import ClusterSettings, reachable
from brokerwatch.config.supervisor_settings import SupervisorSettings
from brokerwatch.errors import EndpointUnavailable, TooFewDescriptors
from brokerwatch.messages import topics
from brokerwatch.preflight.diagnosis import Line, fail, ok, warn

LOOK_S: Final = 0.05
STOP_S: Final = 1.0


def supervisor_lines(cluster: ClusterSettings, patience_s: float) -> Iterator[Line]:
    """Two lines for each of [[supervisors]]. Each is waited for `patience_s` seconds at most."""
    for number, each in enumerate(cluster.supervisors, start=1):
        yield from _lines(f"supervisor {number}", each, client_of(cluster, each), patience_s)


def _lines(
    subject: str, supervisor: SupervisorSettings, curve: CurveClient | None, patience_s: float
) -> Iterator[Line]:
    try:
        is_heard, takes_reports = _looked_at(supervisor, curve, patience_s)
    except (EndpointUnavailable, TooFewDescriptors) as error:
        yield fail(subject, "heard", str(error), "correct it in [[supervisors]]")
        return
    allow = "" if curve is None else f", or `brokerwatch keys allow` {curve.pair.name} there"
    if is_heard:
        yield ok(subject, "heard", f"its commands are heard at {supervisor.health_endpoint}")
    else:
        yield warn(
            subject,
            "heard",
            f"nothing is heard at {supervisor.health_endpoint}",
            f"start `brokerwatch supervise` there{allow}",
        )
    if takes_reports:
        yield ok(subject, "reports", f"it takes reports at {supervisor.broker_endpoint}")
    else:
        allow = allow and f"{allow} with --broker"
        yield warn(
            subject,
            "reports",
            f"no report is taken at {supervisor.broker_endpoint}",
            f"start `brokerwatch supervise` there{allow}",
        )


def _looked_at(
    supervisor: SupervisorSettings, curve: CurveClient | None, patience_s: float
) -> tuple[bool, bool]:
    """Whether it is heard, and whether it takes reports. Raises EndpointUnavailable."""
    until_s, is_heard = time.monotonic() + patience_s, False
    bus, waker = Bus(), Waker()
    out = Publisher(bus, reachable(supervisor.broker_endpoint), "brokerwatch-doctor", bind=False, curve=curve)
    ear = Subscriber(
        bus, [reachable(supervisor.health_endpoint)], [topics.SUPERVISOR_ALIVE], waker, curve=curve
    )
    try:
        out.start()
        try:
            while time.monotonic() < until_s and not (is_heard and out.is_wanted):
                is_heard = bool(ear.take(LOOK_S)) or is_heard
            return is_heard, out.is_wanted
        finally:
            out.stop(STOP_S)
    finally:
        ear.close()
        waker.close()
        bus.close()
