"""The bytes of a ZMTP 3.0 peer, written by hand: what an attacker sends need not be what ZeroMQ would send.

RFC 23 (rfc.zeromq.org/spec/23) describes the greeting, the READY command and the frames.
"""

from __future__ import annotations

import socket
from typing import Final

MORE: Final = 1
LONG: Final = 2
COMMAND: Final = 4

GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)


def frame(body: bytes, flags: int = 0) -> bytes:
    """One frame."""
    if len(body) < 256:
        return bytes((flags, len(body))) + body
    return bytes((flags | LONG,)) + len(body).to_bytes(8, "big") + body


def ready(kind: str) -> bytes:
    """The READY command of a socket of that type."""
    value = kind.encode()
    return frame(b"\x05READY\x0bSocket-Type" + len(value).to_bytes(4, "big") + value, COMMAND)


def message(*bodies: bytes) -> bytes:
    """A whole message."""
    return b"".join(frame(each, MORE) for each in bodies[:-1]) + frame(bodies[-1])


def subscription(prefix: bytes) -> bytes:
    """A subscription, as ZMTP 3.0 has it."""
    return frame(b"\x01" + prefix)


def connected(port: int, kind: str = "", *, wait_s: float = 5.0) -> socket.socket:
    """A connection to that port of loopback, after the handshake where a type of socket is named.

    Raises OSError. libzmq may close a connection on which all of the handshake comes at once.
    """
    peer = socket.create_connection(("127.0.0.1", port), timeout=wait_s)
    try:
        if kind:
            greet(peer, kind)
    except OSError:
        peer.close()
        raise
    return peer


def greet(peer: socket.socket, kind: str) -> None:
    """Do the handshake as a socket of that type. Raises OSError."""
    peer.sendall(GREETING)
    greeted = 0
    while greeted < len(GREETING):
        some = peer.recv(len(GREETING) - greeted)
        if not some:
            raise ConnectionResetError("ended in the handshake")
        greeted += len(some)
    peer.sendall(ready(kind))
