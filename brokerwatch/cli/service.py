"""What is told about a program to what runs it: ready, alive, and what state it is in.

For systemd a datagram to the socket in `$NOTIFY_SOCKET`, as sd_notify(3) describes it. Without that variable
nothing is sent. For a probe that only looks, such as one of Kubernetes, a file that is touched meanwhile.
"""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from brokerwatch.bus.listener import Listener

MOST_NAMED: Final = 5
"""Accounts in the line for the service manager."""
STATUS_S: Final = 5.0
"""How often the state is told where no watchdog wants to know it more often."""


class ServiceManager:
    """The service manager of this process, where there is one. Any thread may tell it something."""

    def __init__(
        self, environment: Mapping[str, str] | None = None, *, alive_file: Path | None = None
    ) -> None:
        """
        Args:
            environment: that of a service; None: this process's own.
            alive_file: is touched with each sign of life, and removed at the end. None: there is none.
        """
        self._alive_file = alive_file
        known = os.environ if environment is None else environment
        address = known.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_s = _watchdog_s(known)

    @property
    def interval_s(self) -> float:
        """How often it wants a sign of life, in seconds: three times within its limit."""
        return STATUS_S if self._watchdog_s is None else min(STATUS_S, self._watchdog_s / 3)

    def say(self, *states: str) -> None:
        """Tell it states, such as `READY=1`. What cannot be told is no reason to stop."""
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto("\n".join(states).encode(), self._address)

    def _touch(self) -> None:
        # What cannot be touched is a sign of life that is missing, and no reason to stop.
        if self._alive_file is not None:
            with contextlib.suppress(OSError):
                self._alive_file.touch(0o644)

    @contextmanager
    def watched(self, fault: Callable[[], str], status: Callable[[], str]) -> Generator[None]:
        """Say that the program is ready, and give signs of life while `fault` finds nothing.

        Args:
            fault: what is wrong with the watcher itself; empty where nothing is. While it finds something no
                sign of life is given, and systemd starts the service again.
            status: one line for `systemctl status`.
        """
        if not self._address and self._alive_file is None:
            yield
            return
        over = threading.Event()

        def live() -> None:
            while not over.wait(self.interval_s):
                why = fault()
                self.say(f"STATUS={why or status()}", *(() if why else ("WATCHDOG=1",)))
                if not why:
                    self._touch()

        thread = threading.Thread(target=live, name="brokerwatch-service", daemon=True)
        self.say("READY=1", f"STATUS={status()}", "WATCHDOG=1")
        self._touch()
        thread.start()
        try:
            yield
        finally:
            over.set()
            self.say("STOPPING=1", "STATUS=it is being stopped")
            thread.join()
            if self._alive_file is not None:
                with contextlib.suppress(OSError):
                    self._alive_file.unlink(missing_ok=True)


def accounts_line(listener: Listener) -> str:
    """The state of all accounts in one line."""
    readings = listener.readings().values()
    out = sorted(reading.broker for reading in readings if not reading.available)
    more = f" and {len(out) - MOST_NAMED} more" if len(out) > MOST_NAMED else ""
    named = f": {', '.join(out[:MOST_NAMED])}{more}" if out else ""
    return f"{len(readings)} accounts, {len(out)} not available{named}"


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """The time within which a sign of life is wanted of this process; None: none is."""
    try:
        limit_us = int(environment.get("WATCHDOG_USEC", "0"))
        pid = int(environment.get("WATCHDOG_PID", os.getpid()))
    except ValueError:
        return None
    return limit_us / 1_000_000 if limit_us > 0 and pid == os.getpid() else None
