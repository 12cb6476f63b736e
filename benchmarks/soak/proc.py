"""What Linux says of a process from outside: its memory, its threads, and its descriptors by kind."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

LISTEN: Final = "0A"
"""The state of a listening socket in /proc/net/tcp."""
WITHOUT_SPARES: Final = {"GLIBC_TUNABLES": "glibc.malloc.tcache_count=0:glibc.malloc.arena_max=1"}
"""The environment of a process whose memory is judged. By itself glibc keeps freed blocks for each thread,
and an arena for nearly each: some MB in all, which fill for hours and look like a leak."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One process at one moment."""

    at_s: float
    """The monotonic second."""
    memory_mb: float
    """What it has written in memory itself (RssAnon). The pages of files that it maps come and go with the
    machine's page cache, so they are left out."""
    resident_mb: float
    """All that is resident, those pages too (VmRSS)."""
    threads: int
    descriptors: int
    """Without the connections below."""
    to_exchanges: int
    """Connections to the exchanges: as many as were needed at once are kept for a while."""
    from_readers: int
    """Connections of listeners and of readers over HTTP."""
    kinds: Mapping[str, int] = field(default_factory=dict[str, int])
    """The descriptors by what they lead to: `socket`, `[eventfd]`, the name of a file."""


def sample(
    pid: int, at_s: float, *, exchange_ports: frozenset[int], own_ports: frozenset[int]
) -> Sample | None:
    """One process now; None where there is none any more.

    Args:
        pid: the process.
        at_s: the second to write beside it.
        exchange_ports: the ports at which the exchanges listen.
        own_ports: the ports at which the process listens.
    """
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        sockets, others = _descriptors(pid)
        outward, inward = _connections(exchange_ports, own_ports)
    except OSError:
        return None
    values = {name: text.split() for name, _, text in (line.partition(":") for line in lines)}
    if not values.get("RssAnon"):  # it has ended, and its parent has not asked for its status yet
        return None
    exchanges, readers = len(sockets & outward), len(sockets & inward)
    kinds = {"socket": len(sockets) - exchanges - readers, **others}
    return Sample(
        at_s=at_s,
        memory_mb=int(values["RssAnon"][0]) * 1_024 / 1e6,
        resident_mb=int(values["VmRSS"][0]) * 1_024 / 1e6,
        threads=int(values["Threads"][0]),
        descriptors=sum(kinds.values()),
        to_exchanges=exchanges,
        from_readers=readers,
        kinds=kinds,
    )


def _descriptors(pid: int) -> tuple[frozenset[str], Counter[str]]:
    """The inodes of its sockets, and how many other descriptors it has of each kind."""
    sockets: set[str] = set()
    others: Counter[str] = Counter()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue  # it was closed meanwhile
        if target.startswith("socket:["):
            sockets.add(target[len("socket:[") : -1])
        else:
            others[target.rpartition("/")[2].rpartition(":")[2]] += 1
    return frozenset(sockets), others


def _connections(
    exchange_ports: frozenset[int], own_ports: frozenset[int]
) -> tuple[frozenset[str], frozenset[str]]:
    """The inodes of the connections that lead to one of these ports, and of those that came to one."""
    outward: set[str] = set()
    inward: set[str] = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        local, remote = (int(fields[column].rpartition(":")[2], 16) for column in (1, 2))
        if remote in exchange_ports:
            outward.add(fields[9])
        elif local in own_ports and fields[3] != LISTEN:
            inward.add(fields[9])
    return frozenset(outward), frozenset(inward)
