"""What surrounds every message on the bus: its type, its sender, the sender's epoch, its number and its
times."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from brokerwatch.messages.commands import CommandData, CommandDoneData, SupervisorAliveData
from brokerwatch.messages.wire import ReadingData, RosterData

WIRE_VERSION: Final = 1
"""The major number of the protocol. A receiver ignores any other."""

EPOCH_PATTERN: Final = r"^[0-9]{16}-[0-9a-f]{8}$(?!\n)"


class MessageType(StrEnum):
    """The closed set of what a message can be."""

    READING = "reading"
    ROSTER = "roster"
    BALANCE_SEEN = "balance_seen"
    FETCH_FAILED = "fetch_failed"
    BROKER_ALIVE = "broker_alive"
    COMMAND = "command"
    COMMAND_DONE = "command_done"
    SUPERVISOR_ALIVE = "supervisor_alive"


class Stamp(msgspec.Struct, frozen=True, kw_only=True):
    """The part of an envelope that identifies the sender and its times."""

    src: Annotated[str, Meta(min_length=1, max_length=128)]
    """`supervisor/<cluster>`, `broker/<exchange>/<broker>` or `operators/<cluster>`."""
    epoch: Annotated[str, Meta(pattern=EPOCH_PATTERN)]
    """The sender's incarnation; a later one compares greater as text."""
    seq: Annotated[int, Meta(ge=1)]
    """+1 per message of this epoch and topic, from 1. A receiver counts lost messages with it."""
    ts_us: int
    """Wall clock, µs since 1970. Not ns: above 2^53 JavaScript rounds integers."""
    up_us: Annotated[int, Meta(ge=0)]
    """Monotonic µs since the epoch began: age without synchronised clocks."""
    ttl_ms: Annotated[int, Meta(ge=0)]
    """Valid this long after receipt; 0 is a farewell."""


AnyData = ReadingData | RosterData | CommandData | CommandDoneData | SupervisorAliveData
"""What a message can carry."""


class Envelope(msgspec.Struct, frozen=True, kw_only=True):
    """One whole message."""

    type: MessageType
    stamp: Stamp
    data: AnyData


def next_epoch(start_us: int, predecessor: str, entropy: str) -> str:
    """The epoch of a new incarnation: later than `predecessor`, even if the wall clock was set back.

    Args:
        start_us: the wall clock, µs since 1970.
        predecessor: the epoch of the incarnation before, or empty.
        entropy: eight hex digits that keep two incarnations of the same microsecond apart.
    """
    before = int(predecessor[:16]) if predecessor else 0
    return f"{max(start_us, before + 1):016d}-{entropy}"
