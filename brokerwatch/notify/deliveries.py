"""What each channel has still to send: at most once, and while it matters. Pure.

A notice waits in the queue of each channel until it was sent. *Before* it is sent it is marked, and the mark
is stored: a process that is killed while it sends does not know whether it was sent, so the next one does not
send it again. A definite failure is tried again, later and later. When the outcome is not known (the time was
over, or the connection was lost after all was sent), it is not tried again.

A notice that has failed and is out of date is left out: when an account is back, a message that it is out
helps no person. The message of its return has the beginning and the end.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.notify.notices import Kind, Notice

MOST_WAITING: Final = 500
"""Notices that wait for one channel. The oldest are left out."""
MANY: Final = 5
"""So many notices that wait at once are sent as one message: all accounts of an exchange may go out."""
FIRST_WAIT_S: Final = 2.0
LONGEST_WAIT_S: Final = 300.0
"""Between two attempts."""
MATTERS_S: Final = 86_400.0
"""What is over is not worth a message after so long. An outage that lasts and a warning always are."""
OUT_OF_DATE_S: Final = 60.0
"""A notice that waits for longer is left out when a newer one of its subject comes."""


class Outcome(StrEnum):
    """What is known of an attempt."""

    SENT = "sent"
    FAILED = "failed"
    """It was certainly not delivered."""
    UNKNOWN = "unknown"
    """It may have been delivered."""


@dataclass(frozen=True, slots=True)
class Waiting:
    """One notice that waits for one channel."""

    notice: Notice
    made: Instant
    """When it was added."""
    due: Instant
    """When it may be tried."""
    attempts: int = 0
    """How many attempts have failed."""
    sending: bool = False
    """Whether an attempt is under way."""


Queue = tuple[Waiting, ...]


def added(queue: Queue, notice: Notice, now: Instant) -> Queue:
    """The queue with one more notice, without those of its subject that are out of date."""
    if any(each.notice.key == notice.key for each in queue):
        return queue
    kept = tuple(each for each in queue if not _is_replaced(each, notice, now))
    return (*kept, Waiting(notice, now, now))[-MOST_WAITING:]


def current(queue: Queue, now: Instant) -> Queue:
    """The queue without what does not matter any more."""
    return tuple(each for each in queue if each.sending or _matters(each, now))


def due(queue: Queue, now: Instant) -> Queue:
    """What is to be sent now, in one message: the oldest notice, or all where many wait.

    It is empty when there is nothing, or an attempt is under way.
    """
    if any(each.sending for each in queue):
        return ()
    ready = tuple(each for each in queue if now.up_s >= each.due.up_s)
    return ready if len(ready) >= MANY else ready[:1]


def next_due_s(queue: Queue) -> float:
    """The monotonic second at which something is due; infinite when nothing waits."""
    return min((each.due.up_s for each in queue), default=float("inf"))


def begun(queue: Queue, keys: Collection[str]) -> Queue:
    """An attempt with these notices begins."""
    return tuple(replace(each, sending=True) if each.notice.key in keys else each for each in queue)


def ended(queue: Queue, keys: Collection[str], outcome: Outcome, now: Instant) -> Queue:
    """An attempt with these notices has ended."""
    found: list[Waiting] = []
    for each in queue:
        if each.notice.key not in keys:
            # The channel works again: what has failed over it before need not wait any longer.
            found.append(replace(each, due=now) if outcome is Outcome.SENT else each)
        elif outcome is Outcome.FAILED:
            wait_s = wait_after(each.attempts + 1)
            due_at = Instant(now.wall_us + round(wait_s * 1_000_000), now.up_s + wait_s)
            found.append(replace(each, sending=False, attempts=each.attempts + 1, due=due_at))
    return tuple(found)


def hurried(queue: Queue, now: Instant) -> Queue:
    """The queue with nothing to wait for: our own line is back."""
    return tuple(replace(each, due=now) for each in queue)


def withdrawn(queue: Queue, key: str) -> tuple[Queue, bool]:
    """The queue without this notice, and whether it was still there and had not begun."""
    kept = tuple(each for each in queue if each.notice.key != key or each.sending)
    return kept, len(kept) < len(queue)


def interrupted(queue: Queue) -> tuple[Queue, Queue]:
    """After a restart: what waits, and what was under way, of which the outcome is not known."""
    return tuple(each for each in queue if not each.sending), tuple(each for each in queue if each.sending)


def wait_after(attempts: int) -> float:
    """How long to wait after so many failures, in seconds."""
    return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(attempts - 1, 20))


def _is_replaced(waiting: Waiting, newer: Notice, now: Instant) -> bool:
    if waiting.notice.subject != newer.subject or waiting.sending or newer.kind is Kind.TEST:
        return False
    return waiting.attempts > 0 or now.up_s - waiting.made.up_s >= OUT_OF_DATE_S


def _matters(waiting: Waiting, now: Instant) -> bool:
    return waiting.notice.kind in (Kind.OUTAGE, Kind.WARNING) or now.up_s - waiting.made.up_s < MATTERS_S
