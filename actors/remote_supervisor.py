"""RemoteSupervisor: publishes the health of brokers that run in other processes.

It is a fold of what arrives, and adds what no node can say of itself: that nothing arrives. It owns no
broker, so it restarts none and lays no hold; both are done where the account is, and what a node lays over
its evidence comes with it. Two of these that hear the same nodes come to the same readings, and need no
leader.

What it publishes is available no longer than the node's own message is valid. So an account whose node and
supervisor both end is believed for one time to live and not for two.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, assert_never

import msgspec

from brokerwatch.actors.board import Board
from brokerwatch.actors.health_rounds import HealthRounds
from brokerwatch.actors.protocol import Alarms, Drain, HealthTopic, Leave, LookRound, Regroup
from brokerwatch.actors.published_views import PublishedViews
from brokerwatch.clock import Clock, Instant
from brokerwatch.health.reading import composed
from brokerwatch.health.state_machine import NO_VETOES
from brokerwatch.health.supervision import View
from brokerwatch.log import logger
from brokerwatch.messages import Reading, Reason
from brokerwatch.storage.journal import Journal

_log: Final = logger(__name__)

RemoteSupervisorMessage = Drain | LookRound | Regroup | Leave


@dataclass(frozen=True, slots=True)
class RemoteSupervisorContext:
    """What it needs from outside; the same for each of its lives."""

    take_newest: Callable[[], Mapping[str, Reading]]
    """Gives the newest evidence of each broker that arrived since the last call."""
    topic: HealthTopic
    journal: Journal
    board: Board
    alarms: Alarms
    clock: Clock
    heartbeat_s: float
    beat: Callable[[int], object] = lambda _brokers: None
    """Gives nodes a sign of life, with the number of accounts that are expected."""


class RemoteSupervisor(HealthRounds):
    """Watches the brokers of other processes. All of its methods run on its own thread.

    `views` has one entry per broker. A broker that has none is not believed, whatever arrives.
    """

    def __init__(
        self,
        views: Mapping[str, View],
        context: RemoteSupervisorContext,
        on_death: Callable[[str], None],
    ) -> None:
        published = PublishedViews(views, context.topic, context.journal, context.board, context.clock)
        super().__init__(published, context.alarms, context.heartbeat_s, on_death)
        self._context = context
        self._left = False
        """Whether the last word was said."""
        self._published_until_s: dict[str, float] = {}
        """By the broker, until when the evidence is valid that was published last."""

    def begin(self) -> None:
        now = self._context.clock.now()
        self._views.begin()
        # What was heard before comes first: a reading without the money would hide the last known.
        self._drain(now)
        self._publish_all()
        self._arm(now)

    def handle(self, message: Any) -> None:
        """Handle one message of `RemoteSupervisorMessage`."""
        known: RemoteSupervisorMessage = message
        now = self._context.clock.now()
        if self._left:
            return
        match known:
            case Drain():
                self._drain(now)
            case LookRound():
                self._look_round(now)
                self._arm(now)
            case Regroup():
                self._regroup(known)
            case Leave(why):
                self._left = True
                gone = NO_VETOES.lay(Reason.SHUTDOWN, why, now)
                self._context.topic.leave(composed(view.newest, gone) for view in self._views.values())
            case _:
                assert_never(known)

    def _drain(self, now: Instant) -> None:
        moved = False
        for name, evidence in self._context.take_newest().items():
            before = self._views.get(name)
            if before is None or not self._views.is_current(name):
                continue  # it left while this was under way
            view = _heard(before, evidence, now)
            if view is before:
                continue
            moved = moved or before.newest.fault is not evidence.fault
            self._views.change(name, view)
            self._renew(name, view, now)
        if moved:
            self._views.suspect_ourselves()

    def _renew(self, name: str, view: View, now: Instant) -> None:
        """Publish it again where what was published is half over: its node may beat quicker than we."""
        left_s = self._published_until_s.get(name, float("-inf")) - now.up_s
        until_s = _until_s(view, now)
        if view.lasts_s is not None and left_s < min(view.lasts_s, until_s - now.up_s) / 2:
            self._context.topic.publish(view.reading)
            self._published_until_s[name] = until_s

    def _look_round(self, now: Instant) -> None:
        # A node that has said that it stops is expected to be silent. So is one that was never heard: that
        # says nothing about this end, and is shown already.
        left = {
            name
            for name, view in self._views.items()
            if view.newest.verdict.reason is Reason.SHUTDOWN or not view.newest.broker_epoch
        }
        self._judge(now, left)
        self._views.suspect_ourselves()
        self._publish_all()

    def _publish_all(self) -> None:
        self._views.publish_all()
        self._context.beat(len(self._views))
        now = self._context.clock.now()
        # What was not heard yet is valid for ever, and is published again as soon as it is heard.
        self._published_until_s = {
            name: _until_s(view, now) for name, view in self._views.items() if view.newest.broker_epoch
        }

    def _regroup(self, regroup: Regroup) -> None:
        """Have other brokers from now on. Those that stay are not touched."""
        joining = {name: view for name, (view, _) in regroup.joined.items()}
        known = {name: joining.get(name) or self._views[name] for name in regroup.names}
        self._views.regroup(known, joining, regroup.arrangement)
        if regroup.arrangement == self._context.board.arrangement:  # as `HealthSupervisor` does
            for reading in regroup.left:
                self._context.topic.farewell(reading)
        self._publish_all()
        regroup.done.set_result(None)


def _until_s(view: View, now: Instant) -> float:
    """Until when listeners believe it as it is published: its proof may end sooner than its time to live, as
    with the claim on an API key in a pool."""
    valid_s, proven_s = view.newest.valid_until_s, view.newest.proven_until_s
    return valid_s if proven_s <= now.up_s else min(valid_s, proven_s)


def _heard(before: View, evidence: Reading, now: Instant) -> View:
    """The view with a state that arrived; the same object when the state is old or doubled."""
    known = before
    if evidence.broker_epoch < before.newest.broker_epoch and before.newest.expired:
        # The node's wall clock was set back, and it started again. Reception lets such a message through only
        # when the life before is over.
        known = replace(before, newest=msgspec.structs.replace(before.newest, broker_epoch="", version=0))
    if evidence.verdict.available:
        until_s = min(evidence.proven_until_s, evidence.valid_until_s)
        evidence = msgspec.structs.replace(evidence, proven_until_s=until_s)
    heard = known.heard(evidence, now)
    if heard is known:
        return before
    heard = replace(heard, lasts_s=max(0.0, evidence.valid_until_s - now.up_s))
    if evidence.expired and evidence.verdict.reason is not Reason.SHUTDOWN:
        # It waited, here or under way: it brings the last known, and is no sign of life.
        return heard.vetoed(Reason.SILENT, "what its node said last is valid no longer", now)
    return heard
