"""One channel: a thread that sends what waits for it, so that a slow or failing one delays no other."""

from __future__ import annotations

import hashlib
import threading
from typing import Final

import msgspec

from brokerwatch.bus.revival import Revival
from brokerwatch.clock import Clock
from brokerwatch.log import logger
from brokerwatch.notify import wording
from brokerwatch.notify.deliveries import Outcome, Waiting, wait_after
from brokerwatch.notify.ledger import Ledger
from brokerwatch.notify.notices import Notice, Severity
from brokerwatch.notify.sending import Sender

_log: Final = logger(__name__)

LATE_S: Final = 60.0
"""A message that was made longer ago says so."""


def fingerprint(url: str) -> str:
    """By what a channel is known over a restart. The address cannot be had from it."""
    return hashlib.sha256(b"brokerwatch channel\0" + url.encode()).hexdigest()[:24]


def channel_name(number: int, url: str) -> str:
    """What a channel is called where people see it: its place and its service, and nothing else of it."""
    return f"channel {number} ({url.partition('://')[0].lower()})"


class Channel:
    """Sends what the ledger has for one address. Any thread may call it; `start` comes first."""

    def __init__(
        self, url: str, name: str, ledger: Ledger, clock: Clock, sender: Sender | None = None
    ) -> None:
        self._url = url
        self._name = name
        self._ledger = ledger
        self._clock = clock
        self._sender = Sender() if sender is None else sender
        self._revival = Revival(name)
        self._thread = threading.Thread(target=self._run, name=f"brokerwatch-{name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def kill(self) -> None:
        """End what is being sent."""
        self._revival.end()
        self._sender.stop()

    def ended(self, within_s: float) -> bool:
        """Whether the thread ends within so many seconds, after the ledger was closed."""
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        checked = self._sender.check(self._url)
        if checked.final:
            _log.error("%s: %s; nothing can be sent over it", self._name, checked.words)
        self._revival.run(self._work)

    def _work(self) -> None:
        known = fingerprint(self._url)
        while waiting := self._ledger.next(known):
            try:
                notice = self._dated(waiting[0]) if len(waiting) == 1 else self._together(waiting)
                answer = self._sender.send(self._url, notice)
            except Exception:  # noqa: BLE001 - a mistake of ours with one message must not end the channel
                _log.exception("%s: a message could not be sent", self._name)
                self._ledger.ended(known, waiting, Outcome.UNKNOWN)
                continue
            self._ledger.ended(known, waiting, answer.outcome)
            self._log(notice.title, waiting[0].attempts, answer.outcome, answer.words)

    def _dated(self, waiting: Waiting) -> Notice:
        """The notice, which says how late it is."""
        notice = waiting.notice
        late_s = self._clock.up_s() - waiting.made.up_s
        if late_s < LATE_S:
            return notice
        words = (
            f"This message was made at {wording.when(notice.at_us)} and comes {wording.span(late_s)} late."
        )
        return msgspec.structs.replace(notice, body=f"{notice.body}\n{words}")

    def _together(self, waiting: tuple[Waiting, ...]) -> Notice:
        """Many notices as one."""
        notices = [each.notice for each in waiting]
        title, body = wording.together_text((each.at_us, each.severity, each.title) for each in notices)
        order = tuple(Severity)
        severity = min((each.severity for each in notices), key=order.index)
        return msgspec.structs.replace(notices[0], severity=severity, title=title, body=body)

    def _log(self, title: str, failures: int, outcome: Outcome, words: str) -> None:
        match outcome:
            case Outcome.SENT:
                _log.info("%s: sent: %s", self._name, title)
            case Outcome.UNKNOWN:
                _log.warning(
                    "%s: it is not known whether this was sent, and it is not sent again: %s: %s",
                    self._name,
                    title,
                    words,
                )
            case Outcome.FAILED:
                wait_s = wait_after(failures + 1)
                _log.warning("%s: not sent, tried again in %g s: %s: %s", self._name, wait_s, title, words)
