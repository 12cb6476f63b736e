"""What both supervisors do alike: a look round in each heartbeat, and an answer to a reload not carried out.

`brokerwatch.health.supervision` decides what is silent.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import Any, Final

from brokerwatch.actors.base import Actor, tell
from brokerwatch.actors.protocol import Alarms, LookRound, Regroup
from brokerwatch.actors.published_views import PublishedViews
from brokerwatch.clock import Instant
from brokerwatch.health.reading import ttl_s
from brokerwatch.health.supervision import Round, look_round
from brokerwatch.log import logger

_log: Final = logger(__name__)


class HealthRounds(Actor):
    """An actor that judges by the time when it heard of each broker."""

    def __init__(
        self, views: PublishedViews, alarms: Alarms, heartbeat_s: float, on_death: Callable[[str], None]
    ) -> None:
        super().__init__(on_death)
        self._views = views
        self._alarms = alarms
        self._heartbeat_s = heartbeat_s
        self._due_s = 0.0
        """When the next round is due, in monotonic seconds."""

    def close(self) -> None:
        """Nothing to close: sockets and timers have other owners."""

    def dismiss(self, message: Any) -> None:
        """Answer a reload that was not carried out. The next supervisor begins with what the board has.

        It is given the commands as well (`cluster.waiting_commands`).
        """
        if isinstance(message, Regroup) and not message.done.done():
            message.done.set_result(None)

    def _arm(self, now: Instant) -> None:
        """Look round again after a heartbeat."""
        self._due_s = now.up_s + self._heartbeat_s
        me = self.actor_ref
        self._alarms.after(self._heartbeat_s, lambda: tell(me, LookRound()))

    def _judge(self, now: Instant, exempt: AbstractSet[str]) -> Round:
        """Veto the brokers that have gone silent, without those that are exempt."""
        found = look_round(
            self._views, now, due_s=self._due_s, limit_s=ttl_s(self._heartbeat_s), exempt=exempt
        )
        if not found.on_time:
            _log.warning("the supervisor was held up for %.1f s and judges no broker", now.up_s - self._due_s)
        for name, view in found.views.items():
            self._views.change(name, view)
        self._views.log_blindness()
        return found
