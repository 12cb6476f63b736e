"""The standard streams as a program finds them: closed, on a terminal that cannot draw, or without UTF-8."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import Final, TextIO

_NAMES: Final = ("stdin", "stdout", "stderr")
_DUMB: Final = ("dumb", "unknown")
"""What TERM says of a terminal that cannot draw over what it has drawn."""


def settle_streams() -> None:
    """Open what was closed before the start, and let no character end the program.

    A closed stream leaves its number to the next file that is opened: lines for people would be written into
    a database or a socket. And a terminal that is not UTF-8 has no ellipsis; it shows `?` for it.
    """
    for number, name in enumerate(_NAMES):
        _open(number, name)
    for stream in (sys.stdout, sys.stderr):
        reconfigure: object = getattr(stream, "reconfigure", None)
        if callable(reconfigure) and stream.encoding.lower().replace("-", "") != "utf8":
            reconfigure(errors="replace")


def _open(number: int, name: str) -> None:
    """Let this stream lead to nothing, where it was closed."""
    try:
        os.fstat(number)
    except OSError:
        nothing = os.open(os.devnull, os.O_RDWR)
        if nothing != number:
            os.dup2(nothing, number)
            os.close(nothing)
    stream: TextIO | None = getattr(sys, name)
    if stream is None:
        setattr(sys, name, open(number, "r" if number == 0 else "w", encoding="utf-8", closefd=False))  # noqa: SIM115 - for as long as the process


def can_draw() -> bool:
    """Whether standard output is a terminal in which a table can stay where it is and change."""
    with contextlib.suppress(AttributeError, ValueError):  # it is None, or closed
        return sys.stdout.isatty() and os.environ.get("TERM", "").lower() not in _DUMB
    return False
