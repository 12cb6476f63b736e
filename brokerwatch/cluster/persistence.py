"""What a cluster keeps between its lives: a folder that is its own, the store, and the recorder.

Nothing here may stop the watching. A folder or a database that cannot be used is said in a
sentence, the cluster goes on, and what could not be written is written when it can. The one exception
is a folder that another running cluster has: two would overwrite each other's memory.
"""

from __future__ import annotations

import math
import os
import random
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Final

import pykka

from brokerwatch.actors.base import wait_for_end
from brokerwatch.actors.protocol import Alarms
from brokerwatch.actors.recorder import Recorder
from brokerwatch.clock import Clock
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.errors import ConfigError, Problem, StateFolderTaken, StoreError
from brokerwatch.health.restarts import Restarts
from brokerwatch.log import logger
from brokerwatch.storage.backlog import Backlog
from brokerwatch.storage.held_folder import HeldFolder
from brokerwatch.storage.hold_file import HOLDS_NAME, HoldFile, both
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.locks import OPEN_TO_WRITE, Claim, claim, private_folder, state_root
from brokerwatch.storage.records import Remembered
from brokerwatch.storage.state_folder import (
    CLAIM_NAME,
    KEYS_NAME,
    LIVED_NAME,
    folder_of,
    loaded_store,
    store_of,
)
from brokerwatch.storage.store import Store

_log: Final = logger(__name__)

DISK_S: Final = 30.0
"""A disk, or a database over a network, may take seconds. One that takes longer is worth a word."""


class Persistence:
    """One cluster's memory: `open`, then `record`, then `close`, on the cluster's own thread.

    `has_accounts` is False for a supervisor alone, which stores no balance.
    """

    def __init__(self, settings: ClusterSettings, clock: Clock, *, has_accounts: bool = True) -> None:
        self._has_accounts = has_accounts
        self._settings = settings
        self._in_pool = settings.pool is not None and settings.pool.node is not None
        self.history_days = settings.history_days
        """Days. Lines of the history that are older are deleted. Any thread may change it."""
        self._clock = clock
        # None is needed where nothing is remembered, and not every user has a home for one.
        self._folder = folder_of(settings) if settings.remember else Path()
        self._store: Store | None = None
        """The one that was read is the one that is written: it notices when what was in it is lost."""
        self._backlog = Backlog() if settings.remember else None
        self.journal = Journal(self._backlog)
        self.remembered = Remembered()
        self.known = True
        """False when what was stored before is lost or cannot be read: no account is proven then."""
        self._used_before = False
        self._held: HeldFolder | None = None
        self._recorder: pykka.ActorRef[Recorder] | None = None
        self._restarts = Restarts()
        self._is_taken = False
        self._looked_s: float | None = None
        """The monotonic second at which the recorder last looked at the state folder; None: it has not."""
        """Whether another process has the folder by now."""
        self._closed = False

    @property
    def folder(self) -> Path | None:
        """The state folder; None when nothing is remembered, or it cannot be used."""
        return self._folder if self._held is not None else None

    @property
    def keys_folder(self) -> Path | None:
        """Where all clusters of this user claim the API keys that they use; None where they cannot."""
        if not self._settings.remember or self._in_pool:  # there the database says whose a key is
            return None
        try:
            return state_root() / KEYS_NAME
        except OSError as error:
            _log.warning("cannot tell whether another process uses an API key: %s", error.strerror)
            return None

    def open(self) -> None:
        """Claim the folder and read what is stored; in a pool only when an account comes.

        Raises StateFolderTaken, ConfigError where others may write in the folder, and nothing else.
        """
        if not self._settings.remember:
            return
        self._take_folder()
        if self._in_pool:
            self._store = store_of(self._settings)
            return
        try:
            self._store = store_of(self._settings)
            self.remembered = loaded_store(self._store)
        except StoreError as error:
            self.journal.loaded = self.known = False
            _log.error(
                "nothing is remembered of the time before this start: %s; every account starts unknown", error
            )
        except Exception:  # noqa: BLE001 - a mistake of ours in reading must not stop the watching
            self.journal.loaded = self.known = False
            _log.exception(
                "nothing is remembered of the time before this start; every account starts unknown"
            )
        else:
            if self._has_accounts and self._used_before and not self.remembered.healths:
                self.known = False
                _log.error(
                    "a cluster has used the state folder %s, and nothing is stored of it any more: "
                    "every account starts unknown",
                    self._folder,
                )

        in_both = self.remembered.holds
        if self._held is not None:
            file, stored = HoldFile(self._folder / HOLDS_NAME).read(), self.remembered.holds
            self.remembered = replace(self.remembered, holds=both(file, stored))
            in_both = {name: hold for name, hold in stored.items() if file.get(name) == hold}
        if self._backlog is not None:
            self._backlog.know(self.remembered)
            if self.journal.loaded:
                self._backlog.write_missing_holds(in_both)

    def _take_folder(self) -> None:
        try:
            private_folder(self._folder)
            self._used_before = (self._folder / LIVED_NAME).exists()
            self._look_at_folder()
            found = claim(self._folder / CLAIM_NAME)
        except OSError as error:
            if error.strerror == OPEN_TO_WRITE:
                raise ConfigError(
                    (Problem("", "cluster.state", f"{self._folder}: {OPEN_TO_WRITE}"),)
                ) from None
            _log.error(
                "the state folder %s cannot be used: %s; operators' commands are not heard",
                self._folder,
                error.strerror or error,
            )
            return
        if not isinstance(found, Claim):
            raise StateFolderTaken(
                f"{found} runs a cluster on the state folder {self._folder}; stop that one, or give this one "
                "another `name` or `state` under [cluster]"
            )
        self._held = HeldFolder(self._folder, found)

    def _look_at_folder(self) -> None:
        """A folder that was there before us may be open to others. We say so, and leave it as it is."""
        found = self._folder.stat()
        if found.st_uid not in (os.getuid(), 0):
            _log.warning(
                "the state folder %s belongs to another user, who can change what is in it", self._folder
            )
        elif found.st_mode & 0o077:
            _log.warning("the state folder %s is open to other users; chmod 700 it", self._folder)

    def record(
        self,
        alarms: Alarms,
        on_opened: Callable[[Remembered], object],
        on_look: Callable[[], object],
        on_taken: Callable[[str], object],
    ) -> None:
        """Start the recorder, on whose thread these are called.

        Args:
            alarms: What calls the recorder later.
            on_opened: Gets what was stored, when it can be read only later.
            on_look: Called each second, after what was gone of the state folder was made anew.
            on_taken: Called once, with the reason, when another process has the state folder.
        """
        if self._backlog is None:
            return
        backlog, held = self._backlog, self._held
        if held is not None:
            with suppress(OSError):
                held.mark()

        def opened(remembered: Remembered) -> None:
            backlog.know_late(remembered)
            on_opened(remembered)
            self.journal.loaded = True

        def look() -> bool:
            self._looked_s = self._clock.up_s()
            if held is None or self._is_taken:
                return False
            gone = held.mend()
            if held.taken_by:
                self._is_taken = True
                backlog.surrender()
                why = f"{held.taken_by} has the state folder {held.path}"
                _log.error("%s, which was removed while this cluster ran: it asks no exchange any more", why)
                on_taken(f"{why}: this cluster asks no exchange any more")
            else:
                on_look()
            return gone

        def oldest_us() -> int | None:
            if self.history_days == math.inf:
                return None
            return round(self._clock.now().wall_us - self.history_days * 86_400_000_000)

        def died(why: str) -> None:
            self._restarts, wait_s = self._restarts.died(self._clock.up_s(), random.uniform)
            if self._closed:
                return
            if wait_s is None:
                _log.error("the recorder has failed for good, nothing is stored any more: %s", why)
                return
            _log.error("the recorder died and is restarted in %.1f s: %s", wait_s, why)
            alarms.after(wait_s, start)

        def start() -> None:
            if not self._closed:
                self._recorder = Recorder.start(
                    self._store or store_of(self._settings),
                    backlog,
                    alarms=alarms,
                    loaded=self.journal.loaded,
                    on_opened=opened,
                    on_death=died,
                    # Another node may have changed a hold that the file of this one has.
                    holds=None if held is None or self._in_pool else HoldFile(held.path / HOLDS_NAME),
                    look=None if held is None else look,
                    in_pool=self._in_pool,
                    forget_before=oldest_us,
                )

        start()

    def take_over(self, brokers: Collection[str], keys: Collection[str]) -> None:
        """Read what is stored of accounts that come from another process. Raises StoreError."""
        if self._store is None or self._backlog is None:
            return
        found, before = self._store.load_accounts(brokers, keys), self.remembered
        self.remembered = Remembered(
            before.healths | found.healths,
            before.holds | found.holds,
            before.keys | found.keys,
            before.orders | found.orders,
        )
        self._backlog.know(found)

    def forget(self, brokers: Collection[str], keys: Collection[str]) -> None:
        """Another process has these accounts from now on, and remembers them."""
        if self._backlog is not None:
            self._backlog.forget(brokers, keys)
        before = self.remembered
        self.remembered = Remembered(
            {name: each for name, each in before.healths.items() if name not in brokers},
            {name: each for name, each in before.holds.items() if name not in brokers},
            {key: each for key, each in before.keys.items() if key not in keys},
            {key: each for key, each in before.orders.items() if key not in keys},
        )

    def recorder_fault(self) -> str:
        """What is wrong with the recorder; empty where nothing is. Any thread; never waits."""
        if self._closed or self._looked_s is None or self._is_taken:
            return ""
        hung_s = self._clock.up_s() - self._looked_s
        return f"nothing is stored: the disk has not answered for {DISK_S:g} s" if hung_s > DISK_S else ""

    def close(self, deadline_s: float) -> bool:
        """Write what waits and let go of the folder. False when the recorder does not end in time."""
        self._closed = True
        ended = self._recorder is None or wait_for_end(self._recorder, deadline_s)
        if self._held is not None:
            self._held.release()
            self._held = None
        return ended
