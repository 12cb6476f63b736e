"""What is known of the accounts of one guarded instance: the last proven balances, and how calls ended."""

from __future__ import annotations

import copy
import json
import threading
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from brokerwatch.clock import Clock, utc_iso
from brokerwatch.config.broker_spec import CCXT_NAMES, CREDENTIALS
from brokerwatch.config.fingerprint import key_fingerprint
from brokerwatch.dropin.errors import Doubted, NotConfirmed
from brokerwatch.health.state_machine import Health, verdict
from brokerwatch.health.stated import NO_DOUBTS, Doubts, Unconfirmed, judged
from brokerwatch.messages import Balance, Fault, Reason

MARK: Final = "brokerwatch"
"""The key of the mark in a balance; no currency is called so."""
MAX_ACCOUNTS: Final = 64
"""Different `params` whose last known is kept; the one that was not asked for longest is forgotten."""


@dataclass(slots=True)
class Known:
    """What is known of one account, that is of one `params`."""

    doubts: Doubts = NO_DOUBTS
    balance: Balance | None = None
    """The last known as the rules read it …"""
    structure: dict[str, Any] = field(default_factory=dict[str, Any])
    """… and as ccxt gives it."""
    funded: bool = False
    fault: Fault | None = None
    """Of the newest call; None when it was proven."""


class Watch:
    """The outcomes of one guarded instance. Tasks and threads may ask at once; what they find is folded
    one after the other."""

    def __init__(
        self,
        owner: Any,
        *,
        serves_last_known: bool,
        max_age_s: float | None,
        threshold: int,
        clock: Clock,
    ) -> None:
        self.owner = owner
        self.serves_last_known = serves_last_known
        self.clock = clock
        self.markets: Any = None
        """A copy of the instance that has loaded them; None while none was needed."""
        self.max_age_s = max_age_s
        self._lock = threading.Lock()
        self._health = Health.begin(clock.now(), threshold=threshold)
        self._accounts: OrderedDict[str, Known] = OrderedDict()

    @property
    def available(self) -> bool:
        with self._lock:
            health = self._health.woken(self.clock.now())
        return verdict(health.state, health.vetoes).available

    @property
    def error_count(self) -> int:
        return self._health.error_count

    def last_known(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        with self._lock:
            known = self._accounts.get(self.name_of(params))
            if known is None or known.balance is None:
                return None
            too_old = self.max_age_s is not None and self._age_s(known.balance) > self.max_age_s
            return self._marked(copy.deepcopy(known.structure), known.balance, known.fault, stale=too_old)

    def succeeded(self, params: Mapping[str, Any], balance: Balance, structure: dict[str, Any]) -> Balance:
        """Fold a proven answer. Returns the balance as the rules read it.

        Where it leaves out a currency, its total as last known is put into the structure, and nothing of it
        is free. Raises UnprovenAnswer for an empty answer that is not to be believed yet.
        """
        with self._lock:
            known = self._account(params)
            known.doubts, found = judged(known.doubts, balance, known.balance, funded=known.funded)
            if isinstance(found, Unconfirmed):
                raise NotConfirmed(found.why)
            if isinstance(found, Fault):
                raise Doubted(found.detail)
            if known.balance is None or balance.as_of.up_s >= known.balance.as_of.up_s:
                _put_in_doubted(structure, known)
            balance = found
            self._health = self._health.seen(balance, self.clock.now())
            known.funded = known.funded or bool(balance.holdings)
            # Who was asked earlier and answers later says nothing newer.
            if known.balance is None or balance.as_of.up_s >= known.balance.as_of.up_s:
                known.balance, known.structure, known.fault = balance, copy.deepcopy(structure), None
            return balance

    def shown(self, structure: dict[str, Any], balance: Balance) -> dict[str, Any]:
        """A proven structure as a call returns it: with its mark where balances have one."""
        if not self.serves_last_known:
            return structure
        with self._lock:
            return self._marked(structure, balance, None)

    def failed(self, params: Mapping[str, Any], fault: Fault, *, doubted: bool) -> None:
        with self._lock:
            known = self._account(params)
            if not doubted:  # a doubted answer is one of those that may agree
                known.doubts = known.doubts.interrupted()
            known.fault = fault
            self._health = self._health.failed(fault, self.clock.now())

    def locked_out(self) -> str:
        """Why no private call may go out; empty when one may. Asking would begin the lockout anew."""
        with self._lock:
            self._health = self._health.woken(self.clock.now())
            veto = self._health.vetoes.laid.get(Reason.LOCKED_OUT)
        return "" if veto is None else f"not asked: locked out {veto.detail}"

    def kept(self, params: Mapping[str, Any], fault: Fault) -> dict[str, Any] | None:
        """The last known in place of an answer; None when there is none, or it is too old."""
        with self._lock:
            known = self._account(params)
            if known.balance is None:
                return None
            if self.max_age_s is not None and self._age_s(known.balance) > self.max_age_s:
                return None
            return self._marked(copy.deepcopy(known.structure), known.balance, fault)

    def _account(self, params: Mapping[str, Any]) -> Known:
        name = self.name_of(params)
        if name not in self._accounts:
            self._accounts[name] = Known()
            if len(self._accounts) > MAX_ACCOUNTS:
                self._accounts.popitem(last=False)
        self._accounts.move_to_end(name)
        return self._accounts[name]

    def name_of(self, params: Mapping[str, Any]) -> str:
        """The account that is meant: its key, and the parameters of the call."""
        # Another key is another account: its answers say nothing of what this one holds.
        given = {name: getattr(self.owner, CCXT_NAMES.get(name, name), None) for name in CREDENTIALS}
        key = key_fingerprint("", {name: str(value) for name, value in given.items() if value})
        return json.dumps([key, dict(params)], sort_keys=True, default=repr)

    def _age_s(self, balance: Balance) -> float:
        return max(0.0, self.clock.up_s() - balance.as_of.up_s)

    def _marked(
        self, structure: dict[str, Any], balance: Balance, fault: Fault | None, *, stale: bool = False
    ) -> dict[str, Any]:
        structure[MARK] = {
            "stale": stale or fault is not None,
            "age_ms": round(self._age_s(balance) * 1_000),
            "as_of": utc_iso(balance.as_of.wall_us, "milliseconds"),
            "fault": None if fault is None else str(fault.kind),
            "detail": "" if fault is None else fault.detail,
            "error_count": self._health.error_count,
        }
        unstated = [code for code, held in balance.holdings.items() if held.unstated_since_us is not None]
        if unstated:
            structure[MARK]["unstated"] = unstated
        return structure


def _put_in_doubted(structure: dict[str, Any], known: Known) -> None:
    """Put in what the answer leaves out and is in doubt, as ccxt writes what it does not know: as None."""
    totals: dict[str, Any] = known.structure.get("total") or {}
    for code in known.doubts.missing:
        row = {"free": None, "used": None, "total": totals.get(code)}
        structure[code] = row
        for part, amount in row.items():
            structure.setdefault(part, {})[code] = amount
