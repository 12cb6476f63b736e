"""Whether what was true of an account can have reached a subscriber, over processes that keep it. Pure.

`checker.Out` joins what touches: a publisher that stands still, and a connection that is held when it goes
on, are one period there. But the publisher reads what has waited for it, and keeps the newest of each account
for those who connect later. So a long period of several causes is no proof, and this is asked before.
"""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain

from tests.chaos.periods import Period, that_holds
from tests.chaos.recording import Account, Process, Recording, Subscriber, Way


def ways(subscriber: Subscriber, account: Account) -> dict[str, tuple[Way, Way]]:
    """Over which processes a subscriber hears of an account: from there, and to there."""
    return {
        name: (way, account.published_by[name])
        for name, way in subscriber.hears.items()
        if name in account.published_by
    }


def has_reached(
    recording: Recording,
    subscriber: Subscriber,
    account: Account,
    source: tuple[Period, ...],
    *,
    since_s: float,
    by_s: float,
) -> bool:
    """Whether anything that was true at one moment or later can have reached the subscriber by another one.

    `source`: when the account was out at its source. What is held up longer than it seems is left out, so the
    answer may be yes where it was no.
    """
    for name, (nearer, further) in ways(subscriber, account).items():
        process = recording.processes[name]
        obstacles = chain(source, *(way.cut + way.held for way in (nearer, further)), process.stopped)
        begins = (life.begin_s for life in process.lives)
        # The first moment after each obstacle: what is sent later arrives no earlier.
        moments = {since_s, *(each.end_s for each in obstacles), *begins}
        for at_s in moments:
            if since_s <= at_s <= by_s and that_holds(source, at_s) is None:
                arrives_s = _arrival_s(process, nearer, further, at_s)
                if arrives_s is not None and arrives_s <= by_s:
                    return True
    return False


def _arrival_s(process: Process, nearer: Way, further: Way, at_s: float) -> float | None:
    """When what was sent at a moment arrives over a publisher; None: it is lost on the way."""
    if that_holds(further.cut, at_s) is not None:
        return None
    there_s = _after(further.held, at_s)
    life = that_holds(process.lives, there_s)
    if life is None or that_holds(further.cut, there_s) is not None:
        return None
    obstacles = (*process.stopped, *nearer.cut, *nearer.held)
    while (later_s := _after(obstacles, there_s)) > there_s:  # one obstacle may follow another
        there_s = later_s
    return there_s if life.holds(there_s) else None


def _after(obstacles: Iterable[Period], at_s: float) -> float:
    """When the obstacles that hold at a moment are over; the moment itself where none does."""
    return max((each.end_s for each in obstacles if each.holds(at_s)), default=at_s)
