"""What the three simulated exchanges share: accounts, faults, and the way of a call to its answer.

A call is counted, meets the fault that is set for it, and only then is looked at: a proxy's page does
not care whether the signature was right. A fault that spoils an answer needs a good one first, so there
the call is verified as usual. Everything public may be called from any thread while a server runs.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from email.utils import formatdate
from typing import ClassVar

from brokerwatch.simulator.account import Account, BalanceSpec, Row, checked_balance, rows
from brokerwatch.simulator.connections import BROKEN, Broken
from brokerwatch.simulator.faults import (
    FAULTS,
    HEALTHY,
    PAGES,
    REDIRECT_TARGETS,
    Answer,
    Refused,
    cut_in_half,
    json_answer,
)


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request as it arrived. `target` is path and query, byte for byte as they were signed."""

    method: str
    path: str
    target: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


Json = Mapping[str, object]
PublicHandler = Callable[[Call], Json]
PrivateHandler = Callable[[Call, Account, str], Json]
Route = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Trouble:
    """What one call meets: a fault by its name, or an answer by its bytes, or neither."""

    fault: str = HEALTHY
    answer: Answer | Broken | None = None
    # None: no word about when to come back.
    retry_after_s: float | None = None
    retry_after_as_date: bool = False


NO_TROUBLE = Trouble()


@dataclass(frozen=True, slots=True)
class _Scope:
    """Which calls meet a trouble. None is all of them."""

    account: str | None = None
    path: str | None = None
    page: int | None = None

    def covers(self, key: str | None, path: str, page: int) -> bool:
        return self.account in (None, key) and self.path in (None, path) and self.page in (None, page)

    @property
    def narrowness(self) -> tuple[bool, bool, bool]:
        """Compares greater the more a scope says; the account counts most."""
        return (self.account is not None, self.path is not None, self.page is not None)


@dataclass(slots=True)
class _Setting:
    """A trouble that a test has set, and for how many calls still."""

    trouble: Trouble
    calls_left: int | None
    public: bool

    def take(self) -> Trouble:
        """The trouble of one call; none once it is used up."""
        if self.calls_left is None:
            return self.trouble
        if self.calls_left == 0:
            return NO_TROUBLE
        self.calls_left -= 1
        return self.trouble


class SimulatedExchange(ABC):
    """One exchange with one account to begin with. Use a subclass, inside `serve`.

    `clock_skew_s` is how far the exchange's own clock is ahead of this machine's, in seconds.
    """

    ccxt_id: ClassVar[str]
    default_balance: ClassVar[BalanceSpec]
    # The exchange's own words for what it refuses, by fault name. The real checks answer with them too.
    refusals: ClassVar[Mapping[str, Answer]]
    # What is laid over a healthy balance by the fault `warning_beside_result`.
    warning: ClassVar[Mapping[str, object]]
    # The faults that cut the JSON in half. An exchange with pages has a better idea of `partial_page`.
    cutting: ClassVar[frozenset[str]] = frozenset({"cut_json", "partial_page"})

    def __init__(self) -> None:
        self.clock_skew_s = 0.0
        self._lock = threading.Lock()
        self._accounts: dict[str, Account] = {}
        self._settings: dict[_Scope, _Setting] = {}
        self._private_calls = 0
        self._url: str | None = None
        self.public_routes: dict[Route, PublicHandler] = {}
        self.private_routes: dict[Route, PrivateHandler] = {}
        self.credentials = self.add_account()

    # --- what a test arranges -----------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The base address, without a slash at the end. RuntimeError outside `serve`."""
        with self._lock:
            if self._url is None:
                raise RuntimeError(f"the simulated {self.ccxt_id} has no address outside `with serve(...)`")
            return self._url

    def ccxt_options(self) -> dict[str, object]:
        """What ccxt's constructor needs to come here instead of to the real exchange."""
        return {"urls": {"api": dict.fromkeys(self.url_names, self.url)}}

    def add_account(
        self, credentials: Mapping[str, str] | None = None, balance: BalanceSpec | None = None
    ) -> dict[str, str]:
        """Open another account; returns its credentials, made up unless given (snake_case names)."""
        account = Account(
            dict(credentials) if credentials is not None else self.new_credentials(),
            checked_balance(self.default_balance if balance is None else balance),
        )
        with self._lock:
            self._accounts[account.api_key] = account
        return dict(account.credentials)

    def set_balance(self, balance: BalanceSpec, *, account: str | None = None) -> None:
        """Replace what is in an account: currency to (free, held). `{}` is an empty account.

        `account` is an API key; None is the first account. ValueError for what is not a finite decimal.
        """
        checked = checked_balance(balance)
        with self._lock:
            self._account(account).balance = checked

    def set_fault(
        self,
        name: str,
        times: int | None = None,
        *,
        account: str | None = None,
        path: str | None = None,
        page: int | None = None,
        public: bool = False,
        retry_after_s: float | None = None,
        retry_after_as_date: bool = False,
    ) -> None:
        """From now on private calls meet this fault; with `times`, only so many of them.

        `account` (an API key), `path` and `page` (of an account list, from 1) limit it to the calls of
        that account, path and page; a narrower fault goes before a wider one, and a new one replaces the
        old one of the same width. `public` lets public calls meet it too, and they count in `times`.
        `retry_after_s` adds a Retry-After header to the answer, `retry_after_as_date` in its other form.
        ValueError for a name that is not in FAULTS.
        """
        if name not in FAULTS:
            raise ValueError(f"unknown fault {name!r}; there are: {', '.join(FAULTS)}")
        trouble = Trouble(name, None, retry_after_s, retry_after_as_date)
        self._set(_Scope(account, path, page), trouble, times, public=public)

    def set_answer(
        self,
        body: bytes | str | Broken,
        status: int = 200,
        content_type: str = "application/json; charset=utf-8",
        headers: Mapping[str, str] | None = None,
        times: int | None = None,
        *,
        account: str | None = None,
        path: str | None = None,
        page: int | None = None,
        public: bool = False,
    ) -> None:
        """From now on private calls are answered with exactly this, whatever they ask and however signed.

        A `Broken` body is sent as it is, below HTTP; then the status and the rest do not count. A body in
        a content encoding comes encoded, and `headers` says so. The scope is that of `set_fault`.
        """
        if isinstance(body, Broken):
            answer: Answer | Broken = body
        else:
            encoded = body.encode() if isinstance(body, str) else body
            answer = Answer(status, encoded, content_type, dict(headers or {}))
        self._set(_Scope(account, path, page), Trouble(answer=answer), times, public=public)

    def _set(self, scope: _Scope, trouble: Trouble, times: int | None, *, public: bool) -> None:
        if times is not None and times < 1:
            raise ValueError(f"times is {times}; it must be 1 or more, or None for no limit")
        with self._lock:
            if scope.account is not None:
                self._account(scope.account)
            self._settings[scope] = _Setting(trouble, times, public)

    def mend(self, *, account: str | None = None) -> None:
        """End every fault and set answer, or with `account` only those of that account."""
        with self._lock:
            if account is None:
                self._settings.clear()
            for scope in [scope for scope in self._settings if scope.account == account]:
                del self._settings[scope]

    @property
    def private_calls(self) -> int:
        """How many private calls arrived so far, refused ones and those that met a fault included."""
        with self._lock:
            return self._private_calls

    def private_calls_of(self, account: str) -> int:
        """How many private calls arrived with this API key."""
        with self._lock:
            return self._account(account).private_calls

    # --- what the server asks -----------------------------------------------------------------------

    def opened(self, url: str) -> None:
        """The server tells where this exchange can be reached. RuntimeError if it is served already."""
        with self._lock:
            if self._url is not None:
                raise RuntimeError(f"this simulated {self.ccxt_id} is served already")
            self._url = url

    def closed(self) -> None:
        """The server is gone; accounts, faults and counts stay for the next one."""
        with self._lock:
            self._url = None

    def receive(self, call: Call) -> Trouble:
        """Count the call and tell what it meets."""
        if call.path in REDIRECT_TARGETS:
            return NO_TROUBLE
        key = self.key_of(call)
        private = key is not None or (call.method, call.path) in self.private_routes
        page = self.page_of(call)
        with self._lock:
            if private:
                self._private_calls += 1
                if key in self._accounts:
                    self._accounts[key].private_calls += 1
            met = [scope for scope in self._settings if scope.covers(key, call.path, page)]
            for scope in sorted(met, key=lambda scope: scope.narrowness, reverse=True):
                setting = self._settings[scope]
                if (private or setting.public) and (trouble := setting.take()) is not NO_TROUBLE:
                    return trouble
        return NO_TROUBLE

    def respond(self, call: Call, trouble: Trouble = NO_TROUBLE) -> Answer | Broken:
        """The answer to a call that meets `trouble`, down to the bytes of the body."""
        if call.path in REDIRECT_TARGETS:
            return REDIRECT_TARGETS[call.path]
        if trouble.answer is not None:
            return trouble.answer
        answer = self._answer(call, trouble.fault)
        if trouble.retry_after_s is not None:
            answer = replace(answer, headers={**answer.headers, "Retry-After": self._when(trouble)})
        return BROKEN[trouble.fault](answer) if trouble.fault in BROKEN else answer

    def _answer(self, call: Call, fault: str) -> Answer:
        if fault in PAGES:
            return PAGES[fault]
        if fault in self.refusals:
            return self.refusals[fault]
        try:
            answer = json_answer(self._result(call, fault))
        except Refused as refused:
            return refused.answer
        return cut_in_half(answer) if fault in self.cutting else answer

    def _when(self, trouble: Trouble) -> str:
        wait_s = trouble.retry_after_s or 0.0
        # RFC 9110 knows two forms; the date is the exchange's own, so a skewed clock shows in it.
        return (
            formatdate(self.now_s() + wait_s, usegmt=True) if trouble.retry_after_as_date else f"{wait_s:g}"
        )

    def _result(self, call: Call, fault: str) -> Json:
        route = (call.method, call.path)
        if route in self.public_routes:
            return self.public_routes[route](call)
        if route not in self.private_routes:
            raise Refused(self.unknown_method(call))
        key = self.key_of(call)
        with self._lock:
            account = self._accounts.get(key) if key is not None else None
        self.verify(call, account)
        if account is None:
            raise Refused(self.refusals["bad_key"])
        return self.private_routes[route](call, account, fault)

    # --- what a handler of a subclass uses ----------------------------------------------------------

    def now_s(self) -> float:
        """Seconds since 1970 by the exchange's own clock."""
        return time.time() + self.clock_skew_s

    @property
    def in_maintenance(self) -> bool:
        """Whether the status endpoint shall report maintenance."""
        with self._lock:
            setting = self._settings.get(_Scope())
            return setting is not None and setting.trouble.fault == "maintenance" and setting.calls_left != 0

    def rows_of(self, account: Account, fault: str) -> list[Row]:
        """The rows of the account's balance as of now, spoiled as `fault` says."""
        return rows(account.balance, fault)

    def with_warning(self, payload: Json, fault: str) -> Json:
        """The payload, with the exchange's warning beside it where that is the fault."""
        return {**payload, **self.warning} if fault == "warning_beside_result" else payload

    def _account(self, api_key: str | None) -> Account:
        key = self.credentials["api_key"] if api_key is None else api_key
        if key not in self._accounts:
            raise ValueError(f"the simulated {self.ccxt_id} has no account with the API key {key!r}")
        return self._accounts[key]

    # --- what differs -------------------------------------------------------------------------------

    url_names: ClassVar[tuple[str, ...]] = ("rest",)

    @abstractmethod
    def new_credentials(self) -> dict[str, str]:
        """Made-up credentials of the form this exchange issues."""

    @abstractmethod
    def key_of(self, call: Call) -> str | None:
        """The API key a call claims to come from; None for a public call."""

    def page_of(self, call: Call) -> int:  # noqa: ARG002 - an exchange with pages looks at it
        """Which page of a list the call asks for, from 1; always 1 without pages."""
        return 1

    @abstractmethod
    def verify(self, call: Call, account: Account | None) -> None:
        """Check key, signature and time of a private call, in the exchange's order; Refused if wrong."""

    @abstractmethod
    def unknown_method(self, call: Call) -> Answer:
        """The exchange's answer to a path it does not have."""
