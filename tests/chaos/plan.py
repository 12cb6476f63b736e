"""What is done to what, and when: drawn from a seed before the round begins. Pure.

The same seed and length give the same plan. What comes of it depends on the machine too, so a seed repeats
what is done and not each interleaving.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

FAULTS: Final = (
    "http_502_html", "empty_body", "cut_json", "cut_body", "wrong_envelope", "closed", "reset", "hang",
    "stalled_body", "drip", "not_http", "exchange_down", "redirect", "html_200",
)  # fmt: skip
"""What an exchange answers with. Left out are those that a key is to be spared from for minutes."""

MOST_AT_ONCE: Final = 5
LINKED: Final = ("kill", "stop", "cut", "hold")
"""Kinds of which one often follows another at once, so that several things fail together."""
COMPANY: Final = 0.4
"""How likely such an action is followed by another one within a time to live."""


@dataclass(frozen=True, slots=True)
class Action:
    """One thing that is done, from `begin_s` to `end_s` of the round."""

    begin_s: float
    end_s: float
    kind: str
    target: str
    detail: Mapping[str, object] = field(default_factory=dict[str, object])

    def __str__(self) -> str:
        words = " ".join(f"{name}={value}" for name, value in self.detail.items())
        return f"{self.begin_s:6.1f} to {self.end_s:6.1f} s  {self.kind} {self.target} {words}".rstrip()


@dataclass(frozen=True, slots=True)
class Targets:
    """What there is to act on."""

    processes: Sequence[str]
    supervisors: Sequence[str]
    """Those of the processes that pass on what others say."""
    subscribers: Sequence[str]
    links: Sequence[str]
    exchanges: Sequence[str]
    disks: Sequence[str]
    clocks: Sequence[str]
    """Programs whose clocks can be set."""


def kinds(targets: Targets) -> Mapping[str, tuple[int, Sequence[str]]]:
    """How often each kind of action comes, and on what."""
    return {
        "kill": (5, [*targets.processes, *targets.processes, *targets.subscribers]),
        "stop": (4, [*targets.processes, *targets.processes, *targets.subscribers]),
        "fault": (5, targets.exchanges),
        "lost orders": (4, targets.exchanges),
        "cut": (2, targets.links),
        "hold": (3, targets.links),
        "delay": (2, targets.links),
        "clock": (2, targets.clocks),
        "sleep": (1, targets.clocks),
        "full disk": (2, targets.disks),
    }


CLASH: Final = {
    "kill": "life",
    "stop": "life",
    "sleep": "life",
    "fault": "exchange",
    "lost orders": "exchange",
}
"""Kinds that exclude each other on one target. What is done to links is another such group."""


def plan(seed: int, length_s: float, targets: Targets, ttl_s: float) -> tuple[Action, ...]:
    """Draw the actions of a round.

    Args:
        seed: the same seed gives the same plan.
        length_s: all actions begin about before this second, and end soon after it.
        targets: what there is to act on.
        ttl_s: the time to live of what is published; periods are drawn around it.
    """
    chance = random.Random(seed)
    drawn: list[Action] = []
    choice = {kind: each for kind, each in kinds(targets).items() if each[1]}
    at_s = 0.0
    while at_s < length_s:
        kind = chance.choices(list(choice), [weight for weight, _ in choice.values()])[0]
        drawn += _if_it_fits(_action(chance, at_s, kind, chance.choice(choice[kind][1]), ttl_s), drawn)
        if kind in LINKED:
            # A node and its supervisor that end together are where one time to live could become two.
            later_s = at_s
            while chance.random() < COMPANY:
                later_s += chance.uniform(0.0, ttl_s)
                other = chance.choice(LINKED)
                near = targets.supervisors if other in ("kill", "stop") else targets.links
                action = _action(chance, later_s, other, chance.choice(near), ttl_s)
                drawn += _if_it_fits(action, drawn)
        at_s += chance.uniform(0.4, 2.4)
    return tuple(sorted(drawn, key=lambda action: action.begin_s))


def _action(chance: random.Random, at_s: float, kind: str, target: str, ttl_s: float) -> Action:
    return Action(at_s, at_s + _lasts_s(chance, kind, ttl_s), kind, target, _detail(chance, kind))


def _if_it_fits(action: Action, drawn: Sequence[Action]) -> list[Action]:
    """The action; nothing where too much is done already, or what excludes it."""
    overlapping = [each for each in drawn if each.begin_s < action.end_s and action.begin_s < each.end_s]
    running = [each for each in overlapping if each.begin_s <= action.begin_s]
    if len(running) >= MOST_AT_ONCE or any(_group(each) == _group(action) for each in overlapping):
        return []
    return [action]


def _group(action: Action) -> tuple[str, str]:
    group = "link" if action.kind in ("cut", "hold", "delay") else CLASH.get(action.kind, action.kind)
    return group, action.target


def _lasts_s(chance: random.Random, kind: str, ttl_s: float) -> float:
    if kind == "sleep":
        return chance.uniform(0.5, 4.0) * ttl_s
    if kind in ("kill", "stop", "cut", "hold"):
        # Shorter than the time to live, about as long, or so long that everything is over.
        return chance.choice((0.2, 0.5, 1.0, 1.0, 2.0)) * ttl_s * chance.uniform(0.5, 1.5)
    return chance.uniform(1.0, 3.5 * ttl_s)


def _detail(chance: random.Random, kind: str) -> dict[str, object]:
    match kind:
        case "fault":
            return {"fault": chance.choice(FAULTS), "public": chance.random() < 0.3}
        case "lost orders":
            return {"executed": chance.random() < 0.7, "looked_up": chance.random() < 0.5}
        case "hold":
            return {"ways": chance.choice(("down", "up", "up down"))}
        case "delay":
            return {"late_s": round(chance.uniform(0.2, 2.0), 2)}
        case "clock":
            return {"wall_s": round(chance.choice((-1, 1)) * chance.uniform(1.0, 40.0), 1)}
        case _:
            return {}
