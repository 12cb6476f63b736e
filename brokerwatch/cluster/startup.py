"""What a cluster has before its accounts: the checks, the board as it is at first, and the sockets."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Final

import msgspec

from brokerwatch.actors.board import Board, Slot
from brokerwatch.bus.curve import BROKERS_DOMAIN, HEALTH_DOMAIN, Encryption, pair_mistake
from brokerwatch.bus.inbox import Inbox
from brokerwatch.bus.listener import Listener
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.sockets import Bus
from brokerwatch.clock import Clock
from brokerwatch.cluster.shutdown import SHORTEST_SHARE_S
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, cluster_mistakes, reachable
from brokerwatch.config.curve_keys import read_pair
from brokerwatch.config.curve_settings import CurveSettings, curve_mistakes
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
    encryption: Encryption
    """Whom the sockets that are bound let in."""

    def ending(self) -> tuple[Publisher | Inbox | Encryption, ...]:
        """What is to be stopped, in this order, before the bus is closed."""
        return self.broker_out, self.health_out, self.inbox, self.encryption

    def listener(self) -> Listener:
        """A subscriber to the health topic, in this process."""
        endpoint = reachable(self.health_out.bound_endpoint)
        curve = self.encryption.client(endpoint)
        if curve is None:
            return Listener(endpoint, bus=self.bus)
        return Listener(endpoint, server_key=curve.server_key, key_file=curve.pair, bus=self.bus)


def check(specs: tuple[BrokerSpec, ...], settings: ClusterSettings) -> None:
    """Raise ConfigError where two brokers have one name, or the settings cannot be."""
    problems = [Problem("", f"cluster.{key}", text) for key, text in cluster_mistakes(settings)]
    if settings.curve is not None and not problems:
        problems = [Problem("", f"curve.{key}", text) for key, text in _curve_mistakes(settings.curve)]
    names = [spec.name for spec in specs]
    problems += [
        Problem("", f"brokers.{name}", "expected a name of its own; two brokers have this one")
        for name in sorted({name for name in names if names.count(name) > 1})
    ]
    if problems:
        raise ConfigError(tuple(problems))


def _curve_mistakes(curve: CurveSettings) -> list[tuple[str, str]]:
    found = curve_mistakes(curve)
    if not found and (mistake := pair_mistake(read_pair(curve.key_file))):
        found.append(("key_file", mistake))
    return found


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
    """Open and start the sockets. Raises EndpointUnavailable or ConfigError, with nothing left open."""
    health, brokers = settings.health_endpoint, settings.broker_endpoint
    if settings.curve is None and brokers.startswith("tcp://"):
        _log.warning(
            "every program of this machine can send events of brokers to %s; [curve] or inproc:// ends that",
            brokers,
        )
    bus = Bus()
    try:
        encryption = Encryption(bus, settings.curve)
    except BaseException:
        bus.close()
        raise
    to_brokers = encryption.client(brokers)
    sockets = Sockets(
        bus,
        Inbox(bus, brokers, clock, ttl_s, encryption.server(BROKERS_DOMAIN, brokers)),
        Publisher(
            bus, health, "brokerwatch-health", bind=True, curve=encryption.server(HEALTH_DOMAIN, health)
        ),
        Publisher(bus, reachable(brokers), "brokerwatch-brokers", bind=False, gather_s=0.0, curve=to_brokers),
        encryption,
    )
    started: list[Inbox | Publisher | Encryption] = []
    try:
        # The encryption first: a socket that is bound before it lets nothing in.
        for part in (encryption, sockets.inbox, sockets.health_out, sockets.broker_out):
            part.start()
            started.append(part)
    except BaseException:
        for part in reversed(started):
            part.stop(SHORTEST_SHARE_S)
        bus.close()
        raise
    return sockets
