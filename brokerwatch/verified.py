"""Which API keys have been verified: the newest report of each, and the gate that asks for it.

A report lies in the state folder under the fingerprint of its key. The newest one is the newest word about
that key: one that failed closes the gate again, although an older one had passed. Whoever places an order
asks memory; the file is looked at beside it, once a second at the most, on a thread where it may block.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from brokerwatch.callthread import CallThread
from brokerwatch.claims import private_folder
from brokerwatch.clock import Clock
from brokerwatch.report import Report, decoded, encoded

_log: Final = logging.getLogger(__name__)

FOLDER_NAME: Final = "verifications"
LOOK_AGAIN_S: Final = 1.0
"""So old may be what is remembered of a file."""
LOOK_WAIT_S: Final = 0.5
"""So long an entry waits for the disk; then what is remembered decides."""
FUTURE_S: Final = 60.0
"""A report from further ahead than this was not made by this clock."""
MOST_NAMED: Final = 3
MOST_BYTES: Final = 4_000_000
"""No report is larger."""


def keep(folder: Path, report: Report) -> Path:
    """Keep the report as the newest word about its key; the file. Raises OSError, with nothing changed."""
    path = private_folder(private_folder(folder) / FOLDER_NAME) / f"{report.key}.json"
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{report.key}.")  # for its owner alone
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(encoded(report))
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        os.unlink(name)
        raise
    return path


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the file of one key was when it was last looked at."""

    looked_s: float
    file: tuple[int, ...] = ()
    """Which file, of when, how long; empty where there was none."""
    report: Report | None = None
    trouble: str = "there is none of its key"
    """Why there is no report."""


class Gate:
    """Lets entries of an account pass only after its key was verified. Any thread may ask `trouble`."""

    def __init__(self, folder: Path, max_age_s: float, clock: Clock) -> None:
        self._folder = folder / FOLDER_NAME
        self._max_age_s = max_age_s
        self._clock = clock
        self._seen: dict[str, _Seen] = {}
        self._thread = CallThread("brokerwatch-verifications")

    def trouble(self, fingerprint: str, broker: str, *, elsewhere: bool) -> str:
        """Why entries of this key may not pass, and what to do; empty when they may. Never waits.

        `elsewhere`: whether the account is asked at another address than the exchange's own. A verification
        that was made at such an address says nothing about the exchange itself.
        """
        seen = self._seen.get(fingerprint, _Seen(float("-inf")))
        why = seen.trouble if seen.report is None else self._doubt(seen.report, elsewhere=elsewhere)
        if not why:
            return ""
        return (
            f"{broker}: entries need a verification that is at most {_span(self._max_age_s)} old, and {why} "
            f"({fingerprint[:8]}); run: brokerwatch verify {broker}"
        )

    def _doubt(self, report: Report, *, elsewhere: bool) -> str:
        age_s = (self._clock.now().wall_us - report.ended_us) / 1_000_000
        if not report.has_passed:
            failures = report.failures()
            more = f" and {len(failures) - MOST_NAMED} more" if len(failures) > MOST_NAMED else ""
            return f"the newest one failed: {', '.join(failures[:MOST_NAMED])}{more}"
        if report.elsewhere and not elsewhere:
            return "the newest one was made at another address than the exchange's own"
        if age_s < -FUTURE_S:
            return f"the newest one is of the future, {report.ended}: is the clock right?"
        if age_s > self._max_age_s:
            return f"the newest one is {_span(age_s)} old"
        return ""

    def is_due(self, fingerprint: str) -> bool:
        """Whether what is remembered of this key is older than a look at its file costs."""
        seen = self._seen.get(fingerprint)
        return seen is None or self._clock.up_s() - seen.looked_s >= LOOK_AGAIN_S

    def look(self, fingerprint: str) -> None:
        """Look at the file of this key now; it may block. What is wrong with it is remembered."""
        before = self._seen.get(fingerprint, _Seen(float("-inf")))
        now_s = self._clock.up_s()
        path = self._folder / f"{fingerprint}.json"
        which: tuple[int, ...] = ()
        try:
            with path.open("rb") as file:
                stat = os.fstat(file.fileno())
                which = (stat.st_dev, stat.st_ino, stat.st_mtime_ns, stat.st_size)
                if which == before.file:
                    self._seen[fingerprint] = _Seen(now_s, which, before.report, before.trouble)
                    return
                report = decoded(file.read(MOST_BYTES))
                if report.key != fingerprint:
                    raise ValueError("it is of another key")
                report.ended_us  # noqa: B018 - raises ValueError for what is no time
        except FileNotFoundError:
            self._seen[fingerprint] = _Seen(now_s)
        except OSError as error:
            self._seen[fingerprint] = _Seen(now_s, trouble=f"{path} cannot be read: {error.strerror}")
        except ValueError as error:
            self._seen[fingerprint] = _Seen(now_s, which, trouble=f"{path} {error}")
        else:
            self._seen[fingerprint] = _Seen(now_s, which, report)

    async def looked(self, fingerprint: str) -> None:
        """Look at the file if that is due. Whoever waits here waits for half a second at the most."""
        if not self.is_due(fingerprint):
            return
        try:
            async with asyncio.timeout(LOOK_WAIT_S):
                await self._thread.run(lambda: self.look(fingerprint))
        except TimeoutError:
            _log.warning("whether %s was verified: the disk does not answer", fingerprint[:8])

    def close(self) -> None:
        """Look no more."""
        self._thread.close()


def _span(seconds: float) -> str:
    """A span of time for people."""
    for unit, length in (("days", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= 2 * length:
            return f"{seconds / length:.3g} {unit}"
    return f"{seconds:.3g} s"
