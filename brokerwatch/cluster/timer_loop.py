"""The event loop of the timers and of the operators' socket, and the one that takes its place."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path
from typing import Final

from brokerwatch.bus.turning import HUNG_S
from brokerwatch.cluster.account_loops import AccountLoops
from brokerwatch.cluster.control import ControlServer
from brokerwatch.cluster.operators import Operators
from brokerwatch.cluster.timers import Timers

NAME: Final = "brokerwatch-timers"


class TimerLoop:
    """The loop of the timers. `fault` and `replace` are for one thread; `alarms` may be used by any.

    Raises RuntimeError and OSError when no loop can be started.
    """

    def __init__(self, loops: AccountLoops, operators: Operators) -> None:
        self._loops = loops
        self._operators = operators
        self._loop = loops.started(NAME)
        self._turned_s = time.monotonic()
        self.alarms: Final = Timers(self._loop)
        """They go on over a change of the loop."""

    def listen(self, folder: Path | None) -> None:
        """Hear operators' commands through a socket in this folder; None: none are heard."""
        self._operators.listen(self._loop, folder)

    def fault(self) -> str:
        """What is wrong with it; empty where nothing is. It asks the loop to turn until the next call."""
        if self._loop.ended:
            return f"{NAME} has ended by an error"
        now_s = time.monotonic()
        if self._loop.turned():
            self._turned_s = now_s
        return f"{NAME} has not turned for {HUNG_S:g} s" if now_s - self._turned_s > HUNG_S else ""

    def replace(self) -> None:
        """Have another loop take its place. Raises RuntimeError and OSError when none can be started."""
        old, left = self._loop, list[ControlServer]()

        async def close() -> None:
            for control in left:
                await control.leave()

        self._loop = self._loops.again(old)
        self._turned_s = time.monotonic()
        self.alarms.move_to(self._loop)
        if (control := self._operators.move_to(self._loop)) is not None:
            left.append(control)
        if old.ended:
            asyncio.run(close())
        # Last, because it may wake at any moment.
        old.leave_behind("another loop has taken its place", close)
