"""What a soak has measured, as plain values. Verdicts, table, file and plot are made from them."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from benchmarks.soak.proc import Sample
from benchmarks.soak.slope import Point

Window = tuple[float, float]
"""A first and a last second."""


@dataclass
class Life:
    """One life of a process of the cluster."""

    program: str
    began_s: float
    start_took_s: float
    """Seconds until it said that it was ready."""
    ended_s: float = 0.0
    ended: str = ""
    """`orderly` or `killed`."""
    status: int | None = None
    samples: list[Sample] = field(default_factory=list[Sample])

    @property
    def length_s(self) -> float:
        """How long it was looked at."""
        return self.samples[-1].at_s - self.samples[0].at_s if self.samples else 0.0

    def memory(self) -> list[Point]:
        """Its memory in MB, by the second."""
        return [(each.at_s, each.memory_mb) for each in self.samples]


@dataclass
class Second:
    """What the listeners that run undisturbed counted in one second, and the losses of all."""

    at_s: float
    latencies: Counter[int]
    lost: int
    available: int
    """Accounts that were shown as available by the listener that shows the fewest."""


@dataclass
class Troubles:
    """When something stood between a listener and its cluster."""

    down: list[Window] = field(default_factory=list[Window])
    """The cluster was being restarted."""
    stalled: list[Window] = field(default_factory=list[Window])
    cut: list[Window] = field(default_factory=list[Window])

    def of(self, seat: str) -> list[Window]:
        """Those of one listener."""
        own = {"stalled": self.stalled, "cut": self.cut}.get(seat, [])
        return [*self.down, *own]


@dataclass
class Measured:
    """All of it. Seconds are monotonic, as all processes of a machine have them."""

    seed: int
    began_s: float
    length_s: float
    """How long trouble was made, in seconds."""
    ended_early: bool = False
    began: str = ""
    circumstances: dict[str, str] = field(default_factory=dict[str, str])
    done: Counter[str] = field(default_factory=Counter[str])
    """Kind of event to how many of it there were."""
    met: dict[str, int] = field(default_factory=dict[str, int])
    """Fault to how many calls met it."""
    calls: int = 0
    lives: list[Life] = field(default_factory=list[Life])
    listeners: list[Sample] = field(default_factory=list[Sample])
    """The process of undisturbed listeners."""
    seconds: list[Second] = field(default_factory=list[Second])
    latencies: Counter[int] = field(default_factory=Counter[int])
    troubles: Troubles = field(default_factory=Troubles)
    seats: dict[str, dict[str, Any]] = field(default_factory=dict[str, dict[str, Any]])
    """By the listener, what was seen: `shown`, `behind` and `losses` of its `Watch`."""
    proofs: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    """By the account, when its exchange answered with a balance."""
    lost: int = 0
    healed: int = 0
    undecodable: int = 0
    baseline: Sample | None = None
    """The cluster before the trouble began, all its processes together: its most threads and descriptors."""
    rest: Sample | None = None
    """The cluster after the trouble had ended."""
    recovered_s: float | None = None
    """How long after the trouble every listener showed every account as available; None: not in time."""
    resets: int = 0
    """Accounts that an operator's reset had to bring back."""
    tracebacks: int = 0
    """In the cluster's log."""
    failure: str = ""
    """Why the soak could not go on; empty where it could."""

    @property
    def judged(self) -> list[Life]:
        """The longest life of each process: the ones whose memory is judged."""
        longest: dict[str, Life] = {}
        for life in self.lives:
            if life.program not in longest or life.length_s > longest[life.program].length_s:
                longest[life.program] = life
        return list(longest.values())

    def memory_of_listeners(self) -> list[Point]:
        """The memory of the process of listeners in MB, by the second, during the lives that are judged."""
        begins_s = max((life.began_s for life in self.judged), default=0.0)
        return [(each.at_s, each.memory_mb) for each in self.listeners if each.at_s >= begins_s]
