"""A connection: one strict ccxt instance, how its methods are called, and what its failures mean.

The instance is made on the loop's thread when it is first needed and is used there alone. A trader's
synchronous instance is called on a thread of its own, where it may block. Whatever goes wrong becomes
one fault in the exchange's own words, without secrets.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Any, Final, cast

import msgspec

from brokerwatch.clock import Clock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.redaction import SHORTEST_TOKEN, credential_spellings, redacted_answer
from brokerwatch.exchanges.clock_skew import NEVER_S, may_be_caused
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.exchanges.faults import NO_HEADERS, Failure
from brokerwatch.exchanges.pauses import RETRY_AFTER, kept
from brokerwatch.exchanges.registry import fault_of, is_refused_order, order_fault_of, profile_of
from brokerwatch.gateway.strict_ccxt import Rehearsed, clone
from brokerwatch.messages import Fault, FaultKind

SKEW_S: Final = 0.5
"""What asking the exchange for its time may take; it only explains a fault that is established."""
MOST_CODES: Final = 100
"""Codes of one account that are kept."""

Run = Callable[[Callable[[], Any]], Awaitable[Any]]
"""Runs a function that blocks where it may."""


class Connection:
    """Calls one ccxt instance and says what its failures mean. It is used on the loop's thread alone.

    `run` is None for an asynchronous instance.
    """

    def __init__(
        self,
        spec: BrokerSpec,
        family: str,
        instantiate: Callable[[], Any],
        clock: Clock,
        run: Run | None = None,
    ) -> None:
        self.family = family
        """The name of the exchange's adapter; empty: it has none of its own."""
        self._spec = spec
        self._instantiate = instantiate
        self._clock = clock
        self._run = run
        self._made: Any = None
        self._markets_of: Any = None
        """The instance from which ours takes its markets when it is made."""
        self._codes: dict[str, str] = {}
        """What ccxt has said of currencies; it makes a structure of twenty parts each time."""
        self._codes_of: Any = None
        """The table of currencies from which it did: another one may say otherwise."""
        self.severed = ""
        """Why no call goes out: it was cut on our own side, on purpose. Empty: nothing is cut. Any thread."""
        self._seen: Any = None
        """The copy of a synchronous instance that made the newest call."""
        self._secrets = credential_spellings(spec.credentials.values())

    @property
    def instance(self) -> Any:
        """The ccxt instance."""
        if self._made is None:
            made = self._instantiate()
            if self._markets_of is not None:
                made.set_markets_from_exchange(self._markets_of)
                self._markets_of = None
            self._made = made
        return self._made

    @property
    def used(self) -> Any:
        """The instance that made the newest call, with what that call left in it."""
        return self.instance if self._newest is None else self._newest

    @property
    def _newest(self) -> Any:
        """The same, or None as long as there is none: asking for it makes none."""
        return self._made if self._seen is None else self._seen

    @property
    def body(self) -> str:
        """The newest answer as it was written; empty where calls block, and may overtake each other."""
        return self.instance.last_body if self._run is None else ""

    @property
    def sent_nothing(self) -> bool:
        """Whether the newest call failed before any request of it went out.

        Not known where calls block: there one that was given up goes on.
        """
        return self._run is None and not self.instance.asked

    @property
    def changed_something(self) -> bool:
        """Whether a request of the newest call that may change something was answered without an error."""
        return self._newest is not None and bool(self._newest.wrote)

    def starts_with_markets_of(self, other: Connection) -> None:
        """Have the markets of another connection, which is used no more. Called before the first call."""
        self._markets_of = other._made

    def copy(self) -> Connection:
        """Another connection like this one, that keeps what it sees apart."""
        return Connection(self._spec, self.family, lambda: clone(self.instance), self._clock, self._run)

    def code(self, currency: str) -> str:
        """The common code of a currency in the exchange's own: XXBT to BTC."""
        instance = self.instance
        if instance.currencies_by_id is not self._codes_of:
            self._codes, self._codes_of = {}, instance.currencies_by_id
        found = self._codes.get(currency)
        if found is None:
            try:
                found = str(instance.safe_currency_code(currency))
            except TypeError:
                found = currency  # ccxt stumbles over a code that ends with a point
            if len(self._codes) < MOST_CODES:
                self._codes[currency] = found
        return found

    async def call(self, method: str, *arguments: Any, headers: Mapping[str, str] | None = None) -> Any:
        """Call a method of the instance, its requests with these headers too. Raises whatever ccxt raises."""
        if self.severed:
            raise ConnectionAbortedError(self.severed)
        if self._run is None:
            self.instance.asked, self.instance.wrote = False, 0
            if headers is None:
                return await getattr(self.instance, method)(*arguments)
            always = self.instance.headers
            self.instance.headers = {**always, **headers}
            try:
                return await getattr(self.instance, method)(*arguments)
            finally:
                self.instance.headers = always
        # A call that was given up goes on in its thread: what it sees later must not pass for another's.
        own = self._seen = clone(self.instance)
        own.headers.update(headers or {})
        return await self._run(partial(getattr(own, method), *arguments))

    async def rehearsed(self, method: str, *arguments: Any) -> str:
        """The request that a call would send, signed and not sent; empty where it could not be had.

        Its method and address, without what is secret, and only if it carries one of the credentials.
        Raises whatever ccxt raises over a credential that cannot sign.
        """
        fresh = self.copy().instance
        fresh.rehearses = True
        try:
            await getattr(fresh, method)(*arguments)
        except Rehearsed as request:
            sent = f"{request.url} {request.headers} {request.body}"
            carries = "Authorization" in (
                request.headers or {}
            )  # a token, in which the key is not to be read
            if carries or any(value in sent for value in self._spec.credentials.values() if value):
                return self.redacted(f"{request.method} {request.url.partition('?')[0]}")
        return ""

    def fault(self, error: BaseException) -> Fault:
        """The fault that `error` is, from what the last answer said."""
        if isinstance(error, UnprovenAnswer):
            return Fault(FaultKind.BAD_RESPONSE, self.redacted(str(error)))
        if isinstance(error, binascii.Error):
            # Raised while signing: the exchange was not even asked.
            return Fault(FaultKind.CLIENT_BUG, f"the secret cannot sign, is it whole? ({error})")
        return self._judged(error, fault_of)

    def order_fault(self, error: BaseException) -> Fault:
        """The same for an order: the fault may be about its market alone."""
        fault = self.fault(error)
        closes_s = self._judged(error, order_fault_of).closes_market_s
        return msgspec.structs.replace(fault, closes_market_s=closes_s) if closes_s else fault

    async def explained(self, error: BaseException, *, of_order: bool = False) -> Fault:
        """The fault that `error` is, once it is known whether our clock caused it: the exchange is asked."""
        fault = self.order_fault(error) if of_order else self.fault(error)
        failure = self.failure(error)
        answered = failure.status is not None and not isinstance(error, UnprovenAnswer | TimeoutError)
        if not answered or fault.closes_market_s or not may_be_caused(fault, failure):
            return fault
        signs_time = profile_of(self.family).clock_tolerance_s < NEVER_S
        if not signs_time and fault.kind is not FaultKind.NONCE_CLOCK:
            return fault
        skew_s = await self._skew_s()
        return fault if skew_s is None else fault_of(failure, self._walls_s()[0], skew_s)

    def _judged(self, error: BaseException, judge: Callable[[Failure, float], Fault]) -> Fault:
        """The fault by our clock, or by the one that ccxt signs with, whichever differs from theirs."""
        failure = self.failure(error)
        found = [judge(failure, wall_s) for wall_s in self._walls_s()]
        return next((fault for fault in found if fault.kind is FaultKind.NONCE_CLOCK), found[0])

    def _walls_s(self) -> tuple[float, ...]:
        """What time it is, in seconds since 1970: by our clock, and by that of the ccxt instance."""
        own_ms: Any = getattr(self._newest, "milliseconds", None)
        wall_s = self._clock.now().wall_us / 1_000_000
        return (wall_s,) if own_ms is None else (wall_s, own_ms() / 1_000)

    async def _skew_s(self) -> float | None:
        """How far our clock is ahead of the exchange's; None where the exchange does not say."""
        fresh = self.copy()  # what the failed call has left must not be written over
        fresh.severed = self.severed
        try:
            async with asyncio.timeout(SKEW_S):
                theirs_s = int(await fresh.call("fetch_time")) / 1_000
        except Exception:  # noqa: BLE001 - this only explains a fault, and any trouble leaves it as it is
            return None
        return max((wall_s - theirs_s for wall_s in self._walls_s()), key=abs)

    def failure(self, error: BaseException) -> Failure:
        """What is known about a call that failed."""
        made = self._newest
        if isinstance(error, TimeoutError):
            made = None  # nothing was answered to this one, whatever was to another
        return Failure.of(
            error,
            status=None if made is None else made.last_status,
            body="" if made is None else made.last_body,
            family=self.family,
            text=self.redacted(_words(error)),
            retry_after="" if made is None else made.last_retry_after,
            headers={} if made is None else getattr(made, "last_headers", {}),
            exact_code=str(getattr(made, "exact_code", "")),
        )

    def observed(self, error: BaseException) -> Fault:
        """The fault that `error` is, which a trader's own call met: ccxt's text ends with the answer.

        The refusal of an order is a mistake in the order, where the exchange has no other word for it.
        """
        text = self.redacted(_words(error))
        _, brace, rest = str(error).partition("{")
        page, headers = self._owners_answer(str(error))
        failure = Failure.of(
            error,
            body=brace + rest or page,
            family=self.family,
            text=text,
            retry_after=headers.get(RETRY_AFTER, ""),
            headers=headers,
        )
        fault = order_fault_of(failure, self._clock.now().wall_us / 1_000_000)
        if fault.closes_market_s:
            return fault
        refused = fault.kind is FaultKind.BAD_RESPONSE and is_refused_order(failure)
        return Fault(FaultKind.CLIENT_BUG, fault.detail) if refused else fault

    def _owners_answer(self, words: str) -> tuple[str, Mapping[str, str]]:
        """The answer that a trader's own instance met, and its headers, if its error quotes that answer."""
        own = self._spec.instance
        body: object = getattr(own, "last_http_response", None)
        named: object = getattr(own, "last_response_headers", None)
        if not isinstance(body, str) or not body or body not in words:
            return "", NO_HEADERS
        return body, kept(cast("Mapping[str, str]", named)) if isinstance(named, Mapping) else NO_HEADERS

    async def close(self) -> None:
        """Let go of the instance; the session is shared and stays."""
        if self._made is not None and self._run is None:
            self._made.timeout_on_exit = 0
            await self._made.close()

    def redacted(self, text: str) -> str:
        """A text without the credentials, and without what the newest request carried."""
        return redacted_answer(text, (*self._secrets, *self._sent()))

    def _sent(self) -> list[str]:
        """What the last request carried in its headers: a server may repeat signatures and tokens."""
        headers: Any = getattr(self._newest, "last_request_headers", None)
        values = [str(value).removeprefix("Bearer ") for value in dict(headers or {}).values()]
        return [value for value in values if len(value) >= SHORTEST_TOKEN]


def _words(error: BaseException) -> str:
    """What an error says; first what lies beneath it, since ccxt's own text is often only the address."""
    text = f"{type(error).__name__}: {error}"
    cause = error.__cause__
    return text if cause is None else f"{type(cause).__name__}: {cause} ({text})"
