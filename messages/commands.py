"""What operators of a supervisor say to the node that has the account, and what the node answers.

A command is carried out once, or not at all: it says for how long it counts, and a receiver that wakes later
leaves it alone. It changes nothing that the node would not let an operator beside it do.
"""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from brokerwatch.messages.health import NAME_PATTERN

COMMAND_ID_PATTERN: Final = r"^[0-9a-f]{32}$(?!\n)"
MAX_BY: Final = 128
"""Characters of an operator's name; the rest is cut."""
MAX_SAID: Final = 1_000
"""Characters of an answer; the rest is cut."""


class CommandData(msgspec.Struct, frozen=True, kw_only=True):
    """An operator's command on the wire."""

    id: Annotated[str, Meta(pattern=COMMAND_ID_PATTERN)]
    """Which command it is; its answer has the same."""
    verb: Annotated[str, Meta(pattern=NAME_PATTERN)]
    """`hold`, `release` or `reset`; a node refuses what it does not know."""
    exchange: Annotated[str, Meta(pattern=NAME_PATTERN)]
    """The ccxt id, or `custom`."""
    broker: Annotated[str, Meta(pattern=NAME_PATTERN)]
    """The configured name of the account."""
    by: Annotated[str, Meta(min_length=1, max_length=MAX_BY)]
    """The operator, as the supervisor knows it."""
    why: Annotated[str, Meta(max_length=160)]
    """The reason of a hold; empty otherwise."""
    until_us: Annotated[int, Meta(ge=0)] | None
    """Wall clock, µs since 1970: when a hold ends; null: when it is released."""


class CommandDoneData(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a command, on the wire."""

    id: Annotated[str, Meta(pattern=COMMAND_ID_PATTERN)]
    """Of the command."""
    exchange: Annotated[str, Meta(pattern=NAME_PATTERN)]
    """The ccxt id, or `custom`."""
    broker: Annotated[str, Meta(pattern=NAME_PATTERN)]
    """The configured name of the account."""
    refused: bool
    """Whether it was not carried out."""
    said: Annotated[str, Meta(max_length=MAX_SAID)]
    """What was done, or why nothing was; for people."""


class SupervisorAliveData(msgspec.Struct, frozen=True, kw_only=True):
    """A supervisor hears commands: a sign of life, at each heartbeat."""

    brokers: Annotated[int, Meta(ge=0)]
    """How many accounts it expects."""
