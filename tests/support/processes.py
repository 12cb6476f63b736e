"""What Linux says of the processes that a program has started: which they are, and where they listen."""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from typing import Final

LISTENS: Final = "0A"
LOOPBACK: Final = frozenset(
    ("0100007F", "00000000000000000000000001000000", "0000000000000000FFFF00000100007F")
)
"""127.0.0.1, ::1 and 127.0.0.1 in IPv6, as the kernel writes them."""


def descendants(pid: int) -> dict[int, str]:
    """The processes that a process and its children have started and that still run, with their commands."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                state, started_by = (entry / "stat").read_text().rpartition(")")[2].split()[:2]
                if state != "Z":
                    parents[int(entry.name)] = int(started_by)
    found: dict[int, str] = {}
    before = -1
    while len(found) != before:
        before = len(found)
        for each, parent in parents.items():
            if parent == pid or parent in found:
                found.setdefault(each, command_of(each))
    return found


def command_of(pid: int) -> str:
    """The command line of a process; empty where it has none any more."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def is_alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and was not waited for does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def environment_of_process(pid: int) -> dict[str, str]:
    """What a process was started with."""
    content = Path(f"/proc/{pid}/environ").read_bytes().decode(errors="replace")
    return {name: value for name, sign, value in (one.partition("=") for one in content.split("\0")) if sign}


def open_to_others(pids: set[int]) -> list[str]:
    """The sockets of these processes that listen beyond loopback, as the kernel writes their addresses."""
    sockets: set[str] = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    sockets |= set(re.findall(r"^socket:\[(\d+)\]$", os.readlink(descriptor)))
    found: list[str] = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            local, state, inode = words[1], words[3], words[9]
            if state == LISTENS and inode in sockets and local.partition(":")[0] not in LOOPBACK:
                found.append(local)
    return found
