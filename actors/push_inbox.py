"""What a stream said and its actor has not taken yet: bounded, however many frames come.

Amounts are added up: the newest of each currency counts. Of a connection that another one followed only the
amounts are kept. So a flood of frames, and of connections, costs the actor one message at a time, and no
memory.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from brokerwatch.health.push import Asks, Connecting, StreamEvent
from brokerwatch.messages.stream import PushedAmounts


class PushInbox:
    """The events of one stream on their way to the actor of its account. Any thread.

    `wake` tells the actor that there is something; it is False while there is no actor.
    """

    def __init__(self, wake: Callable[[PushInbox], bool]) -> None:
        self._wake = wake
        self._lock = threading.Lock()
        self._events: list[StreamEvent] = []
        self._woken = False

    def put(self, event: StreamEvent) -> None:
        """Hand over what the stream said. Never waits for the actor."""
        with self._lock:
            self._add(event)
            woken, self._woken = self._woken, True
        if not woken and not self._wake(self):
            with self._lock:
                self._woken = False  # the next life of the actor begins with a new snapshot

    def take(self) -> tuple[StreamEvent, ...]:
        """What was said since the last time, in its order."""
        with self._lock:
            events, self._events, self._woken = self._events, [], False
        return tuple(events)

    def _add(self, event: StreamEvent) -> None:
        """Under the lock. Between other events the amounts are one event, and wishes for a read another."""
        if isinstance(event, Connecting):
            self._drop_the_connection_before()
        at = len(self._events)
        while at and isinstance(self._events[at - 1], PushedAmounts | Asks):
            at -= 1
            before = self._events[at]
            if isinstance(before, PushedAmounts) and isinstance(event, PushedAmounts):
                self._events[at] = before.then(event)
                return
            if isinstance(before, Asks) and isinstance(event, Asks):
                self._events[at] = event
                return
        self._events.append(event)

    def _drop_the_connection_before(self) -> None:
        """Keep what it stated, and that it asked for a read; the next one begins with nothing in any case."""
        begins = [at for at, event in enumerate(self._events) if isinstance(event, Connecting)]
        if begins:
            self._events, dropped = self._events[: begins[0]], self._events[begins[0] :]
            for event in dropped:
                if isinstance(event, PushedAmounts | Asks):
                    self._add(event)
