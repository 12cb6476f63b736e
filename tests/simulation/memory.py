"""What outlives a simulated process: a disk that may be full, unreadable, or gone.

The recorder, the backlog and the journal are the real ones. The disk stands in for the database and for the
file of the holds; what those do with files has tests of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from brokerwatch.actors.recorder import Recorder
from brokerwatch.clock import Clock
from brokerwatch.errors import StoreError
from brokerwatch.health.restarts import Restarts
from brokerwatch.storage.backlog import Backlog, Batch
from brokerwatch.storage.hold_file import both
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.records import Hold, Remembered, Stored


@dataclass
class Disk:
    """What is written down."""

    healths: dict[str, Stored] = field(default_factory=dict[str, Stored])
    holds: dict[str, Hold] = field(default_factory=dict[str, Hold])
    hold_file: dict[str, Hold] | None = None
    there: bool = True
    """Whether the database is there."""
    lived: bool = False
    """Whether the folder says that a cluster has used it."""
    fails: bool = False
    """Whether each call ends in an error."""


class Database:
    """The store of one process, with the methods that the recorder uses."""

    where = "the simulated database"

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.renewals = 0

    def _try(self) -> None:
        if self._disk.fails:
            raise StoreError("the simulated disk is full")

    def is_there(self) -> bool:
        return self._disk.there

    def open(self) -> None:
        self._try()
        if not self._disk.there:
            self._disk.there = True
            self.renewals += 1

    def load(self) -> Remembered:
        self._try()
        return Remembered(healths=dict(self._disk.healths), holds=dict(self._disk.holds))

    def write(self, batch: Batch) -> None:
        self.open()
        for broker, stored in batch.healths.items():
            have = self._disk.healths.get(broker)
            if have is None or have.order < stored.order:
                self._disk.healths[broker] = stored
        for broker, hold in batch.holds.items():
            if hold is None:
                self._disk.holds.pop(broker, None)
            else:
                self._disk.holds[broker] = hold

    def epochs(self) -> dict[str, str]:
        self._try()
        return {broker: stored.epoch for broker, stored in self._disk.healths.items()}

    def forget_history(self, before_us: int) -> bool:
        del before_us
        return True

    def close(self) -> None:
        """Nothing is open."""


class Holds:
    """The file of the holds."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk

    def is_there(self) -> bool:
        return self._disk.hold_file is not None

    def update(self, changes: Mapping[str, Hold | None]) -> None:
        if self._disk.fails:
            raise OSError("the simulated disk is full")
        kept = {**(self._disk.hold_file or {}), **changes}
        self._disk.hold_file = {name: hold for name, hold in kept.items() if hold is not None}


class Memory:
    """The memory of one process, in place of `cluster.persistence.Persistence`, by the same rules."""

    def __init__(self, disk: Disk, clock: Clock, uniform: Callable[[float, float], float]) -> None:
        self._disk = disk
        self._clock = clock
        self._uniform = uniform
        self._database = Database(disk)
        self._backlog = Backlog()
        self._restarts = Restarts()
        self.journal = Journal(self._backlog)
        self.remembered = Remembered()
        self.known = True
        self.gave_up = False
        """Whether the recorder died too often: nothing is stored any more."""
        try:
            self.remembered = self._database.load()
        except StoreError:
            self.journal.loaded = self.known = False
        else:
            if disk.lived and not self.remembered.healths:
                self.known = False
        file, stored = disk.hold_file or {}, self.remembered.holds
        self.remembered = Remembered(healths=self.remembered.healths, holds=both(file, stored))
        self._backlog.know(self.remembered)
        if self.journal.loaded:
            in_both = {name: hold for name, hold in stored.items() if file.get(name) == hold}
            self._backlog.write_missing_holds(in_both)

    def record(self, alarms: Any, on_opened: Callable[[Remembered], object]) -> None:
        """Start the recorder, and another one when it dies."""
        self._disk.lived = True

        def opened(remembered: Remembered) -> None:
            self._backlog.know_late(remembered)
            on_opened(remembered)
            self.journal.loaded = True

        def died(why: str) -> None:
            del why
            self._restarts, wait_s = self._restarts.died(self._clock.up_s(), self._uniform)
            self.gave_up = wait_s is None
            if wait_s is not None:
                alarms.after(wait_s, start)

        def start() -> None:
            Recorder.start(
                cast("Any", self._database),
                self._backlog,
                alarms=alarms,
                loaded=self.journal.loaded,
                on_opened=opened,
                on_death=died,
                holds=cast("Any", Holds(self._disk)),
                look=lambda: False,
            )

        start()


def emptied(disk: Disk, *, holds_too: bool) -> None:
    """The database is gone, and with `holds_too` all of the folder."""
    disk.healths, disk.holds, disk.there = {}, {}, False
    if holds_too:
        disk.hold_file, disk.lived = None, False
