"""Recorder: empties the backlog into the store. It is the only actor that waits for the disk.

All other parts add to the backlog and go on. A balance that equals the previous one waits a second for others
like it, so that a thousand accounts cost one transaction and not a thousand. When the store cannot be
written, the batch goes back, its waiters are answered with False, and the next attempt comes after a backoff.
An outage is logged once when it begins and once when it ends.

When the store could not be read at the start, the recorder reads it before its first write: the cluster gets
what was stored before anything can replace it.

Every second it looks whether the state folder and the database are still there. When the store has lost what
was written, because it was taken away, replaced, damaged or emptied, all that is known is written again. It
looks more seldom whether another cluster of the same name writes to the same store from another state folder;
the nodes of a pool all do, and the database takes what the owner of an account writes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, assert_never

from brokerwatch.actors.base import Actor, tell
from brokerwatch.actors.protocol import Alarms
from brokerwatch.errors import StoreError
from brokerwatch.log import logger
from brokerwatch.storage.backlog import Backlog, Batch, answer, answer_asked
from brokerwatch.storage.hold_file import HoldFile
from brokerwatch.storage.records import Hold, KeyState, Remembered
from brokerwatch.storage.store import Store

_log: Final = logger(__name__)

GATHER_S: Final = 1.0
"""How long an entry that is not urgent waits for more. A balance may be so much older after a kill."""
LOOK_S: Final = 1.0
"""How often it looks whether the state folder and the database are still there."""
LOOKS_FOR_ANOTHER: Final = 10
"""With every so many of these looks it looks whether another cluster writes to the same store."""
LOOKS_FOR_OLD: Final = 600
"""With every so many of these looks it deletes old lines of the history, and at the first one."""
FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 30.0
"""The first and the longest wait between two attempts; it doubles in between."""


@dataclass(frozen=True, slots=True)
class Write:
    """An entry waits in the backlog and is to be written now."""


@dataclass(frozen=True, slots=True)
class Gather:
    """An entry waits in the backlog, and may wait a little longer."""


@dataclass(frozen=True, slots=True)
class Gathered:
    """The wait for more is over."""


@dataclass(frozen=True, slots=True)
class Retry:
    """The wait after a failed attempt is over."""


@dataclass(frozen=True, slots=True)
class Look:
    """It is time to look whether the state folder and the database are still there."""


RecorderMessage = Write | Gather | Gathered | Retry | Look


class Recorder(Actor):
    """Owns `store` and empties `backlog`, with which the next recorder goes on. Runs on its own thread.

    `loaded` says whether the store was read when the cluster started. If not, `on_opened` is called with what
    is stored as soon as it can be read, on this actor's thread and before the first write.

    `look` makes anew what is gone from the state folder, on this actor's thread, and says whether anything
    was. None: there is no folder to look at.

    `forget_before` gives the moment, wall clock in µs, before which the history is deleted; None: none is.
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
        look: Callable[[], bool] | None = None,
        in_pool: bool = False,
        forget_before: Callable[[], int | None] = lambda: None,
    ) -> None:
        super().__init__(on_death)
        self._store = store
        self._backlog = backlog
        self._alarms = alarms
        self._loaded = loaded
        self._holds = holds
        self._holds_written: dict[str, Hold | None] = {}
        """Holds that wait for the database and are in their own file already."""
        self._on_opened = on_opened
        self._look = look
        self._looks = 0
        self._forget_before = forget_before
        self._has_old = False
        """Whether more old lines are left than were deleted at once."""
        self._looks_for_another = not in_pool
        self._renewals = store.renewals
        """How often the store had lost what was written, when it was all written again."""
        self._gathering = False
        """Whether a timer runs at whose end all entries are written."""
        self._failures = 0
        """How many attempts failed in a row; a timer runs while there are any."""
        self._logged = ""
        """The error of this outage that was logged."""
        self._dropped = backlog.dropped
        """How many dropped transitions were logged."""

    def begin(self) -> None:
        me = self.actor_ref
        self._backlog.call(lambda urgent: tell(me, Write() if urgent else Gather()))
        if not self._loaded:
            # It comes after the message for entries that wait already: if the store cannot be read, this one
            # answers their waiters.
            tell(me, Write())
        if self._look is not None:
            tell(me, Look())

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
            case Look():
                self._look_round()
            case _:
                assert_never(known)

    def close(self) -> None:
        """Make one last attempt, then answer all waiters."""
        try:
            self._record()
        except StoreError as error:
            if waits := self._backlog.waiting():
                _log.error("%d entries are lost, nothing could be recorded at the end: %s", waits, error)
        finally:
            self._backlog.desert()
            self._store.close()

    def _look_round(self) -> None:
        if self._look is None:
            return
        gone = self._look()
        holds = self._backlog.known_holds()
        if gone or (any(holds.values()) and self._holds is not None and not self._holds.is_there()):
            self._holds_written = {}
            self._write_holds(holds)
        if not self._failures and (self._backlog.waiting() or not self._store.is_there()):
            self._attempt()
        self._looks += 1
        if not self._failures and (self._has_old or self._looks % LOOKS_FOR_OLD == 1):
            self._forget()
        if not self._failures and self._looks_for_another and self._looks % LOOKS_FOR_ANOTHER == 0:
            self._look_for_another()
        me = self.actor_ref
        self._alarms.after(LOOK_S, lambda: tell(me, Look()))

    def _forget(self) -> None:
        before_us = self._forget_before()
        try:
            self._has_old = before_us is not None and not self._store.forget_history(before_us)
        except StoreError:
            self._has_old = False  # the next attempt to write says what is wrong

    def _look_for_another(self) -> None:
        """Log once that another running cluster of this name writes to the store: its lives are later."""
        try:
            stored = self._store.epochs()
        except StoreError:
            return  # the next attempt to write says what is wrong
        known = self._backlog.known_epochs()
        later = sorted(
            broker for broker, epoch in stored.items() if broker in known and epoch > known[broker]
        )
        if later:
            self._looks_for_another = False
            _log.error(
                "another cluster of the same name writes to %s too (%s): each overwrites what the other "
                "remembers; give one another `name` or `store` under [cluster]",
                self._store.where,
                ", ".join(later[:5]),
            )

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
        self._failures, self._logged, self._dropped = 0, "", self._backlog.dropped

    def _record(self) -> int:
        """Read the store, unless that was done; then write all that waits. Returns the number of entries."""
        self._write_holds(self._backlog.waiting_holds())
        if not self._loaded:
            remembered = self._store.load()
            self._on_opened(remembered)
            self._loaded = True
            self._renewals = self._store.renewals
        if not self._store.is_there():
            self._store.open()
        written = self._write_waiting()
        if self._store.renewals != self._renewals:
            self._renewals = self._store.renewals
            _log.error(
                "%s was lost while it was in use: all that is known is written again", self._store.where
            )
            self._backlog.write_again()
            self._holds_written = {}
            self._write_holds(self._backlog.waiting_holds())
            self._write_waiting()
        self._read_asked()
        return written

    def _read_asked(self) -> None:
        asked = self._backlog.take_asked()
        if not asked:
            return
        found: Mapping[str, KeyState] = {}
        try:
            found = self._store.load_accounts((), {fingerprint for fingerprint, _ in asked}).keys
        finally:
            answer_asked(asked, found)

    def _write_waiting(self) -> int:
        batch = self._backlog.take()
        if not batch:
            return 0
        try:
            # Also what came since the file was written: a release that it missed would be a hold again.
            self._write_holds(batch.holds)
            self._store.write(batch)
        except BaseException:
            # Any exception, also one of a mistake in the code: the next recorder goes on with the batch.
            self._put_back(batch)
            raise
        self._backlog.written(batch)
        answer(batch.waiters, durable=True)
        return len(batch)

    def _write_holds(self, changes: dict[str, Hold | None]) -> None:
        """Write holds into their own file too, first, and whether or not the database can be written."""
        if self._holds is None:
            return
        if changes and changes != self._holds_written:
            try:
                self._holds.update({**self._backlog.known_holds(), **changes})
            except OSError as error:
                _log.error("the holds cannot be written to their own file: %s", error.strerror or error)
            else:
                self._holds_written = changes

    def _answer_without_writing(self) -> None:
        """Answer the waiters with False while the store fails. Their entries are written later."""
        self._put_back(self._backlog.take())
        answer_asked(self._backlog.take_asked())

    def _put_back(self, batch: Batch) -> None:
        waiters, batch.waiters = batch.waiters, []
        self._backlog.put_back(batch)
        answer(waiters, durable=False)

    def _try_later(self, why: str) -> None:
        if why != self._logged:
            _log.error("nothing can be recorded, it is kept and tried again: %s", why)
            self._logged = why
        wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** min(self._failures, 10))
        self._failures += 1
        me = self.actor_ref
        self._alarms.after(wait_s, lambda: tell(me, Retry()))
