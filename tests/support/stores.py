"""Rows, batches and spoilt files that the tests of the store share."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from brokerwatch.messages import FaultKind, Reason
from brokerwatch.storage.backlog import Batch
from brokerwatch.storage.records import Hold, KeyState, Stored, Transition
from brokerwatch.storage.store import Store
from tests.support.postgres import PASSWORD, PostgreSQL

TABLES: Final = (
    "health hold key order order_event history schema span cash answer_times chronicle_schema "
    "claim pool_node pool_accounts pool"
)
NASTY: Final = '{"free": "0.100000000000000000", "n": 1e400, "w": "Ω \\u0000 \\"quoted\\" %s :x \'"}'
Opener = Callable[..., Store]


def life(number: int, entropy: str = "0000000a") -> str:
    """An epoch."""
    return f"{number:016d}-{entropy}"


def emptied(server: PostgreSQL) -> str:
    """The URL of the server's database, without any of our tables in it."""
    server.execute("DROP TABLE IF EXISTS " + ", ".join(f"brokerwatch_{name}" for name in TABLES.split()))
    return server.url(quote(PASSWORD))


def health(broker: str = "a", epoch: str = life(1), version: int = 1, document: str = "{}") -> Stored:
    """A health whose document the test chooses."""
    return Stored(broker, "kraken", "print", epoch, version, 1_800_000_000_000_000, document)


def line(at_us: int, broker: str = "a", detail: str = "") -> Transition:
    """A line of history."""
    return Transition(
        at_us, broker, "kraken", "state", "healthy", "degraded", True, Reason.OK, 2, FaultKind.NETWORK, detail
    )


def batch(
    *healths: Stored,
    lines: tuple[Transition, ...] = (),
    holds: dict[str, Hold | None] | None = None,
    keys: tuple[KeyState, ...] = (),
) -> Batch:
    """What is written in one transaction."""
    made = Batch(healths={one.broker: one for one in healths}, holds=holds or {})
    made.keys = {one.fingerprint: one for one in keys}
    made.transitions.extend(lines)
    return made


# --- rows that were spoilt ----------------------------------------------------------------------------


def spoilt(path: Path, *statements: str) -> None:
    """Run these as a stranger would."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in statements:
            connection.execute(statement)


def raiser(error: Exception) -> Callable[..., Any]:
    """Raises it when it is called."""

    def raises(*_: object) -> None:
        raise error

    return raises
