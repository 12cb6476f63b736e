"""How a program that watches accounts is shown, and how it is stopped: a cluster, a node, a supervisor."""

from __future__ import annotations

import contextlib
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from brokerwatch.bus.listener import Listener
from brokerwatch.cli import exits
from brokerwatch.cli.log_output import LogChoice, logging_to
from brokerwatch.cli.screen import Screen
from brokerwatch.cli.service import ServiceManager, accounts_line
from brokerwatch.cli.signals import Stop, stop_signals
from brokerwatch.cli.streams import can_draw
from brokerwatch.clock import SystemClock
from brokerwatch.cluster.outlets import watcher_fault
from brokerwatch.config.cluster_settings import Settings, reachable
from brokerwatch.errors import ControlError
from brokerwatch.health.reading import ttl_s
from brokerwatch.log import logger

_log: Final = logger(__name__)

ASK_AGAIN_S: Final = 0.1
MOST_LINES: Final = 200
"""Of the log, that wait for the table to be drawn; the newest ones count."""


class Watching(Protocol):
    """What is run and shown: a cluster, or a supervisor alone."""

    @property
    def hung(self) -> str:
        """Why accounts are watched no more; empty: they are."""
        ...

    @property
    def health_endpoint(self) -> str:
        """Where listeners connect to."""
        ...

    @property
    def http_url(self) -> str:
        """Where the page is; empty: there is none."""
        ...

    def listener(self) -> Listener:
        """A subscriber to what it publishes."""
        ...

    def reload_for(self, by: str) -> str:
        """Read the configuration again. Raises ControlError."""
        ...


@dataclass(slots=True)
class Showing:
    """How what is run is shown, until it is stopped."""

    stopped: Stop
    as_json: bool
    in_lines: bool
    above: deque[str]
    story: str = ""


@contextmanager
def logged(log: LogChoice, *, as_json: bool) -> Generator[Showing]:
    """Signals that stop the program, and its log."""
    in_lines = as_json or not can_draw()
    above = deque[str](maxlen=MOST_LINES)
    # Where there is a live table, a line on standard error would tear it.
    with stop_signals() as stopped, logging_to(log, None if in_lines else above):
        yield Showing(stopped, as_json, in_lines, above)


def show(
    watching: Watching,
    settings: Settings,
    showing: Showing,
    title: str,
    duration_s: float | None,
    *,
    then: Callable[[], object] | None = None,
    alive_file: Path | None = None,
) -> None:
    """Show it until it is stopped, or broken. Raises SystemExit with a status of its own where it is broken.

    `then` is called once it is shown to be ready. `alive_file` is touched while the watcher itself works.
    """
    stopped = showing.stopped
    with ExitStack() as stack:
        listener = stack.enter_context(watching.listener())
        if duration_s is not None:
            # A thread of its own, so that the time ends however quiet the brokers are.
            timer = threading.Timer(duration_s, stopped.set)
            timer.daemon = True
            timer.start()
            stack.callback(timer.cancel)
        public = not watching.health_endpoint.startswith("inproc://")
        if showing.in_lines:  # a table has the endpoint below it
            title += f"\nhealth topic {watching.health_endpoint}" if public else ""
            title += f"\npage {watching.http_url}" if watching.http_url else ""
        if showing.as_json:
            sys.stderr.write(f"{title}\n")
        stack.enter_context(
            ServiceManager(alive_file=alive_file).watched(
                _fault_of(watching, settings, listener), lambda: accounts_line(listener)
            )
        )
        if then is not None:
            then()
        Screen(
            listener,
            lambda: stopped.is_set() or bool(watching.hung),
            SystemClock().up_s,
            as_json=showing.as_json,
            title=title,
            caption=lambda: _caption(watching, showing.story),
            above=showing.above,
        ).show()
        hung = watching.hung
    if hung:
        exits.say(f"ended, because some accounts can be asked no more, or not be heard: {hung}")
        sys.exit(exits.HUNG)


def _fault_of(cluster: Watching, settings: Settings, listener: Listener) -> Callable[[], str]:
    up_s = SystemClock().up_s
    began_s = up_s()
    lasts_s = ttl_s(settings.cluster.heartbeat_of(len(settings.brokers)))
    return lambda: watcher_fault(cluster.hung, listener.heard_ago_s(), up_s() - began_s, lasts_s)


def reload(running: list[Watching], stopped: Stop, *, demo: bool) -> None:
    """Carry out a SIGHUP: read the configuration again. What has changed, or is wrong, stands in the log."""
    if demo:
        _log.warning("SIGHUP: the demo reads no configuration, so there is none to read again")
        return
    while not running:  # it is still starting, and has read the file already
        if stopped.wait(ASK_AGAIN_S):
            return
    with contextlib.suppress(ControlError):  # logged already
        running[0].reload_for("SIGHUP")


def _caption(watching: Watching, story: str) -> str:
    endpoint = watching.health_endpoint
    lines = ["Ctrl-C ends"]
    if not endpoint.startswith("inproc://"):
        lines = [f"in another terminal: brokerwatch listen {reachable(endpoint)}   Ctrl-C ends"]
    if watching.http_url:
        lines.insert(0, f"page: {watching.http_url}")
    return "\n".join([f"simulation: {story}", *lines] if story else lines)


def accounts(count: int) -> str:
    return f"{count} account{'s' if count != 1 else ''}"
