"""A strict copy of a trader's own ccxt instance, for the calls that brokerwatch makes.

The owner's instance is never changed and never closed. Its session stays the owner's too. The owner may close
it or replace it at any moment, so it is read anew for each request. The copy follows no redirect and repeats
no request.

It relies on internals of ccxt that no documentation promises. They are as they were seen in ccxt 4.5.90. When
one of them moves, these tests of gateway/test_owner_instance fail:

    what of ccxt                       used for                              test
    `session` of a blocking instance   the owner's connections               [1] [2]
    `session` of an awaited instance   the same                              [3]
    `own_session`, `open(lazy)`        whether the owner chose the session   [3] [4]
    `closed_by_user`, `ssl_context`    no session of ccxt's own is made      [5]
    `verify`, `cafile`                 whether one of our sessions will do   [5]
    an instance has a `__dict__`, and  the copy gets the class of `mixed`    [1] [5]
    its `__class__` can be assigned
    `get_socks_proxy_session(proxy)`   no redirect through a proxy           none of its own (dropin has one)

    [1] test_a_synchronous_instance_is_read_exactly_and_left_as_it_was
    [2] test_the_session_of_a_synchronous_instance_is_the_one_that_it_has_now
    [3] test_the_owner_may_close_his_session_and_put_another_in_its_place
    [4] test_an_instance_that_its_owner_closed_is_not_opened_again
    [5] test_an_asynchronous_instance_is_asked_on_its_owner_s_loop_and_never_closed
"""

from __future__ import annotations

import inspect
from operator import is_
from typing import Any

from brokerwatch.gateway.call_thread import NeverStarted
from brokerwatch.gateway.http_sessions import CERTIFICATES, Sessions, Unredirected, unredirected
from brokerwatch.gateway.strict_ccxt import clone, mixed


class SessionClosed(NeverStarted, RuntimeError):
    """The owner has closed the session of the instance, so nothing was sent."""


def is_async(instance: Any) -> bool:
    """Whether the calls of a ccxt instance are to be awaited."""
    fetch: Any = getattr(instance, "fetch_balance", None)
    return inspect.iscoroutinefunction(fetch)


def opened(owner: Any) -> None:
    """Open the session of an asynchronous instance as a call of the owner's own would.

    A session that the owner closed stays closed, and ccxt raises.
    """
    owner.open(*((True,) if "lazy" in inspect.signature(owner.open).parameters else ()))


def borrow_async(owner: Any, sessions: Sessions) -> Any:
    """A copy of an asynchronous instance. It uses a session of ours where the owner chose none."""
    made = _borrow(owner, _Async)
    made.own_session, made.closed_by_user = False, False
    if made.ssl_context is None:
        made.ssl_context = False  # our sessions have one, and ccxt would make another that is never used
    made.brokerwatch_sessions = sessions
    return made


def borrow_sync(owner: Any) -> Any:
    """A copy of a synchronous instance."""
    made = _borrow(owner, _Sync)
    made.brokerwatch_seen = _Seen()
    return made


def _borrow(owner: Any, mixed_in: type[Any]) -> Any:
    made = clone(owner)
    made.__class__ = mixed(mixed_in, made.__class__)
    made.__dict__.pop("session", None)  # the class has a property of that name
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
    """Keeps what was made of the owner's newest session, since a new copy would have no connections."""

    def __init__(self) -> None:
        self._parts: tuple[Any, ...] = ()
        self._made: Any = None

    def of(self, session: Any) -> Any:
        """What was made of this session. It is made again when any part of the session was replaced."""
        held: dict[str, Any] = session.__dict__
        parts: tuple[Any, ...] = (session, *held.values(), *session.adapters.values())
        if len(parts) != len(self._parts) or not all(map(is_, parts, self._parts)):
            self._parts, self._made = parts, unredirected(session)
        return self._made


class _Sync:
    """Mixed in before a strict class of a synchronous instance. One thread at a time uses it."""

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
        """Ignored: the session is the owner's."""
