"""A ccxt instance that never says "empty" when it could not ask: `safe = brokerwatch.guard(my_ccxt)`.

`safe` stands where the instance stood. Its `fetch_balance` asks through a strict copy (strict.py), holds
the raw answer against the exchange's own envelope (answers.py), and then gives what ccxt makes of it,
to the last float. Everything else goes to the instance itself, which is never changed and never closed
by us; the copy takes its session, its nonces and its turn in the rate limit from there.

What is raised is always two things at once: `BalanceUnknown` and `CouldNotAsk` of ours, with the
fault, and the class that ccxt raised, so that the handlers of a bot go on working. Where ccxt would have
been silent there is no such class, and a bot has no handler for what never happened; so all faults that
pass by themselves can be caught as `ccxt.NetworkError`, "try again later", as well.
"""

from __future__ import annotations

import asyncio
import copy
import inspect
import json
import math
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial, partialmethod
from types import MappingProxyType, TracebackType
from typing import Any, Final, NoReturn, cast
from urllib.parse import parse_qs, urlsplit

from brokerwatch import answers, strict
from brokerwatch.answers import FAMILIES, EmptyAnswers, Unstated
from brokerwatch.clock import Clock, Instant, SystemClock
from brokerwatch.config import BrokerSpec
from brokerwatch.connection import Connection
from brokerwatch.envelopes import NotProof
from brokerwatch.errors import BalanceUnknown, ConfigError, CouldNotAsk, Problem
from brokerwatch.health import BROKER_MAX_CONSECUTIVE_ERRORS, Health, verdict
from brokerwatch.messages import Balance, Fault, FaultKind, Holding, Reason, amount
from brokerwatch.messages import total as summed

MARK: Final = "brokerwatch"
"""The key of the mark in a balance; no currency is called so."""
SPEC_NAME: Final = "guard"
MAX_ACCOUNTS: Final = 64
"""Different `params` whose last known is kept; the one that was not asked for longest is forgotten."""
MAX_REQUESTS: Final = 500
"""Requests of one call; pages that never end are a broken answer."""

_CCXT: Final[Any] = sys.modules[cast("Any", strict).BadResponse.__module__]
"""ccxt's exception classes. strict.py alone imports them."""


class Unproven(BalanceUnknown, CouldNotAsk):
    """No balance was proven. Each one that is raised derives from one of ccxt's exceptions as well.

    `kind` and `fault` say why; see `CouldNotAsk`.
    """


def guard(
    instance: Any,
    *,
    last_known: bool = False,
    max_age_s: float | None = None,
    max_consecutive_errors: int = BROKER_MAX_CONSECUTIVE_ERRORS,
    deadline_s: float | None = None,
    clock: Clock | None = None,
) -> Any:
    """What stands in place of a ccxt instance, asynchronous or not, and gives no false balance.

    `fetch_balance` raises when the answer proves nothing. With `last_known` it gives the last proven
    balance of the same `params` instead, if there is one and it is not older than `max_age_s`; then
    every balance has the key "brokerwatch" with `stale`, `age_ms`, `as_of`, `fault`, `detail` and
    `error_count`. So that no balance loses its mark, `fetch_free_balance` and its like never give a
    last known.

    `is_available()` is false after `max_consecutive_errors` in a row and true after one success;
    `get_error_count()` is their number; `last_known(params)` the newest proven balance, marked, or None.
    None of them asks the exchange.

    `deadline_s` ends an asynchronous `fetch_balance`, with its turn in the rate limit and all pages;
    each of its requests is ended by ccxt's own `timeout` in any case. A synchronous one cannot be ended:
    there `timeout` is for each read, and a server that drips holds the call.

    Raises ConfigError for what is no ccxt instance, and for numbers that cannot be.
    """
    if issubclass(type(instance), _Guarded):
        raise _mistake("instance", "expected a ccxt instance, not one that is guarded already")
    exchange = getattr(instance, "id", None)
    if not isinstance(exchange, str) or not callable(getattr(instance, "fetch_balance", None)):
        raise _mistake("instance", f"expected a ccxt instance, not {type(instance).__name__}")
    asynchronous = hasattr(instance, "own_session")  # only ccxt's asynchronous side has it
    if deadline_s is not None and not asynchronous:
        raise _mistake("deadline_s", "expected none: a synchronous call cannot be ended from outside")
    for name, value in (("max_age_s", max_age_s), ("deadline_s", deadline_s)):
        if value is not None and not value > 0:
            raise _mistake(name, f"expected seconds above 0, not {value!r}")
    # Its other rules for an instance hold here too.
    BrokerSpec(SPEC_NAME, exchange=instance, max_consecutive_errors=max_consecutive_errors)
    watch = _Watch(
        instance,
        serves_last_known=last_known,
        max_age_s=max_age_s,
        threshold=max_consecutive_errors,
        clock=clock or SystemClock(),
    )
    return _AsyncGuarded(watch, deadline_s) if asynchronous else _SyncGuarded(watch)


def _mistake(argument: str, expected: str) -> ConfigError:
    return ConfigError((Problem("", f"{SPEC_NAME}.{argument}", expected),))


# --- what stands in the instance's place -----------------------------------------------------------------


class _Guarded:
    """Passes on to the owner's instance whatever is not a balance."""

    _watch: _Watch
    _deadline_s: float | None

    def __init__(self, watch: _Watch) -> None:
        object.__setattr__(self, "_watch", watch)

    def is_available(self) -> bool:
        """Whether the account can be trusted, by the outcomes so far."""
        return self._watch.available

    def get_error_count(self) -> int:
        """How many calls in a row proved nothing."""
        return self._watch.error_count

    def last_known(self, params: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any] | None:
        """The newest proven balance of these `params`, marked, however old; None when there is none."""
        return self._watch.last_known(params)

    @property  # type: ignore[misc]  # `isinstance(safe, ccxt.Exchange)` is to hold
    def __class__(self) -> Any:  # pyright: ignore[reportIncompatibleMethodOverride] - as above
        return self._watch.owner.__class__

    def __getattr__(self, name: str) -> Any:
        if name == "_watch":  # only before it is there
            raise AttributeError(name)
        return getattr(self._watch.owner, name)

    def __setattr__(self, name: str, value: object) -> None:
        setattr(self._watch.owner, name, value)

    def __delattr__(self, name: str) -> None:
        delattr(self._watch.owner, name)

    def __dir__(self) -> list[str]:
        return sorted({*dir(type(self)), *dir(self._watch.owner)})

    def __repr__(self) -> str:
        return f"brokerwatch.guard({self._watch.owner!r})"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a guarded instance is not copied; expected the ccxt instance itself")


class _AsyncGuarded(_Guarded):
    def __init__(self, watch: _Watch, deadline_s: float | None) -> None:
        super().__init__(watch)
        object.__setattr__(self, "_deadline_s", deadline_s)

    async def fetch_balance(self, params: dict[str, Any] = {}) -> dict[str, Any]:  # noqa: B006 - ccxt's own signature, and never changed
        """See `guard`."""
        return await self._ask(params)

    async def fetch_partial_balance(self, part: str, params: dict[str, Any] = {}) -> Any:  # noqa: B006 - as above
        """One part of a balance that was proven just now."""
        return (await self._ask(params, fresh=True))[part]

    fetch_free_balance = partialmethod(fetch_partial_balance, "free")
    fetch_used_balance = partialmethod(fetch_partial_balance, "used")
    fetch_total_balance = partialmethod(fetch_partial_balance, "total")
    fetchBalance = fetch_balance  # noqa: N815 - ccxt's other names
    fetchPartialBalance = fetch_partial_balance  # noqa: N815
    fetchFreeBalance = fetch_free_balance  # noqa: N815
    fetchUsedBalance = fetch_used_balance  # noqa: N815
    fetchTotalBalance = fetch_total_balance  # noqa: N815

    async def _ask(self, params: dict[str, Any], *, fresh: bool = False) -> dict[str, Any]:
        question = self._watch.question(params, fresh=fresh)
        try:
            async with asyncio.timeout(self._deadline_s):
                if question.needs_markets():
                    await question.lent.load_markets()
                    question.keep_markets()
                structure = await question.lent.fetch_balance(question.params)
            return question.proven(structure)
        except TimeoutError as error:
            return question.failed(TimeoutError(str(error) or f"no answer within {self._deadline_s} s"))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was proven
            return question.failed(error)

    async def __aenter__(self) -> _AsyncGuarded:
        await self._watch.owner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> object:
        return await self._watch.owner.__aexit__(kind, error, trace)


class _SyncGuarded(_Guarded):
    def fetch_balance(self, params: dict[str, Any] = {}) -> dict[str, Any]:  # noqa: B006 - ccxt's own signature, and never changed
        """See `guard`."""
        return self._ask(params)

    def fetch_partial_balance(self, part: str, params: dict[str, Any] = {}) -> Any:  # noqa: B006 - as above
        """One part of a balance that was proven just now."""
        return self._ask(params, fresh=True)[part]

    fetch_free_balance = partialmethod(fetch_partial_balance, "free")
    fetch_used_balance = partialmethod(fetch_partial_balance, "used")
    fetch_total_balance = partialmethod(fetch_partial_balance, "total")
    fetchBalance = fetch_balance  # noqa: N815 - ccxt's other names
    fetchPartialBalance = fetch_partial_balance  # noqa: N815
    fetchFreeBalance = fetch_free_balance  # noqa: N815
    fetchUsedBalance = fetch_used_balance  # noqa: N815
    fetchTotalBalance = fetch_total_balance  # noqa: N815

    def _ask(self, params: dict[str, Any], *, fresh: bool = False) -> dict[str, Any]:
        question = self._watch.question(params, fresh=fresh)
        try:
            if question.needs_markets():
                question.lent.load_markets()
                question.keep_markets()
            structure = question.lent.fetch_balance(question.params)
            return question.proven(structure)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was proven
            return question.failed(error)


# --- what it knows ---------------------------------------------------------------------------------------


@dataclass(slots=True)
class _Known:
    """What is known of one account, that is of one `params`."""

    empties: EmptyAnswers = field(default_factory=EmptyAnswers)
    balance: Balance | None = None
    """The last known as the rules read it …"""
    structure: dict[str, Any] = field(default_factory=dict[str, Any])
    """… and as ccxt gives it."""
    funded: bool = False
    fault: Fault | None = None
    """Of the newest call; None when it was proven."""


class _Watch:
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
        """A copy of the instance that has loaded them; None while nobody needed to."""
        self._max_age_s = max_age_s
        self._lock = threading.Lock()
        self._health = Health.begin(clock.now(), threshold=threshold)
        self._accounts: OrderedDict[str, _Known] = OrderedDict()

    @property
    def available(self) -> bool:
        with self._lock:
            health = self._health.woken(self.clock.now())
        return verdict(health.state, health.vetoes).available

    @property
    def error_count(self) -> int:
        return self._health.error_count

    def question(self, params: Mapping[str, Any], *, fresh: bool) -> _Question:
        return _Question(self, dict(params), fresh=fresh or not self.serves_last_known)

    def last_known(self, params: Mapping[str, Any]) -> dict[str, Any] | None:
        with self._lock:
            known = self._accounts.get(_name(params))
            if known is None or known.balance is None:
                return None
            too_old = self._max_age_s is not None and self._age_s(known.balance) > self._max_age_s
            return self._marked(copy.deepcopy(known.structure), known.balance, known.fault, stale=too_old)

    def succeeded(
        self, params: Mapping[str, Any], balance: Balance, structure: dict[str, Any]
    ) -> dict[str, Any]:
        """Fold a proven answer; raises NotProof for an empty one that is not to be believed yet."""
        with self._lock:
            known = self._account(params)
            doubt = known.empties.doubt(balance, known.balance, funded=known.funded)
            if doubt:
                raise _Doubted(doubt)
            self._health = self._health.seen(balance, self.clock.now())
            known.funded = known.funded or bool(balance.holdings)
            # Who was asked earlier and answers later says nothing newer.
            if known.balance is None or balance.as_of.up_s >= known.balance.as_of.up_s:
                known.balance, known.structure, known.fault = balance, copy.deepcopy(structure), None
            return self._marked(structure, balance, None) if self.serves_last_known else structure

    def failed(self, params: Mapping[str, Any], fault: Fault, *, doubted: bool) -> None:
        with self._lock:
            known = self._account(params)
            if not doubted:  # a doubted answer is one of those that may agree
                known.empties.interrupted()
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
            if self._max_age_s is not None and self._age_s(known.balance) > self._max_age_s:
                return None
            return self._marked(copy.deepcopy(known.structure), known.balance, fault)

    def _account(self, params: Mapping[str, Any]) -> _Known:
        name = _name(params)
        if name not in self._accounts:
            self._accounts[name] = _Known()
            if len(self._accounts) > MAX_ACCOUNTS:
                self._accounts.popitem(last=False)
        self._accounts.move_to_end(name)
        return self._accounts[name]

    def _age_s(self, balance: Balance) -> float:
        return max(0.0, self.clock.up_s() - balance.as_of.up_s)

    def _marked(
        self, structure: dict[str, Any], balance: Balance, fault: Fault | None, *, stale: bool = False
    ) -> dict[str, Any]:
        moment = datetime.fromtimestamp(balance.as_of.wall_us / 1_000_000, UTC)
        structure[MARK] = {
            "stale": stale or fault is not None,
            "age_ms": round(self._age_s(balance) * 1_000),
            "as_of": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "fault": None if fault is None else str(fault.kind),
            "detail": "" if fault is None else fault.detail,
            "error_count": self._health.error_count,
        }
        return structure


def _name(params: Mapping[str, Any]) -> str:
    return json.dumps(dict(params), sort_keys=True, default=repr)


class _Doubted(NotProof):
    """An empty answer that may be believed when it comes again."""


class _Question:
    """One call of `fetch_balance`: the copy that it asks through, and what came of it."""

    def __init__(self, watch: _Watch, params: dict[str, Any], *, fresh: bool) -> None:
        self.params = params
        self._watch = watch
        self._account = copy.deepcopy(params)  # ccxt is not to be trusted with the name of an account
        self._fresh = fresh
        self._asked: Instant = watch.clock.now()
        spec = BrokerSpec(SPEC_NAME, exchange=watch.owner)
        self._family = FAMILIES.get(spec.exchange, "")
        self._connection = Connection(spec, self._family, lambda: _lent(watch.owner), watch.clock)
        why = watch.locked_out()
        self._locked_out = _LockedOut(why) if why else None

    @property
    def lent(self) -> Any:
        """The copy of the instance. Raises whatever opening the owner's session raises."""
        if self._locked_out is not None:
            raise self._locked_out
        return self._connection.instance

    def needs_markets(self) -> bool:
        """Whether the list of markets has to be loaded first; takes those that are there already.

        An own list of ours, and a strict one: a broken answer would leave the instance without markets
        for good.
        """
        lent = self.lent
        if lent.markets:
            return False
        if self._family and _is_ccxts(self._watch.owner):
            lent.markets = {}  # of these the balance needs none, and gives the same: one request
            return False
        if self._watch.markets is None:
            return True
        lent.set_markets_from_exchange(self._watch.markets)
        return False

    def keep_markets(self) -> None:
        """They were loaded."""
        if not self.lent.markets:
            raise NotProof("the list of markets is empty")
        kept = copy.copy(self.lent)
        kept.brokerwatch_answers, kept.last_body = [], ""  # some megabytes
        self._watch.markets = kept

    def proven(self, structure: object) -> dict[str, Any]:
        """The balance, when the answers prove it; raises NotProof."""
        if not isinstance(structure, dict):
            raise NotProof(f"fetch_balance gave {type(structure).__name__}, not a balance")
        found = cast("dict[str, Any]", structure)
        by_hand = self._family == "coinbase" and "cursor" in self.params
        proof = _Proof(self._family, self._connection.code)
        for answer in self.lent.brokerwatch_answers:
            proof.take(*answer)
        if not proof.taken:
            # Whatever was asked, its envelope is none that we know.
            proof.holdings = answers.unified(answers.exact(found))
        elif proof.goes_on and not by_hand:
            raise NotProof("ccxt stopped before the last page of accounts")
        elif _is_ccxts(self._watch.owner):
            proof.agree(found)
        elif proof.holdings and not found.get("total"):
            raise NotProof("the exchange states a balance, and what fetch_balance gave has none")
        try:
            balance = Balance(holdings=proof.holdings, as_of=self._asked, stated=proof.stated)
        except ValueError as error:
            raise NotProof(str(error)) from error
        return self._watch.succeeded(self._account, balance, found)

    def failed(self, error: Exception) -> dict[str, Any]:
        """The last known where it may be given; raises an Unproven otherwise."""
        if isinstance(error, _LockedOut):
            # The exchange was not asked, so this is no outcome.
            fault = Fault(FaultKind.RATE_LIMITED, str(error))
        else:
            fault = self._connection.fault(error)
            self._watch.failed(self._account, fault, doubted=isinstance(error, _Doubted))
        kept = None if self._fresh else self._watch.kept(self._account, fault)
        if kept is not None:
            return kept
        text = f"{self._watch.owner.id}: {fault.kind}: {fault.detail}"
        # Without ccxt's own exception behind it: that one's text may have a secret in it.
        raise _raised(error, fault.kind)(text, str(fault.kind), fault) from None


class _LockedOut(Exception):
    """Nothing was sent: the exchange has shut the key out."""


# --- what proves it --------------------------------------------------------------------------------------


class _Proof:
    """Holds the raw answers of one call against the exchange's envelope."""

    def __init__(self, family: str, code: Callable[[str], str]) -> None:
        self.holdings: dict[str, Holding] = {}
        self.stated = True
        self.taken = False
        """Whether any answer was one that we know."""
        self.goes_on = False
        """Whether the newest page promises another one."""
        self._code = code
        self._one_by_one = family != "kraken"  # there ccxt keeps the suffixes apart, and we add them up
        self._seen: set[str] = set()
        known: Mapping[str, Mapping[str, Callable[[object, Mapping[str, list[str]]], None]]] = {
            "kraken": {"/private/BalanceEx": self._kraken},
            "coinbase": {
                "/api/v3/brokerage/accounts": self._coinbase_page,
                "/v2/accounts": self._coinbase_older,
            },
            "okx": {"/api/v5/account/balance": self._okx, "/api/v5/asset/balances": self._okx_funding},
        }
        self._envelopes = known.get(family, {})

    def take(self, url: str, body: str) -> None:
        """One answer; whatever it is not about the balance is passed over. Raises NotProof."""
        where = urlsplit(url)
        for path, envelope in self._envelopes.items():
            if where.path.endswith(path):
                envelope(answers.parsed(body), parse_qs(where.query))
                self.taken = True

    def agree(self, structure: Mapping[str, Any]) -> None:
        """That ccxt has left out nothing. Raises NotProof."""
        totals = structure.get("total")
        if not isinstance(totals, dict):
            raise NotProof("what fetch_balance gave has no total")
        stated = cast("dict[str, Any]", totals)
        for currency, held in self.holdings.items() if self._one_by_one else ():
            theirs = stated.get(currency)
            if theirs is None or not math.isclose(float(theirs), float(held.total), rel_tol=1e-9):
                raise NotProof(f"ccxt reads {theirs} {currency}, and the exchange states {held.total}")

    def _kraken(self, answer: object, query: object) -> None:
        del query
        try:
            self.holdings |= answers.kraken(answer, self._code)
        except Unstated:
            self.stated = False
            return
        assets = list(cast("dict[str, dict[str, Any]]", answer)["result"])
        if len({self._code(asset) for asset in assets}) < len(assets):
            raise NotProof("two assets of one code: ccxt would keep one of them")

    def _coinbase_page(self, answer: object, query: Mapping[str, list[str]]) -> None:
        if "cursor" not in query:
            self._seen.clear()
            self.holdings.clear()
        self.goes_on = answers.coinbase_page(answer, self._code, self.holdings, self._seen) is not None

    def _coinbase_older(self, answer: object, query: object) -> None:
        del query
        self.holdings |= coinbase_older(answer, self._code)

    def _okx(self, answer: object, query: object) -> None:
        del query
        self.holdings |= answers.okx(answer, self._code)

    def _okx_funding(self, answer: object, query: object) -> None:
        del query
        self.holdings |= answers.okx_funding(answer, self._code)


OLDER_COUNTED: Final = frozenset({"wallet", "fiat"})
"""The accounts that ccxt adds up."""
OLDER_LEFT_OUT: Final = frozenset({"vault", "multisig", "multisig_vault"})
"""The accounts that cannot be traded from."""


def coinbase_older(answer: Any, code: Callable[[str], str]) -> dict[str, Holding]:
    """The holdings of Coinbase's /v2/accounts, which states no holds. Raises NotProof.

    ccxt reads its first page alone, so an answer that has a next one is a part of a balance.
    ("List accounts" and "Pagination" of the Coinbase App API.)
    """
    match answer:
        case {"errors": errors} if errors:
            raise NotProof("the answer carries errors")
        case {"data": list(), "pagination": {"next_uri": None | ""}}:
            rows: list[Any] = answer["data"]
        case {"data": list(), "pagination": {"next_uri": str()}}:
            raise NotProof(
                "this is the first page of the accounts and ccxt reads no further; expected the option "
                "fetchBalance = v3PrivateGetBrokerageAccounts, or params {'v3': True}, which read all"
            )
        case _:
            raise NotProof("the answer has no data, or does not say whether it is all of it")
    found: dict[str, Holding] = {}
    for row in rows:
        match row:
            case {"type": str(kind), "balance": {"amount": str(stated), "currency": str(currency)}}:
                pass
            case _:
                raise NotProof("an account without type, amount or currency")
        if kind in OLDER_LEFT_OUT:
            continue
        if kind not in OLDER_COUNTED:
            raise NotProof(f"an account is of a type that we do not know: {kind[:40]!r}")
        try:
            held = amount(stated)
        except ValueError as error:
            raise NotProof(f"amount of {currency[:40]}: {error}") from error
        before = found.get(code(currency))
        held = held if before is None else summed((before.total, held))
        found[code(currency)] = Holding(free=held, used=_ZERO, total=held)
    return found


_ZERO: Final = Decimal(0)


# --- what it asks through --------------------------------------------------------------------------------


class _Lent:
    """Mixed in before a strict class: a copy that shares with its owner's instance what must be shared."""

    brokerwatch_owner: Any
    brokerwatch_answers: list[tuple[str, str]]
    """Address and text of each answer that was let through."""
    brokerwatch_requests: int

    def throttle(self, cost: Any = None) -> Any:
        """The owner's turn: both count against one limit of the exchange."""
        return self.brokerwatch_owner.throttle(cost)

    def set_last_rest_request_timestamp(self) -> None:
        self.brokerwatch_owner.lastRestRequestTimestamp = self.brokerwatch_owner.milliseconds()

    def nonce(self) -> Any:
        return self.brokerwatch_owner.nonce()

    def incrementing_nonce(self) -> Any:
        """The owner's counter, as if he asked himself: one that rises for each key."""
        return self.brokerwatch_owner.incrementing_nonce()

    def get_socks_proxy_session(self, proxy: Any) -> Any:
        return _Unredirected(self.brokerwatch_owner.get_socks_proxy_session(proxy))

    def fetch(self, *request: Any, **named: Any) -> Any:
        self.brokerwatch_requests += 1
        if self.brokerwatch_requests > MAX_REQUESTS:
            raise NotProof(f"the balance does not end after {MAX_REQUESTS} requests")
        return cast("Any", super()).fetch(*request, **named)

    def on_json_response(self, text: str) -> Any:
        answers.parsed(text)  # refuses NaN, and keys that stand twice
        # As ccxt reads it and not as we do: `info` is to have its numbers.
        return cast("Any", super(strict.Strict, cast("Any", self))).on_json_response(text)

    def handle_errors(
        self, code: int, reason: str, url: str, method: str, headers: Any, body: str, *rest: Any
    ) -> Any:
        try:
            found = cast("Any", super()).handle_errors(code, reason, url, method, headers, body, *rest)
        except _CCXT.BaseError as refused:
            if not str(refused).startswith("HTTP "):
                raise
            # Refused by strict.py before ccxt could: a bot's handlers know the class that ccxt has for it.
            try:
                cast("Any", self).handle_http_status_code(code, reason, url, method, body)
            except _CCXT.BaseError as theirs:
                raise type(theirs)(str(refused)) from None
            if not 200 <= code < 300:
                # ccxt's synchronous side has this class for any other status of an error.
                raise _CCXT.ExchangeError(str(refused)) from None
            raise
        self.brokerwatch_answers.append((url, body))
        return found


_lent_classes: dict[type[Any], type[Any]] = {}


def _lent(owner: Any) -> Any:
    """A strict copy of the owner's instance for one call: what it saw is about this call alone."""
    if hasattr(owner, "own_session"):
        # As a call of the owner's own would: an instance that he closed stays closed.
        owner.open(*((True,) if "lazy" in inspect.signature(owner.open).parameters else ()))
    found = strict.clone(owner)
    of = strict.strict_class(owner.__class__)
    if of not in _lent_classes:
        _lent_classes[of] = type(of.__name__, (_Lent, of), {})
    found.__class__ = _lent_classes[of]
    found.brokerwatch_owner = owner
    found.brokerwatch_answers = []
    found.brokerwatch_requests = 0
    found.enableRateLimit = owner.enableRateLimit
    found.session = _Unredirected(owner.session)
    found.markets_loading, found.reloading_markets = None, False
    return found


def _is_ccxts(owner: Any) -> bool:
    """Whether its class is ccxt's own: a trader's subclass may change what is read, and need markets."""
    return str(owner.__class__.__module__).startswith("ccxt.")


_METHODS: Final = frozenset({"request", "get", "post", "put", "delete", "patch"})


class _Unredirected:
    """The owner's session, by which no redirect is followed: it would carry key and signature to a stranger,
    and his answer would be believed."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._session, name)
        return partial(found, allow_redirects=False) if name in _METHODS else found


# --- what is raised --------------------------------------------------------------------------------------

_ALSO: Final[Mapping[FaultKind, str]] = MappingProxyType(
    {
        FaultKind.AUTH: "AuthenticationError",
        FaultKind.PERMISSION: "PermissionDenied",
        FaultKind.CLIENT_BUG: "ExchangeError",
    }
)
"""ccxt's class for a kind of fault; all others pass by themselves: NetworkError."""
_STAND_INS: Final = (
    (NotProof, "BadResponse"),
    (TimeoutError, "RequestTimeout"),
    (_LockedOut, "RateLimitExceeded"),
)
"""ccxt's class for what ccxt has none for; all else, such as a secret that cannot sign: ExchangeError."""
_raised_classes: dict[tuple[type[Any], ...], type[Unproven]] = {}


def _raised(error: Exception, kind: FaultKind) -> type[Unproven]:
    """The class to raise: ours, the one of ccxt that `error` is, and the one that its kind means."""
    stand_in = next((name for of, name in _STAND_INS if isinstance(error, of)), "ExchangeError")
    theirs: type[Any] = next(
        (of for of in type(error).__mro__ if of.__module__ == _CCXT.__name__), getattr(_CCXT, stand_in)
    )
    meant: type[Any] = getattr(_CCXT, _ALSO.get(kind, "NetworkError"))
    bases: tuple[type[Any], ...] = (theirs, meant)
    if issubclass(theirs, meant):
        bases = (theirs,)
    elif issubclass(meant, theirs):
        bases = (meant,)
    if bases not in _raised_classes:
        named = {"__module__": __name__, "__doc__": Unproven.__doc__}
        _raised_classes[bases] = type(bases[0].__name__, (Unproven, *bases), named)
    return _raised_classes[bases]
