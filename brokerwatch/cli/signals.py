"""Ctrl-C and SIGTERM as something to wait for, so that a program ends in order and not wherever it stands.

Python runs a handler on the main thread, between two steps of whatever that does. If it does something with a
`threading.Event` just then, the handler waits for a lock that is held by the very thread it interrupts, for
ever. So the handler here takes no lock at all: it sets a flag and writes a byte into a pipe. A waiting thread
polls the pipe for that byte, which stays there unread.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import threading
import time
import weakref
from collections.abc import Callable, Generator
from contextlib import contextmanager
from types import FrameType
from typing import Final

_LONGEST_S: Final = 3_600.0
"""The system takes no wait of a month; after an hour we look again."""
HANGUP_ENDS_S: Final = 1.0
"""How long the end of the program waits for a reload that is under way."""


class Stop:
    """An event that may be set in the handler of a signal. What is set stays so."""

    def __init__(self) -> None:
        self._said = False
        self._ear, self._mouth = os.pipe()
        os.set_blocking(self._mouth, False)
        # With the object and not with the block: another thread may still wait.
        weakref.finalize(self, _close, self._ear, self._mouth)

    def is_set(self) -> bool:
        """Whether it was set."""
        return self._said

    def set(self) -> None:
        """Set it: from any thread, in a handler, and again."""
        self._said = True
        with contextlib.suppress(BlockingIOError):  # full: every waiting thread is woken already
            os.write(self._mouth, b"\0")

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, or so many seconds. Whether it is set."""
        poll = select.poll()
        poll.register(self._ear, select.POLLIN)
        until_s = float("inf") if timeout is None else time.monotonic() + timeout
        while not self._said and (left_s := until_s - time.monotonic()) > 0:
            poll.poll(min(left_s, _LONGEST_S) * 1_000)
        return self._said


@contextmanager
def stop_signals() -> Generator[Stop]:
    """What Ctrl-C and SIGTERM set. The second one ends the process at once."""
    stopped = Stop()
    signals = 0

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal signals
        del frame
        signals += 1
        if signals > 1:
            os._exit(128 + number)
        stopped.set()

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def on_hangup(function: Callable[[], object]) -> Generator[None]:
    """Call `function` on a thread of its own for each SIGHUP; those that come during a call are one more."""
    heard = Stop()
    ended = False

    def work() -> None:
        nonlocal heard
        while heard.wait() and not ended:
            # First another one: a signal that comes during the call is for the next.
            heard = Stop()
            function()

    def hang_up(number: int, frame: FrameType | None) -> None:
        del number, frame
        heard.set()

    before = signal.signal(signal.SIGHUP, hang_up)
    thread = threading.Thread(target=work, name="brokerwatch-reload", daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
        ended = True
        heard.set()
        thread.join(HANGUP_ENDS_S)


def _close(*descriptors: int) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
