"""Which API keys have been verified: the newest report of each, and the gate that asks for it.

A report lies in the state folder under the fingerprint of its key, and each one replaces the one before. The
newest one is the newest word about that key: one that failed closes the gate again, although an older one
had passed. An order asks memory only. One thread looks at the files, once a second, so a disk
that hangs holds up no order. What is not known never lets an entry through.
"""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from collections.abc import Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from brokerwatch.clock import Clock
from brokerwatch.storage.atomic import write_whole
from brokerwatch.storage.locks import private_folder
from brokerwatch.verification.report import Report, decoded, encoded, one_line

FOLDER_NAME: Final = "verifications"
LOOK_AGAIN_S: Final = 1.0
"""So often the files are looked at."""
LOOK_WAIT_S: Final = 0.5
"""So long an entry, or a start, waits for the disk."""
SILENT_S: Final = 5.0
"""What was seen of a file longer ago than this is not believed: by then it should have been seen again."""
FUTURE_S: Final = 60.0
"""A report from further ahead than this was not made by this clock."""
MOST_NAMED: Final = 3
"""So many failed checks are named."""
MOST_BYTES: Final = 4_000_000
"""No report is larger."""


def keep(folder: Path, report: Report) -> Path:
    """Keep the report as the newest word about its key; the file. Raises OSError, with nothing changed.

    `folder`: the state folder of the cluster whose gate shall find it.
    """
    if not _is_fingerprint(report.key):
        raise OSError(errno.EINVAL, "there is no API key that it could be kept under")
    path = private_folder(private_folder(folder) / FOLDER_NAME, follows_link=False) / f"{report.key}.json"
    write_whole(path, encoded(report))
    return path


@dataclass(frozen=True, slots=True)
class _Word:
    """What the file of one key says; computed once for each file, since every order asks for it."""

    file: tuple[int, ...] = ()
    """Which file, of when, how long; empty where none could be opened."""
    trouble: str = "there is none"
    """Why it lets no entry through at any time; empty when it has passed."""
    elsewhere: bool = False
    ended: str = ""
    ended_us: int = 0


class Gate:
    """Lets entries of an account pass only after its key was verified.

    `start` or `follow`, then `trouble` and `looked` on any thread, then `close`.
    """

    def __init__(self, folder: Path, max_age_s: float | None, clock: Clock) -> None:
        """`folder`: the state folder. `max_age_s`: of a report that lets entries pass; None: they need
        none."""
        self._folder = folder / FOLDER_NAME
        self._max_age_s = max_age_s
        self._clock = clock
        self._words: dict[str, _Word] = {}
        self._looked_s: dict[str, float] = {}
        """When each file was last looked at."""
        self._keys: tuple[str, ...] = ()
        self._asked: Future[None] | None = None
        """Done with the next look, for all callers that wait for it; None: none does."""
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None

    def start(self, fingerprints: Iterable[str]) -> None:
        """Look at the files of these keys from now on. Waits half a second at the most for the first look."""
        self._keys = tuple(dict.fromkeys(filter(_is_fingerprint, fingerprints)))
        if self._thread is None:
            # A daemon: one that hangs on a disk would keep the process from ending.
            self._thread = threading.Thread(target=self._work, name="brokerwatch-verifications", daemon=True)
            self._thread.start()
        wait([self._ask()], LOOK_WAIT_S)

    def follow(self, fingerprints: Iterable[str], max_age_s: float | None) -> frozenset[str]:
        """Ask for reports of these keys, of at most this age, from now on; None: of none.

        The keys that are new. Waits only for these, half a second at the most. One thread at a time.
        """
        known = frozenset(() if self._max_age_s is None else self._keys)
        self._max_age_s = max_age_s
        if max_age_s is None:
            return frozenset()
        wanted = tuple(fingerprints)
        new = frozenset(wanted) - known
        if new:
            self.start(wanted)
        else:
            self._keys = tuple(dict.fromkeys(filter(_is_fingerprint, wanted)))
        return new

    def trouble(self, fingerprint: str, broker: str, *, elsewhere: bool) -> str:
        """Why entries of this key may not pass, and what to do; empty when they may. Never waits.

        `elsewhere`: whether the account is asked at another address than the exchange's own. A verification
        that was made at such an address says nothing about the exchange itself.
        """
        if self._max_age_s is None:
            return ""
        if not _is_fingerprint(fingerprint):
            return f"{broker}: entries need a verification of its API key, and it has none that can have one"
        looked_s = self._looked_s.get(fingerprint)
        if looked_s is None:
            return self._refusal(fingerprint, broker, "it is not known yet whether there is one")
        silent_s = self._clock.up_s() - looked_s
        if silent_s > SILENT_S:
            why = f"for {_span(silent_s)} the disk has not said whether there is one"
            return self._refusal(fingerprint, broker, why)
        why = self._doubt(self._words.get(fingerprint, _Word()), elsewhere=elsewhere)
        return self._refusal(fingerprint, broker, f"{why}; run: brokerwatch verify {broker}") if why else ""

    def _doubt(self, word: _Word, *, elsewhere: bool) -> str:
        if word.elsewhere and not elsewhere:
            return "the newest one was made at another address than the exchange's own"
        if word.trouble:
            return word.trouble
        age_s = (self._clock.now().wall_us - word.ended_us) / 1_000_000
        if age_s < -FUTURE_S:
            return f"the newest one is of the future, {word.ended}: is the clock right?"
        if age_s > self._most_s:
            return f"the newest one, of {word.ended}, is {_span(age_s)} old"
        return ""

    @property
    def _most_s(self) -> float:
        return float("inf") if self._max_age_s is None else self._max_age_s

    def _refusal(self, fingerprint: str, broker: str, why: str) -> str:
        needed = f"a verification of its key ({fingerprint[:8]}…), at most {_span(self._most_s)} old"
        return f"{broker}: entries need {needed}, and {why}"

    async def looked(self, fingerprint: str, broker: str) -> str:
        """See to it that what is remembered of this key is young. Waits half a second at the most.

        Returns why it is not, which is a reason to refuse an entry; empty when it is.
        """
        if not self._is_due(fingerprint):
            return ""
        answer = self._ask()
        try:
            async with asyncio.timeout(LOOK_WAIT_S):
                await asyncio.wrap_future(answer)
        except TimeoutError:
            if not answer.done():  # else our loop was late, and not the disk
                why = f"the disk has not said within {LOOK_WAIT_S:g} s whether there is one"
                return self._refusal(fingerprint, broker, why)
        return ""

    def look_soon(self, fingerprint: str) -> None:
        """Have the files looked at now, unless what is remembered of this key is young. Never waits."""
        if self._is_due(fingerprint):
            self._ask()

    def look(self, fingerprint: str) -> None:
        """Look at the file of this key now; it may block. What is wrong with it is remembered."""
        now_s = self._clock.up_s()
        self._words[fingerprint] = self._read(fingerprint, self._words.get(fingerprint, _Word()))
        self._looked_s[fingerprint] = now_s

    def close(self, deadline_s: float) -> bool:
        """Look no more. False when a look does not end."""
        with self._wake:
            self._closed = True
            self._wake.notify_all()
        if self._thread is None:
            return True
        self._thread.join(deadline_s)
        return not self._thread.is_alive()

    def _is_due(self, fingerprint: str) -> bool:
        if self._max_age_s is None or not _is_fingerprint(fingerprint):
            return False
        looked_s = self._looked_s.get(fingerprint)
        return looked_s is None or self._clock.up_s() - looked_s >= LOOK_AGAIN_S

    def _ask(self) -> Future[None]:
        """Wake the thread; done when it has looked."""
        with self._wake:
            if self._asked is not None:
                return self._asked
            answer: Future[None] = Future()
            answer.set_running_or_notify_cancel()  # one caller that gives up ends it for no other
            if self._closed:
                answer.set_result(None)
            else:
                self._asked = answer
                self._wake.notify_all()
            return answer

    def _work(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._closed or self._asked is not None, LOOK_AGAIN_S)
                asked, self._asked, closed = self._asked, None, self._closed
            if not closed and self._max_age_s is not None:
                for fingerprint in self._keys:
                    self.look(fingerprint)
                for left in [each for each in self._looked_s if each not in self._keys]:
                    del self._looked_s[left], self._words[left]
            if asked is not None:
                asked.set_result(None)
            if closed:
                return

    def _read(self, fingerprint: str, before: _Word) -> _Word:
        path = self._folder / f"{fingerprint}.json"
        which: tuple[int, ...] = ()
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                which = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if which == before.file:
                    return before
                report = decoded(file.read(MOST_BYTES))
            if report.key != fingerprint:
                raise ValueError("is of another key")
            return _Word(which, _failed(report), report.elsewhere, report.ended, report.ended_us)
        except FileNotFoundError:
            return _Word()
        except OSError as error:
            return _Word(trouble=f"{path} cannot be read: {error.strerror or error}")
        except ValueError as error:
            return _Word(which, one_line(f"{path} {error}"))


def _failed(report: Report) -> str:
    if report.has_passed:
        return ""
    failures = report.failures()
    if not failures:
        return "of the newest one nothing has passed"
    more = f" and {len(failures) - MOST_NAMED} more" if len(failures) > MOST_NAMED else ""
    return one_line(f"the newest one failed: {', '.join(failures[:MOST_NAMED])}{more}")


def _is_fingerprint(text: str) -> bool:
    """Whether it names a key. An account without credentials goes by its own name."""
    return text.isascii() and text.isalnum()


def _span(seconds: float) -> str:
    """A span of time for people."""
    for unit, length in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{round(seconds / length, 1):,g} {unit}"
    return f"{round(seconds, 1):,g} s"
