"""Runs a command for each change of a reading, with the reading as JSON on its standard input."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Callable
from typing import Final

from brokerwatch.bus.listener import Listener
from brokerwatch.bus.reception import ReceivedReading
from brokerwatch.cli import exits
from brokerwatch.cli.text import json_object

GLANCE_S: Final = 0.1
"""How often it is looked whether the program is to end."""
LIMIT_S: Final = 60.0
"""A command that runs for longer is killed: the changes after it wait."""


def command_words(command: str) -> list[str]:
    """The words of a command as a shell would split it. Raises ValueError where it has none."""
    words = shlex.split(command)
    if not words:
        raise ValueError("expected a command")
    return words


def run_on_change(
    listener: Listener,
    words: list[str],
    stopping: Callable[[], bool],
    count: int | None,
    limit_s: float = LIMIT_S,
) -> int:
    """Run the command for the first reading of each account and for each change, one after the other.

    While it runs, of each account only the newest change waits.

    Args:
        listener: what is heard.
        words: the command.
        stopping: whether the program is to end; asked several times a second.
        count: end after so many runs; None: run until it is stopped.
        limit_s: seconds after which a command is killed.

    Returns:
        How many times it was run.
    """
    runs = 0
    for change in listener.changes(wait_s=GLANCE_S, known=True):
        if stopping():
            break
        if change is None or change.stamp is None:
            continue
        text = json_object(ReceivedReading(change.after, change.stamp))
        runs += 1
        if said := _run(words, text, stopping, limit_s):
            exits.say(f"{change.broker}: {words[0]} {said}")
        if runs == count:
            break
    return runs


def _run(words: list[str], text: str, stopping: Callable[[], bool], limit_s: float) -> str:
    """Run it once. What went wrong, in words; empty when nothing did."""
    try:
        process = subprocess.Popen(words, stdin=subprocess.PIPE, text=True)  # noqa: S603 - the operator's own
    except OSError as error:
        return f"cannot be run: {error.strerror or error}"
    until_s = time.monotonic() + limit_s
    given: str | None = f"{text}\n"
    while True:
        try:
            process.communicate(given, GLANCE_S)
            break
        except subprocess.TimeoutExpired:
            given = None  # it is being given already
            if time.monotonic() < until_s and not stopping():
                continue
            process.kill()
            process.wait()
            return "was killed: the program ends" if stopping() else f"was killed after {limit_s:g} s"
    return f"ended with status {process.returncode}" if process.returncode else ""
