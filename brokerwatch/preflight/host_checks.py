"""What `brokerwatch doctor` looks at on this machine: the state folder, claims, endpoints, limits.

Nothing is made or claimed. A port is bound for a moment, without use, and let go.
"""

from __future__ import annotations

import errno
import os
import re
import resource
import shutil
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from brokerwatch.bus.listener import Listener
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, reachable
from brokerwatch.config.credentials import secret_file_remark, writable_by_others
from brokerwatch.config.curve_keys import read_pair
from brokerwatch.config.curve_settings import CurveSettings
from brokerwatch.errors import ConfigError
from brokerwatch.gateway.catalogue import key_of
from brokerwatch.preflight.diagnosis import Line, fail, key_file, key_use, ok, room, skip, warn
from brokerwatch.storage.locks import holder, state_root
from brokerwatch.storage.state_folder import CLAIM_NAME, KEYS_NAME, folder_of

LONGEST_PATH: Final = 107
"""Bytes of a socket's path (unix(7))."""
CONNECT_S: Final = 1.0
LOOK_S: Final = 0.02
_ANOTHER: Final = "name another one with `state` under [cluster]"
_ANOTHER_ENDPOINT: Final = (
    "stop what has it, or set another health_endpoint or broker_endpoint under [cluster]"
)


# --- keys -----------------------------------------------------------------------------------------


def key_files(spec: BrokerSpec) -> list[Line]:
    """Who may read each file that a credential of this broker is in."""
    lines: list[Line] = []
    for origin in dict.fromkeys(spec.origins.values()):
        if origin.kind != "file":
            continue
        path = Path(origin.name)
        try:
            lines.append(
                key_file(spec, origin.name, secret_file_remark(path), unusable=writable_by_others(path))
            )
        except OSError as error:
            lines.append(
                fail(
                    f"broker {spec.name}", "key file", f"{path}: {error.strerror}", "put the file back"
                )
            )  # fmt: skip
    return lines


def key_users(specs: tuple[BrokerSpec, ...], own_cluster: str) -> dict[str, Line]:
    """Who else uses the key of each broker, by the broker's name."""
    seen: dict[str, str] = {}
    lines: dict[str, Line] = {}
    for spec in specs:
        name = key_of(spec)
        if not name:
            continue
        try:
            path = state_root() / KEYS_NAME / f"{name}.lock"
        except OSError as error:
            lines[spec.name] = warn(
                f"broker {spec.name}", "key used by", f"cannot be told: {error.strerror}",
                "set HOME or XDG_STATE_HOME",
            )  # fmt: skip
            continue
        try:
            lines[spec.name] = key_use(spec, seen.get(name, ""), holder(path), own_cluster)
        except OSError as error:
            lines[spec.name] = warn(
                f"broker {spec.name}", "key used by", f"cannot be told: {path}: {error.strerror}",
                "make it readable for this user",
            )  # fmt: skip
        seen.setdefault(name, f"broker {spec.name}")
    return lines


# --- the state folder -----------------------------------------------------------------------------


def state_folder(settings: ClusterSettings, own_cluster: str) -> list[Line]:
    """The folder, the room on its disk, and whether a cluster runs in it."""
    subject = "state folder"
    if not settings.remember:
        return [ok(subject, "folder", "none is needed: remember = false")]
    try:
        path = folder_of(settings)
        folder = _folder(path)
    except ConfigError as error:
        path = Path()
        folder = fail(subject, "folder", error.problems[0].expected, f"set one of the two, or {_ANOTHER}")
    lines = [folder]
    if folder.outcome == "fail":
        return [
            *lines,
            *(skip(subject, check, "see its folder", "mend that first") for check in ("room", "cluster")),
        ]
    there = _nearest(path)
    try:
        lines.append(room(str(path), shutil.disk_usage(there).free))
    except OSError as error:
        lines.append(warn(subject, "room", f"cannot be told: {error.strerror}", "look after its disk"))
    usage = f"{own_cluster} runs cluster {settings.name} in it now" if own_cluster else "none runs in it now"
    return [*lines, ok(subject, "cluster", usage)]


def _folder(path: Path) -> Line:
    subject, check = "state folder", "folder"
    there = _nearest(path)
    if not there.is_dir():
        return fail(subject, check, f"{there} is no folder", f"take it away, or {_ANOTHER}")
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        return fail(
            subject, check, f"this user cannot write in {there}", f"let this user write in it, or {_ANOTHER}"
        )
    if there != path:
        return ok(subject, check, f"{path} is not there yet, and can be made")
    lock = path / CLAIM_NAME
    if lock.exists() and not os.access(lock, os.R_OK | os.W_OK):
        return fail(subject, check, f"this user cannot write {lock}", f"give it to this user, or {_ANOTHER}")
    found = path.stat()
    if found.st_uid not in (os.getuid(), 0):
        return warn(
            subject,
            check,
            f"{path} belongs to another user, who can change what is in it",
            f"chown it, or {_ANOTHER}",
        )
    if writable_by_others(path):
        return fail(subject, check, f"other users may write in {path}", f"chmod 700 {path}, or {_ANOTHER}")
    if found.st_mode & 0o077:
        return warn(subject, check, f"{path} is open to other users", f"chmod 700 {path}")
    return ok(subject, check, f"{path} is this user's alone, and can be written")


def _nearest(path: Path) -> Path:
    """The path, or what there is of it."""
    return next((each for each in (path, *path.absolute().parents) if os.path.lexists(each)), Path("/"))


# --- endpoints ------------------------------------------------------------------------------------


def endpoint_line(name: str, endpoint: str, own_cluster: str, says_so: Callable[[], bool]) -> Line:
    """Whether an endpoint is free, or rightly taken by our own cluster that runs now.

    `says_so`: whether the process that has it publishes as that cluster; asked where it is in use.
    """
    if endpoint.startswith("inproc://"):
        return ok(name, "free", f"{endpoint} is inside the process")
    taken, why = (
        tcp_trouble(endpoint) if endpoint.startswith("tcp://") else _ipc(endpoint.removeprefix("ipc://"))
    )
    if not why:
        is_any = endpoint.endswith((":*", ":0"))
        return ok(name, "free", f"{endpoint} is any free port" if is_any else f"{endpoint} is free")
    if taken and own_cluster and (own_cluster in why if "by process " in why else says_so()):
        return ok(name, "free", f"{endpoint} is taken, and {own_cluster} runs this cluster now")
    if taken and own_cluster:
        return fail(
            name, "free", f"{endpoint} {why}, and not by the cluster that {own_cluster} runs now",
            _ANOTHER_ENDPOINT,
        )  # fmt: skip
    return fail(name, "free", f"{endpoint} {why}", _ANOTHER_ENDPOINT if taken else "set one that can be used")


def is_heard(cluster: ClusterSettings, patience_s: float) -> bool:
    """Whether this cluster publishes at its endpoint: within so long something of it is heard."""
    endpoint, until_s = reachable(cluster.health_endpoint), time.monotonic() + patience_s
    try:
        subscribed = _listener(endpoint, cluster.curve)
    except (ConfigError, ValueError):  # its keys cannot be used, and another line says so
        return False
    with subscribed as listener:
        while time.monotonic() < until_s:
            heard = listener.heard()
            if heard:
                return any(one.stamp.src == f"supervisor/{cluster.name}" for one in heard)
            listener.complete.wait(LOOK_S)
    return False


def _listener(endpoint: str, curve: CurveSettings | None) -> Listener:
    if curve is None or endpoint.startswith("inproc://"):
        return Listener(endpoint)
    pair = read_pair(curve.key_file)  # it was read with the configuration
    return Listener(endpoint, server_key=pair.public, key_file=pair)


def tcp_trouble(endpoint: str) -> tuple[bool, str]:
    """Whether it is in use, and what is wrong; empty: nothing. `*` is any port."""
    match = re.fullmatch(r"tcp://(\[[^\]]+\]|[^:]+):([0-9]+|\*)", endpoint)
    if match is None:
        return False, "is none that can be read"
    host, port = match[1].strip("[]"), 0 if match[2] == "*" else int(match[2])
    family = socket.AF_INET6 if match[1].startswith("[") else socket.AF_INET
    try:
        with socket.socket(family) as probe:
            # As ZeroMQ does: what only lingers of an earlier connection is not in its way.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((host, port))
    except OSError as error:
        is_taken = error.errno == errno.EADDRINUSE
        return is_taken, "is in use" if is_taken else f"cannot be bound: {error.strerror}"
    return False, ""


def _ipc(name: str) -> tuple[bool, str]:
    path = Path(name)
    if not name.startswith("@"):
        if len(os.fsencode(name)) > LONGEST_PATH:
            return False, f"is longer than {LONGEST_PATH} bytes"
        if not path.parent.is_dir() or not os.access(path.parent, os.W_OK | os.X_OK):
            return False, f"cannot be made: {path.parent} is no folder that this user can write"
        if path.is_dir():
            return False, "is a folder"
    try:
        held_by = holder(Path(f"{name}.lock"))
    except OSError as error:
        return False, f"cannot be claimed: {name}.lock: {error.strerror}"
    if held_by:
        return True, f"is in use by {held_by}"
    if name.startswith("@") or (path.exists() and stat.S_ISSOCK(path.stat().st_mode)):
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CONNECT_S)
            if probe.connect_ex(f"\0{name[1:]}" if name.startswith("@") else name) == 0:
                return True, "is in use: a program answers there"
    return False, ""


# --- limits ---------------------------------------------------------------------------------------


def soft_limit() -> int | None:
    """How many files a process may have open; None: any number."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else soft
