"""The settings of a whole cluster: endpoints, store, state folder, heartbeat."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from types import NoneType
from typing import Final

from brokerwatch.config.broker_spec import EMPTY, BrokerSpec
from brokerwatch.config.curve_settings import CurveSettings
from brokerwatch.config.http_settings import HttpSettings, http_mistakes
from brokerwatch.config.key_watch_settings import KEY_WATCH_INTERVAL_S, egress_mistakes, key_watch_mistakes
from brokerwatch.config.notify_settings import NotifySettings, notify_mistakes
from brokerwatch.config.pool_settings import PoolSettings, pool_mistakes
from brokerwatch.config.supervisor_settings import MOST_SUPERVISORS, SupervisorSettings, server_key_mistake
from brokerwatch.messages import topics

DEFAULT_HEALTH_ENDPOINT: Final = "tcp://127.0.0.1:5571"


DEFAULT_BROKER_ENDPOINT: Final = "inproc://brokers"


SQLITE: Final = "sqlite:///"
"""How the URL of a store in a file begins; its path follows."""


SHORTEST_STATUS_S: Final = 0.05
"""Between two questions to an exchange about itself; who asks a real one so often is shut out."""


HEARTBEAT_S: Final = 1.0
"""The heartbeat, where the configuration says none …"""


ACCOUNTS_A_SECOND: Final = 250
"""… and there are no more accounts than these: a sign of life costs about 0.4 ms of a core."""


HEARTBEAT_RANGE_S: Final = (0.02, 300.0)
"""Faster would burn the machine, slower would call a dead broker alive for twenty minutes."""


@dataclass(frozen=True, slots=True)
class ClusterSettings:
    """What the brokers of one cluster share. Each field stands below with its unit.

    The values are checked when a `Cluster` is made with them, which raises ConfigError.
    """

    name: str = "main"
    health_endpoint: str = DEFAULT_HEALTH_ENDPOINT
    """The public health topic. Beyond loopback it needs `curve`."""
    broker_endpoint: str = DEFAULT_BROKER_ENDPOINT
    """Brokers to supervisor. Beyond loopback it needs `curve`."""
    heartbeat_s: float | None = None
    """Seconds from one heartbeat to the next. A broker that sends none for four heartbeats and one second
    becomes unavailable. None: one second up to 250 accounts, and with more accounts 4 ms for each
    of them, because each heartbeat costs CPU."""
    status_interval_s: float = 30.0
    """Seconds between two questions to an exchange about its status, for all accounts there; inf: never."""
    key_watch_interval_s: float = KEY_WATCH_INTERVAL_S
    """Seconds between two questions to an exchange about what an API key may do, until when, and from where;
    inf: never. A broker may have its own."""
    egress_address: str = ""
    """The address that our calls leave from, as exchanges see it; empty: it is not known. A broker may have
    its own."""
    publish_balances: bool = True
    """False keeps amounts out of what others can hear."""
    state: str | os.PathLike[str] = ""
    """The state folder; empty: one of the cluster's name where the platform keeps state. A text once the
    settings are made."""
    store: str = field(default="", repr=False)
    """The URL of the database; empty: SQLite in that folder. Not shown: it may hold a password."""
    require_verification_max_age_s: float | None = None
    """Seconds. An entry needs a passing report of `brokerwatch verify` for its API key that is not older.
    None: it needs no report. An exit never needs one."""
    history_days: float = 400.0
    """Days. Lines of the history that are older are deleted, and so is what the page shows of that time; inf:
    never. Orders, holds and balances are not."""
    remember: bool = True
    """False: nothing is stored, so a restart begins with nothing known, and operators cannot be heard."""
    http: HttpSettings | None = None
    """Where page, API and metrics are served; None: nowhere."""
    notify: NotifySettings = NotifySettings()  # noqa: RUF009 - it is frozen
    """Messages to people, and the dead man's switch."""
    curve: CurveSettings | None = None
    """The keys with which both endpoints are encrypted, unless they are inproc; None: they are not."""
    supervisors: tuple[SupervisorSettings, ...] = ()
    """The supervisors in other processes that hear these accounts too, and whose operators command them."""
    pool: PoolSettings | None = None
    """The pool of nodes that share these accounts; None: there is none."""

    def __post_init__(self) -> None:
        if isinstance(self.state, os.PathLike):
            object.__setattr__(self, "state", os.fsdecode(self.state))

    def heartbeat_of(self, accounts: int) -> float:
        """The heartbeat of so many accounts, in seconds."""
        if self.heartbeat_s is not None:
            return self.heartbeat_s
        return min(HEARTBEAT_RANGE_S[1], max(HEARTBEAT_S, accounts * HEARTBEAT_S / ACCOUNTS_A_SECOND))


@dataclass(frozen=True, slots=True)
class Settings:
    """A whole configuration that can be run."""

    cluster: ClusterSettings
    brokers: tuple[BrokerSpec, ...]
    broken: Mapping[str, tuple[str, str]] = field(default_factory=lambda: EMPTY)
    """Brokers that cannot start (`keep_going`): name to (exchange, what is wrong)."""


def endpoint_mistake(endpoint: str, *, encrypted: bool = False, connects: bool = False) -> str:
    """What is wrong with a ZeroMQ endpoint; empty when nothing is.

    Args:
        endpoint: as ZeroMQ takes it.
        encrypted: whether CURVE protects it.
        connects: whether it is connected to, which another machine's name may be used for.
    """
    if endpoint.startswith(("inproc://", "ipc://")):
        return "" if endpoint.partition("://")[2] else f"expected a name after ://, not {endpoint!r}"
    match = re.fullmatch(r"tcp://(\[[^\]]+\]|[^:\[\]]+):([0-9]{1,5}|\*)", endpoint)
    if match is None or (match[2] != "*" and int(match[2]) > 65_535):
        return f"expected tcp://127.0.0.1:PORT, ipc://PATH or inproc://NAME, not {endpoint!r}"
    host = match[1].strip("[]")
    try:
        loopback = ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
        if encrypted and not loopback and not (connects and _HOST_NAME.fullmatch(host)):
            return f"expected an IP address, such as 0.0.0.0 for all of this machine's, not {host!r}"
    if loopback or encrypted:
        return ""
    return (
        f"{endpoint!r} can be reached from other machines and is not encrypted; expected a loopback address "
        f"such as tcp://127.0.0.1:5571, or {'server_key and key_file' if connects else 'a [curve] table'}"
    )


_HOST_NAME: Final = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9])?")


def reachable(endpoint: str) -> str:
    """Where a program of this machine connects to what is bound at `endpoint`."""
    return endpoint.replace("tcp://0.0.0.0:", "tcp://127.0.0.1:", 1).replace("tcp://[::]:", "tcp://[::1]:", 1)


def is_in_a_file(settings: ClusterSettings) -> bool:
    """Whether what these settings' cluster stores is in a file, and not on a server."""
    return not settings.store or settings.store.startswith(SQLITE)


_POSTGRESQL: Final = re.compile(
    r"postgresql(\+psycopg)?://([^/]*@)?([^/:@\[\]]*|\[[0-9A-Fa-f:]+\])(:[0-9]{1,5})?(/.*)?"
)


def _store_mistake(url: str) -> str:
    """What is wrong with the URL of a store; empty when nothing is. It may hold a password: not repeated."""
    path = url.removeprefix(SQLITE)
    in_a_file = path != url and path not in ("", ":memory:") and "?" not in path
    if url.isprintable() and (not url or in_a_file or _POSTGRESQL.fullmatch(url)):
        return ""
    return "expected sqlite:///FILE or postgresql+psycopg://USER@HOST/DATABASE"


def _state_mistake(folder: str) -> str:
    """What is wrong with the name of a state folder; empty when nothing is."""
    if not folder.isprintable() or "?" in folder:
        return f"expected a folder, named without a question mark, not {folder!r}"
    try:
        Path(folder).expanduser()
    except RuntimeError:
        if folder.partition("/")[0] == "~":
            return f"expected a folder, and this user has no home: {folder!r}"
        return f"expected a folder, and this machine has no user of that name: {folder!r}"
    return ""


def _type_mistakes(settings: ClusterSettings) -> list[tuple[str, str]]:
    """What stands where its type cannot be. A file is read by type; Python settings come as they are."""
    found: list[tuple[str, str]] = []
    for names, types, expected in (
        (
            ("name", "health_endpoint", "broker_endpoint", "state", "store", "egress_address"),
            str,
            "text",
        ),
        (("publish_balances", "remember"), bool, "True or False"),
        (("status_interval_s", "key_watch_interval_s"), (int, float), "a number of seconds"),
        (("history_days",), (int, float), "a number of days"),
        (("heartbeat_s", "require_verification_max_age_s"), (int, float, NoneType), "a number of seconds"),
    ):
        for name in names:
            value: object = getattr(settings, name)
            if not isinstance(value, types) or (types is not bool and isinstance(value, bool)):
                # What stands at `store` may hold a password, so no value is repeated.
                found.append((name, f"expected {expected}, not {type(value).__name__}"))
    return found


def cluster_mistakes(settings: ClusterSettings) -> list[tuple[str, str]]:
    """(key, what was expected) for each value of the cluster that cannot be."""
    found = _type_mistakes(settings)
    if found:
        return found  # the rules below compare numbers and search texts
    if not topics.is_name(settings.name):
        found.append(("name", f"expected {topics.NAME_RULE}, not {settings.name!r}"))
    shortest, longest = HEARTBEAT_RANGE_S
    if settings.heartbeat_s is not None and not shortest <= settings.heartbeat_s <= longest:
        found.append(
            (
                "heartbeat_s",
                f"expected from {shortest:g} to {longest:g} seconds, not {settings.heartbeat_s:g}",
            )
        )
    age_s = settings.require_verification_max_age_s
    if age_s is not None and not 0 < age_s < math.inf:
        found.append(
            (
                "require_verification_max_age_s",
                f"expected a number of seconds above 0, and an end, not {age_s:g}",
            )
        )
    if not settings.history_days >= 1:
        found.append(("history_days", f"expected 1 day or more, not {settings.history_days:g}"))
    if not settings.status_interval_s >= SHORTEST_STATUS_S:
        found.append(
            (
                "status_interval_s",
                f"expected {SHORTEST_STATUS_S:g} seconds or more, not {settings.status_interval_s:g}",
            )
        )
    found += [("key_watch_interval_s", text) for text in key_watch_mistakes(settings.key_watch_interval_s)]
    if settings.egress_address:
        found += [("egress_address", text) for text in egress_mistakes(settings.egress_address)]
    for key, endpoint in (
        ("health_endpoint", settings.health_endpoint),
        ("broker_endpoint", settings.broker_endpoint),
    ):
        mistake = endpoint_mistake(endpoint, encrypted=settings.curve is not None)
        if mistake:
            found.append((key, mistake))
    for key, mistake in (
        ("state", _state_mistake(os.fspath(settings.state))),
        ("store", _store_mistake(settings.store)),
    ):
        if mistake:
            found.append((key, mistake))
    if re.search(r":(\*|0+)$", settings.broker_endpoint):
        found.append(("broker_endpoint", "expected a port of its own: both ends must know it"))
    if settings.http is not None:
        found += [(f"http.{key}", expected) for key, expected in http_mistakes(settings.http)]
    if settings.health_endpoint == settings.broker_endpoint:
        found.append(("broker_endpoint", "expected another endpoint than health_endpoint"))
    found += _supervisor_mistakes(settings)
    if settings.pool is not None:
        found += [(f"pool.{key}", expected) for key, expected in pool_mistakes(settings.pool)]
    return [*found, *((f"notify.{key}", expected) for key, expected in notify_mistakes(settings.notify))]


def _supervisor_mistakes(settings: ClusterSettings) -> list[tuple[str, str]]:
    """(key, what was expected) for each value of the [[supervisors]] tables that cannot be."""
    found: list[tuple[str, str]] = []
    if len(settings.supervisors) > MOST_SUPERVISORS:
        expected = f"expected up to {MOST_SUPERVISORS} tables, not {len(settings.supervisors)}"
        found.append(("supervisors", expected))
    for number, each in enumerate(settings.supervisors, start=1):
        for key in ("broker_endpoint", "health_endpoint"):
            endpoint: str = getattr(each, key)
            mistake = endpoint_mistake(endpoint, encrypted=bool(each.server_key), connects=True)
            if re.search(r":(\*|0+)$", endpoint):
                mistake = "expected the port that the supervisor has"
            elif endpoint.startswith("inproc://"):
                mistake = "expected tcp:// or ipc://: inproc:// does not leave this process"
            if mistake:
                found.append((f"supervisors #{number}.{key}", mistake))
        if not each.server_key:
            continue
        if mistake := server_key_mistake(each.server_key):
            found.append((f"supervisors #{number}.server_key", mistake))
        if settings.curve is None:
            expected = "expected a [curve] table with the key_file of this program's own key pair beside it"
            found.append((f"supervisors #{number}.server_key", expected))
    return found
