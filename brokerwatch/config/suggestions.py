"""What was probably meant by a word that is not known."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final

RENAMED: Final[Mapping[str, str]] = MappingProxyType(
    {"huobi": "htx", "huobipro": "htx", "coinbasepro": "coinbaseexchange", "gdax": "coinbaseexchange"}
)
"""Exchanges that ccxt had by another id, where the letters do not show which one it is now."""


def nearest(word: str, known: Iterable[str], most: int = 1) -> list[str]:
    """Up to `most` of the known words that are like this one, the nearest first."""
    return difflib.get_close_matches(word.strip().lower(), sorted(known), n=most)


def did_you_mean(words: Iterable[str]) -> str:
    """The question, to end a sentence with; empty where there is no such word."""
    listed = ", ".join(words)
    return f"; did you mean {listed}?" if listed else ""


def exchanges_like(exchange: str, known: frozenset[str]) -> list[str]:
    """The exchanges that may be meant by an id that ccxt does not know, the nearest first."""
    renamed = RENAMED.get(exchange.strip().lower(), "")
    return [renamed] if renamed in known else nearest(exchange, known, 3)


def unknown_exchange(exchange: str, known: frozenset[str]) -> str:
    """What to say of an id that ccxt does not know."""
    return f"ccxt knows no exchange {exchange!r}{did_you_mean(exchanges_like(exchange, known))}"
