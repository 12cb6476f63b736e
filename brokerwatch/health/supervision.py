"""What a watcher knows of one broker: the newest evidence it heard, and the vetoes it laid.

The supervisor sees a broker only through messages, which may be lost, doubled, late or out of
order. So a view never counts: it keeps the newest whole state by (epoch, version) and drops the
rest, and any shuffling of the same messages ends in the same view. What the messages cannot say,
that there are none, is the view's own finding: silence. It lays silence as a veto beside the
evidence, and only hearing the broker again lifts it.
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
"""A tick that comes later than this after its time judges nobody: it was the watcher who slept."""


@dataclass(frozen=True, slots=True)
class View:
    """One broker as the supervisor knows it."""

    newest: Reading
    """The newest evidence; a blank reading with an empty epoch until something is heard."""
    heard_s: float
    """Monotonic seconds: when something new was last heard, or when watching began."""
    vetoes: Vetoes = NO_VETOES
    _reading: Reading | None = field(default=None, init=False, repr=False, compare=False)
    """What `reading` gave: it is asked for again and again between two changes."""

    @property
    def order(self) -> tuple[str, int]:
        """What decides which of two states is newer."""
        return (self.newest.broker_epoch, self.newest.version)

    @property
    def reading(self) -> Reading:
        """What the supervisor publishes."""
        reading = self._reading
        if reading is None:
            reading = composed(self.newest, self.vetoes)
            object.__setattr__(self, "_reading", reading)
        return reading

    def heard(self, evidence: Reading, now: Instant) -> View:
        """A state arrived. An old or doubled one gives this very object back."""
        if (evidence.broker_epoch, evidence.version) <= self.order:
            return self
        vetoes = self.vetoes.lift(now, Reason.SILENT, Reason.NEVER_SEEN, Reason.BLIND)
        if evidence.broker_epoch > self.newest.broker_epoch:
            vetoes = vetoes.lift(now, Reason.RESTARTING)
        return View(newest=evidence, heard_s=now.up_s, vetoes=vetoes)

    def silent(self, now: Instant, limit_s: float) -> bool:
        """Whether nothing new was heard for longer than `limit_s`."""
        return now.up_s - self.heard_s > limit_s

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
    """What one look around found."""

    views: dict[str, View]
    to_ask: tuple[str, ...] = ()
    """Half of the time is over: ask these to report."""
    to_replace: tuple[str, ...] = ()
    """Silent for good: their actors hang."""
    on_time: bool = True
    """False when the watcher itself was late and judged nobody."""


def cut_off(views: Mapping[str, View]) -> bool:
    """Whether it is our own network: at least two brokers, and each of them has just met a network fault."""
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
    """One tick of the watcher: who is silent, whom to ask, whom to replace.

    `due_s` is when this tick should have come; a watcher that was asleep convicts nobody. When each
    of at least two brokers is silent, it is more likely that the watcher hears nothing than
    that they all died in one moment: the reason is then `blind` and no actor is replaced. Nobody
    expects a word from the `exempt`: they are not configured rightly, given up, or about to be restarted.
    """
    if now.up_s - due_s > TICK_GRACE_S:
        # Whoever spoke while the watcher slept is still in the queue: everybody gets a new start.
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
