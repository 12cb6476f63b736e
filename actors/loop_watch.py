"""Looks at the event loops for the supervisor, and carries out what is to be done about one that hangs.

`brokerwatch.health.loops` decides. What the accounts of a loop are told of it is the supervisor's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from brokerwatch.actors.protocol import AccountLoop
from brokerwatch.clock import Instant
from brokerwatch.health.loops import Finding, LoopView
from brokerwatch.log import logger

_log: Final = logger(__name__)


NAMED: Final = 5
"""So many accounts of a loop are named in the log."""


@dataclass(frozen=True, slots=True)
class LoopNews:
    """What has become of one loop."""

    brokers: Sequence[str]
    """Those whose accounts are asked on it."""
    finding: Finding
    """HANGS: it was found to hang just now. TURNS: it turns again. GIVE_UP: it is not replaced any more."""
    detail: str
    """For people."""


class LoopWatch:
    """Watches the event loops of one cluster. It is used on the supervisor's thread alone.

    `hanging`: the brokers whose loops hung when the supervisor before this one ended.
    """

    def __init__(
        self,
        loops: Callable[[], Sequence[AccountLoop]],
        heartbeat_s: float,
        now: Instant,
        hanging: Collection[str],
    ) -> None:
        """`loops` gives them, and another sequence when which they are has changed, or whose."""
        self._given = loops
        self._loops: Sequence[AccountLoop] = []
        self._heartbeat_s = heartbeat_s
        self._views: dict[AccountLoop, LoopView] = {}
        self._of: dict[str, AccountLoop] = {}
        self._learn(now)
        for loop in self._loops:
            if set(loop.brokers) & set(hanging):
                self._views[loop] = self._views[loop].revived(now, heartbeat_s)

    def _learn(self, now: Instant) -> None:
        """Learn which loops there are. What is known of one that stays is kept."""
        loops = self._given()
        if loops is not self._loops:
            self._loops = loops
            begun = LoopView.begin(now, self._heartbeat_s)
            self._views = {loop: self._views.get(loop, begun) for loop in loops}
            self._of = {name: loop for loop in loops for name in loop.brokers}

    def turns(self, broker: str) -> bool:
        """Whether the loop of this broker is not known to hang."""
        return broker not in self._of or not self._views[self._of[broker]].hangs

    def look(self, now: Instant) -> Iterator[LoopNews]:
        """Look at each loop, replace the ones that are to be replaced, and give what is new."""
        self._learn(now)
        for loop in self._loops:
            before = self._views[loop]
            after, finding = before.looked(
                now,
                turned=loop.turned(),
                heartbeat_s=self._heartbeat_s,
                replaced_after_s=loop.replaced_after_s,
            )
            self._views[loop] = after
            hung_s = now.up_s - before.asked_s
            match finding:
                case Finding.HANGS if not before.hangs:
                    words = f"its event loop, {loop.name}, has not turned for {hung_s:.1f} s"
                    # Said first: what blocks the loop may be the log, and would block this thread too.
                    yield LoopNews(loop.brokers, finding, words)
                    _log.error("%s: %s", _named(loop.brokers), words)
                case Finding.REPLACE:
                    if not self._replace(loop, hung_s):
                        self._views[loop] = after.not_replaced(before)
                case Finding.GIVE_UP:
                    limit = after.replacements
                    words = (
                        f"its event loop, {loop.name}, hangs once more; it was to be replaced {limit.limit} "
                        f"times within {limit.window_s:g} s, and is given up"
                    )
                    loop.give_up(words)
                    yield LoopNews(loop.brokers, finding, words)
                    _log.error("%s: %s", _named(loop.brokers), words)
                case Finding.TURNS if before.hangs:
                    yield LoopNews(loop.brokers, finding, f"the event loop {loop.name} hung")
                    _log.warning("%s: the event loop %s turns", _named(loop.brokers), loop.name)
                case _:
                    pass

    def revive(self, broker: str, now: Instant) -> Sequence[str]:
        """Replace the loop of a broker after it was given up, because an operator asks for it.

        Returns its brokers; none where it was not given up, or cannot be replaced now either.
        """
        self._learn(now)
        loop = self._of.get(broker)
        if loop is None or not self._views[loop].given_up:
            return ()
        if not self._replace(loop, 0.0):
            return ()
        self._views[loop] = self._views[loop].revived(now, self._heartbeat_s)
        return loop.brokers

    def _replace(self, loop: AccountLoop, hung_s: float) -> bool:
        why = f"its event loop, {loop.name}, hung and was replaced"
        if loop.replace(why):
            _log.error("%s: %s after %.1f s", _named(loop.brokers), why, hung_s)
            return True
        # It counts as a replacement that hangs, so this ends.
        _log.error("%s: no event loop can be started in place of %s", _named(loop.brokers), loop.name)
        return False


def _named(brokers: Sequence[str]) -> str:
    more = f" and {len(brokers) - NAMED} more" if len(brokers) > NAMED else ""
    return ", ".join(brokers[:NAMED]) + more
