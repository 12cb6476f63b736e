"""Whose an API key is, as its exchange states it: asked in the lane of the key, on the account's loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import CouldNotAsk
from brokerwatch.exchanges.key_info import KeyFacts
from brokerwatch.exchanges.registry import adapter_for
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.gateway import Access
from brokerwatch.gateway.venue import answered

T = TypeVar("T")


async def stated_of_key(spec: BrokerSpec, access: Access) -> KeyFacts:
    """What the exchange states of the key that an account is asked with. Raises CouldNotAsk, NotSupported."""

    async def ask(read: Callable[[object], T], method: str, *arguments: object) -> T:
        async def call() -> T:
            return read(await access.connection.call(method, *arguments))

        try:
            async with access.lane.turn():
                return await answered(access.connection, call(), spec.fetch_deadline_s)
        except Refrained as refrained:
            raise CouldNotAsk(refrained.outcome.why) from None
        except CouldNotAsk as error:
            if error.fault is not None:
                access.lane.note(error.fault)
            raise

    return await adapter_for(access.connection).stated_key(ask)
