"""A strict copy of a trader's own ccxt instance, for calls that we make.

His instance is never changed and never closed. The session is his too: he may close it or put another in
its place at any moment, so it is taken anew for each request. Of what it would do by itself it does
nothing for us: it follows no redirect, and repeats nothing.
"""

from __future__ import annotations

import inspect
from functools import partial
from operator import is_
from typing import Any, Final

from brokerwatch.gateway.call_thread import NeverStarted
from brokerwatch.gateway.http_sessions import CERTIFICATES, Sessions, unredirected
from brokerwatch.gateway.strict_ccxt import clone

_METHODS: Final = frozenset({"request", "get", "post", "put", "delete", "patch"})


class SessionClosed(NeverStarted, RuntimeError):
    """The owner has closed the session of his instance, so nothing was sent."""


class Unredirected:
    """An owner's session, by which no redirect is followed: it would carry key and signature to a stranger,
    and his answer would be believed."""

    def __init__(self, session: Any) -> None:
        self._session = session

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._session, name)
        return partial(found, allow_redirects=False) if name in _METHODS else found


def is_async(instance: Any) -> bool:
    """Whether the calls of a ccxt instance are to be awaited."""
    fetch: Any = getattr(instance, "fetch_balance", None)
    return inspect.iscoroutinefunction(fetch)


def opened(owner: Any) -> None:
    """Open the session of an asynchronous instance as a call of the owner's own would: one that he closed
    stays closed, and ccxt raises."""
    owner.open(*((True,) if "lazy" in inspect.signature(owner.open).parameters else ()))


def borrow_async(owner: Any, sessions: Sessions) -> Any:
    """A copy of an asynchronous instance. Where he chose no session of his own it uses one of ours."""
    made = _borrow(owner, _Async)
    made.own_session, made.closed_by_user = False, False
    if made.ssl_context is None:
        made.ssl_context = False  # the sessions have one, and ccxt would make another that nobody uses
    made.brokerwatch_sessions = sessions
    return made


def borrow_sync(owner: Any) -> Any:
    """A copy of a synchronous instance."""
    made = _borrow(owner, _Sync)
    made.brokerwatch_seen = _Seen()
    return made


_classes: dict[tuple[type[Any], type[Any]], type[Any]] = {}


def _borrow(owner: Any, mixed_in: type[Any]) -> Any:
    made = clone(owner)
    of: type[Any] = made.__class__
    if (mixed_in, of) not in _classes:
        _classes[mixed_in, of] = type(of.__name__, (mixed_in, of), {})
    made.__class__ = _classes[mixed_in, of]
    made.__dict__.pop("session", None)
    made.brokerwatch_owner = owner
    return made


class _Async:
    """Mixed in before a strict class; `session` is the owner's at this moment, or ours."""

    brokerwatch_owner: Any
    brokerwatch_sessions: Sessions

    @property
    def session(self) -> Any:
        owner = self.brokerwatch_owner
        if owner.own_session and owner.verify is True and owner.cafile == CERTIFICATES:
            if self.__dict__.get("session") is None:
                self.brokerwatch_sessions.lend(self, large=True)
            return self.__dict__["session"]
        if owner.session is None and owner.own_session:
            try:
                opened(owner)
            except Exception as error:
                raise SessionClosed(f"the session cannot be opened: {error}") from error
        if owner.session is None or getattr(owner.session, "closed", False):
            raise SessionClosed("the owner of this ccxt instance has closed its session")
        return Unredirected(owner.session)

    @session.setter
    def session(self, lent: Any) -> None:
        self.__dict__["session"] = lent

    def get_socks_proxy_session(self, proxy: Any) -> Any:
        return Unredirected(self.brokerwatch_owner.get_socks_proxy_session(proxy))


class _Seen:
    """The session of an owner that was seen last, and what was made of it: a new copy has no connections."""

    def __init__(self) -> None:
        self._parts: tuple[Any, ...] = ()
        self._made: Any = None

    def of(self, session: Any) -> Any:
        """What was made of this session, anew when anything in it is another than before."""
        held: dict[str, Any] = session.__dict__
        parts: tuple[Any, ...] = (session, *held.values(), *session.adapters.values())
        if len(parts) != len(self._parts) or not all(map(is_, parts, self._parts)):
            self._parts, self._made = parts, unredirected(session)
        return self._made


class _Sync:
    """The same for a synchronous one; used in one thread at a time."""

    brokerwatch_owner: Any
    brokerwatch_seen: _Seen

    @property
    def session(self) -> Any:
        session = self.brokerwatch_owner.session
        if session is None:
            raise SessionClosed("the owner of this ccxt instance has taken its session away")
        return self.brokerwatch_seen.of(session)

    @session.setter
    def session(self, ignored: object) -> None:
        """It is the owner's."""
