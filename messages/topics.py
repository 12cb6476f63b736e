"""Every topic of the bus, built by functions.

A subscription is a prefix match, so each topic ends in `/`: without it `health.ok` would also
receive `health.okx`.
"""

from __future__ import annotations

import re
from typing import Final

from brokerwatch.messages.health import NAME_PATTERN

NAME_RULE: Final = "1 to 48 of a-z, 0-9, - and _, beginning with a letter or a digit"
_NAME: Final = re.compile(NAME_PATTERN)

ALL_BROKERS: Final = "broker/1/"
"""The prefix of all events of brokers."""
ALL_STATES: Final = "health/1/state/"
"""The prefix of every single reading."""
ROSTER: Final = "health/1/all/"
"""All readings in one message; also the supervisor's heartbeat."""


ALL_COMMANDS: Final = "command/1/"
"""The prefix of all that operators say to nodes."""
SUPERVISOR_ALIVE: Final = "command/1/alive/"
"""A sign of life of who would send commands."""


def is_name(text: str) -> bool:
    """Whether `text` may name a broker, an exchange or a cluster."""
    return _NAME.match(text) is not None


def state(exchange: str, broker: str) -> str:
    """The topic of one broker's reading."""
    return f"{ALL_STATES}{exchange}/{broker}/"


def balance(exchange: str, broker: str) -> str:
    """A broker to the supervisor: a fetch succeeded."""
    return f"{ALL_BROKERS}{exchange}/{broker}/balance/"


def error(exchange: str, broker: str) -> str:
    """A broker to the supervisor: a fetch failed."""
    return f"{ALL_BROKERS}{exchange}/{broker}/error/"


def alive(exchange: str, broker: str) -> str:
    """A broker to the supervisor: still here."""
    return f"{ALL_BROKERS}{exchange}/{broker}/alive/"


def command(exchange: str, broker: str, command_id: str) -> str:
    """A supervisor to the node that has this broker: one command."""
    return f"{ALL_COMMANDS}to/{exchange}/{broker}/{command_id}/"


def command_done(exchange: str, broker: str, command_id: str) -> str:
    """A node to the supervisor: what became of a command."""
    return f"{ALL_BROKERS}{exchange}/{broker}/done/{command_id}/"
