"""What a cluster has before its accounts: the checks, the board as it is at first, and the sockets."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import msgspec

from brokerwatch.actors.board import Board, Slot
from brokerwatch.bus.command_listener import CommandListener
from brokerwatch.bus.curve import BROKERS_DOMAIN, HEALTH_DOMAIN, CurveClient, Encryption, pair_mistake
from brokerwatch.bus.inbox import Inbox
from brokerwatch.bus.listener import Listener
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.sockets import Bus
from brokerwatch.bus.uplink import Uplink
from brokerwatch.clock import Clock
from brokerwatch.cluster.shutdown import SHORTEST_SHARE_S
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, cluster_mistakes, reachable
from brokerwatch.config.curve_keys import public_key, read_pair
from brokerwatch.config.curve_settings import CurveSettings, curve_mistakes
from brokerwatch.config.supervisor_settings import SupervisorSettings
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.health.reading import evidence
from brokerwatch.health.state_machine import NO_VETOES, Health
from brokerwatch.log import logger
from brokerwatch.messages import HealthState, Reading, Reason, next_epoch
from brokerwatch.messages.commands import CommandData
from brokerwatch.storage.state_folder import folder_of

_log: Final = logger(__name__)

TOKEN_BYTES: Final = 32
"""Too many to be guessed."""


Socketed = Publisher | Inbox | Encryption | CommandListener
"""A part with a socket on a thread of its own."""


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
    outward: tuple[Publisher, ...] = ()
    """One to each supervisor elsewhere."""
    commands: tuple[CommandListener, ...] = ()
    """What operators of these supervisors say."""
    uplink: Uplink | None = None
    """Says over these what is known of each account; None: there are none."""

    def starting(self) -> tuple[Socketed, ...]:
        """What is to be started, in this order."""
        # The encryption first: a socket that is bound before it lets nothing in.
        return self.encryption, self.inbox, self.health_out, self.broker_out, *self.outward, *self.commands

    def ending(self) -> tuple[Socketed, ...]:
        """What is to be stopped, in this order, before the bus is closed."""
        return *self.commands, self.broker_out, *self.outward, self.health_out, self.inbox, self.encryption

    def listener(self) -> Listener:
        """A subscriber to the health topic, in this process."""
        return listener_of(self.bus, self.health_out, self.encryption)


def listener_of(bus: Bus, health_out: Publisher, encryption: Encryption) -> Listener:
    """A subscriber to this health topic, in this process."""
    endpoint = reachable(health_out.bound_endpoint)
    curve = encryption.client(endpoint)
    if curve is None:
        return Listener(endpoint, bus=bus)
    return Listener(endpoint, server_key=curve.server_key, key_file=curve.pair, bus=bus)


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
    return _unknown_slot(name, exchange, Reason.CONFIG, why, clock, heartbeat_s)


def unreported_slot(spec: BrokerSpec, clock: Clock, heartbeat_s: float) -> Slot:
    """The place of a broker that runs in another process."""
    why = "no node has reported it yet"
    return _unknown_slot(spec.name, spec.exchange, Reason.NEVER_SEEN, why, clock, heartbeat_s)


def _unknown_slot(
    name: str, exchange: str, reason: Reason, why: str, clock: Clock, heartbeat_s: float
) -> Slot:
    now = clock.now()
    health = replace(Health.begin(now), state=HealthState.UNKNOWN)
    blank = evidence(BrokerSpec(name, exchange=exchange), "", health, now, clock, heartbeat_s)
    for_ever = msgspec.structs.replace(blank, valid_until_s=float("inf"))
    return Slot(for_ever, health, NO_VETOES.lay(reason, why, now))


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


def _token(settings: ClusterSettings) -> bytes:
    """What proves to the supervisor that an event is of its own process; empty where that is certain.

    All that an event says stands on the health topic too, its epoch and its version with it. So a program
    that reads the one could send the other.
    """
    if settings.curve is not None or settings.broker_endpoint.startswith("inproc://"):
        return b""
    return secrets.token_bytes(TOKEN_BYTES)


def client_of(settings: ClusterSettings, supervisor: SupervisorSettings) -> CurveClient | None:
    """What connects to a supervisor elsewhere; None: without encryption. The settings were checked."""
    if not supervisor.server_key or settings.curve is None:
        return None
    return CurveClient(read_pair(settings.curve.key_file), public_key(supervisor.server_key))


def opened_sockets(
    settings: ClusterSettings,
    clock: Clock,
    ttl_s: float,
    on_command: Callable[[CommandData, Publisher], object],
) -> Sockets:
    """Open and start the sockets. Raises EndpointUnavailable or ConfigError, with nothing left open."""
    health, brokers = settings.health_endpoint, settings.broker_endpoint
    if settings.curve is None and brokers.startswith("tcp://"):
        _log.warning(
            "every program of this machine can send to %s: its events are refused, but refusing them takes "
            "time; [curve] or inproc:// keeps it out",
            brokers,
        )
    token = _token(settings)
    bus = Bus()
    try:
        encryption = Encryption(bus, settings.curve)
    except BaseException:
        bus.close()
        raise
    to_brokers = encryption.client(brokers)
    outward = tuple(
        Publisher(
            bus,
            reachable(each.broker_endpoint),
            f"brokerwatch-uplink-{number}",
            bind=False,
            curve=client_of(settings, each),
        )
        for number, each in enumerate(settings.supervisors, start=1)
    )
    epoch = next_epoch(clock.now().wall_us, "", os.urandom(4).hex())
    sockets = Sockets(
        bus,
        Inbox(bus, brokers, clock, ttl_s, encryption.server(BROKERS_DOMAIN, brokers), token=token),
        Publisher(
            bus, health, "brokerwatch-health", bind=True, curve=encryption.server(HEALTH_DOMAIN, health)
        ),
        Publisher(
            bus,
            reachable(brokers),
            "brokerwatch-brokers",
            bind=False,
            gather_s=0.0,
            curve=to_brokers,
            token=token,
        ),
        encryption,
        outward,
        tuple(
            CommandListener(
                f"brokerwatch-commands-{number}",
                reachable(each.health_endpoint),
                bus,
                clock,
                client_of(settings, each),
                publisher,
                on_command,
            )
            for number, (each, publisher) in enumerate(
                zip(settings.supervisors, outward, strict=True), start=1
            )
        ),
        Uplink(outward, clock, ttl_s, epoch) if outward else None,
    )
    started: list[Socketed] = []
    try:
        for part in sockets.starting():
            part.start()
            started.append(part)
    except BaseException:
        for part in reversed(started):
            part.stop(SHORTEST_SHARE_S)
        bus.close()
        raise
    sockets.inbox.on_reopened = sockets.broker_out.reopen
    return sockets


def gate_folder(settings: ClusterSettings) -> Path:
    """The folder of the verifications; none where this user has no home for one, and none are needed.

    Raises ConfigError where they are needed.
    """
    try:
        return folder_of(settings)
    except ConfigError:
        if settings.remember or settings.require_verification_max_age_s is not None:
            raise
        return Path()
