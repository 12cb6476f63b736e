"""What was said and what has still to be said, in a file of the state folder: a restart repeats nothing.

The file is replaced whole. What the decisions know and what waits for each channel are in the same file, so
that a message is never both decided and lost, nor decided twice. It holds no address: a channel is known by a
fingerprint of its address.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from brokerwatch.log import logger
from brokerwatch.notify.deliveries import Queue, Waiting
from brokerwatch.notify.outage_state import Outages
from brokerwatch.notify.silences import Silence
from brokerwatch.storage.atomic import write_whole

_log: Final = logger(__name__)

RECORD_NAME: Final = "notify.json"
CLAIM_NAME: Final = "notify.lock"
MOST_BYTES: Final = 64_000_000


@dataclass(frozen=True, slots=True)
class Record:
    """Everything that is kept over a restart."""

    version: int = 1
    outages: Outages = field(default_factory=Outages)
    queues: Mapping[str, tuple[Waiting, ...]] = field(default_factory=dict[str, Queue])
    """What waits for each channel, by the fingerprint of its address."""


class RecordFile:
    """The record at a path; without a path nothing is kept. One thread at a time may use it."""

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._logged = ""

    def read(self) -> Record:
        """The record; an empty one where there is none. One that cannot be read is set aside and logged."""
        if self._path is None:
            return Record()
        try:
            return read_record(self._path)
        except FileNotFoundError:
            return Record()
        except (OSError, ValueError, RecursionError) as error:
            _log.error(
                "what was said before cannot be read, and may be said again: %s: %s", self._path, error
            )
            self._set_aside(self._path)
            return Record()

    def write(self, record: Record) -> None:
        """Store the record. A failure is logged once, and what is known goes on."""
        if self._path is None:
            return
        try:
            write_whole(self._path, msgspec.json.encode(record, enc_hook=dict))
        except OSError as error:
            words = f"{error.strerror or error}"
            if words != self._logged:
                _log.error("%s cannot be written, a restart may repeat messages: %s", self._path, words)
            self._logged = words
        else:
            self._logged = ""

    def _set_aside(self, path: Path) -> None:
        try:
            path.rename(path.with_name(f"{path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"))
        except OSError as error:
            _log.error("%s cannot be set aside: %s", path, error.strerror)


def announced(folder: Path) -> tuple[Silence, ...]:
    """The silences that exchanges' own announcements have made, as stored in a state folder. Raises OSError
    and ValueError."""
    try:
        return read_record(folder / RECORD_NAME).outages.silences()
    except FileNotFoundError:
        return ()


def read_record(path: Path) -> Record:
    """The record in a file. Raises OSError, and ValueError for what is none."""
    with path.open("rb") as file:
        record = msgspec.json.decode(file.read(MOST_BYTES), type=Record)
    if record.version != 1:
        raise ValueError(f"version {record.version} is of a later brokerwatch")
    return record
