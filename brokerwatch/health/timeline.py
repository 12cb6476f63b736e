"""What was heard of an account over time, as spans: from when until when it was available or not, and why.

A span is as long as the account was heard, and no longer. Between two messages it counts as heard only when
the second one came before the first one had expired. Where the watcher was down, or heard nothing, there is
no span, and what shows the spans shows a gap. A step of the wall clock ends a span too: what the clock says
after it cannot be compared with what it said before.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

from brokerwatch.clock import LEAP_S, Instant
from brokerwatch.messages import Reading, Reason

_SAYS_NOTHING: Final = frozenset({Reason.NOTHING_HEARD, Reason.SHUTDOWN})
"""The reasons under which the cluster is not heard any more."""
_STEP_US: Final = round(LEAP_S * 1_000_000)


@dataclass(frozen=True, slots=True)
class Span:
    """A time in which one account was heard, and its verdict was the same."""

    broker: str
    from_us: int
    """Wall clock of the watcher, µs since 1970; so is the next one."""
    until_us: int
    """The newest moment at which it was heard; the span may go on."""
    available: bool
    reason: Reason


@dataclass(frozen=True, slots=True)
class Heard:
    """What the newest message says of one account."""

    broker: str
    available: bool
    reason: Reason
    since_us: int
    """Wall clock of the cluster, µs: when this verdict began."""
    heard_s: float
    """The monotonic second at which the message was sent, on the clock of the watcher."""
    valid_s: float
    """The monotonic second until which it is valid."""


@dataclass(frozen=True, slots=True)
class OpenSpan:
    """The newest span of one account, and what decides whether it goes on."""

    span: Span
    heard_s: float
    valid_s: float
    lead_us: int
    """How far the wall clock was ahead of the monotonic one."""


def heard(reading: Reading, ttl_ms: int, now: Instant) -> Heard | None:
    """What a reading says at this moment; None: nothing is heard of the account.

    Args:
        reading: the newest reading.
        ttl_ms: for how long its message was valid when it was sent.
        now: the moment at which it is looked at.
    """
    reason = reading.reason
    if now.up_s >= reading.valid_until_s or reason in _SAYS_NOTHING:
        return None
    return Heard(
        broker=reading.broker,
        available=reading.available,
        reason=reason,
        since_us=reading.since_us,
        heard_s=min(now.up_s, reading.valid_until_s - ttl_ms / 1_000),
        valid_s=reading.valid_until_s,
    )


def extended(known: OpenSpan | None, news: Heard, now: Instant) -> tuple[OpenSpan, Span | None]:
    """Fold what was heard into the newest span of an account.

    Args:
        known: the newest span so far; None: there is none since the watcher started.
        news: what the newest message says.
        now: the moment at which it is looked at.

    Returns:
        The newest span now, and the one before it, where that has ended.
    """
    if known is not None and news.heard_s <= known.heard_s:
        return known, None  # no message came since the last look
    lead_us = now.wall_us - round(now.up_s * 1_000_000)
    at_us = lead_us + round(news.heard_s * 1_000_000)
    if known is None or news.heard_s > known.valid_s or abs(lead_us - known.lead_us) > _STEP_US:
        begun = Span(news.broker, at_us, at_us, news.available, news.reason)
        return OpenSpan(begun, news.heard_s, news.valid_s, lead_us), None if known is None else known.span
    before = known.span
    until_us = max(at_us, before.until_us)
    if (before.available, before.reason) == (news.available, news.reason):
        return OpenSpan(replace(before, until_us=until_us), news.heard_s, news.valid_s, lead_us), None
    # Another machine's clock may be wrong: the border lies between the two messages in any case.
    border_us = min(max(news.since_us, before.until_us), until_us)
    after = Span(news.broker, border_us, until_us, news.available, news.reason)
    return OpenSpan(after, news.heard_s, news.valid_s, lead_us), replace(before, until_us=border_us)


def in_order(spans: Iterable[Span], now_us: int) -> list[Span]:
    """The spans of one account, oldest first, without an overlap and none after `now_us`.

    Spans overlap after the wall clock was set back. A span ends where the next one begins.
    """
    found: list[Span] = []
    for span in sorted(spans, key=lambda one: (one.from_us, one.until_us)):
        if span.from_us >= now_us:
            break
        if found and found[-1].until_us > span.from_us:
            found[-1] = replace(found[-1], until_us=span.from_us)
            if found[-1].from_us == span.from_us:
                found.pop()
        found.append(replace(span, until_us=min(span.until_us, now_us)))
    return [span for span in found if span.until_us > span.from_us]
