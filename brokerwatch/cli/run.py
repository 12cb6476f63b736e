"""The program: settings, a cluster on them, and a screen, until it is stopped.

`run_cluster.py` and `brokerwatch run` are both this.
"""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from brokerwatch.bus.listener import Listener
from brokerwatch.cli import exits
from brokerwatch.cli.config_lookup import config_path
from brokerwatch.cli.demo import simulated_settings
from brokerwatch.cli.log_output import LogChoice, logging_to
from brokerwatch.cli.screen import Screen
from brokerwatch.cli.service import ServiceManager, accounts_line
from brokerwatch.cli.signals import Stop, on_hangup, stop_signals
from brokerwatch.cli.streams import can_draw
from brokerwatch.clock import SystemClock
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.cluster.outlets import watcher_fault
from brokerwatch.config.cluster_settings import Settings, reachable
from brokerwatch.config.loader import load
from brokerwatch.errors import (
    BalanceUnknown,
    ConfigError,
    ControlError,
    EndpointUnavailable,
    Problem,
    StateFolderTaken,
)
from brokerwatch.health.reading import ttl_s
from brokerwatch.log import logger

_log: Final = logger(__name__)

ASK_AGAIN_S: Final = 0.1
MOST_LINES: Final = 200
"""Of the log, that wait for the table to be drawn; the newest ones count."""


def run(
    *,
    config: Path | None,
    demo: bool,
    duration_s: float | None,
    as_json: bool,
    keep_going: bool,
    log: LogChoice,
) -> None:
    """Run a cluster and show it. Returns when it was stopped, or after `duration_s`.

    Raises SystemExit with a status of its own when an event loop hangs and cannot be replaced: a new process
    can watch again. ConfigError when the configuration cannot be used, EndpointUnavailable when an endpoint
    is taken.
    """
    if demo:
        beside = [
            option for option, is_given in (("--config", config), ("--keep-going", keep_going)) if is_given
        ]
        expected = "expected without --demo: the demo runs on simulated exchanges and reads no configuration"
        if beside:
            raise ConfigError(tuple(Problem("", option, expected) for option in beside))
    in_lines = as_json or not can_draw()
    above = deque[str](maxlen=MOST_LINES)
    # Where there is a live table, a line on standard error would tear it.
    with stop_signals() as stopped, logging_to(log, None if in_lines else above), ExitStack() as stack:
        story = [""]

        def tell(sentence: str) -> None:
            story[0] = sentence
            if in_lines:
                sys.stderr.write(f"simulation: {sentence}\n")

        begin: Callable[[], None] | None = None
        if demo:
            settings, begin = stack.enter_context(simulated_settings(tell))
        else:
            settings = _load(config_path(config), keep_going=keep_going)
        running: list[Cluster] = []
        stack.enter_context(on_hangup(lambda: _reload(running, stopped, demo=demo)))
        path = None if demo else config_path(config)
        cluster = stack.enter_context(_started(settings, path, beside_others=demo))
        running.append(cluster)
        listener = stack.enter_context(cluster.listener())
        if duration_s is not None:
            # A thread of its own, so that the time ends however quiet the brokers are.
            timer = threading.Timer(duration_s, stopped.set)
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)
        title = _title(settings, demo=demo)
        if in_lines:  # a table has the endpoint below it
            title = f"{title}\nhealth topic {cluster.health_endpoint}"
            title += f"\npage {cluster.http_url}" if cluster.http_url else ""
        if as_json:
            sys.stderr.write(f"{title}\n")
        stack.enter_context(
            ServiceManager().watched(_fault_of(cluster, settings, listener), lambda: accounts_line(listener))
        )
        # Not before every account has answered: a slow machine would start with the first outage.
        if begin is not None and _every_account_has_answered(cluster, settings, stopped):
            begin()
        Screen(
            listener,
            lambda: stopped.is_set() or bool(cluster.hung),
            SystemClock().up_s,
            as_json=as_json,
            title=title,
            caption=lambda: _caption(cluster, story[0]),
            above=above,
        ).show()
        hung = cluster.hung
    if hung:
        exits.say(f"ended, because some accounts can be asked no more, or not be heard: {hung}")
        sys.exit(exits.HUNG)


@contextmanager
def _started(settings: Settings, path: Path | None, *, beside_others: bool) -> Generator[Cluster]:
    """The running cluster. A demo makes do when another one has the usual port or the state folder."""
    cluster = Cluster.from_settings(settings, path)
    try:
        cluster.start()
    except (EndpointUnavailable, StateFolderTaken):
        if not beside_others:
            raise
        modest = replace(settings.cluster, health_endpoint="tcp://127.0.0.1:*", remember=False)
        cluster = Cluster(settings.brokers, modest)
        cluster.start()
    try:
        yield cluster
    finally:
        cluster.stop()


def _reload(running: list[Cluster], stopped: Stop, *, demo: bool) -> None:
    """Carry out a SIGHUP: read the configuration again. What has changed, or is wrong, stands in the log."""
    if demo:
        _log.warning("SIGHUP: the demo reads no configuration, so there is none to read again")
        return
    while not running:  # it is still starting, and has read the file already
        if stopped.wait(ASK_AGAIN_S):
            return
    with contextlib.suppress(ControlError):  # logged already
        running[0].reload_for("SIGHUP")


def _every_account_has_answered(cluster: Cluster, settings: Settings, stopped: Stop) -> bool:
    """Ask each account until it has answered. False when the program was stopped before that."""
    for broker in (cluster.broker(spec.name) for spec in settings.brokers):
        while True:
            if stopped.is_set():
                return False
            try:
                broker.get_account_balance()
            except BalanceUnknown:  # on a busy machine the first answer may come after the deadline
                stopped.wait(ASK_AGAIN_S)
            else:
                break
    return True


def _load(path: Path, *, keep_going: bool) -> Settings:
    from brokerwatch.gateway.catalogue import Catalogue

    return load(path, Catalogue(), keep_going=keep_going)


def _fault_of(cluster: Cluster, settings: Settings, listener: Listener) -> Callable[[], str]:
    up_s = SystemClock().up_s
    began_s = up_s()
    lasts_s = ttl_s(settings.cluster.heartbeat_of(len(settings.brokers)))
    return lambda: watcher_fault(cluster.hung, listener.heard_ago_s(), up_s() - began_s, lasts_s)


def _title(settings: Settings, *, demo: bool) -> str:
    count = len(settings.brokers) + len(settings.broken)
    if demo:
        return f"brokerwatch: {count} SIMULATED accounts; no real exchange is asked"
    return f"brokerwatch: cluster {settings.cluster.name}, {count} account{'s' if count != 1 else ''}"


def _caption(cluster: Cluster, story: str) -> str:
    lines = [f"in another terminal: brokerwatch listen {reachable(cluster.health_endpoint)}   Ctrl-C ends"]
    if cluster.http_url:
        lines.insert(0, f"page: {cluster.http_url}")
    return "\n".join([f"simulation: {story}", *lines] if story else lines)
