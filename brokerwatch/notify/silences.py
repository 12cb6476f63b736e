"""Silences: for which accounts no message is sent, until when, and why. They never touch a state. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

import msgspec

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,47}")
NAME_RULE: Final = "up to 48 of a-z, 0-9, - and _, beginning with a letter or a digit"
MOST_SILENCES: Final = 200
MAX_WHY: Final = 160
LONGEST_S: Final = 90 * 86_400.0
"""A silence that is forgotten must end by itself."""
MAINTENANCE: Final = "maintenance-"
"""How the name of a silence begins that an exchange's own announcement has made."""


class Silence(msgspec.Struct, frozen=True, kw_only=True):
    """No message is sent about these accounts until it ends."""

    name: str
    """By which it is ended."""
    why: str
    """The reason."""
    by: str
    """By which user it was made."""
    since_us: int
    """Wall clock, µs: when it was made."""
    until_us: int
    """Wall clock, µs: when it ends by itself."""
    brokers: tuple[str, ...] = ()
    """The accounts that it covers."""
    exchanges: tuple[str, ...] = ()
    """The exchanges whose accounts it covers. Neither these nor accounts: it covers everything."""

    @property
    def covers_all(self) -> bool:
        """Whether it covers every account, and messages about the watcher itself."""
        return not self.brokers and not self.exchanges

    def is_over(self, now_us: int) -> bool:
        """Whether it has ended at this wall clock, in µs."""
        return now_us >= self.until_us

    def covers(self, broker: str, exchange: str, now_us: int) -> bool:
        """Whether messages about this account are muted at this wall clock, in µs."""
        if self.is_over(now_us):
            return False
        return self.covers_all or broker in self.brokers or exchange in self.exchanges


def muted(silences: Iterable[Silence], broker: str, exchange: str, now_us: int) -> bool:
    """Whether any of these silences covers this account at this wall clock, in µs."""
    return any(silence.covers(broker, exchange, now_us) for silence in silences)


def silence_mistake(silence: Silence) -> str:
    """What is wrong with a silence that is to be made; empty when nothing is."""
    if not _NAME.fullmatch(silence.name) or silence.name.startswith(MAINTENANCE):
        return f"the name: expected {NAME_RULE}, and not {MAINTENANCE}…, not {silence.name!r}"
    if not silence.why.strip():
        return "a silence needs a reason, so that others know: --why TEXT"
    if len(silence.why) > MAX_WHY:
        return f"the reason: expected up to {MAX_WHY} characters, not {len(silence.why)}"
    if silence.until_us <= silence.since_us:
        return "that moment is over"
    if silence.until_us - silence.since_us > LONGEST_S * 1_000_000:
        return "a silence ends after 90 days at the latest"
    return ""
