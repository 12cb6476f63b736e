"""What is longer than its place: names are shortened in the middle, and sentences are continued below."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping
from typing import Final

_MARK: Final = "…"


def short_names(names: Iterable[str], room: int) -> Mapping[str, str]:
    """Each name in at most `room` characters, by its whole name.

    The beginning and the end of a long name are kept. Where two names would look the same, another part is
    left out.
    """
    every = tuple(dict.fromkeys(names))
    middle = room - 1 - (room - 1) // 3
    best: Mapping[str, str] = {}
    for head in (middle, *(number for number in range(room - 1, -1, -1) if number != middle)):
        shown = {name: _without_middle(name, room, head) for name in every}
        if len(set(shown.values())) == len(every):
            return shown
        best = best or shown
    return best


def _without_middle(name: str, room: int, head: int) -> str:
    if len(name) <= room:
        return name
    tail = room - 1 - head
    return f"{name[:head]}{_MARK}{name[len(name) - tail :]}"


def wrapped(text: str, width: int, indent: int = 2) -> list[str]:
    """The text in lines of `width` characters; those after the first are indented. No line is empty."""
    least = 4 * indent
    lines = textwrap.wrap(text, max(width, least), subsequent_indent=" " * indent, break_on_hyphens=False)
    return lines or [""]
