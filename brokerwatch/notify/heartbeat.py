"""The dead man's switch: calls an address as long as all is watched, on a thread of its own.

When the calls stop, the service behind the address (healthchecks.io, Uptime Kuma, …) tells people. So it
speaks when this machine, its line or this process is gone, and then no message of ours could be sent.
"""

from __future__ import annotations

import threading
from typing import Final

from brokerwatch.bus.revival import Revival
from brokerwatch.clock import Clock
from brokerwatch.log import logger
from brokerwatch.notify.deliveries import Outcome
from brokerwatch.notify.sending import Sender
from brokerwatch.notify.watchfulness import Watchfulness

_log: Final = logger(__name__)

GLANCE_S: Final = 0.5
FRESH_S: Final = 10.0
"""A look that is older proves nothing: the notifier itself may hang."""
AGAIN_S: Final = 10.0
"""After a call that failed, the next one comes this soon."""
CALL_S: Final = 15.0
"""How long one call may take."""
MOST_GAPS: Final = 5
BEGINNING_S: Final = 60.0
"""For so long after the start nothing is logged of accounts that have no outcome yet."""


class Heartbeat:
    """Feeds one switch. Any thread may call it; `start` comes first.

    Args:
        url: the address.
        interval_s: seconds between two calls.
        clock: where the time comes from.
    """

    def __init__(self, url: str, interval_s: float, clock: Clock) -> None:
        self._url = url
        self._interval_s = interval_s
        self._clock = clock
        self._sender = Sender(CALL_S + 5.0)
        self._stopping = threading.Event()
        self._newest: tuple[float, Watchfulness] | None = None
        self._fed = True
        self._quiet_until_s = clock.up_s() + BEGINNING_S
        """Until then no account needs to have an outcome; the first call ends it."""
        self._failing = False
        self._revival = Revival("brokerwatch-heartbeat")
        self._thread = threading.Thread(target=self._run, name="brokerwatch-heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def take(self, found: Watchfulness) -> None:
        """Take what a look at all accounts has found."""
        self._newest = self._clock.up_s(), found

    def kill(self) -> None:
        """End the thread soon, and what is being sent at once."""
        self._stopping.set()
        self._revival.end()
        self._sender.stop()

    def ended(self, within_s: float) -> bool:
        """Whether the thread ends within so many seconds."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        self._revival.run(self._work)

    def _work(self) -> None:
        due_s = self._clock.up_s()
        while not self._stopping.wait(GLANCE_S):
            now_s, newest = self._clock.up_s(), self._newest
            if newest is None or now_s < due_s:
                continue
            looked_s, found = newest
            gaps = found.gaps if now_s - looked_s < FRESH_S else ("the notifier does not look",)
            self._log_gaps(gaps)
            if not gaps:
                due_s = now_s + (
                    self._interval_s if self._call(found.body) else min(AGAIN_S, self._interval_s)
                )

    def _call(self, body: str) -> bool:
        answer = self._sender.call(self._url, body, CALL_S)
        is_taken = answer.outcome is Outcome.SENT
        if not is_taken and not self._failing and not self._stopping.is_set():
            _log.warning("the dead man's switch cannot be fed: %s", answer.words)
        self._failing = not is_taken
        return is_taken

    def _log_gaps(self, gaps: tuple[str, ...]) -> None:
        """Write once that it is not fed any more, and once that it is again."""
        if not gaps:
            self._quiet_until_s = float("-inf")
        if bool(gaps) is not self._fed or self._clock.up_s() < self._quiet_until_s:
            return
        self._fed = not gaps
        if gaps:
            more = f", and {len(gaps) - MOST_GAPS} more" if len(gaps) > MOST_GAPS else ""
            _log.warning("the dead man's switch is not fed: %s%s", "; ".join(gaps[:MOST_GAPS]), more)
        else:
            _log.warning("the dead man's switch is fed again")
