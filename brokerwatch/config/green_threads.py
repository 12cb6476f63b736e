"""Whether gevent or eventlet has replaced what threads are made of.

Their `monkey_patch()` makes green threads of ours, which all run on one thread: an event loop of ours then
never lets another one run, and a start would hang without a word.
"""

from __future__ import annotations

import queue
import select
import socket
import threading
from typing import Final

from brokerwatch.errors import ConfigError, Problem

LIBRARIES: Final = ("gevent", "eventlet")


def replaced() -> str:
    """What was replaced and by which library, in words; empty: nothing was."""
    for name, found in (
        ("threads", threading.Lock),
        ("threads", getattr(threading, "_start_new_thread", None)),
        ("threads", getattr(threading, "_start_joinable_thread", None)),  # from Python 3.13 on
        ("queues", queue.SimpleQueue),
        ("sockets", socket.socket),
        ("select", select.select),
    ):
        library = str(getattr(found, "__module__", "")).partition(".")[0]
        if library in LIBRARIES:
            return f"{library} has replaced {name} in this process"
    return ""


def refuse_green_threads() -> None:
    """Raises ConfigError, one sentence, where the threads of this process are green ones."""
    found = replaced()
    if found:
        expected = (
            f"expected a process with real threads, and {found}: leave its monkey_patch() out of this "
            "process, or run brokerwatch in another one and follow it with `brokerwatch listen`"
        )
        raise ConfigError((Problem("", "", expected),))
