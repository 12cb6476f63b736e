"""Ctrl-C and SIGTERM: whenever they come, they are noticed, and no handler waits for a lock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from types import FrameType
from typing import Any, Final

import pytest

from brokerwatch.cli.signals import Stop, stop_signals

PATIENCE_S: Final = 60.0
MOST_LINES: Final = 500
"""More lines than any wait has."""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("call", ["wait", "set", "is_set"])
def test_a_signal_at_any_line_of_a_call_is_noticed_and_ends_it(number: signal.Signals, call: str) -> None:
    """The handler runs between two lines of whatever the main thread does, also within the call itself."""
    for chosen in range(MOST_LINES):
        lines = 0

        def trace(frame: FrameType, event: str, arg: object, chosen: int = chosen) -> Any:
            nonlocal lines
            if event == "line" and lines <= chosen:
                lines += 1
                if lines > chosen:
                    signal.raise_signal(number)
            return trace

        with stop_signals() as stopped:
            asked = {"wait": lambda: stopped.wait(0.001), "set": stopped.set, "is_set": stopped.is_set}[call]
            sys.settrace(trace)
            try:
                asked()
            finally:
                sys.settrace(None)
            if lines <= chosen:
                assert chosen > 0, "no line was seen at all"
                return
            assert stopped.is_set()
            assert stopped.wait()
    raise AssertionError("the call has no end")


def test_who_waits_on_any_thread_is_woken_and_who_comes_later_need_not_wait() -> None:
    stop = Stop()
    woken: list[bool] = []
    waiting = [threading.Thread(target=lambda: woken.append(stop.wait()), daemon=True) for _ in range(3)]
    for thread in waiting:
        thread.start()
    assert not stop.is_set()
    assert not stop.wait(0.0)
    for _ in range(100_000):  # more than a pipe holds
        stop.set()
    for thread in waiting:
        thread.join(PATIENCE_S)
    assert woken == [True, True, True]
    assert stop.wait(float("inf"))


def test_its_descriptors_go_with_it() -> None:
    before = set(os.listdir("/dev/fd"))
    stop = Stop()
    assert len(set(os.listdir("/dev/fd")) - before) == 2
    del stop
    assert set(os.listdir("/dev/fd")) <= before


def test_the_signals_are_given_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with stop_signals():
        assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] != before
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def ended(source: str, *numbers: signal.Signals) -> int:
    """A program with stop signals that gets these, one for each line that it prints; its exit status."""
    program = f"from brokerwatch.cli.signals import stop_signals\nwith stop_signals() as stopped:\n{source}"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            for number in numbers:
                assert process.stdout.readline()
                process.send_signal(number)
            return process.wait(PATIENCE_S)
        finally:
            process.kill()


def test_a_main_thread_that_waits_without_a_limit_is_ended() -> None:
    assert ended("    print(1, flush=True)\n    stopped.wait()\n", signal.SIGINT) == 0


def test_the_second_signal_ends_a_program_that_does_not_and_what_ended_by_itself_is_let_end() -> None:
    stubborn = (
        "    for _ in range(2):\n        print(1, flush=True)\n        stopped.wait()\n    import time\n"
    )
    assert ended(f"{stubborn}    time.sleep(60)\n", signal.SIGINT, signal.SIGTERM) == 128 + signal.SIGTERM
    by_itself = "    stopped.set()\n    print(1, flush=True)\n    import time\n    time.sleep(0.2)\n"
    assert ended(by_itself, signal.SIGINT) == 0
