"""Recorder: the only one who waits for the disk. It empties the backlog into the store, and outlives outages.

Everybody else adds to the backlog and goes on. A balance that is the same as before waits a second for
others like it, so that a thousand accounts cost one transaction and not a thousand. When the store cannot
be written, the batch goes back, whoever waits for it is told False, and a timer asks again, ever more
seldom. An outage is said once when it begins and once when it ends, however many attempts lie between.

When the store could not be read at the start, its first reading comes before any writing: the
cluster hears what was remembered before anything can take its place.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, assert_never

from brokerwatch.actors.base import Actor, tell
from brokerwatch.actors.protocol import Alarms
from brokerwatch.errors import StoreError
from brokerwatch.storage.backlog import Backlog, Batch, answer
from brokerwatch.storage.hold_file import HoldFile
from brokerwatch.storage.records import Hold, Remembered
from brokerwatch.storage.store import Store

_log: Final = logging.getLogger(__name__)

GATHER_S: Final = 1.0
"""How long what is no news waits for more of it: so much older a balance may be after a kill."""
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 30.0
"""The waits between two attempts: doubled from the first to the longest."""


@dataclass(frozen=True, slots=True)
class Write:
    """Something waits in the backlog and is to be written now."""


@dataclass(frozen=True, slots=True)
class Gather:
    """Something waits in the backlog, and may wait a little longer."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The wait for more is over."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The wait after a failed attempt is over."""


RecorderMessage = Write | Gather | Gathered | Retry


class Recorder(Actor):
    """Owns `store` and empties `backlog`, which a recorder after this one goes on with.

    `loaded` says whether the store was read when the cluster started. If not, `on_opened` is given what
    is stored as soon as it can be read, on this actor's thread and before the first writing.
    """

    def __init__(
        self,
        store: Store,
        backlog: Backlog,
        *,
        alarms: Alarms,
        loaded: bool,
        on_opened: Callable[[Remembered], object],
        on_death: Callable[[str], None],
        holds: HoldFile | None = None,
    ) -> None:
        super().__init__(on_death)
        self._store = store
        self._backlog = backlog
        self._alarms = alarms
        self._loaded = loaded
        self._holds = holds
        self._holds_written: dict[str, Hold | None] = {}
        """What waits for the database and is in the holds' own file already."""
        self._on_opened = on_opened
        self._gathering = False
        """A timer runs at whose end everything is written."""
        self._failures = 0
        """Attempts that failed in a row; a timer runs while there are any."""
        self._said = ""
        """The error of this outage that was logged."""
        self._dropped = backlog.dropped
        """How many lost transitions were spoken of."""

    def begin(self) -> None:
        me = self.actor_ref
        self._backlog.call(lambda urgent: tell(me, Write() if urgent else Gather()))
        if not self._loaded:
            # Behind the one of whoever waits already: if nothing can be read, this one answers them.
            tell(me, Write())

    def handle(self, message: Any) -> None:
        """One message; see the classes above."""
        known: RecorderMessage = message
        match known:
            case Write():
                if self._failures:
                    self._answer_without_writing()
                else:
                    self._attempt()
            case Gather():
                if not self._failures and not self._gathering:
                    self._gathering = True
                    me = self.actor_ref
                    self._alarms.after(GATHER_S, lambda: tell(me, Gathered()))
            case Gathered():
                self._gathering = False
                if not self._failures:
                    self._attempt()
            case Retry():
                self._attempt()
            case _:
                assert_never(known)

    def close(self) -> None:
        """One last attempt, in whatever time the one who stops us gives; then nobody waits any more."""
        try:
            self._record()
        except StoreError as error:
            if waits := self._backlog.waiting():
                _log.error("%d entries are lost, nothing could be recorded at the end: %s", waits, error)
        finally:
            self._backlog.desert()
            self._store.close()

    def _attempt(self) -> None:
        try:
            written = self._record()
        except StoreError as error:
            self._try_later(str(error))
            return
        if self._failures:
            _log.warning("%s is written to again: %d entries had waited", self._store.where, written)
        if self._backlog.dropped > self._dropped:
            lost = self._backlog.dropped - self._dropped
            _log.warning("%d transitions were dropped: too many waited; the history has a gap", lost)
        self._failures, self._said, self._dropped = 0, "", self._backlog.dropped

    def _record(self) -> int:
        """Read what is remembered, if nobody did; then write all that waits, and say how much it was."""
        self._write_holds()
        if not self._loaded:
            remembered = self._store.load()
            self._on_opened(remembered)
            self._loaded = True
        batch = self._backlog.take()
        if not batch:
            return 0
        try:
            self._store.write(batch)
        except BaseException:
            # Also when it is a mistake of ours: the recorder after this one goes on with it.
            self._put_back(batch)
            raise
        answer(batch.waiters, durable=True)
        return len(batch)

    def _write_holds(self) -> None:
        """The holds go into their own file too, first and whatever becomes of the database."""
        if self._holds is None:
            return
        changes = self._backlog.waiting_holds()
        if changes and changes != self._holds_written:
            try:
                self._holds.update(changes)
            except OSError as error:
                _log.error("the holds cannot be written to their own file: %s", error.strerror or error)
            else:
                self._holds_written = changes

    def _answer_without_writing(self) -> None:
        """Nobody waits for a disk that does not answer; what they gave is written when it does."""
        self._put_back(self._backlog.take())

    def _put_back(self, batch: Batch) -> None:
        waiters, batch.waiters = batch.waiters, []
        self._backlog.put_back(batch)
        answer(waiters, durable=False)

    def _try_later(self, why: str) -> None:
        if why != self._said:
            _log.error("nothing can be recorded, it is kept and tried again: %s", why)
            self._said = why
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        me = self.actor_ref
        self._alarms.after(wait_s, lambda: tell(me, Retry()))
