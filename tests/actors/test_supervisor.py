"""The supervisor with real threads and sockets: actors that hang, raise, die and come back."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from decimal import Decimal
from typing import Any

import pytest

from brokerwatch.actors.broker import BrokerActor
from brokerwatch.actors.protocol import Died, LookRound, Regroup
from brokerwatch.actors.supervisor import HealthSupervisor
from brokerwatch.bus.listener import Listener
from brokerwatch.cluster import members, wiring
from brokerwatch.cluster.cluster import STOP_S, Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import BalanceUnknown
from brokerwatch.gateway.loop import LoopThread
from brokerwatch.health.outcome import Fetching, FetchOutcome, Source
from brokerwatch.health.restarts import RESTART_LIMIT
from brokerwatch.messages import HealthState, Reading, Reason
from tests.support.clusters import ONLY_WHEN_ASKED, PATIENCE_S, Till, cluster_of, until, wait_for_reading


class Trap:
    """A source in front of another one: it can hang or raise inside the actor's own thread."""

    def __init__(self, inner: Source) -> None:
        self._inner = inner
        self.queue_s = inner.queue_s
        self.longest_wait_s = inner.longest_wait_s
        self.held_since_s = inner.held_since_s
        self.hang = False
        self.error: BaseException | None = None
        self.hanging = threading.Event()
        self.let_go = threading.Event()

    def spare_wait_s(self) -> float:
        return self._inner.spare_wait_s()

    def fetch(
        self, deadline_s: float, done: Callable[[FetchOutcome], object], *, spare: bool = False
    ) -> Fetching:
        if self.error is not None:
            raise self.error
        if self.hang:
            self.hanging.set()
            assert self.let_go.wait(PATIENCE_S)
        return self._inner.fetch(deadline_s, done, spare=spare)


@contextmanager
def trapped(
    monkeypatch: pytest.MonkeyPatch, *names: str
) -> Generator[tuple[Cluster, dict[str, Trap], Listener]]:
    """A cluster of callables, each behind a trap, and a subscriber to its health topic."""
    traps: dict[str, Trap] = {}
    make = wiring.own_source  # no setting makes an actor hang

    def source(spec: BrokerSpec, loop: LoopThread, parts: wiring.Parts) -> Source:
        traps[spec.name] = Trap(make(spec, loop, parts))
        return traps[spec.name]

    monkeypatch.setattr(wiring, "own_source", source)
    specs = [BrokerSpec(name, fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED) for name in names]
    with cluster_of(*specs) as cluster, Listener(cluster.health_endpoint) as listener:
        try:
            yield cluster, traps, listener
        finally:
            for trap in traps.values():
                trap.hang, trap.error = False, None
                trap.let_go.set()


def waiting(reason: Reason) -> Callable[[Reading], bool]:
    return lambda reading: not reading.available and reading.reason is reason


def back(reading: Reading) -> bool:
    return reading.state is HealthState.UNKNOWN and reading.reason is Reason.NEVER_SEEN


def at_once(shortest_s: float, longest_s: float) -> float:
    """The wait before a restart, without chance."""
    del longest_s
    return shortest_s


def test_an_actor_that_hangs_is_flipped_replaced_and_cannot_write_when_it_wakes(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with trapped(monkeypatch, "one", "two") as (cluster, traps, listener):
        one = cluster.broker("one")
        assert one.get_account_balance() == Decimal(100)
        first = one.reading()
        traps["one"].hang = True
        caller = threading.Thread(target=one.get_account_balance)
        caller.start()
        assert traps["one"].hanging.wait(PATIENCE_S)

        gone = wait_for_reading(listener, "one", lambda reading: not reading.available)
        assert gone.reason in {Reason.SILENT, Reason.RESTARTING}
        assert gone.cash == Decimal(100), "the last known survives"
        assert cluster.broker("two").is_available(), "no other broker is concerned"

        traps["one"].hang = False
        reborn = wait_for_reading(listener, "one", back)
        assert reborn.broker_epoch > first.broker_epoch
        assert reborn.cash == Decimal(100)
        assert not one.is_available(), "a restart is not evidence of health"
        assert "one is not available: silent: nothing heard for" in caplog.text

        traps["one"].let_go.set()  # the replaced one wakes up
        caller.join(PATIENCE_S)
        assert one.reading().broker_epoch == reborn.broker_epoch
        assert not one.is_available()

        assert one.get_account_balance() == Decimal(100)
        assert one.is_available()
        healthy = wait_for_reading(listener, "one", lambda reading: reading.available)
        assert healthy.broker_epoch == reborn.broker_epoch


@pytest.mark.parametrize("error", [RuntimeError("a bug"), SystemExit(1), KeyboardInterrupt()], ids=repr)
def test_an_actor_that_raises_is_flipped_restarted_and_back_after_a_success(
    monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    with trapped(monkeypatch, "one", "two") as (cluster, traps, listener):
        one = cluster.broker("one")
        one.get_account_balance()
        # A slow listener gets the newest reading alone, so the next life begins once this end was heard.
        end_was_heard = threading.Event()
        begin = BrokerActor.begin

        def begin_later(actor: BrokerActor) -> None:
            assert end_was_heard.wait(PATIENCE_S)
            begin(actor)

        monkeypatch.setattr(BrokerActor, "begin", begin_later)
        traps["one"].error = error
        assert one.get_account_balance() == Decimal(100), "the caller is answered although the actor died"
        wait_for_reading(listener, "one", waiting(Reason.RESTARTING))
        traps["one"].error = None
        end_was_heard.set()
        wait_for_reading(listener, "one", back)
        assert cluster.broker("two").is_available(), "an exit in one handler ends one actor, not all"
        assert one.get_account_balance() == Decimal(100)
        assert one.is_available()


def test_an_actor_that_dies_again_and_again_has_failed_and_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("brokerwatch.cluster.lives.random.uniform", at_once)
    begun = 0
    begin = BrokerActor.begin

    def dying(actor: BrokerActor) -> None:
        nonlocal begun
        begun += 1
        if begun > 1:
            raise RuntimeError("cannot begin")
        begin(actor)

    monkeypatch.setattr(BrokerActor, "begin", dying)
    with trapped(monkeypatch, "one") as (cluster, traps, listener):
        traps["one"].error = RuntimeError("a bug")
        with pytest.raises(BalanceUnknown, match="never answered"):
            cluster.broker("one").get_account_balance()
        failed = wait_for_reading(listener, "one", waiting(Reason.FAILED))
        assert f"{RESTART_LIMIT} restarts" in failed.detail
        assert begun == 1 + RESTART_LIMIT
        assert not cluster.broker("one").is_available()


def test_a_supervisor_that_dies_is_started_again_and_hears_everybody(monkeypatch: pytest.MonkeyPatch) -> None:
    with trapped(monkeypatch, "one", "two") as (cluster, _, listener):
        cluster.broker("one").get_account_balance()
        wait_for_reading(listener, "one", lambda reading: reading.cash == Decimal(100))
        epoch = next(heard.stamp.epoch for heard in listener.heard())
        died = threading.Event()
        handle = HealthSupervisor.handle

        def dying(supervisor: HealthSupervisor, message: object) -> None:
            if isinstance(message, LookRound) and not died.is_set():
                died.set()
                raise RuntimeError("a bug in the supervisor")
            handle(supervisor, message)

        monkeypatch.setattr(HealthSupervisor, "handle", dying)
        assert died.wait(PATIENCE_S)

        def heard_of_the_next(reading: Reading) -> bool:
            later = any(heard.stamp.epoch > epoch for heard in listener.heard())
            return later and reading.available and reading.cash == Decimal(100)

        wait_for_reading(listener, "one", heard_of_the_next)
        assert cluster.broker("one").is_available()


def test_a_stop_ends_even_when_one_actor_hangs(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with trapped(monkeypatch, "one", "two", "three") as (cluster, traps, listener):
        traps["two"].hang = True

        def ask() -> None:
            with suppress(BalanceUnknown):
                cluster.broker("two").get_account_balance()

        caller = threading.Thread(target=ask)
        caller.start()
        assert traps["two"].hanging.wait(PATIENCE_S)
        stopping = threading.Thread(target=cluster.stop)
        stopping.start()
        wait_for_reading(listener, "one", waiting(Reason.SHUTDOWN))
        wait_for_reading(listener, "two", waiting(Reason.SHUTDOWN))
        stopping.join(STOP_S + 20.0)  # sooner than the actor is let go
        assert not stopping.is_alive()
        # On a machine under load others may be late, too.
        assert re.search(r"left behind: .*\btwo\b", caplog.text)
        assert "is restarted" not in caplog.text, "an actor that stops because it was told to is not dead"
        assert not cluster.broker("one").is_available()
        assert cluster.broker("one").reading().reason is Reason.SHUTDOWN
        traps["two"].let_go.set()
        caller.join(PATIENCE_S)


def test_when_nobody_renews_a_reading_it_expires_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """Actor and supervisor dead, in one moment: nothing is left that could turn the reading."""
    with trapped(monkeypatch, "one") as (cluster, _, _listener):
        one = cluster.broker("one")
        one.get_account_balance()
        assert one.is_available()
        reading = one.reading()
        cluster.stop()
        # The reading itself, as a trader may have kept it: it does not need anybody to turn it.
        expires = threading.Event()
        timer = threading.Timer(max(0.0, reading.valid_until_s - reading.clock.up_s()) + 0.01, expires.set)
        timer.start()
        assert expires.wait(PATIENCE_S)
        timer.join()
        assert not reading.available
        assert reading.reason is Reason.SILENT
        assert reading.stale
        assert reading.cash == Decimal(100)


def test_when_no_exchange_can_be_reached_it_is_said_once_that_it_is_our_network(
    caplog: pytest.LogCaptureFixture,
) -> None:
    tills = {"one": Till(), "two": Till()}
    specs = [BrokerSpec(name, fetch=till, poll_interval_s=ONLY_WHEN_ASKED) for name, till in tills.items()]
    with cluster_of(*specs) as cluster, Listener(cluster.health_endpoint) as listener:
        for name, till in tills.items():
            cluster.broker(name).get_account_balance()
            till.failure = ConnectionError("no route to host")
        for name in tills:
            for _ in range(3):
                cluster.broker(name).get_account_balance()
        for name in tills:
            wait_for_reading(listener, name, waiting(Reason.LOCAL_NETWORK))
        tills["one"].failure = None
        assert cluster.broker("one").get_account_balance() == Decimal(100)
        assert cluster.broker("one").is_available(), "at once: it is a reason and no veto"
        wait_for_reading(listener, "two", waiting(Reason.ERRORS))
    assert caplog.text.count("our own network") == 1


def test_a_supervisor_that_looks_before_it_hears_that_a_broker_left_looks_over_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """On a busy machine the actor has ended, and its place on the board is gone, before `Regroup` comes."""
    monkeypatch.setattr(members, "SETTLES_S", 0.1)
    handle = HealthSupervisor.handle
    left = threading.Event()
    died = threading.Event()

    def late(supervisor: HealthSupervisor, message: Any) -> None:
        if isinstance(message, Regroup):
            assert left.wait(PATIENCE_S)
            life = supervisor._lives["a"]  # pyright: ignore[reportPrivateUsage] - what it knows of it
            until(lambda: not life.ref.is_alive())
            handle(supervisor, Died("a", life.epoch, "it was stopped"))
            handle(supervisor, LookRound())
            handle(supervisor, message)
            died.set()
        else:
            handle(supervisor, message)

    specs = [BrokerSpec(name, fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED) for name in ("a", "b")]
    with cluster_of(*specs) as cluster:
        cluster.broker("b").get_account_balance()
        monkeypatch.setattr(HealthSupervisor, "handle", late)
        cluster.remove("a")
        left.set()
        assert died.wait(PATIENCE_S)
        until(lambda: cluster.broker("b").is_available())
    assert "the supervisor died" not in caplog.text
    assert "a is restarted" not in caplog.text
