"""What is to be said: a notice is one message, with the key by which it is said once. Pure."""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Severity(StrEnum):
    """How urgent a message is: by what cannot be traded."""

    CRITICAL = "critical"
    """Nothing can be traded any more, or a person has to act before this account can."""
    WARNING = "warning"
    """One account cannot be traded, and others can."""
    INFO = "info"
    """Nothing is to be done."""
    RECOVERY = "recovery"
    """Something can be traded again."""


class Kind(StrEnum):
    """What a message is about."""

    OUTAGE = "outage"
    RECOVERY = "recovery"
    FLAPPING = "flapping"
    DIGEST = "digest"
    STEADY = "steady"
    LINE = "line"
    TEST = "test"
    WARNING = "warning"
    """Something that is no outage, and that a person has to know."""


class Notice(msgspec.Struct, frozen=True, kw_only=True):
    """One message to people. It is sent at most once over each channel."""

    key: str
    """Identifies it for ever: the subject, when its outage began, and the kind."""
    subject: str
    """The account, or `our own line` and the like. A newer notice of a subject may replace an older one."""
    kind: Kind
    """What it is about."""
    severity: Severity
    """How urgent it is."""
    title: str
    """One line."""
    body: str
    """The whole text."""
    at_us: int
    """Wall clock, µs: when it was made."""
