"""One `fetch_balance` of a guarded instance: the copy that it asks through, and what came of it."""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from brokerwatch.clock import Instant
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.dropin.errors import Doubted, LockedOut, NotConfirmed, unproven
from brokerwatch.dropin.last_known import Watch
from brokerwatch.dropin.lent_instance import is_ccxts, lend
from brokerwatch.dropin.proof import Proof
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.registry import FAMILIES, profile_of
from brokerwatch.exchanges.unified_balance import stated
from brokerwatch.gateway.connection import Connection
from brokerwatch.messages import Balance, Fault, FaultKind, Holding

SPEC_NAME: Final = "guard"


class BalanceCall:
    """One call of `fetch_balance`: the copy that it asks through, and what came of it."""

    def __init__(self, watch: Watch, params: Mapping[str, Any], *, fresh: bool) -> None:
        self.params = dict(params)
        self._watch = watch
        self._account = copy.deepcopy(params)  # ccxt is not to be trusted with the name of an account
        self._fresh = fresh or not watch.serves_last_known
        self._asked: Instant = watch.clock.now()
        spec = BrokerSpec(SPEC_NAME, exchange=watch.owner)
        family = FAMILIES.get(spec.exchange, "")
        self._profile = profile_of(family)
        self._connection = Connection(spec, family, lambda: lend(watch.owner), watch.clock)
        self.fault: Fault | None = None
        """Why it failed; None: it did not."""
        why = watch.locked_out()
        self._locked_out = LockedOut(why) if why else None

    @property
    def lent(self) -> Any:
        """The copy of the instance. Raises whatever opening the owner's session raises."""
        if self._locked_out is not None:
            raise self._locked_out
        return self._connection.instance

    async def asked(self, deadline_s: float | None) -> object:
        """What an asynchronous instance answers. Raises whatever ccxt raises."""
        try:
            async with asyncio.timeout(deadline_s):
                if self.needs_markets():
                    await self.lent.load_markets()
                    self.keep_markets()
                return await self.lent.fetch_balance(self.params)
        except TimeoutError as error:
            raise TimeoutError(str(error) or f"no answer within {deadline_s} s") from None

    def needs_markets(self) -> bool:
        """Whether the list of markets has to be loaded first; takes those that are there already.

        An own list of ours, and a strict one: a broken answer would leave the instance without markets
        for good.
        """
        lent = self.lent
        if lent.markets:
            return False
        if self._profile.own_envelope and is_ccxts(self._watch.owner):
            lent.markets = {}  # of these the balance needs none, and gives the same: one request
            return False
        if self._watch.markets is None:
            return True
        lent.set_markets_from_exchange(self._watch.markets)
        return False

    def keep_markets(self) -> None:
        """They were loaded."""
        if not self.lent.markets:
            raise UnprovenAnswer("the list of markets is empty")
        kept = copy.copy(self.lent)
        kept.brokerwatch_answers, kept.last_body = [], ""  # some megabytes
        self._watch.markets = kept

    def proven(self, structure: object) -> dict[str, Any]:
        """The balance, when the answers prove it, with its mark. Raises UnprovenAnswer."""
        balance, found = self.taken(structure)
        return self._watch.shown(found, balance)

    def taken(self, structure: object) -> tuple[Balance, dict[str, Any]]:
        """The same as the rules read it, and without a mark; raises UnprovenAnswer."""
        if not isinstance(structure, dict):
            raise UnprovenAnswer(f"fetch_balance gave {type(structure).__name__}, not a balance")
        found = cast("dict[str, Any]", structure)
        by_hand = self._profile.pages_have_cursors and "cursor" in self.params
        proof, unread = Proof(self._profile, self._connection.code), frozenset[str]()
        for answer in self.lent.brokerwatch_answers:
            proof.take(*answer)
        if not proof.taken:
            # Whatever was asked, its envelope is none that we know.
            read = stated(self.lent, found, self._connection.code, self.lent.last_body, self.params)
            proof.seen.holdings, unread = dict(read.holdings), read.unread
            proof.seen.apart = {name: dict(wallet) for name, wallet in read.apart.items()}
            proof.take_apart_out(found)
        elif proof.seen.goes_on and not by_hand:
            raise UnprovenAnswer("ccxt stopped before the last page of accounts")
        elif is_ccxts(self._watch.owner):
            proof.agree(found)
            proof.take_apart_out(found)
        elif proof.seen.holdings and not found.get("total"):
            raise UnprovenAnswer("the exchange states a balance, and what fetch_balance gave has none")
        _leave_unproven_out(found, proof.seen.holdings, unread)
        try:
            balance = Balance(
                holdings=proof.seen.holdings, as_of=self._asked, stated=proof.seen.stated, unread=unread
            )
        except ValueError as error:
            raise UnprovenAnswer(str(error)) from error
        return self._watch.succeeded(self._account, balance, found), found

    def failed(self, error: Exception) -> dict[str, Any]:
        """The last known where it may be given; raises an Unproven otherwise."""
        if isinstance(error, LockedOut):
            # The exchange was not asked, so this is no outcome.
            fault = Fault(FaultKind.RATE_LIMITED, str(error))
        elif isinstance(error, NotConfirmed):
            # Neither is this one: nothing is known of the account, and the next answers decide.
            fault = Fault(FaultKind.BAD_RESPONSE, str(error))
        else:
            fault = self._connection.fault(error)
            self._watch.failed(self._account, fault, doubted=isinstance(error, Doubted))
        self.fault = fault
        kept = None if self._fresh else self._watch.kept(self._account, fault)
        if kept is not None:
            return kept
        # Without ccxt's own exception behind it: that one's text may have a secret in it.
        raise unproven(self._watch.owner.id, error, fault) from None


def _leave_unproven_out(
    structure: dict[str, Any], holdings: Mapping[str, Holding], unread: Iterable[str]
) -> None:
    """Replace by None each amount in ccxt's structure that its exchange has not stated."""
    for code in unread:
        _set_none(structure, code, ("free", "used", "total"))
    for code, held in holdings.items():
        parts = (("free", held.free), ("used", held.used), ("total", held.total))
        _set_none(structure, code, [part for part, amount in parts if amount is None])


def _set_none(structure: dict[str, Any], code: str, parts: Iterable[str]) -> None:
    for part in parts:
        for table, key in ((structure.get(part), code), (structure.get(code), part)):
            if isinstance(table, dict) and key in table:
                table[key] = None
