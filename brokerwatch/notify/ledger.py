"""What was decided and what each channel has to send, behind one lock, and stored before anything is sent."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import Final

from brokerwatch.clock import Clock
from brokerwatch.log import logger
from brokerwatch.notify import deliveries
from brokerwatch.notify.deliveries import Outcome, Queue, Waiting
from brokerwatch.notify.notices import Kind, Notice
from brokerwatch.notify.outage_state import Outages
from brokerwatch.notify.outages import Looked
from brokerwatch.notify.rebasing import rebased
from brokerwatch.notify.record_file import Record, RecordFile

_log: Final = logger(__name__)


class Ledger:
    """The record of one notifier. Any thread may call it.

    Args:
        file: where it is kept.
        channels: the fingerprint of each channel's address to the channel's name.
        clock: where the time comes from.
    """

    def __init__(self, file: RecordFile, channels: Mapping[str, str], clock: Clock) -> None:
        self._file = file
        self._clock = clock
        self._channels = channels
        self._changed = threading.Condition()
        self._closed = False
        now, record = clock.now(), file.read()
        self.outages: Outages = record.outages.restored(now)
        """What the decisions know. The notifier's thread alone replaces it, with `take`."""
        self._stored = self.outages.stored()
        self._queues: dict[str, Queue] = {}
        for channel, name in channels.items():
            kept, unknown = deliveries.interrupted(rebased(record.queues.get(channel, ()), now))
            self._queues[channel] = kept
            for each in unknown:
                _log.warning(
                    "%s: it is not known whether this was sent before the restart, so it is not repeated: %s",
                    name,
                    each.notice.title,
                )
        self._save()

    def take(self, found: Looked) -> None:
        """Take what a look has found: store it, and let the channels send."""
        with self._changed:
            now, queues = self._clock.now(), dict(self._queues)
            outages = found.outages.untold(
                [subject for subject, key in found.withdrawn.items() if self._withdraw(key)]
            )
            for channel in self._channels:
                queue = deliveries.current(self._queues[channel], now)
                if any(notice.kind is Kind.LINE for notice in found.notices):
                    queue = deliveries.hurried(queue, now)
                for notice in found.notices:
                    queue = deliveries.added(queue, notice, now)
                self._queues[channel] = queue
            self.outages, stored = outages, outages.stored()
            if stored != self._stored or queues != self._queues:
                self._stored = stored
                self._save()
            self._changed.notify_all()

    def add(self, notices: Iterable[Notice]) -> None:
        """Let the channels send these too."""
        self.take(Looked(self.outages, tuple(notices), {}))

    def next(self, channel: str) -> tuple[Waiting, ...]:
        """Wait for what this channel is to send next; it is marked as begun. Empty: the ledger is closed."""
        with self._changed:
            while not self._closed:
                now = self._clock.now()
                found = deliveries.due(self._queues[channel], now)
                if found:
                    keys = {each.notice.key for each in found}
                    self._queues[channel] = deliveries.begun(self._queues[channel], keys)
                    # Stored first: a process that is killed now must not send it again.
                    self._save()
                    return found
                wait_s = deliveries.next_due_s(self._queues[channel]) - now.up_s
                self._changed.wait(max(0.05, min(wait_s, 3_600.0)))
        return ()

    def ended(self, channel: str, sent: Iterable[Waiting], outcome: Outcome) -> None:
        """An attempt of this channel has ended."""
        keys = {each.notice.key for each in sent}
        with self._changed:
            self._queues[channel] = deliveries.ended(self._queues[channel], keys, outcome, self._clock.now())
            self._save()

    def waiting(self, channel: str) -> int:
        """How many notices wait for a channel."""
        return len(self._queues[channel])

    def close(self) -> None:
        """Hand out nothing any more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _withdraw(self, key: str) -> bool:
        """Whether this notice was sent over no channel, and will not be."""
        everywhere = bool(self._channels)
        for channel, queue in self._queues.items():
            self._queues[channel], was_there = deliveries.withdrawn(queue, key)
            everywhere = everywhere and was_there
        return everywhere

    def _save(self) -> None:
        self._file.write(Record(outages=self._stored, queues=self._queues))
