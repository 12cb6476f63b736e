"""How a broker is: the words of health, and the reading that answers "can I trust this account?".

A `Reading` is immutable and says what was known when it was made. What depends on the hour, its
age and whether it is still valid, it computes when asked, so a reading that somebody keeps turns
unavailable by itself when nobody renews it. `ReadingData` is the same as it stands on the wire,
where the hour is the sender's. The numbers of `HealthState` are fixed for ever.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final

import msgspec

MAX_DETAIL: Final = 256
"""Characters of a detail; the rest is cut."""

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,47}$(?!\n)"
"""Names of brokers, exchanges and clusters: they stand in topics."""


class HealthState(IntEnum):
    """The evidence. Never renumbered, never reused."""

    UNKNOWN = 0
    HEALTHY = 1
    DEGRADED = 2
    UNAVAILABLE = 3
    RECOVERING = 4
    MAINTENANCE = 5


class FaultKind(StrEnum):
    """What kind of failure a fetch met."""

    NETWORK = "network"
    EXCHANGE_DOWN = "exchange_down"
    MAINTENANCE = "maintenance"
    RATE_LIMITED = "rate_limited"
    AUTH = "auth"
    PERMISSION = "permission"
    NONCE_CLOCK = "nonce_clock"
    BAD_RESPONSE = "bad_response"
    CLIENT_BUG = "client_bug"


class Reason(StrEnum):
    """Why a broker is, or is not, available: a closed list."""

    OK = "ok"
    ERRORS = "errors"
    NEVER_SEEN = "never_seen"
    SILENT = "silent"
    RESTARTING = "restarting"
    FAILED = "failed"
    HELD_OUT = "held_out"
    LOCKED_OUT = "locked_out"
    AUTH = "auth"
    MAINTENANCE = "maintenance"
    RECOVERING = "recovering"
    BLIND = "blind"
    LOCAL_NETWORK = "local_network"
    SHUTDOWN = "shutdown"
    NOTHING_HEARD = "nothing_heard"
    CONFIG = "config"


def clipped(words: str) -> str:
    """Words for people, as a detail may hold them: at most 256 characters, all of which can be sent."""
    # An exchange's own words may hold half a character, which no wire can carry.
    sound = words.encode("utf-8", "replace").decode()
    return sound if len(sound) <= MAX_DETAIL else sound[: MAX_DETAIL - 1] + "…"


class Fault(msgspec.Struct, frozen=True):
    """One failed fetch: its kind, and the exchange's own words about it."""

    kind: FaultKind
    detail: str = ""
    retry_after_s: float = 0.0
    """The exchange asks not to be asked again before; 0 when it says nothing."""
    lockout_s: float = 0.0
    """The exchange has shut the key out for so long; 0 when it has not."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "detail", clipped(self.detail))


class Verdict(msgspec.Struct, frozen=True):
    """The answer and its reason, as `brokerwatch.health.state_machine.verdict` gives it."""

    available: bool
    reason: Reason
