"""Which public keys are let in at one endpoint, and what each may say: a file that is looked at all the time.

The threads that use the sockets look by themselves, so a revocation needs no other part to be alive. The file
counts whole: what it says now replaces what it said before. A line that cannot be read lets nothing in, and a
file that cannot be read lets nothing in but the cluster's own key.
"""

from __future__ import annotations

import os
import threading
import time
from enum import Enum
from pathlib import Path
from typing import Final

from brokerwatch.config.curve_keys import ListedKey, read_list
from brokerwatch.log import logger
from brokerwatch.messages import topics

_log: Final = logger(__name__)

LOOK_S: Final = 0.1
"""Between two looks at the file. What it says counts at the second look that finds it unchanged, since an
editor may be writing it at the first."""

MOST_NAMED: Final = 100
"""So many keys and brokers that do not belong together are named in the log, until the list changes."""

_Signature = tuple[int, ...]


class Answer(Enum):
    """What is said to a key that asks to be let in."""

    YES = "yes"
    NO = "no"
    LATER = "later"
    """The list cannot be read just now."""


class AllowList:
    """The keys of one domain. For any thread.

    Args:
        path: the file; empty: only the cluster's own key is let in.
        own: the public key of the cluster, which is always let in and may speak for every broker.
    """

    def __init__(self, path: str, own: str) -> None:
        self._path = path
        self._own = own
        self._lock = threading.Lock()
        self._keys: dict[str, ListedKey] = {}
        """Public key to what is known of it."""
        self._admitted: set[str] = set()
        """The listed keys that were let in since the last revocation: there may be connections of them."""
        self._where = Path(path).name or "no list of brokers"
        self._named: set[tuple[str, str]] = set()
        """Each key and the broker that it was refused for, as the log has it already."""
        self._readable = True
        self._seen: _Signature | None = None
        self._applied: _Signature | None = None
        self._look_at_s = 0.0
        if path:
            self._seen = _signature(path)
            self._replace()

    def ask(self, key: str) -> Answer:
        """Whether this key is let in. It counts as let in from now on."""
        with self._lock:
            self._look()
            if key == self._own:
                return Answer.YES
            if key in self._keys:
                self._admitted.add(key)
                return Answer.YES
            return Answer.NO if self._readable else Answer.LATER

    def may_send(self, key: str, broker: str) -> bool:
        """Whether this key may speak for this broker, at this moment."""
        with self._lock:
            self._look()
            listed = self._keys.get(key)
            may = key == self._own or (listed is not None and broker in listed.brokers)
            if not may:
                self._name(key, listed, broker)
            return may

    def _name(self, key: str, listed: ListedKey | None, broker: str) -> None:
        """Write once, until the list changes, that this key does not speak for this broker."""
        if not topics.is_name(broker) or (key, broker) in self._named or len(self._named) >= MOST_NAMED:
            return
        self._named.add((key, broker))
        who = (
            f"{listed.name} stands there without it" if listed is not None else f"{key} does not stand there"
        )
        _log.warning("%s: what a key says of %s is refused: %s", self._where, broker, who)

    def revoked(self) -> bool:
        """Whether a key that was let in is listed no more. It is said once: all connections are to end."""
        with self._lock:
            self._look()
            if self._admitted <= self._keys.keys():
                return False
            self._admitted.clear()
            return True

    def _look(self) -> None:
        now_s = time.monotonic()
        if not self._path or now_s < self._look_at_s:
            return
        self._look_at_s = now_s + LOOK_S
        seen, self._seen = self._seen, _signature(self._path)
        if self._seen != seen:
            return  # it may still be being written
        if self._seen != self._applied or not self._readable:
            self._replace()

    def _replace(self) -> None:
        """Take what the file says in place of what it said."""
        before, was_readable = self._keys, self._readable
        self._applied = self._seen
        try:
            keys, mistakes = read_list(self._path)
        except ValueError as error:
            keys, mistakes, self._readable = (), (), False
            if was_readable:
                _log.error("no key but the cluster's own is let in: %s", error)
        else:
            self._readable = True
        self._keys = {key.public: key for key in keys}
        self._named.clear()
        for mistake in mistakes:
            _log.error("%s: %s", self._path, mistake)
        gone = [key.name for public, key in before.items() if public not in self._keys]
        if gone:
            _log.warning("%s: no more let in: %s", self._where, ", ".join(sorted(gone)))


def _signature(path: str) -> _Signature | None:
    """What changes when the file does; None: there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_mode)
