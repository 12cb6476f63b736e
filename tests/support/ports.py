"""Ports for programs that are told on which one to listen.

The kernel gives the ports from `EPHEMERAL` on to connections and to listeners that ask for any. One of these
would now and then be taken before the program that is told of it has started, or while it starts again.
"""

from __future__ import annotations

import itertools
import os
import random
import socket
from typing import Final

LOWEST: Final = 10_000
EPHEMERAL: Final = 32_768
"""The first port that the kernel gives by itself, by its own default."""
_SHARES: Final = 20
"""Processes whose ids differ in the remainder take no port of each other."""
_places: Final = itertools.cycle(
    random.sample(range((EPHEMERAL - LOWEST) // _SHARES), (EPHEMERAL - LOWEST) // _SHARES)
)


def free_port() -> int:
    """A port of this process, without a listener just now."""
    while True:
        port = LOWEST + next(_places) * _SHARES + os.getpid() % _SHARES
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def free_endpoint() -> str:
    """An endpoint of this process, without a listener just now."""
    return f"tcp://127.0.0.1:{free_port()}"
