"""What the supervisor knows of each broker, and which brokers are silent: a pure failure detector.

The supervisor sees a broker only through messages, which may be lost, doubled, late or out of order. So a
view never counts them: it keeps the newest whole state by (epoch, version) and drops the rest. Any order of
the same messages ends in the same view. Silence is what no message can report, so the supervisor finds it
itself and lays it as a veto beside the evidence. Only a new message of the broker lifts it.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from dataclasses import dataclass, field, replace
from typing import Final

from brokerwatch.clock import Instant
from brokerwatch.health.reading import composed
from brokerwatch.health.state_machine import NO_VETOES, Vetoes
from brokerwatch.messages import FaultKind, Reading, Reason

TICK_GRACE_S: Final = 5.0
"""A round that comes later than this after its time finds no broker silent: the supervisor itself was
late."""


@dataclass(frozen=True, slots=True)
class View:
    """One broker as the supervisor knows it."""

    newest: Reading
    """The newest evidence; a blank reading with an empty epoch before the first message."""
    heard_s: float
    """Monotonic seconds: when the newest evidence arrived, or when the supervisor started."""
    vetoes: Vetoes = NO_VETOES
    lasts_s: float | None = None
    """For how long the newest evidence counts after it arrived; None: for as long as the cluster's own."""
    _reading: Reading | None = field(default=None, init=False, repr=False, compare=False)
    """The result of `reading`, which is read many times between two changes."""

    @property
    def order(self) -> tuple[str, int]:
        """What decides which of two states is newer."""
        return (self.newest.broker_epoch, self.newest.version)

    @property
    def reading(self) -> Reading:
        """The reading that the supervisor publishes."""
        reading = self._reading
        if reading is None:
            reading = composed(self.newest, self.vetoes)
            object.__setattr__(self, "_reading", reading)
        return reading

    def heard(self, evidence: Reading, now: Instant) -> View:
        """Take a state that arrived. The same object when the state is old or doubled."""
        if (evidence.broker_epoch, evidence.version) <= self.order:
            return self
        vetoes = self.vetoes.lift(now, Reason.SILENT, Reason.NEVER_SEEN, Reason.BLIND)
        if evidence.broker_epoch > self.newest.broker_epoch:
            vetoes = vetoes.lift(now, Reason.RESTARTING)
        return View(newest=evidence, heard_s=now.up_s, vetoes=vetoes)

    def silent(self, now: Instant, limit_s: float) -> bool:
        """Whether no new evidence arrived for longer than `limit_s`, or than the evidence itself says."""
        return now.up_s - self.heard_s > (limit_s if self.lasts_s is None else self.lasts_s)

    def vetoed(self, reason: Reason, detail: str, now: Instant) -> View:
        """With a veto laid; the same object when it was laid already."""
        vetoes = self.vetoes.lay(reason, detail, now)
        return self if vetoes is self.vetoes else replace(self, vetoes=vetoes)

    def released(self, now: Instant, *reasons: Reason) -> View:
        """With vetoes lifted; the same object when there were none of these."""
        vetoes = self.vetoes.lift(now, *reasons)
        return self if vetoes is self.vetoes else replace(self, vetoes=vetoes)


@dataclass(frozen=True, slots=True)
class Round:
    """The findings of one round of the supervisor."""

    views: dict[str, View]
    """Every broker's view after the round."""
    to_ask: tuple[str, ...] = ()
    """Silent for half of the limit: ask these to report."""
    to_replace: tuple[str, ...] = ()
    """Silent for the whole limit: their actors hang."""
    on_time: bool = True
    """False when the round was so late that it found no broker silent."""


def cut_off(views: Mapping[str, View]) -> bool:
    """Whether it is our own network: at least two brokers, and the newest fault of each is `network`."""
    faults = [view.newest.fault for view in views.values()]
    return len(faults) >= 2 and all(fault is FaultKind.NETWORK for fault in faults)


def look_round(
    views: Mapping[str, View],
    now: Instant,
    *,
    due_s: float,
    limit_s: float,
    exempt: Set[str] = frozenset(),
) -> Round:
    """One round of the supervisor: which brokers are silent, which to ask, and which to replace.

    When each of at least two brokers is silent, the supervisor itself is more likely deaf than all of them
    dead in one moment. The veto is then `blind`, and no actor is replaced.

    Args:
        views: what is known of each broker.
        now: the time of this round.
        due_s: when this round should have come, in monotonic seconds. A late round finds no broker silent.
        limit_s: how long a broker may be silent.
        exempt: brokers that are expected to be silent: configured wrongly, given up, or about to be
        restarted.
    """
    if now.up_s - due_s > TICK_GRACE_S:
        # Messages that came meanwhile are still in the queue, so the silence of every broker begins anew.
        return Round({name: replace(view, heard_s=now.up_s) for name, view in views.items()}, on_time=False)
    watched = {name: view for name, view in views.items() if name not in exempt}
    quiet = {name: view for name, view in watched.items() if view.silent(now, limit_s)}
    blind = len(watched) >= 2 and len(quiet) == len(watched)
    found = dict(views)
    for name, view in quiet.items():
        heard = f"nothing heard for {now.up_s - view.heard_s:.1f} s"
        if blind:
            found[name] = view.vetoed(Reason.BLIND, f"{heard}, nor from any other broker", now)
        else:
            silence = Reason.SILENT if view.newest.broker_epoch else Reason.NEVER_SEEN
            found[name] = view.released(now, Reason.BLIND).vetoed(silence, heard, now)
    return Round(
        found,
        to_ask=tuple(name for name, view in watched.items() if view.silent(now, limit_s / 2)),
        to_replace=() if blind else tuple(quiet),
    )
