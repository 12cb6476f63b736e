"""What the spans of an account amount to: availability, recovery, and a bar of cells by reason.

Three times count neither way: the watcher did not hear the account, the account had not answered yet since
the start, and an operator held it out. An outage is the time from the first span in which the account was out
to the next one in which it was available; of the time between, only what was heard is in its length.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from brokerwatch.health.timeline import Span
from brokerwatch.messages import Reason


class Kind(StrEnum):
    """What a time counts as. The order is that in which a bar shows them."""

    OK = "ok"
    ERRORS = "errors"
    MAINTENANCE = "maintenance"
    LOCKED_OUT = "locked_out"
    HELD = "held"
    BLIND = "blind"
    """brokerwatch's own side could not tell: no network, or a part of it failed."""
    UNHEARD = "unheard"
    """The watcher was down or heard nothing, or the account had not answered yet."""


_KINDS: Final[Mapping[Reason, Kind]] = {
    Reason.MAINTENANCE: Kind.MAINTENANCE,
    Reason.LOCKED_OUT: Kind.LOCKED_OUT,
    Reason.HELD_OUT: Kind.HELD,
    Reason.BLIND: Kind.BLIND,
    Reason.LOCAL_NETWORK: Kind.BLIND,
    Reason.SILENT: Kind.BLIND,
    Reason.RESTARTING: Kind.BLIND,
    Reason.FAILED: Kind.BLIND,
    Reason.LOOP: Kind.BLIND,
    Reason.CLAIM: Kind.BLIND,
    Reason.NEVER_SEEN: Kind.UNHEARD,
    Reason.NOTHING_HEARD: Kind.UNHEARD,
    Reason.SHUTDOWN: Kind.UNHEARD,
}
"""What an account that is out for a reason counts as; every other reason is an error."""
_OUT: Final = frozenset({Kind.ERRORS, Kind.MAINTENANCE, Kind.LOCKED_OUT, Kind.BLIND})
"""The kinds in which an account is out."""


def kind(available: bool, reason: Reason) -> Kind:  # noqa: FBT001 - the two halves of a verdict
    """What a verdict counts as."""
    return Kind.OK if available else _KINDS.get(reason, Kind.ERRORS)


@dataclass(frozen=True, slots=True)
class Uptime:
    """What one account did in a window of time. Lengths in µs."""

    by_kind: Mapping[Kind, int]
    """How long it was what; together as long as the window."""
    outages: int
    """How many outages ended in the window, or last."""
    recovery_us: int | None
    """The mean length of the outages that ended in the window; None: none did."""
    worst_us: int | None
    """The length of the longest outage; None: there was none."""

    @property
    def availability(self) -> float | None:
        """The share of the time that counts in which it was available, from 0 to 1; None: no time counts."""
        ok_us = self.by_kind.get(Kind.OK, 0)
        counted_us = ok_us + sum(self.by_kind.get(each, 0) for each in _OUT)
        return ok_us / counted_us if counted_us else None


def uptime(spans: Sequence[Span], from_us: int, until_us: int) -> Uptime:
    """What the spans of one account amount to in a window.

    Args:
        spans: oldest first and without an overlap, also those before the window.
        from_us: wall clock, µs: where the window begins.
        until_us: where it ends. No span is later.
    """
    found = _outages(spans)
    ended = [each for each in found if each.ended_us is not None and from_us < each.ended_us]
    counted = ended + [each for each in found if each.ended_us is None]
    (shares,) = cells(spans, from_us, until_us, 1)
    return Uptime(
        by_kind=shares,
        outages=len(counted),
        recovery_us=sum(each.length_us for each in ended) // len(ended) if ended else None,
        worst_us=max((each.length_us for each in counted), default=None),
    )


def cells(spans: Iterable[Span], from_us: int, until_us: int, count: int) -> list[Mapping[Kind, int]]:
    """A window cut into cells of one length: of each, how many µs the account was what.

    What no span covers is `unheard`.
    """
    borders = [from_us + (until_us - from_us) * place // count for place in range(count + 1)]
    found: list[dict[Kind, int]] = [{} for _ in range(count)]
    width_us = (until_us - from_us) / count
    for span in spans:
        begin_us, end_us = max(span.from_us, from_us), min(span.until_us, until_us)
        if begin_us >= end_us:
            continue
        what = kind(span.available, span.reason)
        place = max(0, min(count - 1, int((begin_us - from_us) / width_us) - 1))
        while place < count and borders[place] < end_us:
            covered_us = min(end_us, borders[place + 1]) - max(begin_us, borders[place])
            if covered_us > 0:
                found[place][what] = found[place].get(what, 0) + covered_us
            place += 1
    for place, cell in enumerate(found):
        missing_us = borders[place + 1] - borders[place] - sum(cell.values())
        if missing_us > 0:
            cell[Kind.UNHEARD] = cell.get(Kind.UNHEARD, 0) + missing_us
    return [dict(sorted(cell.items(), key=lambda part: list(Kind).index(part[0]))) for cell in found]


@dataclass(slots=True)
class AnswerTimes:
    """How often an answer took how long, to two digits. Not for several threads."""

    counts: dict[int, int] = field(default_factory=dict[int, int])
    """Milliseconds, rounded to two digits, to the number of answers."""

    def add(self, answer_ms: int) -> None:
        """Count one answer."""
        rounded = round(answer_ms, 2 - len(str(max(0, answer_ms))))
        self.counts[rounded] = self.counts.get(rounded, 0) + 1

    def join(self, counts: Mapping[int, int]) -> None:
        """Count others too."""
        for answer_ms, number in counts.items():
            self.counts[answer_ms] = self.counts.get(answer_ms, 0) + number

    def percentile(self, percent: float) -> int | None:
        """The ms within which so many percent of the answers came; None: there were none."""
        wanted = math.ceil(sum(self.counts.values()) * percent / 100)
        for answer_ms in sorted(self.counts):
            wanted -= self.counts[answer_ms]
            if wanted <= 0:
                return answer_ms
        return None


@dataclass(slots=True)
class _Outage:
    from_us: int
    length_us: int = 0
    ended_us: int | None = None


def _outages(spans: Iterable[Span]) -> list[_Outage]:
    found: list[_Outage] = []
    for span in spans:
        what = kind(span.available, span.reason)
        lasts = bool(found) and found[-1].ended_us is None
        if what in _OUT:
            if not lasts:
                found.append(_Outage(span.from_us))
            found[-1].length_us += span.until_us - span.from_us
        elif what is Kind.OK and lasts:
            found[-1].ended_us = span.from_us
    return found
