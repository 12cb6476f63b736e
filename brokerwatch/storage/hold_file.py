"""The holds, once more, in a small file of their own beside the database.

Held out is out whatever happens, so a hold must not depend on one database that can be lost, damaged or
away. A broker is held when the file or the database says so. Where they differ, it is an operator's release
that was lost, and the operator sees that. The loss of a hold would show nowhere.

The file is replaced whole, and never read through a link. It is not written while it cannot be read, because
there may be a hold in it. What is no list of holds is kept under another name.
"""

from __future__ import annotations

import errno
import json
import os
import stat
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, cast

from brokerwatch.log import logger
from brokerwatch.storage.atomic import write_whole
from brokerwatch.storage.records import Hold

_log: Final = logger(__name__)

HOLDS_NAME: Final = "holds.json"


class HoldFile:
    """Read at a start, and rewritten by the recorder alone."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def is_there(self) -> bool:
        """Whether there is such a file."""
        return self._path.exists()

    def read(self) -> dict[str, Hold]:
        """The holds by broker; none when there is no file. What cannot be read is said in the log."""
        try:
            return self._read()
        except (OSError, ValueError, RecursionError) as error:
            _log.error("the holds in %s cannot be read, the database's count: %s", self._path, error)
            return {}

    def update(self, changes: Mapping[str, Hold | None]) -> None:
        """Write them with these changes; None is a release. Raises OSError, also when they cannot be read."""
        try:
            before = self._read()
        except (ValueError, RecursionError) as error:
            before = {}
            _log.error("%s is no list of holds, and is set aside as %s: %s", self._path, self._aside(), error)
        holds = {**before, **changes}
        text = json.dumps([asdict(hold) for hold in holds.values() if hold is not None], indent=1)
        write_whole(self._path, text.encode())

    def _read(self) -> dict[str, Hold]:
        try:
            # A pipe in its place would hold up the start for ever.
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return {}
        with open(descriptor, encoding="utf-8") as file:
            if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                raise OSError(errno.EINVAL, f"{self._path} is no file")
            found: object = json.load(file)
        entries = cast("list[object]", found) if isinstance(found, list) else []
        holds = [hold for hold in map(_hold, entries) if hold is not None]
        return {hold.broker: hold for hold in holds}

    def _aside(self) -> Path:
        """Keep what is there under another name. Raises OSError."""
        aside = self._path.with_name(f"{self._path.name}.corrupt-{datetime.now(UTC):%Y%m%dT%H%M%SZ}")
        while aside.exists():
            aside = aside.with_name(f"{aside.name}+")
        self._path.rename(aside)
        return aside


def _hold(entry: object) -> Hold | None:
    """One hold; None when it is none of ours."""
    if not isinstance(entry, dict):
        return None
    parts = cast("dict[str, Any]", entry)
    broker, by, why = parts.get("broker"), parts.get("by"), parts.get("why")
    since_us, until_us = parts.get("since_us"), parts.get("until_us")
    if not isinstance(broker, str) or not isinstance(by, str) or not isinstance(why, str):
        return None
    if type(since_us) is not int:
        return None
    return Hold(broker, by, why, since_us, until_us if type(until_us) is int else None)


def both(file: Mapping[str, Hold], database: Mapping[str, Hold]) -> dict[str, Hold]:
    """Every hold that one of the two knows; of one broker the newer."""
    found = dict(database)
    for broker, hold in file.items():
        if broker not in found or hold.since_us >= found[broker].since_us:
            found[broker] = hold
    return found
