"""In which line of a TOML file a key stands: tomllib reads the values, and does not say where they were.

The file is read once more, for the places of its keys alone. tomllib has read it before, so it is TOML: only
where a key, a text, a list or a table begins and ends has to be told apart.
"""

from __future__ import annotations

import json
import re
import tomllib
from bisect import bisect_right
from collections.abc import Mapping
from functools import cached_property
from typing import Final

_BARE: Final = re.compile(r"[A-Za-z0-9_-]+")
_BLANK: Final = re.compile(r"[ \t]*")
_GAP: Final = re.compile(r"(?:[\s,]|#[^\n]*)*")
"""What stands between two statements, or between two values of a list or a table."""
_KEY: Final = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|[A-Za-z0-9_-]+')
_TEXT: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}(?!")|\'\'\'.*?\'{3,5}(?!\')|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL
)
_PLAIN: Final = re.compile(r"[^,\]}#\n]*")
"""A number, a date, or true or false."""


def key_path(*parts: str) -> str:
    """The path of a key as TOML writes it: a part with other characters than a bare key has is in quotes.

    Example:
        `key_path("brokers", "a.b", "policy")` is `brokers."a.b".policy`.
    """
    return ".".join(part if _BARE.fullmatch(part) else json.dumps(part, ensure_ascii=False) for part in parts)


class TomlLines:
    """The lines of the keys of one TOML file. They are looked for at the first question.

    Args:
        text: the file, which tomllib can read as a whole.
    """

    def __init__(self, text: str) -> None:
        self._text = text

    def line_of(self, path: str) -> int:
        """The number of the line in which a key begins, from 1; 0 where it is not found.

        Args:
            path: the path of the key as `key_path` writes it, such as `brokers.kraken-main.policy`;
                `scene #2.fault` is of the second `[[scene]]`.
        """
        return self._lines.get(path, 0)

    def nearest(self, path: str) -> int:
        """The line of a key, or of the table that it would be in; 0 where neither is in the file."""
        while path:
            if line := self.line_of(path):
                return line
            path = path.rpartition(".")[0]
        return 0

    @cached_property
    def _lines(self) -> Mapping[str, int]:
        try:
            return _Places(self._text.replace("\r\n", "\n")).lines
        except RecursionError:  # lists in lists, as deep as tomllib itself could just read
            return {}


class _Places:
    """Reads a text from its beginning to its end, and notes the line of each key."""

    def __init__(self, text: str) -> None:
        self.lines: dict[str, int] = {}
        self._text = text
        self._at = 0
        self._ends = [match.start() for match in re.finditer("\n", text)]
        self._newest: dict[str, int] = {}
        """The path of an array of tables to the number of its newest table."""
        prefix = ""
        while self._skip(_GAP) < len(text):
            if text.startswith("[", self._at):
                prefix = self._header()
            else:
                self._pair(prefix)

    def _skip(self, pattern: re.Pattern[str]) -> int:
        match = pattern.match(self._text, self._at)
        self._at = match.end() if match else len(self._text)  # it is no TOML, so it ends here
        return self._at

    def _note(self, path: str, begun: int) -> None:
        self.lines.setdefault(path, bisect_right(self._ends, begun - 1) + 1)

    def _key(self) -> list[str]:
        """The parts of a dotted key, in the form that `key_path` gives them."""
        parts: list[str] = []
        while True:
            begun = self._skip(_BLANK)
            written = self._text[begun : self._skip(_KEY)]
            quoted = written[:1] in ("'", '"')
            parts.append(key_path(tomllib.loads(f"x = {written}")["x"] if quoted else written))
            if not self._text.startswith(".", self._skip(_BLANK)):
                return parts
            self._at += 1

    def _header(self) -> str:
        """The path of a table that begins here, in which the keys below it stand."""
        begun = self._at
        brackets = 2 if self._text.startswith("[[", begun) else 1
        self._at += brackets
        *parents, last = self._key()
        self._at += brackets
        prefix = ""
        for part in parents:  # a table in an array of tables belongs to the newest one
            prefix = f"{prefix}.{part}" if prefix else part
            self._note(prefix, begun)
            prefix = f"{prefix} #{self._newest[prefix]}" if prefix in self._newest else prefix
        prefix = f"{prefix}.{last}" if prefix else last
        self._note(prefix, begun)
        if brackets == 1:
            return prefix
        self._newest[prefix] = self._newest.get(prefix, 0) + 1
        prefix = f"{prefix} #{self._newest[prefix]}"
        self._note(prefix, begun)
        return prefix

    def _pair(self, prefix: str) -> None:
        begun = self._at
        for part in self._key():
            prefix = f"{prefix}.{part}" if prefix else part
            self._note(prefix, begun)
        self._at += 1  # the equals sign
        self._skip(_BLANK)
        self._value(prefix)

    def _value(self, path: str) -> None:
        if self._text.startswith("[", self._at):
            self._inside("]", path)
        elif self._text.startswith("{", self._at):
            self._inside("}", path)
        else:
            self._skip(_TEXT if self._text.startswith(("'", '"'), self._at) else _PLAIN)

    def _inside(self, end: str, path: str) -> None:
        """What a list or an inline table has in it."""
        self._at += 1
        number = 0
        while self._skip(_GAP) < len(self._text) and not self._text.startswith(end, self._at):
            number += 1
            if end == "}":
                self._pair(path)
            else:
                self._note(f"{path} #{number}", self._at)
                self._value(f"{path} #{number}")
        self._at += 1
