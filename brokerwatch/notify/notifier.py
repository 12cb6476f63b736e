"""The notifier: hears readings as any subscriber does, and tells people what they mean.

It decides nothing by itself: `brokerwatch.notify.outages` does. This is its driver, on a thread of its own.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from brokerwatch.bus.listener import Listener
from brokerwatch.bus.revival import Revival
from brokerwatch.clock import Clock, SystemClock
from brokerwatch.config.notify_settings import NotifySettings
from brokerwatch.errors import StateFolderTaken
from brokerwatch.log import logger
from brokerwatch.messages import Reading, Reason
from brokerwatch.notify.causes import LINE
from brokerwatch.notify.channel import Channel, channel_name, fingerprint
from brokerwatch.notify.heartbeat import Heartbeat
from brokerwatch.notify.ledger import Ledger
from brokerwatch.notify.observations import observed
from brokerwatch.notify.outage_state import Rules, Subject
from brokerwatch.notify.outages import looked
from brokerwatch.notify.record_file import CLAIM_NAME, RECORD_NAME, RecordFile
from brokerwatch.notify.sending import check_installed
from brokerwatch.notify.silence_file import SilenceFile
from brokerwatch.notify.silences import Silence
from brokerwatch.notify.warnings import with_warnings
from brokerwatch.notify.watchfulness import Heard, watchfulness
from brokerwatch.storage.locks import Claim, claim

_log: Final = logger(__name__)

GLANCE_S: Final = 0.2
"""How long changes are gathered before they are looked at together."""
DEAF_S: Final = 30.0
"""From outside: when nothing was heard for so long since the start, that is said."""
LOOK_S: Final = 1.0
"""Between two looks when nothing changes: a time may have come."""


class Notifier:
    """Tells people over the channels of its settings. `start` and `stop` are for the thread that owns it.

    Args:
        listener: what it hears. It is started and stopped by its owner.
        settings: the channels.
        folder: the state folder, where it remembers what it has said; None: it remembers nothing.
        clock: where the time comes from.
        rules: the numbers of its decisions; those of the settings by default.
        ends_with_cluster: whether it runs inside the cluster's process, so that the cluster's end is its own.

    Raises:
        ConfigError: apprise is not installed.
    """

    def __init__(
        self,
        listener: Listener,
        settings: NotifySettings,
        folder: Path | None,
        *,
        clock: Clock | None = None,
        rules: Rules | None = None,
        ends_with_cluster: bool = False,
    ) -> None:
        check_installed(settings)
        self._listener = listener
        self._settings = settings
        self._folder = folder
        self._ends_with_cluster = ends_with_cluster
        self._clock = SystemClock() if clock is None else clock
        self._rules = rules_of(settings) if rules is None else rules
        self._silences = None if folder is None else SilenceFile(folder)
        self._claim: Claim | None = None
        self._stopping = threading.Event()
        self._ledger: Ledger | None = None
        self._channels: list[Channel] = []
        self._heard = Heard(self._clock.up_s())
        self._heartbeat = (
            Heartbeat(settings.heartbeat_url, settings.heartbeat_interval_s, self._clock)
            if settings.heartbeat_url
            else None
        )
        self._revival = Revival("brokerwatch-notifier")
        self._thread = threading.Thread(target=self._run, name="brokerwatch-notifier", daemon=True)

    def start(self) -> None:
        """Start to listen and to send.

        Raises:
            StateFolderTaken: another notifier uses the state folder.
        """
        self._take_folder()
        names = {
            fingerprint(url): channel_name(number, url)
            for number, url in enumerate(self._settings.urls, start=1)
        }
        path = None if self._folder is None else self._folder / RECORD_NAME
        ledger = self._ledger = Ledger(RecordFile(path), names, self._clock)
        self._channels = [
            Channel(url, names[fingerprint(url)], ledger, self._clock) for url in self._settings.urls
        ]
        for channel in self._channels:
            channel.start()
        if self._heartbeat is not None:
            self._heartbeat.start()
        self._thread.start()

    @property
    def seen(self) -> Mapping[str, Subject]:
        """What it knows of each account, by the account's name."""
        return {} if self._ledger is None else self._ledger.outages.subjects

    @property
    def line_is_down(self) -> bool:
        """Whether our own line is down, as far as it is known."""
        return self._ledger is not None and LINE in self._ledger.outages.causes

    def stop(self, deadline_s: float = 2.0) -> bool:
        """End the threads. What waits is kept for the next start. False when one does not end in time."""
        self._stopping.set()
        self._revival.end()
        ended = True
        if self._ledger is not None:
            self._ledger.close()
            if self._heartbeat is not None:
                self._heartbeat.kill()
            until_s = time.monotonic() + deadline_s
            if not self._ended_by(until_s - deadline_s / 2):
                for channel in self._channels:
                    channel.kill()
            ended = self._ended_by(until_s)
        if self._claim is not None:
            self._claim.release()
            self._claim = None
        return ended

    def _ended_by(self, until_s: float) -> bool:
        """Whether every thread has ended by this monotonic second."""
        self._thread.join(max(0.0, until_s - time.monotonic()))
        ended = not self._thread.is_alive()
        for part in (*self._channels, self._heartbeat):
            ended = (part is None or part.ended(max(0.0, until_s - time.monotonic()))) and ended
        return ended

    def _take_folder(self) -> None:
        if self._folder is None:
            _log.warning("nothing is remembered of what was said: a restart may repeat messages")
            return
        try:
            found = claim(self._folder / CLAIM_NAME)
        except OSError as error:
            _log.error(
                "%s cannot be used, a restart may repeat messages: %s", self._folder, error.strerror or error
            )
            self._folder = None
            return
        if not isinstance(found, Claim):
            raise StateFolderTaken(f"{found} sends messages with the state folder {self._folder} already")
        self._claim = found

    def _run(self) -> None:
        self._revival.run(self._work)

    def _work(self) -> None:
        pending: dict[str, Reading] = {}
        looked_s = float("-inf")
        for change in self._listener.changes(wait_s=GLANCE_S, known=True):
            if self._stopping.is_set():
                return
            if change is not None:
                if change.broker in pending:  # what came between must be seen too
                    self._look(pending)
                    pending.clear()
                pending[change.broker] = change.after
                if self._clock.up_s() - looked_s < GLANCE_S:
                    continue
            if pending or self._clock.up_s() - looked_s >= LOOK_S:
                self._look(pending)
                pending.clear()
                looked_s = self._clock.up_s()

    def _look(self, pending: dict[str, Reading]) -> None:
        try:
            self._decide(pending)
        except Exception:  # noqa: BLE001 - a mistake of ours in one look must not end all messages
            _log.exception("a look at the accounts failed, and the next one is made all the same")

    def _decide(self, pending: dict[str, Reading]) -> None:
        ledger = self._ledger
        if ledger is None:
            return
        now = self._clock.now()
        readings = {**self._listener.readings(), **pending}
        stopped = all(each.verdict.reason is Reason.SHUTDOWN for each in readings.values())
        if self._ends_with_cluster and stopped:
            return  # an end that was asked for is no outage
        seen = [each for reading in readings.values() for each in observed(reading, now)]
        silences = self._muting(now.wall_us)
        deaf = not readings and not self._ends_with_cluster and now.up_s - self._heard.began_s >= DEAF_S
        found = looked(ledger.outages, seen, now, silences, self._rules, deaf=deaf)
        ledger.take(with_warnings(found, readings.values(), now, silences))
        if self._heartbeat is not None:
            accounts = [each for each in seen if not each.of_orders]
            self._heard = self._heard.after(accounts)
            if self._listener.complete.is_set():
                is_down = LINE in ledger.outages.causes
                self._heartbeat.take(watchfulness(accounts, self._heard, now, line_down=is_down))

    def _muting(self, now_us: int) -> Iterable[Silence]:
        return () if self._silences is None else self._silences.current(now_us)


def rules_of(settings: NotifySettings) -> Rules:
    """The numbers of the decisions, as the configuration has them."""
    return Rules(
        flapping_outages=settings.flapping_outages,
        flapping_window_s=settings.flapping_window_s,
        digest_interval_s=settings.digest_interval_s,
    )
