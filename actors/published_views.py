"""What a supervisor knows of each broker, and how each change of it is published, written down and logged.

Both supervisors have one: that of a process with brokers of its own, and the one that runs alone. What their
rules find, they hand over here. Here is decided nothing but what is news.
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from typing import Final

from brokerwatch.actors.board import Board
from brokerwatch.actors.protocol import HealthTopic
from brokerwatch.actors.roster_parts import RosterParts
from brokerwatch.clock import Clock
from brokerwatch.health.reading import comparison_key
from brokerwatch.health.supervision import View, cut_off
from brokerwatch.log import about, logger
from brokerwatch.messages import Reason
from brokerwatch.storage.journal import Journal

_log: Final = logger(__name__)


class PublishedViews(Mapping[str, View]):
    """The view of each broker, by its name. Used on the supervisor's thread; another one may read it."""

    def __init__(
        self, views: Mapping[str, View], topic: HealthTopic, journal: Journal, board: Board, clock: Clock
    ) -> None:
        self._views = dict(views)
        self._topic = topic
        self._journal = journal
        self._board = board
        self._clock = clock
        self._cut_off = False
        self._blind = False
        self._arrangement = board.arrangement
        """The change of which brokers there are that these are of. The board may be ahead."""
        self._roster = RosterParts(topic, self._known)
        self._roster.arrange(views)

    def __getitem__(self, name: str) -> View:
        return self._views[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._views)

    def __len__(self) -> int:
        return len(self._views)

    def begin(self) -> None:
        """Write the vetoes that were laid before."""
        self._write(self._views)

    def is_current(self, name: str) -> bool:
        """Whether this broker is in the cluster, and has been since the change that these views are of.

        Else it has left, or has come back with everything to prove, and `Regroup` is on its way: what is
        known of it is neither published nor written to the board.
        """
        return self._board.is_as_of(self._arrangement, name)

    def _known(self, name: str) -> View | None:
        return self._views.get(name) if self.is_current(name) else None

    def regroup(self, views: Mapping[str, View], joining: Mapping[str, View], arrangement: int) -> None:
        """Have these from now on, as of this change of the board; those of `joining` are new."""
        # Another table in place of the old one, which the publisher's thread may be reading.
        self._views, self._arrangement = dict(views), arrangement
        self._write(joining)
        self._roster.arrange(self._views)

    def put(self, name: str, view: View) -> None:
        """Take a view that differs in nothing that is published."""
        self._views[name] = view

    def change(self, name: str, view: View) -> None:
        """Take the new view. Write its vetoes to the board, and publish its reading if that has changed."""
        old, slot = self._views[name], self._board.find(name)
        if view is old or slot is None or not self.is_current(name):
            return
        self._views[name] = view
        if view.vetoes is not old.vetoes:
            slot.write_vetoes(view.vetoes)
        before, after = old.reading, view.reading
        if view.vetoes.strongest is not old.vetoes.strongest:
            self._journal.overruled(before, after, self._clock.now())
            if view.vetoes.strongest is Reason.SILENT:
                said = about(name, available=False, reason="silent", detail=after.detail)
                _log.warning("%s is not available: silent: %s", name, after.detail, extra=said)
            elif old.vetoes.strongest is Reason.SILENT and after.available:
                _log.warning("%s is available again", name, extra=about(name, available=True))
        if comparison_key(before) != comparison_key(after):
            self._topic.publish(after)
            if (before.state, before.verdict) != (after.state, after.verdict):
                self._roster.publish_of(name)

    def suspect_ourselves(self, exempt: Container[str] = ()) -> None:
        """When no exchange can be reached, report our own network once, and not an outage of each broker.

        `exempt`: brokers whose faults are none of an exchange.
        """
        watched = {name: view for name, view in self._views.items() if name not in exempt}
        found = cut_off(watched)
        if found != self._cut_off:
            self._cut_off = found
            _log.warning(
                "no exchange can be reached: our own network?" if found else "exchanges answer again"
            )
        for name, view in self._views.items():
            if view.vetoes.cut_off != found:
                self.change(name, replace(view, vetoes=replace(view.vetoes, cut_off=found)))

    def log_blindness(self) -> None:
        """Write once that no broker is heard, and once that they are again: there may be thousands."""
        blind = any(Reason.BLIND in view.vetoes.laid for view in self._views.values())
        if blind is not self._blind:
            self._blind = blind
            words = "nothing is heard from any broker: no account is available (blind)"
            _log.warning(words if blind else "the brokers are heard again")

    def publish_all(self) -> None:
        """Publish every reading, and the roster."""
        for name, view in self._views.items():
            if self.is_current(name):
                self._topic.publish(view.reading)
        self._roster.publish_all()

    def _write(self, views: Mapping[str, View]) -> None:
        for name, view in views.items():
            slot = self._board.find(name)
            if slot is not None and self.is_current(name):
                slot.write_vetoes(view.vetoes)
