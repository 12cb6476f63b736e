"""One table of a TOML file while it is read: keys are taken out by type, and what is wrong is noted.

Nothing here raises: a mistake goes on the list that all sections of a file share, and reading goes on
with the default, so that one run names every mistake there is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from brokerwatch.config.suggestions import did_you_mean, nearest
from brokerwatch.config.toml_lines import TomlLines, key_path
from brokerwatch.errors import Problem

_NO_LINES: Final = TomlLines("")
"""What is known of the lines of a table that was not read from a file."""


class TomlTable:
    """One TOML table while it is read. What is not taken when it ends is unknown.

    Args:
        where: the file.
        path: the table's place in it as `key_path` writes it, such as `brokers.kraken-main`.
        content: what tomllib made of it.
        problems: the list that mistakes are added to.
        lines: where each key of the file stands.
    """

    def __init__(
        self,
        where: str,
        path: str,
        content: Mapping[str, Any],
        problems: list[Problem],
        lines: TomlLines = _NO_LINES,
    ) -> None:
        self.where = where
        self.problems = problems
        self.lines = lines
        self.path = path
        self._left = dict(content)

    def wrong(self, key: str, expected: str) -> None:
        """Note a mistake.

        Args:
            key: where, as `key_path` writes it; empty: the table itself.
            expected: what was expected there.
        """
        path = f"{self.path}.{key}".strip(".")
        self.problems.append(Problem(self.where, path, expected, self.lines.nearest(path)))

    def take(self, key: str) -> Any:
        """Whatever stands at `key`; None when nothing does."""
        return self._left.pop(key, None)

    def text(self, key: str, default: str, *, needed: str = "") -> str:
        """A text; where it is `needed`, one that is not empty."""
        value = self._left.pop(key, default)
        if not isinstance(value, str):
            self.wrong(key, f"expected text, not {typed(value)}")
        elif not value and needed:
            self.wrong(key, f"expected {needed}")
        else:
            return value
        return default

    def number(self, key: str, default: float) -> float:
        """A number, whole or not."""
        value = self._left.pop(key, default)
        if isinstance(value, int | float) and not isinstance(value, bool):
            try:
                return float(value)
            except OverflowError:
                self.wrong(key, "expected a number of fewer than 300 digits")
                return default
        self.wrong(key, f"expected a number, not {typed(value)}")
        return default

    def whole(self, key: str, default: int) -> int:
        """A whole number."""
        value = self._left.pop(key, default)
        if isinstance(value, int) and not isinstance(value, bool):
            return value
        self.wrong(key, f"expected a whole number, not {typed(value)}")
        return default

    def switch(self, key: str, *, default: bool) -> bool:
        """True or false."""
        value = self._left.pop(key, default)
        if isinstance(value, bool):
            return value
        self.wrong(key, f"expected true or false, not {typed(value)}")
        return default

    def texts(self, key: str, default: tuple[str, ...]) -> tuple[str, ...]:
        """A list of texts, none of them empty."""
        value = self._left.pop(key, default)
        if isinstance(value, list | tuple):
            listed = tuple(cast("list[object]", value))
            if all(isinstance(item, str) and item for item in listed):
                return cast("tuple[str, ...]", listed)
        self.wrong(key, f"expected a list of texts, not {typed(cast('object', value))}")
        return default

    def numbers(self, key: str, default: tuple[float, ...]) -> tuple[float, ...]:
        """A list of numbers."""
        value = self._left.pop(key, default)
        if isinstance(value, list | tuple):
            listed = tuple(cast("list[object]", value))
            if all(isinstance(item, int | float) and not isinstance(item, bool) for item in listed):
                try:
                    return tuple(float(cast("float", item)) for item in listed)
                except OverflowError:
                    self.wrong(key, "expected numbers of fewer than 300 digits")
                    return default
        self.wrong(key, f"expected a list of numbers, not {typed(cast('object', value))}")
        return default

    def limit(self, key: str) -> float | None:
        """A number where one is given, else None."""
        if key not in self._left:
            return None
        before = len(self.problems)
        number = self.number(key, 0.0)
        return number if len(self.problems) == before else None

    def table(self, key: str) -> Mapping[str, Any]:
        """A table inside this one; an empty one when there is none."""
        value = self._left.pop(key, {})
        if isinstance(value, dict):
            return cast("dict[str, Any]", value)
        self.wrong(key, f"expected a table, not {typed(value)}")
        return {}

    def table_or_none(self, key: str) -> Mapping[str, Any] | None:
        """A table inside this one; None when there is none."""
        return self.table(key) if key in self._left else None

    def texts_by_name(self, key: str) -> dict[str, str]:
        """A table inside this one whose values are texts."""
        found = self.table(key)
        for name, value in found.items():
            if not isinstance(value, str):
                self.wrong(key_path(key, name), f"expected text, not {typed(value)}")
        return {name: str(value) for name, value in found.items()}

    def matching(self, pattern: str) -> list[tuple[str, Any]]:
        """Every key of this form, with its value."""
        keys = [key for key in self._left if re.fullmatch(pattern, key)]
        return [(key, self._left.pop(key)) for key in keys]

    def end(self, known: str, keys: Iterable[str] = ()) -> None:
        """Whatever was not taken is unknown.

        Args:
            known: the keys that there are, in words.
            keys: the keys themselves, where `known` is no list of them with commas.
        """
        possible = tuple(keys) or tuple(known.split(", "))
        for key in self._left:
            hint = did_you_mean(nearest(key, possible))
            self.wrong(key_path(key), f"unknown key{hint or ';'} known are: {known}")


def typed(value: object) -> str:
    """What a value is, for people: its type in TOML's words, and its beginning."""
    return f"{type_name(value)} ({str(value)[:40]})"


def type_name(value: object) -> str:
    """The type of a value in TOML's words."""
    names: dict[type[Any], str] = {
        bool: "true or false",
        int: "a number",
        float: "a number",
        str: "text",
        list: "a list",
        dict: "a table",
    }
    return names.get(type(value), "a date")
