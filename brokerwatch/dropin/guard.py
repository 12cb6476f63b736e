"""A ccxt instance that never says "empty" when it could not ask: `safe = brokerwatch.guard(my_ccxt)`.

`safe` stands where the instance stood. Its `fetch_balance` asks through a strict copy
(lent_instance.py), compares the raw answers with the exchange's own envelope (proof.py), and then gives what
ccxt makes of them, to the last float. `watch_balance` and `watch_orders` of an asynchronous one return what
was read after each change that is pushed (feed.py). Every other call goes to the instance itself, which is
never changed and never closed here. What is raised is one of ccxt's exceptions too (errors.py).
"""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from functools import partialmethod
from types import MappingProxyType, TracebackType
from typing import Any, NoReturn

from brokerwatch.clock import Clock, SystemClock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.dropin.balance_call import SPEC_NAME, BalanceCall
from brokerwatch.dropin.errors import Unproven
from brokerwatch.dropin.feeds import Feeds
from brokerwatch.dropin.last_known import MARK, Watch
from brokerwatch.dropin.readers import Wanted, calling_task
from brokerwatch.errors import ConfigError, Problem
from brokerwatch.health.state_machine import BROKER_MAX_CONSECUTIVE_ERRORS

__all__ = ["MARK", "Unproven", "guard"]


def guard(
    instance: Any,
    *,
    last_known: bool = False,
    max_age_s: float | None = None,
    max_consecutive_errors: int = BROKER_MAX_CONSECUTIVE_ERRORS,
    deadline_s: float | None = None,
    clock: Clock | None = None,
) -> Any:
    """A stand-in for a ccxt instance, asynchronous or not, that never gives a false balance.

    `fetch_balance` raises when the answer proves nothing. With `last_known` it gives the last proven balance
    of the same `params` instead, where there is one that is young enough. Every balance then has the key
    "brokerwatch" with `stale`, `age_ms`, `as_of`, `fault`, `detail` and `error_count`. So that no balance
    loses its mark, `fetch_free_balance` and its like never give a last known. `watch_balance` returns and
    raises the same, after each change that the exchange pushes, and `watch_orders` returns whole orders.
    Every other call goes to `instance`.

    Three methods are added, and none of them asks the exchange. `is_available()` is false after
    `max_consecutive_errors` in a row and true after one success. `get_error_count()` is their number.
    `last_known(params)` is the newest proven balance, marked, or None.

    Args:
        instance: The ccxt instance. It is never changed and never closed.
        last_known: Whether `fetch_balance` may give the last proven balance in place of an error.
        max_age_s: Seconds after which a last proven balance is too old for that; None: never.
        max_consecutive_errors: Consecutive errors that make `is_available()` false.
        deadline_s: Seconds until an asynchronous `fetch_balance` ends, with its turn in the rate limit and
            all its pages; None: no end. Each request is ended by ccxt's own `timeout` in any case. A
            synchronous call cannot be ended: there `timeout` is for each read, and a server that drips
            holds the call.
        clock: Where the time comes from; None: the machine's clock.

    Returns:
        What stands where the instance stood. `isinstance` finds the instance's class in it.

    Raises:
        ConfigError: It is no ccxt instance, or a number cannot be.
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
    watch = Watch(
        instance,
        serves_last_known=last_known,
        max_age_s=max_age_s,
        threshold=max_consecutive_errors,
        clock=clock or SystemClock(),
    )
    return _AsyncGuarded(watch, deadline_s) if asynchronous else _SyncGuarded(watch)


def _mistake(argument: str, expected: str) -> ConfigError:
    return ConfigError((Problem("", f"{SPEC_NAME}.{argument}", expected),))


class _Guarded:
    """Passes on to the owner's instance whatever is not a balance."""

    brokerwatch_guarded = True
    """See GUARDED_MARK in config/broker_spec.py."""
    _watch: Watch
    _deadline_s: float | None

    def __init__(self, watch: Watch) -> None:
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
    _feeds: Feeds

    def __init__(self, watch: Watch, deadline_s: float | None) -> None:
        super().__init__(watch)
        object.__setattr__(self, "_deadline_s", deadline_s)
        object.__setattr__(self, "_feeds", Feeds(watch, deadline_s))

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
        question = BalanceCall(self._watch, params, fresh=fresh)
        try:
            return question.proven(await question.asked(self._deadline_s))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was proven
            return question.failed(error)

    # Not `async`: the caller is the task in which the call is written down. See readers.py.
    def watch_balance(self, params: dict[str, Any] = {}) -> Coroutine[Any, Any, dict[str, Any]]:  # noqa: B006 - as above
        """See `guard`."""
        return self._feeds.balance(params, calling_task())

    def watch_orders(
        self,
        symbol: str | None = None,
        since: int | None = None,
        limit: int | None = None,
        params: dict[str, Any] = {},  # noqa: B006 - as above
    ) -> Coroutine[Any, Any, list[dict[str, Any]]]:
        """See `guard`."""
        return self._feeds.orders(Wanted(symbol, since, limit), params, calling_task())

    watchBalance = watch_balance  # noqa: N815 - ccxt's other names
    watchOrders = watch_orders  # noqa: N815

    async def close(self, *arguments: Any, **named: Any) -> Any:
        """Close what is watched, and the owner's instance."""
        await self._feeds.close()
        return await self._watch.owner.close(*arguments, **named)

    async def __aenter__(self) -> _AsyncGuarded:
        await self._watch.owner.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> object:
        await self._feeds.close()
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
        question = BalanceCall(self._watch, params, fresh=fresh)
        try:
            if question.needs_markets():
                question.lent.load_markets()
                question.keep_markets()
            structure = question.lent.fetch_balance(question.params)
            return question.proven(structure)
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing was proven
            return question.failed(error)
