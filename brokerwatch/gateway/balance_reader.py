"""One account at an exchange: how its balance is read, and what its failures mean.

It asks through a connection that the gateway made, on the loop's thread alone, and inside the lane of
its API key. For the exchanges whose envelope we know it asks by ccxt's implicit calls and reads the exact
text of the amounts; for all others it asks ccxt's own `fetch_balance`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from types import MappingProxyType
from typing import Any, Final

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.exchanges import balances
from brokerwatch.exchanges.balances import Unstated
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.gateway.async_source import FetchedBalance
from brokerwatch.gateway.connection import Connection
from brokerwatch.gateway.lane import Lane
from brokerwatch.messages import Fault, FaultKind, Holding, Wallet

MAX_PAGES: Final = 100
"""Pages of one account list; a cursor that never ends is a broken answer."""
ASIDE_SHARE: Final = 0.25
"""What an auxiliary call may take of the deadline: it must not cost the balance itself."""
REFUSED_AGAIN_S: Final = 600.0
"""An auxiliary call that the key may not make is tried again after so long."""
LONGEST_KEPT: Final = 16_384
"""Characters of an answer that are kept, to see whether the next one says the same: most polls find nothing
new, and reading it costs as much as asking."""
SKEW_S: Final = 0.5
"""What asking the exchange for its time may take; it only explains a fault that is established."""
SKEW_WORTH_MS: Final = 1_000
"""A smaller difference of the clocks explains nothing."""


class BalanceReader:
    """One broker's balance at its exchange."""

    def __init__(self, spec: BrokerSpec, connection: Connection, lane: Lane, clock: Clock) -> None:
        self._spec = spec
        self._connection = connection
        self._lane = lane
        self._clock = clock
        self._funding_from_s = float("-inf")
        self._funding_trouble = ""
        self._body = ""
        """The newest answer that was proof, as it was written."""
        self._proven: Mapping[str, Holding] = MappingProxyType({})
        """What it proved."""
        readers: Mapping[str, Callable[[float], Awaitable[FetchedBalance]]] = {
            "kraken": self._read_kraken,
            "coinbase": self._read_coinbase,
            "okx": self._read_okx,
        }
        self._read_family = readers.get(connection.family, self._read_unified)

    def turn(self) -> AbstractAsyncContextManager[None]:
        """This account's turn in its lane."""
        return self._lane.turn()

    async def read(self, deadline_s: float) -> FetchedBalance:
        """What the account holds. Raises UnprovenAnswer or whatever ccxt raises."""
        until_s = self._clock.up_s() + deadline_s
        try:
            return await self._read_family(until_s)
        except Exception as error:
            # A nonce may have been overtaken by a call of somebody else: a fresh one decides.
            overtaken = (
                self._lane.counts_nonces and self._connection.fault(error).kind is FaultKind.NONCE_CLOCK
            )
            if not overtaken or not self._lane.free:
                raise
        await self._lane.another()
        return await self._read_family(until_s)

    async def explain(self, error: BaseException) -> Fault:
        """The fault that `error` is, in the exchange's own words, without secrets."""
        fault = self._connection.fault(error)
        self._lane.note(fault)
        if fault.kind is FaultKind.NONCE_CLOCK:
            skew = await self._skew()
            if skew:
                return Fault(fault.kind, f"{skew}; {fault.detail}", fault.retry_after_s, fault.lockout_s)
        return fault

    async def _skew(self) -> str:
        """How far our clock is off, in words; empty when it is not, or nobody says."""
        try:
            async with asyncio.timeout(SKEW_S):
                theirs_ms = int(await self._connection.call("fetch_time"))
        except Exception:  # noqa: BLE001 - this only explains a fault, and any trouble leaves it as it is
            return ""
        ahead_ms = self._clock.now().wall_us // 1_000 - theirs_ms
        if abs(ahead_ms) < SKEW_WORTH_MS:
            return ""
        side = "ahead of" if ahead_ms > 0 else "behind"
        return f"this machine's clock is {abs(ahead_ms) / 1_000:.1f} s {side} the exchange's"

    def _holdings(
        self, answer: object, prove: Callable[[object, balances.Code], Mapping[str, Holding]]
    ) -> Mapping[str, Holding]:
        """What an answer proves. One that reads as the last one did, to the letter, proves the same."""
        if self._is_proven:
            return self._proven
        found = prove(answer, self._connection.code)
        self._prove(found)
        return found

    @property
    def _is_proven(self) -> bool:
        body = self._connection.body
        return bool(body) and body == self._body

    def _prove(self, found: Mapping[str, Holding]) -> None:
        body = self._connection.body
        if len(body) <= LONGEST_KEPT:
            self._body, self._proven = body, found

    async def _read_kraken(self, until_s: float) -> FetchedBalance:
        del until_s
        answer = await self._connection.call("privatePostBalanceEx")
        try:
            return FetchedBalance(self._holdings(answer, balances.kraken))
        except Unstated:
            return FetchedBalance({}, stated=False)

    async def _read_okx(self, until_s: float) -> FetchedBalance:
        answer = await self._connection.call("privateGetAccountBalance")
        holdings = self._holdings(answer, balances.okx)
        if not self._spec.read_funding:
            return FetchedBalance(holdings)
        return FetchedBalance(holdings, MappingProxyType({"funding": await self._funding(until_s)}))

    async def _funding(self, until_s: float) -> Wallet:
        """OKX's funding account: asked for beside the trading account, and never at its cost."""
        now = self._clock.now()
        if now.up_s < self._funding_from_s:
            return Wallet(holdings=None, as_of=None, trouble=self._funding_trouble)
        allowed_s = min(self._spec.fetch_deadline_s * ASIDE_SHARE, (until_s - now.up_s) / 2)
        try:
            async with asyncio.timeout(allowed_s):
                await self._lane.another()
                answer = await self._connection.call("privateGetAssetBalances")
            return Wallet(holdings=balances.okx_funding(answer, self._connection.code), as_of=now)
        except TimeoutError:
            return Wallet(holdings=None, as_of=None, trouble=f"network: no answer within {allowed_s:.1f} s")
        except Exception as error:  # noqa: BLE001 - whatever it is, the main balance was read
            fault = self._connection.fault(error)
            # It pauses by itself: its own limit must not stop the balance.
            refused = fault.kind in (FaultKind.AUTH, FaultKind.PERMISSION)
            pause_s = REFUSED_AGAIN_S if refused else fault.retry_after_s
            self._funding_from_s = now.up_s + pause_s
            self._funding_trouble = f"{fault.kind}: {fault.detail}"
            return Wallet(holdings=None, as_of=None, trouble=self._funding_trouble)

    async def _read_coinbase(self, until_s: float) -> FetchedBalance:
        del until_s
        found: dict[str, Holding] = {}
        request: dict[str, Any] = {"limit": 250}
        accounts: set[str] = set()
        cursors: set[str] = set()
        for _ in range(MAX_PAGES):
            page = await self._connection.call("v3PrivateGetBrokerageAccounts", request)
            if not cursors and self._is_proven:
                return FetchedBalance(self._proven)
            cursor = balances.coinbase_page(page, self._connection.code, found, accounts)
            if cursor is None:
                if not cursors:
                    self._prove(found)
                return FetchedBalance(found)
            if cursor in cursors:
                raise UnprovenAnswer("the list of accounts comes round to a page that was read already")
            cursors.add(cursor)
            request = {"limit": 250, "cursor": cursor}
            await self._lane.another()
        raise UnprovenAnswer(f"the list of accounts does not end after {MAX_PAGES} pages")

    async def _read_unified(self, until_s: float) -> FetchedBalance:
        del until_s
        return FetchedBalance(balances.unified(balances.exact(await self._connection.call("fetch_balance"))))
