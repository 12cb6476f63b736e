"""The reloads of a simulated world: accounts come, leave, come back, and change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

from tests.simulation.members import Configured
from tests.simulation.world import NAMES, World

LONGEST_POLL_S: Final = 3.0
LONGEST_DEADLINE_S: Final = 1.5
AGAIN_S: Final = (0.0, 0.0, 0.05, 0.5, 2.0, 6.0)
"""After so many seconds an account that left comes back."""


class Reloads:
    """What an operator changes of the configuration of a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._chance = world.scheduler.random
        self._left: dict[str, Configured] = {}
        """How the accounts that left were configured."""
        self.all_back_s = 0.0
        """When the last account that is to come back has come, in true time."""

    def account_comes(self) -> None:
        """One that is new, or that was there before."""
        away = [name for name in NAMES if name not in self._world.configured]
        if away:
            self._come(self._chance.choice(away))

    def account_leaves(self) -> None:
        """One leaves, and perhaps two at once. One is left over."""
        names = list(self._world.configured)
        for name in self._chance.sample(names, min(self._chance.choice((1, 1, 2)), len(names) - 1)):
            self._leave(name)

    def account_comes_back(self) -> None:
        """One leaves and comes back, with all in between that may happen."""
        if len(self._world.configured) > 1:
            name = self._chance.choice(list(self._world.configured))
            self._leave(name)
            again_s = self._chance.choice(AGAIN_S)
            if again_s:
                self.all_back_s = max(self.all_back_s, self._world.scheduler.now_s + again_s)
                self._world.scheduler.at(again_s, lambda: self._come(name))
            else:
                self._come(name)

    def another_configuration(self) -> None:
        """One or all go on by other numbers, or by another policy."""
        wanted = dict(self._world.configured)
        names = list(wanted) if self._chance.random() < 0.2 else [self._chance.choice(list(wanted))]
        for name in names:
            wanted[name] = self._drawn(wanted[name])
        self._world.note("another configuration: {}", {name: wanted[name] for name in names})
        self._reload(wanted)

    def another_key(self) -> None:
        """One gets another API key, of the same account or of another one, verified or not."""
        if self._is_stopped():
            return
        name, same = self._chance.choice(list(self._world.configured)), self._chance.random() < 0.5
        found_ago_s = self._chance.choice((None, 0.1, 1.0))
        self._world.note("{} gets another key, same account: {}, {}", name, same, found_ago_s)
        self._world.rekey(name, same_account=same, found_ago_s=found_ago_s)

    def another_order(self) -> None:
        """The accounts have another order of preference; with one account nothing changes."""
        names = list(self._world.configured)
        self._chance.shuffle(names)
        self._reload({name: self._world.configured[name] for name in names})

    def _drawn(self, before: Configured) -> Configured:
        chance = self._chance
        return replace(
            before,
            poll_s=chance.choice((before.poll_s, 1.0, 2.0, LONGEST_POLL_S)),
            deadline_s=chance.choice((before.deadline_s, 0.5, LONGEST_DEADLINE_S)),
            threshold=chance.choice((before.threshold, 1, 2, 3, 4)),
            guarded=chance.choice((before.guarded, before.guarded, True, False)),
        )

    def _leave(self, name: str) -> None:
        wanted = dict(self._world.configured)
        if name in wanted and len(wanted) > 1:
            self._left[name] = wanted.pop(name)
            self._world.note("{} leaves", name)
            self._reload(wanted)

    def _come(self, name: str) -> None:
        wanted = dict(self._world.configured)
        if name in wanted:
            return
        found = self._left.get(name) or self._drawn(next(iter(wanted.values())))
        if self._chance.random() < 0.2:
            found = self._drawn(found)
        cluster = self._world.cluster
        if cluster is not None and self._chance.random() < 0.3:
            cluster.members.forget_handles(name)
        wanted[name] = found
        self._world.note("{} comes: {}", name, found)
        self._reload(wanted)

    def _reload(self, wanted: Mapping[str, Configured]) -> None:
        if not self._is_stopped():
            self._world.reload(wanted)

    def _is_stopped(self) -> bool:
        """Whether no program runs there that could be commanded."""
        return self._world.here.stopped_until_s > self._world.scheduler.now_s
