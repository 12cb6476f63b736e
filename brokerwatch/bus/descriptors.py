"""Whether this process may open what it is about to open: asked ahead, since libzmq may end the process.

libzmq 4.3.5 ends the whole process when it gets no descriptor at some places: for the threads of a context
(`epoll.cpp`), and while it reads an address (`ip_resolver.cpp`). At others it waits for ever. So every socket
is preceded by `require`, and a cluster or a listener asks for all that it needs before it opens anything.
"""

from __future__ import annotations

import errno
import os
import resource
from typing import Final

from brokerwatch.errors import TooFewDescriptors

_FOLDER: Final = "/dev/fd"
"""Its entries are the open descriptors of the process that reads it, on Linux and on macOS."""


def open_limit() -> float:
    """The lowest descriptor that this process may not have; inf where there is no limit."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return float("inf") if soft == resource.RLIM_INFINITY else soft


def free() -> float:
    """How many descriptors this process may still open; inf where there is no limit, or no way to count."""
    limit = open_limit()
    try:
        taken = os.listdir(_FOLDER)
    except OSError as error:
        # There may be not even one to count with. Where no /proc is mounted, nothing can be said.
        return 0.0 if error.errno in (errno.EMFILE, errno.ENFILE) else float("inf")
    # The one that counts is closed again. One above the limit was opened before the limit was lowered.
    return limit - sum(int(each) < limit for each in taken) + 1 if limit < float("inf") else limit


def require(needed: int, what: str) -> None:
    """See whether so many descriptors are free.

    Args:
        needed: how many will be opened.
        what: what needs them, as the subject of a sentence.

    Raises:
        TooFewDescriptors: fewer are free. The text says how many are missing, and how to raise the limit.
    """
    left = free()
    if left >= needed:
        return
    limit = open_limit()
    wanted = round(limit + needed - left)
    raise TooFewDescriptors(
        f"{what} needs {needed} more open files, and this process may open {max(0, round(left))} more of its "
        f"{round(limit)}: raise that limit with `ulimit -n {wanted}`, or LimitNOFILE={wanted} in the systemd "
        "unit"
    )
