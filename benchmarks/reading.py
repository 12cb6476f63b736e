"""What a trading loop pays for asking: the handle of a running cluster beside what else it might ask.

Every number is of one call and of the loop around it (timeit's, about 5 ns), which is the same for all. The
guarded calls guard a method that only returns: what is left is the price of the guard, paid on every call.
Guards that are not installed are left out: they come with the extra `bench`.
"""

from __future__ import annotations

import importlib
import timeit
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

import pykka

from benchmarks.measure import Numbers, Row, run
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings

ROWS: Final = (
    Row("empty", "an empty method", "ns"),
    Row("dict", "a dict lookup", "ns", over="empty"),
    Row("is_available", "`broker.is_available()`, expiry checked", "ns", over="empty", at_most=4.0),
    Row("reading", "`broker.reading()`", "ns", over="empty", at_most=4.0),
    Row("reading_available", "`broker.reading().available`", "ns", over="empty"),
    Row("ask", "an ask of a Pykka actor", "ns", over="empty"),
    Row("pybreaker", "a call guarded by pybreaker", "ns", over="empty"),
    Row("purgatory", "a call guarded by purgatory", "ns", over="empty"),
    Row("circuitbreaker", "a call guarded by circuitbreaker", "ns", over="empty"),
    Row("interlock", "a call guarded by interlock-cb", "ns", over="empty"),
)

FEWER: Final[Mapping[str, int]] = {"ask": 200, "purgatory": 20, "pybreaker": 10, "interlock": 10}
"""How many times fewer calls are timed of what takes longer."""
ROUNDS: Final = 7


class Plain:
    """What the least question costs."""

    def empty(self) -> None:
        """Answer nothing."""


class Asked(pykka.ThreadingActor):
    """Answers at once."""

    use_daemon_thread = True

    def on_receive(self, message: Any) -> Any:
        """Answer."""
        return message


async def account() -> Mapping[str, str]:
    """An account that always answers."""
    return {"USD": "100.00"}


def _within_purgatory(purgatory: Any, call: Callable[[], None]) -> Callable[[], None]:
    breakers = purgatory.SyncCircuitBreakerFactory(default_threshold=3, default_ttl=30)

    def guarded() -> None:
        with breakers.get_breaker("account"):
            call()

    return guarded


GUARDS: Final[Mapping[str, Callable[[Any, Callable[[], None]], Any]]] = {
    "pybreaker": lambda found, call: found.CircuitBreaker(fail_max=3, reset_timeout=30)(call),
    "purgatory": _within_purgatory,
    "circuitbreaker": lambda found, call: found.CircuitBreaker(failure_threshold=3, recovery_timeout=30)(
        call
    ),
    "interlock": lambda found, call: found.CircuitBreaker(name="account")(call),
}
"""How each library guards a call; by the names that they are imported by. Three strikes, half a minute."""


def measure(quick: bool) -> Numbers:  # noqa: FBT001 - see `measure.run`
    """Nanoseconds of each row: the quickest of several rounds, taken in turns."""
    calls, rounds = (2_000, 2) if quick else (200_000, ROUNDS)
    settings = ClusterSettings(remember=False, health_endpoint="tcp://127.0.0.1:*")
    plain, actor = Plain(), Asked.start()
    guarded: dict[str, Any] = {}
    for name, guard in GUARDS.items():
        with suppress(ModuleNotFoundError):
            guarded[name] = guard(importlib.import_module(name), plain.empty)
    with Cluster([BrokerSpec("account", fetch=account)], settings) as cluster:
        broker = cluster.broker("account")
        broker.get_account_balance()
        known: dict[str, Any] = {
            "plain": plain,
            "broker": broker,
            "actor": actor,
            "table": {"account": True},
            **guarded,
        }
        timers = {
            "empty": timeit.Timer("plain.empty()", globals=known),
            "dict": timeit.Timer("table['account']", globals=known),
            "is_available": timeit.Timer("broker.is_available()", globals=known),
            "reading": timeit.Timer("broker.reading()", globals=known),
            "reading_available": timeit.Timer("broker.reading().available", globals=known),
            "ask": timeit.Timer("actor.ask(1, timeout=5)", globals=known),
            **{name: timeit.Timer(f"{name}()", globals=known) for name in guarded},
        }
        found = {name: float("inf") for name in timers}
        for _ in range(rounds):
            for name, timer in timers.items():
                times = max(1, calls // FEWER.get(name, 1))
                found[name] = min(found[name], timer.timeit(times) / times * 1e9)
        if not broker.is_available():
            raise RuntimeError("the account is not available, so this is no measure of the usual answer")
    actor.stop()
    return found


if __name__ == "__main__":
    run(measure)
