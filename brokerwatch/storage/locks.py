"""What one process may hold at a time: a state folder, and, with a warning only, an API key.

A claim is a file with the holder's process id in it, locked for as long as the process lives: the
system lets go of it however the process ends, so a stale claim cannot exist. The only file that
knows where the platform keeps a program's state.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
import time
from pathlib import Path
from typing import Final

from platformdirs import user_state_path

from brokerwatch.config.credentials import writable_by_others

PROGRAM: Final = "brokerwatch"
HOMELESS: Final = "this user has no home folder, and HOME or XDG_STATE_HOME names none"
OPEN_TO_WRITE: Final = (
    "other users may write in it; chmod 700 it, or name a folder inside it, which is made for this user alone"
)
TRIES: Final = 5
"""A claim is tried so often, since a process that only looks (`holder`) is in its way …"""
LOOK_S: Final = 0.01
"""… for less than this, or on a busy machine for some of these."""


def state_root() -> Path:
    """Where the platform keeps what a program remembers for this user.

    Raises OSError where there is no such folder: a container's user often has no home.
    """
    try:
        found = user_state_path(PROGRAM)
    except (RuntimeError, KeyError):
        found = Path()
    if not found.is_absolute():  # an older platformdirs gives a folder named ~ below the current one
        raise FileNotFoundError(errno.ENOENT, HOMELESS)
    return found


def private_folder(path: Path, *, follows_link: bool = True) -> Path:
    """That folder, made if need be, for its owner alone.

    Raises OSError, also where others may write in it, and for a link that is not to be followed.
    """
    if not follows_link and path.is_symlink():
        raise OSError(errno.ELOOP, f"{path} is a link, which is not followed")
    # One by one: with `parents` those above would have what the umask leaves, and others might replace ours.
    for folder in (*reversed([folder for folder in path.parents if not folder.exists()]), path):
        folder.mkdir(mode=0o700, exist_ok=True)
    if writable_by_others(path):
        raise PermissionError(errno.EPERM, OPEN_TO_WRITE)
    return path


class Claim:
    """A claim that is held; `release` gives it up."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def is_at(self, path: Path) -> bool:
        """Whether the file at `path` is the one that is locked. It may have been removed or replaced."""
        return _is_at(self._descriptor, path)

    def release(self) -> None:
        """Give it up. The file stays: removing it would let two processes lock two files of one name."""
        os.close(self._descriptor)


def claim(path: Path) -> Claim | str:
    """The claim, or who has it, in words. Raises OSError when the file cannot be made, or is a link."""
    private_folder(path.parent)
    # Never through a link: it may lead to a file of another program, which would be emptied.
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, f"{path.name} is no file")
        _lock(descriptor)
    except BlockingIOError:
        named = _named(descriptor)
        os.close(descriptor)
        return named
    except BaseException:
        os.close(descriptor)
        raise
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return Claim(descriptor)


def _is_at(descriptor: int, path: Path) -> bool:
    ours = os.fstat(descriptor)
    try:
        found = path.lstat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == (ours.st_dev, ours.st_ino)


def _lock(descriptor: int) -> None:
    """Lock it for this process alone. Raises BlockingIOError when another process has it.

    A process that only looks is waited for.
    """
    for left in range(TRIES - 1, -1, -1):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not left:
                raise
            time.sleep(LOOK_S)
        else:
            return


def holder(path: Path) -> str:
    """The process that has that claim now, in words; empty: none. It claims and makes nothing.

    Raises OSError.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except (FileNotFoundError, NotADirectoryError):
        return ""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _named(descriptor)
    finally:
        os.close(descriptor)
    return ""


def _named(descriptor: int) -> str:
    written = os.read(descriptor, 32).decode("ascii", "replace").strip()
    return f"process {written}" if written.isdigit() else "another process"
