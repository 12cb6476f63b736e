"""Asks each exchange, again and again, what an API key may do, until when, and from where.

It is the lowest in the lane of the key: it goes after all other calls, only while half of the budget is left,
and it is withdrawn when an order waits. It asks by calls that state the answer, and no call is meant to be
refused. Whether it is answered is no evidence: failures reach neither the account nor the pace of its key.
What the answers mean is decided in `brokerwatch.health.key_watch`.
"""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, TypeVar

from brokerwatch.actors.protocol import BrokerMessage, KeyStated
from brokerwatch.cluster.wiring import WiredAccount
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.errors import CouldNotAsk, NotSupported
from brokerwatch.log import logger

if TYPE_CHECKING:
    from brokerwatch.gateway.gateway import Access

T = TypeVar("T")

_log: Final = logger(__name__)

FIRST_S: Final = 30.0
"""A key is looked at so soon after a start at the latest: whether the accounts answer comes first."""
FIRST_PER_S: Final = 5.0
"""Where very many keys come at once, so many a second: their questions would delay the first balances."""
AGAIN_S: Final = 300.0
"""So soon it is asked again at the latest after a question that was not answered …"""
WITHDRAWN_S: Final = 30.0
"""… or that did not go out, because an order waited or the budget was for others."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """How one key is watched."""

    access: Access
    deadline_s: float
    interval_s: float
    egress_address: str


class KeyWatching:
    """The watch of the keys of one cluster. `follow` and `stop` are for one thread at a time."""

    def __init__(
        self,
        send: Callable[[str, BrokerMessage], object],
        uniform: Callable[[float, float], float] = random.uniform,
    ) -> None:
        self._send = send
        self._uniform = uniform
        self._watched: dict[str, tuple[_Asked, Future[Any]]] = {}
        self.account_ids: dict[str, str] = {}
        """By the fingerprint of a key, whose account the exchange stated. Any thread may look."""

    def follow(
        self,
        specs: Mapping[str, BrokerSpec],
        accounts: Mapping[str, WiredAccount],
        settings: ClusterSettings,
    ) -> None:
        """Watch the keys of these accounts, and no others. What is watched already keeps its schedule."""
        wanted = {
            name: _Asked(
                account.access,
                specs[name].fetch_deadline_s,
                interval_of(specs[name], settings),
                address_of(specs[name], settings),
            )
            for name, account in accounts.items()
            if name in specs
        }
        used = {account.access.lane.fingerprint for account in accounts.values()}
        for fingerprint in tuple(self.account_ids):
            if fingerprint not in used:
                self.account_ids.pop(fingerprint, None)
        for name in tuple(self._watched):
            if wanted.get(name) != self._watched[name][0]:
                self._watched.pop(name)[1].cancel()
        new = {
            name: asked
            for name, asked in wanted.items()
            if name not in self._watched and math.isfinite(asked.interval_s)
        }
        for name, asked in new.items():
            watching = self._watch(name, asked, first_s(asked.interval_s, len(new)))
            try:
                self._watched[name] = asked, asked.access.loop.submit(watching)
            except RuntimeError:  # its loop is given up
                watching.close()

    def stop(self) -> None:
        """Watch no key any more. A question that is under way is cancelled."""
        for _, watching in self._watched.values():
            watching.cancel()
        self._watched.clear()

    async def _watch(self, name: str, asked: _Asked, within_s: float) -> None:
        from brokerwatch.exchanges.key_info import statement
        from brokerwatch.exchanges.registry import adapter_for

        access, interval_s = asked.access, asked.interval_s
        wait_s = within_s * self._uniform(0.5, 1.0)
        while True:
            # Not all keys in the world at the same second.
            await asyncio.sleep(wait_s)
            wait_s = interval_s * self._uniform(0.9, 1.1)
            try:
                facts = await adapter_for(access.connection).stated_key(Aside(access, asked.deadline_s))
            except NotSupported as error:
                _log.debug("%s: %s", name, error)
                return
            except Withdrawn as error:
                wait_s = min(interval_s, WITHDRAWN_S)
                _log.debug("%s: its API key was not looked at: %s", name, error)
            except CouldNotAsk as error:
                wait_s = min(interval_s, AGAIN_S)
                _log.debug("%s: what its API key may do is not known: %s", name, error)
            else:
                if facts.account_id:
                    self.account_ids[access.lane.fingerprint] = facts.account_id
                said = statement(facts, access.lane.fingerprint)
                self._send(name, KeyStated(said, asked.egress_address))


def first_s(interval_s: float, keys: int) -> float:
    """Within which time a key is looked at first, in seconds. `keys`: how many come with it."""
    return min(interval_s, max(FIRST_S, 2 * keys / FIRST_PER_S))  # they are asked in the second half of it


def address_of(spec: BrokerSpec, settings: ClusterSettings) -> str:
    """The address that the calls of a broker leave from; empty: it is not known."""
    return settings.egress_address if spec.egress_address is None else spec.egress_address


def interval_of(spec: BrokerSpec, settings: ClusterSettings) -> float:
    """Seconds between two questions about the key of a broker; infinite: it is not watched."""
    if spec.key_watch_interval_s is not None:
        return spec.key_watch_interval_s
    # An account that is not polled is asked only when a program asks.
    return settings.key_watch_interval_s if math.isfinite(spec.poll_interval_s) else math.inf


class Withdrawn(CouldNotAsk):
    """The question did not go out, or was given up for a call that matters more."""


class Aside:
    """Asks private questions behind all other calls of a key. What they meet is noted nowhere."""

    def __init__(self, access: Access, deadline_s: float) -> None:
        self._access = access
        self._deadline_s = deadline_s

    async def __call__(self, read: Callable[[object], T], method: str, *arguments: object) -> T:
        from brokerwatch.gateway.async_source import Refrained
        from brokerwatch.gateway.venue import answered

        connection = self._access.connection

        async def ask() -> T:
            return read(await connection.call(method, *arguments))

        try:
            async with self._access.lane.turn(last=True):
                return await answered(connection, ask(), self._deadline_s)
        except Refrained as refrained:
            raise Withdrawn(refrained.outcome.why, "") from None
