"""One account at an exchange: how its balance is read, and what its failures mean.

It asks through a connection that the gateway made, on the loop's thread alone, and inside the lane of
its API key. Which calls those are, and what their answers prove, the adapter of the exchange says.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Final

from brokerwatch.clock import Clock
from brokerwatch.config.balance_params import thawed
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.exchanges.balances import Code, FetchedBalance
from brokerwatch.exchanges.registry import adapter_for
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.connection import Connection
from brokerwatch.gateway.lane import Lane
from brokerwatch.messages import Fault, FaultKind, Holding, Wallet

ASIDE_SHARE: Final = 0.25
"""What an auxiliary call may take of the deadline: it must not cost the balance itself."""
REFUSED_AGAIN_S: Final = 600.0
"""An auxiliary call that the key may not make is tried again after so long."""
LONGEST_KEPT: Final = 16_384
"""Characters of an answer that are kept, to see whether the next one says the same: most polls find nothing
new, and reading it costs as much as asking."""


class BalanceReader:
    """One broker's balance at its exchange. All but the constructor is called on the loop's thread."""

    def __init__(
        self,
        spec: BrokerSpec,
        connection: Connection,
        lane: Lane,
        clock: Clock,
        asks: Callable[[], object] = lambda: None,
    ) -> None:
        """`asks` is called when the exchange is asked."""
        self._spec = spec
        self._connection = connection
        self._lane = lane
        self._clock = clock
        self._aside_from_s = float("-inf")
        self._aside_trouble = ""
        self._calls = 1
        """So many calls the newest reading took."""
        self._body = ""
        """The newest answer that was proof, as it was written."""
        self._proven: Mapping[str, Holding] = MappingProxyType({})
        """What it proved."""
        self._adapter = adapter_for(connection)
        self._asks = asks

    def turn(self, *, spare: bool = False) -> AbstractAsyncContextManager[None]:
        """This account's turn in its lane. `spare`: only where a reading leaves the reserve of the key."""
        return self._lane.turn(spare=spare, calls=self._calls)

    def spare_wait_s(self) -> float:
        """Seconds until a reading, as long as the newest was, leaves the reserve of the key. Any thread."""
        return self._lane.spare_wait_s(self._calls)

    async def read(self, deadline_s: float) -> FetchedBalance:
        """What the account holds. Raises UnprovenAnswer or whatever ccxt raises."""
        until_s = self._clock.up_s() + deadline_s
        self._asks()
        try:
            return await self._ask(until_s)
        except Exception as error:
            # A nonce may have been overtaken by a call of another program: a fresh one decides.
            overtaken = (
                self._lane.counts_nonces and self._connection.fault(error).kind is FaultKind.NONCE_CLOCK
            )
            if not overtaken or not self._lane.free:
                raise
        await self._lane.another()
        return await self._ask(until_s)

    async def _ask(self, until_s: float) -> FetchedBalance:
        turn = _Turn(self, until_s, self._spec)
        try:
            return await self._adapter.balance(turn)
        finally:
            self._calls = turn.calls

    async def explain(self, error: BaseException) -> Fault:
        """The fault that `error` is, in the exchange's own words, without secrets."""
        fault = await self._connection.explained(error)
        self._lane.note(fault)
        return fault

    def holdings(
        self, answer: object, prove: Callable[[object, Code], Mapping[str, Holding]]
    ) -> Mapping[str, Holding]:
        """What an answer proves. One that reads as the last one did, to the letter, proves the same."""
        known = self.known
        if known is not None:
            return known
        found = prove(answer, self._connection.code)
        self.keep(found)
        return found

    @property
    def known(self) -> Mapping[str, Holding] | None:
        """What the newest answer proves, if it reads as the last proof did."""
        body = self._connection.body
        return self._proven if body and body == self._body else None

    def keep(self, found: Mapping[str, Holding]) -> None:
        """Keep what the newest answer proved."""
        body = self._connection.body
        if len(body) <= LONGEST_KEPT:
            self._body, self._proven = body, found

    async def another(self) -> None:
        """Wait until the key's budget has room for one more call."""
        await self._lane.another()

    async def aside(
        self, until_s: float, method: str, prove: Callable[[object, Code], Mapping[str, Holding]]
    ) -> Wallet:
        """Money beside the balance: asked for after it, and never at its cost."""
        now = self._clock.now()
        if now.up_s < self._aside_from_s:
            return Wallet(holdings=None, as_of=None, trouble=self._aside_trouble)
        allowed_s = min(self._spec.fetch_deadline_s * ASIDE_SHARE, (until_s - now.up_s) / 2)
        try:
            async with asyncio.timeout(allowed_s):
                await self._lane.another()
                answer = await self._connection.call(method)
            return Wallet(holdings=prove(answer, self._connection.code), as_of=now)
        except Refrained as refrained:
            return Wallet(holdings=None, as_of=None, trouble=refrained.outcome.why)
        except TimeoutError:
            return Wallet(holdings=None, as_of=None, trouble=f"network: no answer within {allowed_s:.1f} s")
        except Exception as error:  # noqa: BLE001 - whatever it is, the main balance was read
            fault = self._connection.fault(error)
            self._lane.address.note(fault)
            # It pauses by itself: its own limit must not stop the balance.
            refused = fault.kind in (FaultKind.AUTH, FaultKind.PERMISSION)
            pause_s = REFUSED_AGAIN_S if refused else fault.retry_after_s
            self._aside_from_s = now.up_s + pause_s
            self._aside_trouble = f"{fault.kind}: {fault.detail}"
            return Wallet(holdings=None, as_of=None, trouble=self._aside_trouble)


class _Turn:
    """One reading of a balance, as its adapter takes part in it; see `BalanceTurn`."""

    def __init__(self, reader: BalanceReader, until_s: float, spec: BrokerSpec) -> None:
        self.wants_funding = spec.read_funding
        self.params = thawed(spec.balance_params)
        self._reader = reader
        self._until_s = until_s
        self.holdings = reader.holdings
        self.keep = reader.keep
        self.calls = 1

    @property
    def known(self) -> Mapping[str, Holding] | None:
        return self._reader.known

    async def another(self) -> None:
        self.calls += 1
        await self._reader.another()

    async def aside(self, method: str, prove: Callable[[object, Code], Mapping[str, Holding]]) -> Wallet:
        self.calls += 1
        return await self._reader.aside(self._until_s, method, prove)
