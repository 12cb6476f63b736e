"""What the three simulated exchanges share: accounts, prices, faults, and the way of a call to its answer.

A call is counted, then it meets the fault that is set for it, and only then it is checked: a proxy's page
comes whether or not the signature is right. A fault that spoils an answer needs a good answer first. There
the call is verified as usual, and carried out on a copy of the account: a call that meets a fault changes
nothing, unless the fault says that it is executed. Every public method may be called from any thread.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from email.utils import formatdate
from typing import ClassVar

from brokerwatch.simulator.account import CALLER_HEADER, Account, PrivateCall
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
from brokerwatch.simulator.order_desk import OrderDesk
from brokerwatch.simulator.routes import Route, find_route
from brokerwatch.simulator.streams import Streams
from brokerwatch.simulator.trouble import NO_TROUBLE, Scope, Setting, Trouble

__all__ = ["Call", "Json", "SimulatedExchange", "Trouble"]


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request as it arrived. `target` is path and query, byte for byte as they were signed."""

    method: str
    path: str
    target: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    # What the path has where its route has a name in braces.
    parts: Mapping[str, str] = field(default_factory=dict[str, str])
    # It was taken, and waited in the exchange until now.
    late: bool = False


Json = Mapping[str, object]
PublicHandler = Callable[[Call], Json]
PrivateHandler = Callable[[Call, Account, str], Json]


class SimulatedExchange(OrderDesk):
    """One exchange with one account to begin with. Use a subclass, inside `serve`.

    `clock_skew_s` is how far the exchange's own clock is ahead of this machine's, in seconds, and
    `candle_lag_s` how far its newest candle is behind that clock. With `fills_at_once` set to False an
    order stays open until `fill_open_orders`, whatever the price does. With `charges_fees` each fill costs
    what the exchange documents; otherwise none costs anything. With `executes_dry_runs` a dry run places a
    real order, while its answer is that of a dry run; OKX has none. `key_ip` are the addresses that keys are
    bound to, with commas, as Kraken and OKX tell them ("": to none); nothing is refused by it.
    """

    # The exchange's own words for what it refuses, by fault name. The real checks answer with them too.
    refusals: ClassVar[Mapping[str, Answer]]
    # What is laid over a healthy balance by the fault `warning_beside_result`.
    warning: ClassVar[Mapping[str, object]]
    # The faults that cut the JSON in half. An exchange with pages has a better idea of `partial_page`.
    cutting: ClassVar[frozenset[str]] = frozenset({"cut_json", "partial_page"})
    # What a key must be allowed for a private route: `query` for all that are not here, "" for nothing.
    needs: ClassVar[Mapping[Route, str]] = {}

    def __init__(self) -> None:
        super().__init__()
        self._calls: Counter[str] = Counter()
        self._settings: dict[Scope, Setting] = {}
        self._waiting: list[tuple[PrivateHandler, Call, Account]] = []
        self._url: str | None = None
        self.public_routes: dict[Route, PublicHandler] = {}
        self.private_routes: dict[Route, PrivateHandler] = {}
        self.streams: Streams | None = None
        """Its private websockets; None: it has none."""

    # --- what a test arranges -----------------------------------------------------------------------

    @property
    def url(self) -> str:
        """The base address, without a slash at the end. RuntimeError outside `serve`."""
        with self._lock:
            if self._url is None:
                raise RuntimeError(f"the simulated {self.ccxt_id} has no address outside `with serve(...)`")
            return self._url

    def ccxt_options(self) -> dict[str, object]:
        """The arguments with which a ccxt instance calls this server instead of the real exchange."""
        return {"urls": {"api": {**dict.fromkeys(self.url_names, self.url), **self.stream_urls()}}}

    def stream_urls(self) -> dict[str, object]:
        """Where ccxt.pro finds the websockets, as it stands beside the addresses of the requests."""
        return {}

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
        executed: bool = False,
        late: bool = False,
    ) -> None:
        """From now on private calls meet this fault; with `times`, only so many of them.

        `account` (an API key), `path` and `page` (of an account list, from 1) limit it to the calls of
        that account, path and page; a narrower fault goes before a wider one, and a new one replaces the
        old one of the same width. A path may name its method, `POST /api/v5/trade/order`, and may be a
        pattern of the table of routes, with `{order_id}` in it. `public` lets public calls meet it too, and
        they count in `times`. With `executed` the exchange does what was asked, and only its answer meets
        the fault: an order is placed and its client does not learn of it. Otherwise a call that meets a
        fault changes nothing. With `late` the exchange takes the call, and does what was asked only at
        `deliver_late`.
        `retry_after_s` adds a Retry-After header to the answer, `retry_after_as_date` in its other form.
        ValueError for a name that is not in FAULTS.
        """
        if name not in FAULTS:
            raise ValueError(f"unknown fault {name!r}; there are: {', '.join(FAULTS)}")
        trouble = Trouble(name, None, retry_after_s, retry_after_as_date, executed, late)
        self._set(Scope(account, path, page), trouble, times, public=public)

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
        executed: bool = False,
    ) -> None:
        """From now on private calls are answered with exactly this, whatever they ask and however signed.

        A `Broken` body is sent as it is, below HTTP; then the status and the rest do not count. A body in
        a content encoding comes encoded, and `headers` says so. Scope and `executed` are as in `set_fault`.
        """
        if isinstance(body, Broken):
            answer: Answer | Broken = body
        else:
            encoded = body.encode() if isinstance(body, str) else body
            answer = Answer(status, encoded, content_type, dict(headers or {}))
        self._set(Scope(account, path, page), Trouble(answer=answer, executed=executed), times, public=public)

    def _set(self, scope: Scope, trouble: Trouble, times: int | None, *, public: bool) -> None:
        if times is not None and times < 1:
            raise ValueError(f"times is {times}; it must be 1 or more, or None for no limit")
        with self._lock:
            if scope.account is not None:
                self._account(scope.account)
            self._settings[scope] = Setting(trouble, times, public)

    def deliver_late(self) -> int:
        """Carry out what was taken and waited, in its order; how many calls did what they asked."""
        done = 0
        with self._lock:
            waiting, self._waiting = self._waiting, []
            for handler, call, account in waiting:
                try:
                    handler(replace(call, late=True), account, HEALTHY)
                    done += 1
                except Refused:
                    continue
        return done

    def mend(self, *, account: str | None = None) -> None:
        """End every fault and set answer, or with `account` only those of that account."""
        with self._lock:
            if account is None:
                self._settings.clear()
            for scope in [scope for scope in self._settings if scope.account == account]:
                del self._settings[scope]

    def calls_to(self, path: str) -> int:
        """How many calls arrived at a path, public ones too; it may be any path that `set_fault` takes."""
        with self._lock:
            return self._calls[path]

    # --- what the server asks -----------------------------------------------------------------------

    def opened(self, url: str) -> None:
        """Called by the server with the address of this exchange. RuntimeError if it is served already."""
        with self._lock:
            if self._url is not None:
                raise RuntimeError(f"this simulated {self.ccxt_id} is served already")
            self._url = url

    def closed(self) -> None:
        """Called by the server at its end; accounts, faults and counts stay for the next one."""
        with self._lock:
            self._url = None

    def receive(self, call: Call) -> Trouble:
        """Count the call, and return the trouble that it meets."""
        if call.path in REDIRECT_TARGETS:
            return NO_TROUBLE
        key = self.key_of(call)
        found = find_route(self.private_routes, call.method, call.path)
        private = key is not None or found is not None
        public = find_route(self.public_routes, call.method, call.path)
        paths = {call.path, *(route.pattern for route in (found, public) if route is not None)}
        paths |= {f"{call.method} {path}" for path in paths}
        page = self.page_of(call)
        with self._lock:
            self._calls.update(paths)
            if private:
                self._private_calls += 1
                if self.private_log is not None:
                    caller = call.headers.get(CALLER_HEADER, "")
                    self.private_log.append(PrivateCall(time.monotonic(), key or "", call.path, caller))
                if key in self._accounts:
                    self._accounts[key].private_calls += 1
            met = [scope for scope in self._settings if scope.covers(key, paths, page)]
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
            if trouble.executed:
                self._carried_out(call, trouble)
            return trouble.answer
        answer = self._answer(call, trouble)
        if trouble.retry_after_s is not None:
            answer = replace(answer, headers={**answer.headers, "Retry-After": self._when(trouble)})
        return BROKEN[trouble.fault](answer) if trouble.fault in BROKEN else answer

    def _answer(self, call: Call, trouble: Trouble) -> Answer:
        instead = PAGES.get(trouble.fault) or self.refusals.get(trouble.fault)
        if instead is None:
            return self._carried_out(call, trouble)
        if trouble.executed or trouble.late:
            self._carried_out(call, trouble)
        return instead

    def _carried_out(self, call: Call, trouble: Trouble) -> Answer:
        try:
            with self._lock:
                answer = json_answer(self._result(call, trouble))
        except Refused as refused:
            return refused.answer
        return cut_in_half(answer) if trouble.fault in self.cutting else answer

    def _when(self, trouble: Trouble) -> str:
        wait_s = trouble.retry_after_s or 0.0
        # RFC 9110 knows two forms; the date is the exchange's own, so a skewed clock shows in it.
        return (
            formatdate(self.now_s() + wait_s, usegmt=True) if trouble.retry_after_as_date else f"{wait_s:g}"
        )

    def _result(self, call: Call, trouble: Trouble) -> Json:
        if (public := find_route(self.public_routes, call.method, call.path)) is not None:
            return public.handler(replace(call, parts=public.parts))
        if (found := find_route(self.private_routes, call.method, call.path)) is None:
            raise Refused(self.unknown_method(call))
        key = self.key_of(call)
        account = self._accounts.get(key) if key is not None else None
        self.verify(call, account)
        self.expire_orders()
        if account is None:
            raise Refused(self.refusals["bad_key"])
        needed = self.needs.get((call.method, found.pattern), "query")
        if needed and needed not in account.permissions:
            raise Refused(self.refusals["permission"])
        if trouble.late:
            self._waiting.append((found.handler, replace(call, parts=found.parts), account))
            return {}
        acts = trouble.executed or (trouble.fault == HEALTHY and trouble.answer is None)
        acting = account if acts else account.rehearsal()
        return found.handler(replace(call, parts=found.parts), acting, trouble.fault)

    # --- what a handler of a subclass uses ----------------------------------------------------------

    @property
    def in_maintenance(self) -> bool:
        """Whether the status endpoint reports maintenance."""
        with self._lock:
            setting = self._settings.get(Scope())
            return setting is not None and setting.trouble.fault == "maintenance" and setting.calls_left != 0

    def with_warning(self, payload: Json, fault: str) -> Json:
        """The payload, with the exchange's warning beside it where that is the fault."""
        return {**payload, **self.warning} if fault == "warning_beside_result" else payload

    # --- what differs -------------------------------------------------------------------------------

    url_names: ClassVar[tuple[str, ...]] = ("rest",)

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
