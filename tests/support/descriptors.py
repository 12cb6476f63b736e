"""A child process with few free descriptors: the limit is one of the whole process, and libzmq may end it."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from typing import Final

from tests.support.clusters import PATIENCE_S

_BEFORE: Final = """
import os, resource, sys
from brokerwatch.bus import descriptors

HARD = resource.getrlimit(resource.RLIMIT_NOFILE)[1]

def opened():
    return len(os.listdir("/dev/fd")) - 1

def is_open(number):
    try:
        os.fstat(number)
    except OSError:  # it was the one with which the list was read
        return False
    return True

def leave_free(count):
    resource.setrlimit(resource.RLIMIT_NOFILE, (HARD, HARD))
    folder = os.open("/dev/fd", os.O_RDONLY)
    taken = {each for each in map(int, os.listdir(folder)) if each != folder and is_open(each)}
    os.close(folder)
    unused = (each for each in range(HARD) if each not in taken)
    for _ in range(count):
        next(unused)
    resource.setrlimit(resource.RLIMIT_NOFILE, (next(unused), HARD))
"""


def child_says(program: str, *arguments: str) -> str:
    """What a program prints, which may call `leave_free(count)` and `opened()`. It has to end well."""
    ended = subprocess.run(
        [sys.executable, "-c", _BEFORE + textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert ended.returncode == 0, f"status {ended.returncode}: {ended.stdout}{ended.stderr}"
    return ended.stdout
