"""A disk that is full: a small file system of the round's own, or a limit on the size of files.

In a mount namespace of the round's own the state folder is a small tmpfs, and one large file fills it up.
Otherwise no file of the process may grow (RLIMIT_FSIZE). Another process of the same user can set that limit
while it runs.
"""

from __future__ import annotations

import contextlib
import resource
import shutil
import subprocess
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, Protocol

SIZE_BYTES: Final = 6_000_000
_NO_LIMIT: Final = (resource.RLIM_INFINITY, resource.RLIM_INFINITY)


class Disk(Protocol):
    """The disk that has the state folder of one process."""

    def fill(self) -> None:
        """From now on it takes nothing."""

    def free(self) -> None:
        """It takes everything again."""

    def started(self) -> None:
        """Its process was started anew."""

    def close(self) -> None:
        """It is used no more. What is in it is kept."""


class SmallDisk:
    """A tmpfs that one file can fill up."""

    def __init__(self, folder: Path) -> None:
        subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={SIZE_BYTES},mode=700", "tmpfs", str(folder)], check=True
        )
        self._folder, self._ballast = folder, folder / "ballast"

    def fill(self) -> None:
        """Write until there is no room, down to the last byte."""
        with self._ballast.open("ab", buffering=0) as file, contextlib.suppress(OSError):
            for size in (65_536, 4_096, 1):
                with contextlib.suppress(OSError):
                    while file.write(bytes(size)):
                        pass

    def free(self) -> None:
        """Remove what filled it up."""
        self._ballast.unlink(missing_ok=True)

    def started(self) -> None:
        """A file system is as full for the next process."""

    def close(self) -> None:
        """Move what is in it to the disk below, which outlives the round."""
        copy = self._folder.with_name(f"{self._folder.name}-copy")
        shutil.copytree(self._folder, copy, ignore=lambda folder, names: sockets_in(Path(folder), names))
        subprocess.run(["umount", "--lazy", str(self._folder)], check=True)
        self._folder.rmdir()
        copy.rename(self._folder)


def sockets_in(folder: Path, names: Iterable[str]) -> set[str]:
    """Those of a folder that are no files to copy."""
    return {name for name in names if (folder / name).is_socket()}


class SizeLimit:
    """A limit on the files of one process, which another process sets.

    `pid` gives the process id; None while the process is dead.
    """

    def __init__(self, pid: Callable[[], int | None]) -> None:
        self._pid, self._full = pid, False

    def fill(self) -> None:
        """No file of the process may grow."""
        self._full = True
        self.started()

    def free(self) -> None:
        """They may grow again."""
        self._full = False
        self.started()

    def started(self) -> None:
        """The limit is of a process, and holds for the next one too."""
        limits = (0, resource.RLIM_INFINITY) if self._full else _NO_LIMIT
        pid = self._pid()
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)

    def close(self) -> None:
        """There is nothing to end: its process has."""
