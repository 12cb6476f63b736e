"""The silences of operators, in a small file of the state folder.

A command writes it and the notifier reads it: no process has to be asked, so a silence can be made before
brokerwatch is started, and for a watcher from outside.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec

from brokerwatch.errors import ControlError
from brokerwatch.log import logger
from brokerwatch.notify.silences import MOST_SILENCES, Silence, silence_mistake
from brokerwatch.storage.atomic import write_whole
from brokerwatch.storage.locks import private_folder

_log: Final = logger(__name__)

SILENCES_NAME: Final = "silences.json"
LOCK_NAME: Final = "silences.lock"
MOST_BYTES: Final = 1_000_000


class SilenceFile:
    """The silences in a state folder. Each call reads or writes the file; any thread and process may."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path = folder / SILENCES_NAME
        self._seen: tuple[int, int, int] | None = None
        self._known: tuple[Silence, ...] = ()
        self._logged = ""

    def current(self, now_us: int) -> tuple[Silence, ...]:
        """The silences that have not ended. The file is read again when it was changed.

        When it cannot be read, those that were known stay until they end, and the log says so once.
        """
        try:
            found = self._path.stat()
            mark = (found.st_mtime_ns, found.st_ino, found.st_size)
            if mark != self._seen:
                self._known = self.read()
                self._seen = mark
        except FileNotFoundError:
            self._seen, self._known = None, ()
        except (OSError, ValueError) as error:
            words = f"{getattr(error, 'strerror', None) or error}"
            if words != self._logged:
                _log.error("the silences in %s cannot be read: %s", self._path, words)
            self._logged = words
        else:
            self._logged = ""
        return tuple(each for each in self._known if not each.is_over(now_us))

    def read(self) -> tuple[Silence, ...]:
        """All silences of the file, also those that have ended. Raises OSError and ValueError."""
        try:
            with self._path.open("rb") as file:
                return msgspec.json.decode(file.read(MOST_BYTES), type=tuple[Silence, ...])
        except FileNotFoundError:
            return ()
        except RecursionError:
            raise ValueError("it is nested too deeply") from None

    def add(self, silence: Silence) -> None:
        """Make a silence, in place of one of the same name. Raises ControlError and OSError."""
        mistake = silence_mistake(silence)
        if mistake:
            raise ControlError(mistake)
        with self._changing(silence.since_us) as kept:
            others = [each for each in kept if each.name != silence.name]
            if len(others) >= MOST_SILENCES:
                raise ControlError(f"there are {MOST_SILENCES} silences already; end one first")
            self._write((*others, silence))

    def end(self, name: str, now_us: int) -> Silence:
        """End a silence. Raises ControlError where there is none of that name, and OSError."""
        with self._changing(now_us) as kept:
            found = next((each for each in kept if each.name == name), None)
            if found is None:
                listed = ", ".join(sorted(each.name for each in kept)) or "none"
                raise ControlError(f"there is no silence named {name!r}; there are: {listed}")
            self._write(each for each in kept if each.name != name)
            return found

    def _write(self, silences: Iterable[Silence]) -> None:
        write_whole(self._path, msgspec.json.format(msgspec.json.encode(tuple(silences)), indent=1))

    @contextmanager
    def _changing(self, now_us: int) -> Generator[tuple[Silence, ...]]:
        """The silences that have not ended, while no other process changes them."""
        private_folder(self._folder)
        how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        descriptor = os.open(self._folder / LOCK_NAME, how, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            try:
                found = self.read()
            except ValueError as error:
                raise ControlError(f"{self._path} is no list of silences: {error}") from None
            yield tuple(each for each in found if not each.is_over(now_us))
        finally:
            os.close(descriptor)
