"""The strict copy of a guarded instance that makes one call, and shares what must be shared.

The session, the nonces and the turn in the rate limit are those of the owner's instance. What the copy
recorded is about its one call alone.
"""

from __future__ import annotations

from typing import Any, Final, cast

from brokerwatch.dropin.errors import CCXT
from brokerwatch.exchanges import json_text
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.gateway import strict_ccxt
from brokerwatch.gateway.http_sessions import Unredirected
from brokerwatch.gateway.owner_instance import SessionClosed, opened

MAX_REQUESTS: Final = 500
"""Requests of one call; pages that never end are a broken answer."""


class _LentInstance:
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
        """The owner's counter, which rises for each key."""
        return self.brokerwatch_owner.incrementing_nonce()

    def get_socks_proxy_session(self, proxy: Any) -> Any:
        return Unredirected(self.brokerwatch_owner.get_socks_proxy_session(proxy))

    def fetch(self, *request: Any, **named: Any) -> Any:
        self.brokerwatch_requests += 1
        if self.brokerwatch_requests > MAX_REQUESTS:
            raise UnprovenAnswer(f"the balance does not end after {MAX_REQUESTS} requests")
        return cast("Any", super()).fetch(*request, **named)

    def on_json_response(self, text: str) -> Any:
        json_text.parsed(text)  # refuses NaN, and keys that stand twice
        # As ccxt reads it and not as we do: `info` is to have its numbers.
        return cast("Any", super(strict_ccxt.Strict, cast("Any", self))).on_json_response(text)

    def handle_errors(
        self, code: int, reason: str, url: str, method: str, headers: Any, body: str, *rest: Any
    ) -> Any:
        try:
            found = cast("Any", super()).handle_errors(code, reason, url, method, headers, body, *rest)
        except CCXT.BaseError as refused:
            if not str(refused).startswith("HTTP "):
                raise
            # strict_ccxt.py refused it before ccxt could. A bot's handlers know ccxt's class for it.
            try:
                cast("Any", self).handle_http_status_code(code, reason, url, method, body)
            except CCXT.BaseError as theirs:
                raise type(theirs)(str(refused)) from None
            if not 200 <= code < 300:
                # ccxt's synchronous side has this class for any other status of an error.
                raise CCXT.ExchangeError(str(refused)) from None
            raise
        self.brokerwatch_answers.append((url, body))
        return found


def lend(owner: Any) -> Any:
    """A strict copy of the owner's instance for one call."""
    if hasattr(owner, "own_session"):
        opened(owner)
    found = strict_ccxt.clone(owner)
    found.__class__ = strict_ccxt.mixed(_LentInstance, found.__class__)
    found.brokerwatch_owner = owner
    found.brokerwatch_answers = []
    found.brokerwatch_requests = 0
    found.enableRateLimit = owner.enableRateLimit
    found.session = Unredirected(owner.session)
    found.markets_loading, found.reloading_markets = None, False
    return found


class _LentForLong:
    """Mixed in before a lent copy that outlives a call: its session is the one that the owner has now."""

    brokerwatch_owner: Any
    brokerwatch_answers: list[tuple[str, str]]
    brokerwatch_requests: int

    def fetch(self, *request: Any, **named: Any) -> Any:
        # What it asks for, such as a token, is asked for again with each connection, and is no balance.
        self.brokerwatch_answers, self.brokerwatch_requests = [], 0
        return cast("Any", super()).fetch(*request, **named)

    @property
    def session(self) -> Any:
        session = self.brokerwatch_owner.session
        if session is None or session.closed:
            raise SessionClosed("the owner of this ccxt instance has closed its session")
        return Unredirected(session)

    @session.setter
    def session(self, ignored: object) -> None:
        """Ignored: the session is the owner's."""


def lend_for_long(owner: Any) -> Any:
    """The same as `lend` for a stream: the owner may close its session, or replace it."""
    found = lend(owner)
    found.__dict__.pop("session")  # the class has a property of that name
    found.__class__ = strict_ccxt.mixed(_LentForLong, found.__class__)
    return found


def is_ccxts(owner: Any) -> bool:
    """Whether its class is ccxt's own. A trader's subclass may change what is read, and need markets."""
    return str(owner.__class__.__module__).startswith("ccxt.")
