"""An event loop whose clock a test pushes."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Coroutine
from typing import Any


class PushedLoop(asyncio.SelectorEventLoop):
    """A loop that never waits: when it has nothing to do, its time moves on to the next timer."""

    BEGIN_S = 1_000.0

    def __init__(self) -> None:
        self.now_s = self.BEGIN_S
        super().__init__(_Jumps(self))

    def time(self) -> float:
        return self.now_s


class _Jumps(selectors.SelectSelector):
    def __init__(self, loop: PushedLoop) -> None:
        super().__init__()
        self._pushed = loop

    def select(self, timeout: float | None = None) -> Any:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "no timer is set, and every task waits"
            self._pushed.now_s += timeout
        return ready


def on_a_pushed_loop(work: Callable[[PushedLoop], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=PushedLoop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, PushedLoop)
        runner.run(work(loop))


async def settled() -> None:
    """Let everything run that can run now."""
    for _ in range(10):
        await asyncio.sleep(0)
