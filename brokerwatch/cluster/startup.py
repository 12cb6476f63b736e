"""What a cluster has before its accounts: the checks, the board as it is at first, and the sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from brokerwatch.actors.board import Board, Slot
from brokerwatch.bus.inbox import Inbox
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.sockets import Bus
from brokerwatch.clock import Clock
from brokerwatch.cluster.shutdown import SHORTEST_SHARE_S
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, cluster_mistakes
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.health.reading import evidence
from brokerwatch.health.state_machine import NO_VETOES, Health
from brokerwatch.log import logger
from brokerwatch.messages import HealthState, Reading, Reason

_log: Final = logger(__name__)


@dataclass(frozen=True, slots=True)
class Sockets:
    """The sockets of one cluster, each on a thread of its own."""

    bus: Bus
    inbox: Inbox
    """What the brokers say, for the supervisor."""
    health_out: Publisher
    """The health topic."""
    broker_out: Publisher
    """What the brokers publish."""


def check(specs: tuple[BrokerSpec, ...], settings: ClusterSettings) -> None:
    """Raise ConfigError where two brokers have one name, or the settings cannot be."""
    problems = [Problem("", f"cluster.{key}", text) for key, text in cluster_mistakes(settings)]
    names = [spec.name for spec in specs]
    problems += [
        Problem("", f"brokers.{name}", "expected a name of its own; two brokers have this one")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise ConfigError(tuple(problems))


def warn_of_default_policies(specs: Iterable[BrokerSpec]) -> None:
    """Say once for which accounts that may trade no policy was chosen."""
    names = [spec.name for spec in specs if spec.trading and not spec.policy_is_chosen]
    if names:
        _log.warning(
            '%s: trading is on and no policy is set, so it is `guarded`; write policy = "guarded" to say so, '
            'or "simple" to start available',
            ", ".join(names),
        )


Changed = Callable[[Reading, Reading], object]
"""Is called with each change of a reading."""


def blank_slot(spec: BrokerSpec, clock: Clock, heartbeat_s: float, changed: Changed) -> Slot:
    """The place of a broker that has not been started."""
    now = clock.now()
    health = Health.begin(now, threshold=spec.max_consecutive_errors, rules=spec.rules)
    blank = evidence(spec, "", health, now, clock, heartbeat_s)
    return Slot(blank, health, NO_VETOES.lay(Reason.NEVER_SEEN, "not started yet", now), changed)


def broken_slot(name: str, exchange: str, why: str, clock: Clock, heartbeat_s: float) -> Slot:
    """The place of a broker that cannot be used because of its configuration."""
    now = clock.now()
    health = replace(Health.begin(now), state=HealthState.UNKNOWN)
    blank = evidence(BrokerSpec(name, exchange=exchange), "", health, now, clock, heartbeat_s)
    for_ever = msgspec.structs.replace(blank, valid_until_s=float("inf"))
    return Slot(for_ever, health, NO_VETOES.lay(Reason.CONFIG, why, now))


def blank_board(
    specs: Iterable[BrokerSpec],
    broken: Mapping[str, tuple[str, str]],
    clock: Clock,
    heartbeat_s: float,
    changed: Changed,
) -> Board:
    """The board before the cluster has started: no broker is available.

    `broken`: brokers that cannot be used because of their configuration, with their exchange and the reason.
    """
    slots = [blank_slot(spec, clock, heartbeat_s, changed) for spec in specs]
    slots += [broken_slot(name, at, why, clock, heartbeat_s) for name, (at, why) in broken.items()]
    return Board(slots)


def opened_sockets(settings: ClusterSettings, clock: Clock, ttl_s: float) -> Sockets:
    """Open and start the sockets. Raises EndpointUnavailable, with nothing left open."""
    bus = Bus()
    sockets = Sockets(
        bus,
        Inbox(bus, settings.broker_endpoint, clock, ttl_s),
        Publisher(bus, settings.health_endpoint, "brokerwatch-health", bind=True),
        Publisher(bus, settings.broker_endpoint, "brokerwatch-brokers", bind=False, gather_s=0.0),
    )
    started: list[Inbox | Publisher] = []
    try:
        for part in (sockets.inbox, sockets.health_out, sockets.broker_out):
            part.start()
            started.append(part)
    except BaseException:
        for part in started:
            part.stop(SHORTEST_SHARE_S)
        bus.close()
        raise
    return sockets
