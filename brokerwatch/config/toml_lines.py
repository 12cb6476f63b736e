"""In which line of a TOML file a key stands: tomllib reads the values, and does not say where they were.

A statement of TOML ends at the end of a line. So the lines are joined until tomllib can read them, and what
it reads is one table header or one key with its value. The file as a whole has been read before.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any, cast


class TomlLines:
    """The lines of the keys of one TOML file. They are looked for at the first question.

    Args:
        text: the file, which tomllib can read as a whole.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def line_of(self, key: str) -> int:
        """The number of the line in which a key begins, from 1; 0 where it is not found.

        Args:
            key: the path of the key, such as `brokers.kraken-main.policy`; `scene #2.fault` is of the second
                `[[scene]]`.
        """
        return self._lines.get(key, 0)

    @cached_property
    def _lines(self) -> Mapping[str, int]:
        lines: dict[str, int] = {}
        newest: dict[str, int] = {}
        """The path of an array of tables to the number of its newest table."""
        prefix = ""
        for number, statement in _statements(self._text):
            content = tomllib.loads(statement)
            if statement.lstrip().startswith("["):
                *parents, last = _header(content)
                prefix = ""
                for part in parents:  # a table in an array of tables belongs to the newest one
                    prefix = f"{prefix}.{part}".strip(".")
                    lines.setdefault(prefix, number)
                    prefix = f"{prefix} #{newest[prefix]}" if prefix in newest else prefix
                prefix = f"{prefix}.{last}".strip(".")
                lines.setdefault(prefix, number)
                if statement.lstrip().startswith("[["):
                    newest[prefix] = newest.get(prefix, 0) + 1
                    prefix = f"{prefix} #{newest[prefix]}"
                content = {}
            for key in _keys(prefix, content):
                lines.setdefault(key, number)
        return lines


def _statements(text: str) -> Iterator[tuple[int, str]]:
    """Each table header and each key with its value, with the number of its first line."""
    begun, statement = 0, ""
    # Not `splitlines`, which ends a line at characters that TOML has within texts.
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        begun = begun if statement else number
        statement += f"{line}\n"
        try:
            content = tomllib.loads(statement)
        except tomllib.TOMLDecodeError:
            continue
        if content:
            yield begun, statement
        statement = ""


def _header(content: Mapping[str, Any]) -> list[str]:
    """The path that a table header names, as the one table that tomllib makes of it."""
    path: list[str] = []
    inner: object = content
    while inner:
        table = cast("list[dict[str, Any]]", inner)[0] if isinstance(inner, list) else inner
        for key, value in cast("dict[str, Any]", table).items():  # one key, or none at the end
            path.append(key)
            inner = value
        if not table:
            break
    return path


def _keys(prefix: str, content: Mapping[str, Any]) -> Iterator[str]:
    for key, value in content.items():
        path = f"{prefix}.{key}".strip(".")
        yield path
        if isinstance(value, dict):
            yield from _keys(path, cast("dict[str, Any]", value))
