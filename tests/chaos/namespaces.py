"""Network and mount namespaces of the round's own, where the machine allows them.

The whole round moves into them (`unshare`), as root or as root of a user namespace of its own. So it can
mount a small disk, and a second network is joined to its own by a pair of interfaces. All of it is gone when
the round ends, however it ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import Final

INSIDE: Final = "BROKERWATCH_CHAOS_INSIDE"
TOOLS: Final = ("unshare", "nsenter", "ip", "mount")
HERE, THERE = "10.77.0.1", "10.77.0.2"
_HERE_LINK, _THERE_LINK = "bw-here", "bw-there"
NO_ONE: Final = "02:00:00:00:00:99"


def enter() -> str:
    """Run this program again inside, and do not return; where that cannot be, the reason why."""
    if os.environ.get(INSIDE):
        _run("ip", "link", "set", "lo", "up")
        return ""
    if missing := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"not installed: {', '.join(missing)}"
    apart = ["unshare", "--net", "--mount", "--propagation", "private"]
    if os.geteuid() != 0:
        apart.append("--map-root-user")
    tried = subprocess.run([*apart, "ip", "link", "set", "lo", "up"], capture_output=True, check=False)
    if tried.returncode:
        return f"not allowed here: {tried.stderr.decode(errors='replace').strip()}"
    os.environ[INSIDE] = "1"
    return os.execvp("unshare", [*apart, sys.executable, "-m", "tests.chaos", *sys.argv[1:]])


class Abroad:
    """A second network, and the way between the two. Closed when its holder ends."""

    def __init__(self) -> None:
        self._holder = subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec sleep 86400"], stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        self._holder.stdout.read(1)  # its network is there
        pid = str(self._holder.pid)
        _run("ip", "link", "add", _HERE_LINK, "type", "veth", "peer", "name", _THERE_LINK, "netns", pid)
        _run("ip", "address", "add", f"{HERE}/24", "dev", _HERE_LINK)
        _run("ip", "link", "set", _HERE_LINK, "up")
        _run(*self.inside, "ip", "address", "add", f"{THERE}/24", "dev", _THERE_LINK)
        _run(*self.inside, "ip", "link", "set", _THERE_LINK, "up")

    @property
    def inside(self) -> tuple[str, ...]:
        """What is put before a command so that it runs there."""
        return ("nsenter", "--target", str(self._holder.pid), "--net")

    def cut(self, ways: frozenset[str]) -> None:
        """Lose each packet in these directions; none: all of them arrive again."""
        both = len(ways) == 2
        _run("ip", "link", "set", _HERE_LINK, "down" if both else "up")
        for way, prefix, address, link in (
            ("down", (), THERE, _HERE_LINK),
            ("up", self.inside, HERE, _THERE_LINK),
        ):
            # To an address that no interface has, so that the packets are lost without a word.
            neighbour = (*prefix, "ip", "neighbour")
            _run(*neighbour, "delete", address, "dev", link, quiet=True)
            if way in ways and not both:
                _run(*neighbour, "replace", address, "lladdr", NO_ONE, "dev", link, "nud", "permanent")

    def close(self) -> None:
        """End it."""
        self._holder.kill()
        self._holder.wait(10)
        if self._holder.stdout is not None:
            self._holder.stdout.close()


def _run(*command: str, quiet: bool = False) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode and not quiet:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
