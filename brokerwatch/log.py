"""Loggers whose lines hold no control characters, and the same escape for every text that is shown.

An exchange, a publisher or a callable of the trader's may put anything into the text of an error: an escape
sequence that changes a terminal, or a line end that makes one line look like two. Such texts are kept as they
came, and escaped where they are shown: in a terminal and in the log.
"""

from __future__ import annotations

import logging
from typing import Final, cast

_PLAIN: Final = logging.Formatter()
FIELDS: Final = "brokerwatch"
"""The attribute of a record that holds what it says about an account, by the names of the wire's fields."""


def about(broker: str, **fields: object) -> dict[str, object]:
    """What a line says about an account, as the `extra` of a call of a logger: `reason`, `error_count`, …"""
    return {
        FIELDS: {"broker": broker, **{name: value for name, value in fields.items() if value is not None}}
    }


def escaped(text: str, keep: str = "") -> str:
    """The text with each character that cannot be printed written as `\\uXXXX`, as JSON writes it.

    Those are control characters, line ends, and marks that change the direction of what follows.

    Args:
        text: any text.
        keep: characters that are left as they are.
    """
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() or letter in keep else _unit(letter) for letter in text)


def logger(name: str) -> logging.Logger:
    """The logger of this name, with the escape in front of all its handlers. May be called more than once."""
    found = logging.getLogger(name)
    if not any(isinstance(each, _Escape) for each in found.filters):
        found.addFilter(_Escape())
    return found


class _Escape(logging.Filter):
    """Escapes the arguments of a record and its traceback. The words of the format are the program's own."""

    def filter(self, record: logging.LogRecord) -> bool:
        arguments = cast("object", record.args)
        if isinstance(arguments, tuple):
            record.args = tuple(map(_shown, cast("tuple[object, ...]", arguments)))
        if record.exc_info and not record.exc_text:
            record.exc_text = escaped(_PLAIN.formatException(record.exc_info), keep="\n")
        return True


def _shown(argument: object) -> object:
    if isinstance(argument, int | float):
        return argument  # a format may ask for a number
    try:
        return escaped(str(argument))
    except Exception:  # noqa: BLE001 - an error whose own text raises must not end the thread that logs it
        return f"<{type(argument).__name__} without a text>"


def _unit(letter: str) -> str:
    code = ord(letter)
    if code < 0x10000:
        return f"\\u{code:04x}"
    code -= 0x10000
    return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"
