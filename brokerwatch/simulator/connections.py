"""The answers that are broken below HTTP: which bytes are sent, and how the connection ends after them.

Everything here is a value. The server only writes the bytes and acts out the ending, so a test can make
up a broken connection of its own.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto

from brokerwatch.simulator.faults import Answer


class Ending(Enum):
    """What becomes of a connection after the answer."""

    CLOSE = auto()
    """It is closed in good order."""
    RESET = auto()
    """It is reset, as a firewall or a crashed server does it."""
    SILENCE = auto()
    """Nothing more comes, and it stays open."""
    REPEAT = auto()
    """The same bytes come once more a moment later, without a request, and it stays open."""
    DRIP = auto()
    """One blank comes each 0.2 s, for ever, in a chunk of its own. (Blanks may stand before any JSON.)"""


@dataclass(frozen=True, slots=True)
class Broken:
    """The bytes that are sent in place of an answer, exactly, and the ending."""

    sent: bytes
    ending: Ending
    finished: threading.Event = field(default_factory=threading.Event, compare=False, repr=False)
    """Set once everything is written; an ending without an end never sets it."""


def written(answer: Answer, *fields: str, length: int | None = None) -> bytes:
    """The answer as it stands on the wire, with further header lines; `length` is the one it claims.

    A negative `length` leaves the header out, as for an answer in chunks.
    """
    claimed = len(answer.body) if length is None else length
    named = {"Content-Type": answer.content_type, **answer.headers}
    lines = [
        f"HTTP/1.1 {answer.status} Answer",
        *(f"{name}: {text}" for name, text in named.items()),
        *fields,
    ]
    if claimed >= 0:
        lines.append(f"Content-Length: {claimed}")
    return "\r\n".join((*lines, "", "")).encode() + answer.body


def _first_half(answer: Answer) -> bytes:
    half = Answer(answer.status, answer.body[: len(answer.body) // 2], answer.content_type, answer.headers)
    return written(half, length=len(answer.body))


def _head(answer: Answer) -> bytes:
    return written(Answer(answer.status, b"", answer.content_type, answer.headers), length=len(answer.body))


def _chunked(answer: Answer, after: bytes) -> bytes:
    chunk = f"{len(answer.body):x}\r\n".encode() + answer.body + b"\r\n"
    whole = Answer(answer.status, chunk + after, answer.content_type, answer.headers)
    return written(whole, "Transfer-Encoding: chunked", length=-1)


def _dripping(answer: Answer) -> bytes:
    empty = Answer(answer.status, b"", answer.content_type, answer.headers)
    return written(empty, "Transfer-Encoding: chunked", length=-1)


BROKEN: Mapping[str, Callable[[Answer], Broken]] = {
    "cut_body": lambda answer: Broken(_first_half(answer), Ending.CLOSE),
    "cut_chunks": lambda answer: Broken(_chunked(answer, b""), Ending.CLOSE),
    "bad_chunks": lambda answer: Broken(_chunked(answer, b"zz\r\n"), Ending.CLOSE),
    "not_http": lambda _answer: Broken(b"\x15\x03\x03\x00\x02\x02\x28\r\n\r\n", Ending.CLOSE),
    "closed": lambda _answer: Broken(b"", Ending.CLOSE),
    "reset": lambda _answer: Broken(b"", Ending.RESET),
    "reset_in_body": lambda answer: Broken(_first_half(answer), Ending.RESET),
    "hang": lambda _answer: Broken(b"", Ending.SILENCE),
    "stalled": lambda answer: Broken(_head(answer), Ending.SILENCE),
    "stalled_body": lambda answer: Broken(_first_half(answer), Ending.SILENCE),
    "drip": lambda answer: Broken(_dripping(answer), Ending.DRIP),
}
