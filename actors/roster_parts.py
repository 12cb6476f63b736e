"""How the brokers of a cluster are divided into the messages of the roster."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from brokerwatch.actors.protocol import HealthTopic
from brokerwatch.health.supervision import View
from brokerwatch.messages import Roster
from brokerwatch.messages.reading import ROSTER_PART


class RosterParts:
    """The parts of the roster. Used on the supervisor's thread.

    `view` gives what is known of a broker; None: it belongs to the cluster no more. It is called on the
    publisher's thread too.
    """

    def __init__(self, topic: HealthTopic, view: Callable[[str], View | None]) -> None:
        self._topic = topic
        self._view = view
        self._parts: tuple[tuple[str, ...], ...] = ((),)
        """The names in each part."""
        self._part: dict[str, int] = {}

    def arrange(self, names: Iterable[str]) -> None:
        """Have these brokers from now on, in this order."""
        listed = tuple(names)
        parts = tuple(listed[at : at + ROSTER_PART] for at in range(0, len(listed), ROSTER_PART))
        self._parts = parts or ((),)
        self._part = {name: number for number, part in enumerate(self._parts, start=1) for name in part}

    def publish_all(self) -> None:
        """Publish every part."""
        for number in range(1, len(self._parts) + 1):
            self._publish(number)

    def publish_of(self, broker: str) -> None:
        """Publish the part that this broker is in."""
        self._publish(self._part[broker])

    def _publish(self, number: int) -> None:
        self._topic.publish_part(number, lambda: self._roster(number))

    def _roster(self, number: int) -> Roster:
        """One part. It is made when it is sent: then there may be fewer parts than when it was due."""
        parts = self._parts
        names = parts[number - 1] if number <= len(parts) else ()
        found = tuple(view.reading for name in names if (view := self._view(name)) is not None)
        return Roster(found, min(number, len(parts)), len(parts))
