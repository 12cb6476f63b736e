"""The vocabulary of health: states, kinds of fault, reasons, and the verdict.

All of it goes over the wire and into the store. The numbers of `HealthState` and the words of the others are
fixed: one may be added, and none is renamed or reused. A receiver may be older than the publisher. It reads a
word that it does not know as `other`, and a number that it does not know as `UNKNOWN`, and obeys `available`.
"""

from __future__ import annotations

from enum import IntEnum, StrEnum
from typing import Final

import msgspec

MAX_DETAIL: Final = 256
"""Characters of a detail; the rest is cut."""

NAME_PATTERN: Final = r"^[a-z0-9][a-z0-9_-]{0,47}$(?!\n)"
"""Names of brokers, exchanges and clusters: they stand in topics."""

MAX_WORD: Final = 64
"""Characters of a reason or a kind of fault, in any version."""


class HealthState(IntEnum):
    """The state of an account by its own evidence. The numbers are never changed and never reused."""

    UNKNOWN = 0
    HEALTHY = 1
    DEGRADED = 2
    UNAVAILABLE = 3
    RECOVERING = 4
    MAINTENANCE = 5

    @classmethod
    def _missing_(cls, value: object) -> HealthState | None:
        """A number of a later version."""
        return cls.UNKNOWN if type(value) is int and value > max(cls) else None


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
    BLOCKED = "blocked"
    OTHER = "other"
    """A kind that this version does not know. brokerwatch itself never finds it."""

    @classmethod
    def _missing_(cls, value: object) -> FaultKind | None:
        """A word of a later version."""
        return cls.OTHER if _is_word(value) else None


class Reason(StrEnum):
    """Why a broker is, or is not, available: a list that may grow."""

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
    UNPROVEN = "unproven"
    """The evidence is good, and too old: no success stands behind it."""
    LOOP = "loop"
    """The event loop that asks the exchange hangs."""
    CLAIM = "claim"
    """In a pool: this process does not hold the claim of its API key."""
    OTHER = "other"
    """A reason that this version does not know. brokerwatch itself never gives it."""

    @classmethod
    def _missing_(cls, value: object) -> Reason | None:
        """A word of a later version."""
        return cls.OTHER if _is_word(value) else None


def _is_word(value: object) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MAX_WORD


def clipped(words: str) -> str:
    """A text for people, as a detail may hold it: at most 256 characters, each of which can be encoded."""
    # An exchange's own text may hold half of a surrogate pair, which UTF-8 cannot encode.
    sound = words.encode("utf-8", "replace").decode()
    return sound if len(sound) <= MAX_DETAIL else sound[: MAX_DETAIL - 1] + "…"


class Fault(msgspec.Struct, frozen=True):
    """One failed call: what kind of failure it was, and the exchange's own words about it."""

    kind: FaultKind
    detail: str = ""
    retry_after_s: float = 0.0
    """The exchange asks for a pause of so many seconds; 0 when it does not."""
    lockout_s: float = 0.0
    """The exchange has locked the key out for so many seconds; 0 when it has not."""
    closes_market_s: float = 0.0
    """It is about the market of an order alone, which may be tried again after so many seconds; 0: it is
    not."""
    bans_address: bool = False
    """The exchange has banned the address that the call came from, whatever its key."""
    refuses_address: bool = False
    """The exchange says that the key may not be used from the address that the call came from."""

    def __post_init__(self) -> None:
        msgspec.structs.force_setattr(self, "detail", clipped(self.detail))


class Verdict(msgspec.Struct, frozen=True):
    """The answer and its reason, as `brokerwatch.health.state_machine.verdict` gives it."""

    available: bool
    reason: Reason
