"""A command of the program, run in this process: what it prints, what it complains of, and its exit status.

A process of its own costs half a second of CPU and more, most of it for imports. So the tests of what a
command says run it here. Those of signals, terminals, pipes and imports start a process
(tests/support/programs.py).
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import sys
import tempfile
import types
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn
from unittest import mock

from brokerwatch.cli import main as command_line
from brokerwatch.cli import verification

_FOREIGN: Final = ("BROKERWATCH", "PYTHONUNBUFFERED", "COLUMNS", "FORCE_COLOR")
"""How the names of variables begin that would change what a command does or how it looks."""


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str


def environment_of(extra: Mapping[str, str]) -> dict[str, str]:
    """This process's environment without what would change a command's behaviour or its looks."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**inherited, "TERM": "dumb", "NO_COLOR": "1", **extra}


class _Exit(BaseException):
    """In place of the end of the process."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


def command(
    *arguments: str,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    entry: Callable[[], object] = command_line.main,
    settle_s: float = 0.0,
) -> Done:
    """Run a command to its end, on this thread, as `python -m brokerwatch` would.

    Its standard output and standard error are files, as the streams of a process would be: what is written
    to the descriptors is captured too. `settle_s` is the pause of `verify` before its last look.
    """
    with (
        _streams() as (out, err),
        contextlib.chdir(cwd),
        mock.patch.dict(os.environ, environment_of(environment or {}), clear=True),
        mock.patch.object(sys, "argv", ["__main__.py", *arguments]),
        mock.patch.object(os, "_exit", _exit),
        mock.patch.object(verification, "run", functools.partial(verification.run, settle_s=settle_s)),
        _program(),
        logging_of_a_program(),
    ):
        status = _status_of(entry)
        sys.stdout.flush()
        sys.stderr.flush()
        done = Done(status, _text(out), _text(err))
    assert "Traceback" not in done.err, done.err
    return done


def _status_of(entry: Callable[[], object]) -> int:
    try:
        entry()
    except _Exit as ended:
        return ended.status
    raise AssertionError("the program did not end its process")


def _exit(status: int) -> NoReturn:
    raise _Exit(status)


def _text(descriptor: int) -> str:
    return os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode()


@contextlib.contextmanager
def _streams() -> Generator[tuple[int, int]]:
    """Files in place of the standard streams, down to their descriptors."""
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile()) for _ in range(2)]
        nothing = stack.enter_context(open(os.devnull, "rb"))
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for descriptor, file in enumerate((nothing, *files)):
            kept = os.dup(descriptor)
            stack.callback(_put_back, kept, descriptor)
            os.dup2(file.fileno(), descriptor)
        for name, descriptor in (("stdout", 1), ("stderr", 2)):
            stream = open(descriptor, "w", encoding="utf-8", closefd=False, buffering=1)  # noqa: SIM115
            stack.callback(stream.close)
            stack.enter_context(mock.patch.object(sys, name, stream))
        yield files[0].fileno(), files[1].fileno()


def _put_back(kept: int, descriptor: int) -> None:
    os.dup2(kept, descriptor)
    os.close(kept)


@contextlib.contextmanager
def _program() -> Generator[None]:
    """What click takes the name of the program from."""
    kept = sys.modules["__main__"]
    sys.modules["__main__"] = types.ModuleType("__main__")
    sys.modules["__main__"].__package__ = "brokerwatch"
    try:
        yield
    finally:
        sys.modules["__main__"] = kept


@contextlib.contextmanager
def logging_of_a_program() -> Generator[None]:
    """Logging as a new process has it: not configured."""
    root, ours = logging.getLogger(), logging.getLogger("brokerwatch")
    handlers, propagate = root.handlers[:], ours.propagate
    root.handlers[:] = []
    try:
        yield
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = handlers
        ours.propagate = propagate
