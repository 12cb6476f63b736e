"""How many descriptors a cluster opens at its start, so that it starts whole or not at all."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from brokerwatch.bus.sockets import CONTEXT_FILES, MARGIN_FILES, SOCKET_FILES, WAKER_FILES
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings

THREADED_SOCKETS: Final = 3
"""Inbox, health topic and the bus of the brokers."""
UPLINK_SOCKETS: Final = 2
"""To each supervisor elsewhere: what is reported, and what its operators say."""
PATH_FILES: Final = 2
"""Beside a socket at an ipc path: its lock, and the end that the kernel makes for a connection."""
LOOP_FILES: Final = 3
"""What an asyncio loop waits with."""
CONNECTION_FILES: Final = 1
"""Of an account at an exchange."""
KEY_FILES: Final = 1
"""Of such an account too: the claim of its key. In a pool the database has it."""
STATE_FILES: Final = 6
"""The claim of the folder, the database with what SQLite keeps beside it, a hold, the operators' socket."""
PAGE_FILES: Final = 9
"""The socket of the page, the chronicle's claim and database, and the first readers."""
NOTIFY_FILES: Final = 8
"""The claim, the record, and the pipes of a process that sends."""


def needed(settings: ClusterSettings, specs: Iterable[BrokerSpec]) -> int:
    """How many descriptors a cluster with these settings and accounts opens until it runs, at most."""
    accounts = tuple(specs)
    at_exchanges = sum(spec.fetch is None for spec in accounts)
    ends = (settings.health_endpoint, settings.broker_endpoint)
    sockets = THREADED_SOCKETS + (settings.curve is not None)
    loops = 1 + (at_exchanges > 0) + (at_exchanges < len(accounts)) + (settings.http is not None)
    listeners = bool(settings.http or settings.notify)
    in_pool = settings.pool is not None and settings.pool.node is not None
    return sum(
        (
            CONTEXT_FILES + MARGIN_FILES,
            (sockets + listeners + UPLINK_SOCKETS * len(settings.supervisors)) * (SOCKET_FILES + WAKER_FILES),
            PATH_FILES * sum(end.startswith("ipc://") for end in ends),
            LOOP_FILES * loops,
            (CONNECTION_FILES + KEY_FILES * (not in_pool)) * at_exchanges,
            STATE_FILES * settings.remember,
            PAGE_FILES * (settings.http is not None),
            NOTIFY_FILES * bool(settings.notify),
        )
    )
