"""Event loops that a test blocks, and lets go of."""

from __future__ import annotations

import asyncio
import threading
from types import TracebackType
from typing import Self

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.gateway.loop import LoopThread
from tests.support.clusters import PATIENCE_S


def loop_of(cluster: Cluster, name: str = "exchanges") -> LoopThread:
    """The loop of ours that has this in its name and asks accounts now."""
    (found,) = (loop for loop in cluster._loops if name in loop.name)  # pyright: ignore[reportPrivateUsage] - a loop shows nowhere else
    return found


class Block:
    """Blocks a loop from `hang` on until it is let go, at the end of the block at the latest."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.let_go = threading.Event()
        self._hangs = threading.Event()
        self._over = False

    def hang(self) -> None:
        """Block it as soon as it turns, and wait for that."""
        self.hang_soon()
        assert self._hangs.wait(PATIENCE_S)

    def hang_soon(self) -> None:
        """Block it as soon as it turns."""
        self.loop.call_soon_threadsafe(self.here)

    def here(self) -> None:
        """Block the thread that calls this."""
        self._hangs.set()
        self.let_go.wait(PATIENCE_S)
        self._over = True

    @property
    def is_blocked(self) -> bool:
        return self._hangs.is_set() and not self._over

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.let_go.set()
