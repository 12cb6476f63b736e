"""What was written to a connection and not delivered is dropped, so that it cannot arrive after its term.

A program that closes a connection leaves to the kernel what was not delivered yet: it is sent again and again
for minutes. A request that was written while the line was cut would arrive when the line is back, and another
node may use the API key by then. So in the lane of a key with a term a connection that is closed forgets what
is left, and the kernel gives up by itself after the longest call, also while the process stands still.
"""

from __future__ import annotations

import contextlib
import math
import socket
import struct
from typing import Any, Final

_FORGET: Final = struct.pack("ii", 1, 0)
"""Of SO_LINGER: on, for 0 s."""
_USER_TIMEOUT: Final[int | None] = getattr(socket, "TCP_USER_TIMEOUT", None)
"""Linux: after how many ms without an acknowledgement a connection is given up."""


def drop_undelivered(connected: Any, call_s: float) -> None:
    """Let nothing that is written to this socket arrive over `call_s` later. None: there is no socket."""
    if connected is None:
        return
    with contextlib.suppress(OSError):  # it is closed already, or no TCP
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _FORGET)
        if _USER_TIMEOUT is not None:
            limit_ms = max(1, math.floor(call_s * 1_000))
            connected.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, limit_ms)
