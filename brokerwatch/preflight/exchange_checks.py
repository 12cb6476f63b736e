"""Public questions to the exchanges of a configuration, all at once, each with an end.

They go through the gateway with its strict ccxt instances, as a cluster's do. Nothing is asked with a key:
that a request can be signed is tried without sending it. Brokers at one address share their questions.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
from collections.abc import Awaitable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Final, Self, TypeVar, cast
from urllib.parse import urlsplit

from brokerwatch.clock import SystemClock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.proxy_settings import unused_proxies
from brokerwatch.errors import ConfigError, CouldNotAsk, NotSupported
from brokerwatch.exchanges.registry import FAMILIES, profile_of
from brokerwatch.gateway.gateway import Access, Gateway
from brokerwatch.gateway.loop import LoopThread
from brokerwatch.messages import Fault, FaultKind
from brokerwatch.messages.trading import Status
from brokerwatch.preflight.diagnosis import ExchangeFacts, Line, exchange
from brokerwatch.preflight.exchange_probe import ExchangeProbe, Timing
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.records import Remembered

T = TypeVar("T")

ASK_S: Final = 10.0
"""No exchange is waited for longer, whatever `fetch_deadline_s` says."""
GRACE_S: Final = 2.0
STOP_S: Final = 1.0


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one address was asked."""

    name: str
    facts: Future[ExchangeFacts]
    unused_proxies: tuple[str, ...]


class Reachability:
    """The questions to all exchanges of these brokers, under way while the block lasts."""

    def __init__(self, specs: tuple[BrokerSpec, ...]) -> None:
        self._clock = SystemClock()
        self._loop = LoopThread("brokerwatch-doctor")
        # It remembers nothing, and claims no key.
        self._gateway = Gateway(self._loop, self._clock, Journal(None), Remembered(), None)
        self._specs = specs
        self._asked: list[_Asked] = []
        self._signed: dict[str, Future[str]] = {}

    def __enter__(self) -> Self:
        self._loop.start()
        found: dict[int, tuple[str, BrokerSpec, Access]] = {}
        for each in self._specs:
            spec = replace(each, fetch_deadline_s=min(each.fetch_deadline_s, ASK_S))
            with suppress(ConfigError):  # what ends here was told as a problem of the configuration
                access = self._gateway.account(spec)
                found.setdefault(id(access.venue), (_address(spec), spec, access))
                if profile_of(FAMILIES.get(spec.exchange, "")).own_envelope and spec.credentials:
                    question = ExchangeProbe(spec, access, self._clock).signed()
                    self._signed[spec.name] = self._loop.submit(question)
        names = [spec.exchange for _, spec, _ in found.values()]
        for address, spec, access in found.values():
            several = names.count(spec.exchange) > 1
            name = (
                f"{spec.exchange} at {address or 'its own address'}" if address or several else spec.exchange
            )
            passed_by = () if spec.instance is not None else unused_proxies(spec.ccxt, os.environ)
            self._asked.append(_Asked(name, self._loop.submit(self._facts(name, spec, access)), passed_by))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._gateway.close(STOP_S)
        self._loop.stop(STOP_S)

    @property
    def names(self) -> list[str]:
        """Every exchange that is asked, as its lines name it."""
        return [asked.name for asked in self._asked]

    def unsigned(self, broker: str) -> str | None:
        """Why no request can be signed with a broker's keys; None: that was not tried."""
        signing = self._signed.get(broker)
        if signing is None:
            return None
        try:
            return "" if signing.result(ASK_S + GRACE_S) else None
        except (TimeoutError, concurrent.futures.CancelledError):
            return None
        except CouldNotAsk as error:
            return str(error)

    def lines(self) -> Iterator[Line]:
        """What came of each exchange, in the order of the configuration. It waits for them."""
        for asked in self._asked:
            try:
                facts = asked.facts.result(2 * (ASK_S + GRACE_S))
            except TimeoutError:
                fault = Fault(FaultKind.NETWORK, "no answer in time")
                facts = ExchangeFacts(asked.name, fault, 0.0, None)
            yield from exchange(replace(facts, unused_proxies=asked.unused_proxies))

    async def _facts(self, name: str, spec: BrokerSpec, access: Access) -> ExchangeFacts:
        venue = access.venue
        timing: Timing | Fault | None
        status: Status | Fault | None
        timing, status = await asyncio.gather(
            _answer(ExchangeProbe(spec, access, self._clock).time()),
            _answer(venue.status()) if venue.says_its_status else _nothing(),
        )
        markets: int | Fault | None = None
        if timing is None and status is None and not venue.lists_with_key:
            # Somehow it must be heard of all the same.
            listed = await _answer(venue.products())
            markets = listed if listed is None or isinstance(listed, Fault) else len(listed.by_symbol)
        if isinstance(timing, Timing):
            return ExchangeFacts(name, timing.skew_ms, timing.took_ms, status, markets)
        return ExchangeFacts(name, timing, 0.0, status, markets)


async def _nothing() -> None:
    return None


async def _answer(question: Coroutine[Any, Any, T] | Awaitable[T]) -> T | Fault | None:
    """The answer, or the fault in its place; None where there is no such question."""
    try:
        async with asyncio.timeout(ASK_S + GRACE_S):
            return await question
    except NotSupported:
        return None
    except TimeoutError:
        return Fault(FaultKind.NETWORK, f"no answer within {ASK_S + GRACE_S:g} s")
    except CouldNotAsk as error:
        return error.fault if isinstance(error.fault, Fault) else Fault(FaultKind.NETWORK, str(error))


def _address(spec: BrokerSpec) -> str:
    """Where an exchange is asked that is not at its own address: host and port, without a password."""
    urls = spec.ccxt.get("urls")
    url = _first_text(cast("dict[str, object]", urls).get("api") if isinstance(urls, dict) else urls)
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""
    except ValueError:
        return "another address"


def _first_text(value: object) -> str:
    while isinstance(value, dict):
        value = next(iter(cast("dict[str, object]", value).values()), "")
    return value if isinstance(value, str) else ""
