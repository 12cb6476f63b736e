"""Reads the exchange's own ledger of an account, when money went that nothing else accounts for.

It asks behind all other calls of the key, as the watch of the keys does, and what it meets is no evidence.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, Final

from brokerwatch.actors.protocol import BrokerMessage, LedgerRead
from brokerwatch.cluster.key_watch import Aside, Withdrawn
from brokerwatch.errors import CouldNotAsk, NotSupported
from brokerwatch.log import logger

if TYPE_CHECKING:
    from brokerwatch.cluster.wiring import WiredAccount

_log: Final = logger(__name__)

ATTEMPTS: Final = 4
AGAIN_S: Final = 5.0
"""Between two attempts, where the first gave way to another call."""
DEADLINE_S: Final = 10.0


class LedgerReading:
    """Reads ledgers. `ask` is for any thread and never waits; `stop` for the one that stops the cluster."""

    def __init__(self, send: Callable[[str, BrokerMessage], object]) -> None:
        self._send = send
        self._reading: dict[str, Future[Any]] = {}

    def ask(
        self, name: str, account: WiredAccount | None, since_us: int, currencies: tuple[str, ...]
    ) -> None:
        """Read the ledger of an account, and tell its actor; None: it is read by a callable."""
        if account is None:
            self._send(name, LedgerRead(None, "the account is read by a callable of your own"))
            return
        for done in [each for each, reading in tuple(self._reading.items()) if reading.done()]:
            self._reading.pop(done, None)
        reading = self._read(name, account, since_us, currencies)
        try:
            self._reading[name] = account.access.loop.submit(reading)
        except RuntimeError as error:
            reading.close()
            self._send(name, LedgerRead(None, str(error)))

    def stop(self) -> None:
        """Read no more."""
        for reading in tuple(self._reading.values()):
            reading.cancel()

    async def _read(
        self, name: str, account: WiredAccount, since_us: int, currencies: tuple[str, ...]
    ) -> None:
        from brokerwatch.exchanges.registry import adapter_for

        access, why = account.access, "no turn came"
        adapter = adapter_for(access.connection)
        for attempt in range(ATTEMPTS):
            if attempt:
                await asyncio.sleep(AGAIN_S)
            try:
                entries = await adapter.ledger(Aside(access, DEADLINE_S), currencies, since_us)
            except Withdrawn as error:
                why = str(error)
            except (NotSupported, CouldNotAsk) as error:
                self._send(name, LedgerRead(None, str(error)))
                return
            else:
                self._send(name, LedgerRead(entries))
                return
        self._send(name, LedgerRead(None, why))
