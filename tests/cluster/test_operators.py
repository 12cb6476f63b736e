"""Operators' commands: hold, release, reset, and the history of them.

Held out is out whatever happens; a release gives the state that would have been; what was final ends by
a reset and by nothing else.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, cast

import ccxt
import pytest

from brokerwatch import BalanceUnknown, Cluster, ControlError, StateFolderTaken
from brokerwatch.actors.broker import BrokerActor
from brokerwatch.actors.protocol import LookRound
from brokerwatch.actors.supervisor import HealthSupervisor
from brokerwatch.bus.listener import Listener
from brokerwatch.cli.text import history_line, history_object
from brokerwatch.cli.time_arguments import moment
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.config.policy import GUARDED
from brokerwatch.errors import StoreError
from brokerwatch.messages import HealthState, Reading, Reason
from brokerwatch.simulator import SimulatedKraken, serve
from brokerwatch.storage.backlog import Batch
from brokerwatch.storage.records import Transition
from brokerwatch.storage.state_folder import store_of, stored_history
from tests.support.clusters import (
    ONLY_WHEN_ASKED,
    Till,
    cluster_of,
    simulated_spec,
    until,
    wait_for_reading,
)
from tests.support.command import Done, command
from tests.support.ports import free_endpoint
from tests.support.programs import BROKERWATCH, Program

pytestmark = pytest.mark.usefixtures("patient_stops")

HELD: Final = (False, Reason.HELD_OUT)


def own(name: str, till: Till, **values: Any) -> BrokerSpec:
    """A broker that is asked only on demand, and answers as its till says."""
    return BrokerSpec(name, fetch=till, poll_interval_s=ONLY_WHEN_ASKED, **values)


def at_once(shortest_s: float, longest_s: float) -> float:
    """The wait before a restart, the shortest one."""
    del longest_s
    return shortest_s


def answer(reading: Reading) -> tuple[bool, Reason]:
    return reading.available, reading.reason


def ask_once(cluster: Cluster, name: str) -> None:
    with suppress(BalanceUnknown):
        cluster.broker(name).get_account_balance()


def soon(seconds: float) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def settings_of(folder: Path) -> ClusterSettings:
    return ClusterSettings(state=str(folder))


def told(folder: Path, broker: str | None = None) -> list[tuple[str, str, str]]:
    """The history as (event, before, after); empty as long as nothing is stored."""
    try:
        return [
            (line.event, line.before, line.after)
            for line in stored_history(settings_of(folder), broker, None, None)
        ]
    except StoreError:
        return []


# --- hold and release ----------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["simple", "guarded"])
def test_the_log_and_the_history_of_an_account_that_is_held_never_say_that_it_is_available(
    policy: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    till = Till()
    with cluster_of(own("a", till, policy=policy), state=str(tmp_path)) as cluster:
        for _ in range(2):
            ask_once(cluster, "a")
        cluster.hold("a", "moving funds")
        caplog.clear()
        till.failure = ConnectionError("down")
        for _ in range(3):
            ask_once(cluster, "a")
        till.failure = None
        for _ in range(2):
            ask_once(cluster, "a")
        assert cluster.reading("a").state is HealthState.HEALTHY
        assert "a answers again, and is not available: held_out" in caplog.text
        assert "available again" not in caplog.text
    lines = list(stored_history(settings_of(tmp_path), None, None, None))
    hold = next(place for place, line in enumerate(lines) if line.after == "hold")
    outage = [line for line in lines[hold:] if line.event == "state"]
    assert outage[-1].after == "healthy"
    assert {(line.available, line.reason) for line in outage} == {(False, Reason.HELD_OUT)}
    assert any("ConnectionError: down" in line.detail for line in outage), "what happened is still said"


def test_a_hold_is_shown_everywhere_with_who_and_why_and_the_money_stays_good(tmp_path: Path) -> None:
    with cluster_of(own("k", Till()), own("other", Till()), state=str(tmp_path)) as cluster:
        for name in ("k", "other"):
            ask_once(cluster, name)
        with Listener(cluster.health_endpoint) as listener:
            wait_for_reading(listener, "k", lambda reading: reading.available)
            assert cluster.hold("k", "  moving funds ") == "k is held out by this program: moving funds"
            heard = wait_for_reading(listener, "k", lambda reading: not reading.available)
            for reading in (heard, cluster.broker("k").reading(), cluster.readings()[0]):
                assert answer(reading) == HELD
                assert reading.detail == "by this program: moving funds"
                assert reading.state is HealthState.HEALTHY, "the evidence is told beside it"
                assert (reading.cash, reading.stale) == (Decimal(100), False)
            assert not cluster.broker("k").is_available()
            assert cluster.broker("other").is_available()
            assert cluster.release("k") == "k is released and is available"
            wait_for_reading(listener, "k", lambda reading: reading.available)
        until(lambda: len(told(tmp_path, "k")) >= 5)
    assert [line for line in told(tmp_path, "k") if "never_seen" not in line] == [
        ("operator", "this program", "hold"),
        ("veto", "ok", "held_out"),
        ("operator", "this program", "release"),
        ("veto", "held_out", "ok"),
    ]


NOTHING, FAULT, CLOSED = None, ConnectionError("refused"), ccxt.OnMaintenance("closed")
STORIES: Final[dict[str, tuple[BaseException | None, ...]]] = {
    "sound": (NOTHING, NOTHING),
    "an outage that is over": (NOTHING, FAULT, FAULT, FAULT, FAULT, NOTHING, NOTHING),
    "an outage that goes on": (NOTHING, FAULT, FAULT, FAULT, FAULT),
    "one error": (NOTHING, FAULT),
    "half recovered": (FAULT, FAULT, FAULT, NOTHING),
    "maintenance": (NOTHING, CLOSED),
    "after maintenance": (NOTHING, CLOSED, NOTHING),
    "wrong credentials": (NOTHING, ccxt.AuthenticationError("no such key")),
    "never answered": (),
}


@pytest.mark.parametrize("policy", ["simple", "guarded"])
def test_whatever_befalls_a_held_broker_it_is_out_and_a_release_gives_what_would_have_been(
    tmp_path: Path, policy: str
) -> None:
    tills = {f"{kind}-{number}": Till() for number in range(len(STORIES)) for kind in ("free", "held")}
    specs = [own(name, till, policy=policy, fetch_deadline_s=5.0) for name, till in tills.items()]
    with cluster_of(*specs, state=str(tmp_path)) as cluster, Listener(cluster.health_endpoint) as listener:
        for number, story in enumerate(STORIES.values()):
            free, held = f"free-{number}", f"held-{number}"
            cluster.hold(held, "watch me")
            wait_for_reading(listener, held, lambda reading: answer(reading) == HELD)
            for outcome in story:
                for name in (free, held):
                    tills[name].failure = outcome
                    ask_once(cluster, name)
                assert answer(cluster.broker(held).reading()) == HELD
                assert not cluster.broker(held).is_available()
        heard = [one.reading for one in listener.heard() if one.reading.broker.startswith("held")]
        assert len(heard) == len(STORIES)
        assert all(answer(reading) == HELD for reading in heard)
        for number, title in enumerate(STORIES):
            would_be = cluster.broker(f"free-{number}").reading()
            held = f"held-{number}"
            said = cluster.release(held)
            found = cluster.broker(held).reading()
            assert _essence(found) == _essence(would_be), title
            assert said.endswith(
                "is available" if would_be.available else f"not available: {would_be.reason}"
            ), title


def _supervised(listener: Listener, name: str) -> Reading:
    return listener.readings()[name]


def _essence(reading: Reading) -> tuple[object, ...]:
    return (reading.state, reading.verdict, reading.error_count, reading.fault, reading.cash, reading.detail)


def held_and_watched(cluster: Cluster) -> None:
    """Take `k` out while it is healthy."""
    ask_once(cluster, "k")
    cluster.hold("k", "watch me")


def ends_with_its_release(cluster: Cluster) -> None:
    """Release `k`: the hold was all that kept it out. The supervisor may see the new life a moment later."""
    until(lambda: cluster.broker("k").reading().state is HealthState.HEALTHY)
    assert cluster.release("k").startswith("k is released")
    until(cluster.broker("k").is_available)


def test_the_death_of_its_actor_does_not_end_a_hold(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brokerwatch.cluster.lives.random.uniform", at_once)
    till = Till()
    with cluster_of(own("k", till), state=str(tmp_path)) as cluster:
        held_and_watched(cluster)
        first = cluster.broker("k").reading().broker_epoch
        seen: list[tuple[bool, Reason]] = []
        handle, killed = BrokerActor.handle, threading.Event()

        def dying(actor: BrokerActor, message: Any) -> None:
            if not killed.is_set():
                killed.set()
                raise RuntimeError("a bug in an actor")
            handle(actor, message)

        monkeypatch.setattr(BrokerActor, "handle", dying)

        def reborn() -> bool:
            reading = cluster.broker("k").reading()
            seen.append(answer(reading))
            return reading.broker_epoch > first

        def asked_again() -> bool:
            ask_once(cluster, "k")  # the board names the new life a moment before the new one can hear
            return till.fetches == 2

        until(reborn)
        until(asked_again)
        seen.append(answer(cluster.broker("k").reading()))
        assert set(seen) == {HELD}, "it was not out at one moment, or out for another reason"
        ends_with_its_release(cluster)


def test_the_death_of_the_supervisor_does_not_end_a_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brokerwatch.cluster.lives.random.uniform", at_once)
    till = Till()
    with (
        cluster_of(own("k", till), state=str(tmp_path)) as cluster,
        Listener(cluster.health_endpoint) as listener,
    ):
        held_and_watched(cluster)
        wait_for_reading(listener, "k", lambda reading: answer(reading) == HELD)
        seen: list[tuple[bool, Reason]] = []
        watch, gone = HealthSupervisor.handle, threading.Event()
        epoch = next(one.stamp.epoch for one in listener.heard())

        def failing(supervisor: HealthSupervisor, message: Any) -> None:
            if isinstance(message, LookRound) and not gone.is_set():
                gone.set()
                raise RuntimeError("a bug in the supervisor")
            watch(supervisor, message)

        monkeypatch.setattr(HealthSupervisor, "handle", failing)

        def watched_again() -> bool:
            seen.append(answer(cluster.broker("k").reading()))
            return any(one.stamp.epoch > epoch for one in listener.heard())

        until(watched_again)
        wait_for_reading(listener, "k", lambda reading: answer(reading) == HELD)
        ask_once(cluster, "k")
        seen.append(answer(cluster.broker("k").reading()))
        assert set(seen) == {HELD}, "it was not out at one moment, or out for another reason"
        assert till.fetches == 2, "it is watched all the while"
        wait_for_reading(listener, "k", lambda reading: reading.state is HealthState.HEALTHY)
        ends_with_its_release(cluster)


def test_a_hold_may_be_given_again_with_another_reason_and_another_end(tmp_path: Path) -> None:
    with cluster_of(own("k", Till()), state=str(tmp_path)) as cluster:
        end = soon(3.0)
        cluster.hold("k", "first", until=end)
        cluster.hold("k", "second")
        assert cluster.broker("k").reading().detail == "by this program: second"
        until(lambda: ("operator", "this program", "hold") in told(tmp_path))
        until(lambda: datetime.now(UTC) > end)
    with cluster_of(own("k", Till()), state=str(tmp_path)) as cluster:
        assert cluster.broker("k").reading().detail == "by this program: second"
        ask_once(cluster, "k")
        assert answer(cluster.broker("k").reading()) == HELD
        cluster.release("k")
        assert cluster.broker("k").is_available()


def test_a_hold_with_an_end_ends_by_itself_within_a_heartbeat_and_that_is_history(tmp_path: Path) -> None:
    with (
        cluster_of(own("k", Till()), state=str(tmp_path)) as cluster,
        Listener(cluster.health_endpoint) as listener,
    ):
        ask_once(cluster, "k")
        end = soon(3.0)
        said = cluster.hold("k", "short", until=end)
        assert said.endswith(f", until {end:%Y-%m-%d %H:%M:%S} UTC")
        wait_for_reading(listener, "k", lambda reading: answer(reading) == HELD)
        wait_for_reading(listener, "k", lambda reading: reading.available)
        assert datetime.now(UTC) >= end, "never before its end"
        with pytest.raises(ControlError, match="k is not held out"):
            cluster.release("k")
        until(lambda: ("veto", "held_out", "ok") in told(tmp_path, "k"))
        assert ("operator", "its own end", "release") in told(tmp_path, "k")
    with cluster_of(own("k", Till()), state=str(tmp_path)) as cluster:
        assert cluster.broker("k").reading().reason is not Reason.HELD_OUT


def test_a_hold_outlives_a_restart_with_its_end(tmp_path: Path) -> None:
    with cluster_of(own("k", Till()), state=str(tmp_path)) as cluster:
        end = soon(15.0)
        cluster.hold("k", "over a restart", until=end)
    with cluster_of(own("k", Till()), state=str(tmp_path)) as cluster:
        assert answer(cluster.broker("k").reading()) == HELD
        assert "over a restart, until" in cluster.broker("k").reading().detail
        ask_once(cluster, "k")
        assert not cluster.broker("k").is_available()
        until(cluster.broker("k").is_available)
        assert datetime.now(UTC) >= end


def test_a_hold_whose_end_came_while_nobody_ran_is_over(tmp_path: Path) -> None:
    with cluster_of(own("k", Till()), state=str(tmp_path)) as cluster:
        end = soon(3.0)
        cluster.hold("k", "short", until=end)
    until(lambda: datetime.now(UTC) > end)
    for _ in range(2):
        with cluster_of(own("k", Till()), state=str(tmp_path)) as cluster:
            assert cluster.broker("k").reading().reason is not Reason.HELD_OUT
            ask_once(cluster, "k")
            assert cluster.broker("k").is_available()
    assert told(tmp_path).count(("operator", "its own end", "release")) == 1


def test_a_hold_waits_for_a_broker_that_is_left_out_of_the_configuration_for_a_while(tmp_path: Path) -> None:
    both = (own("a", Till()), own("b", Till()))
    with cluster_of(*both, state=str(tmp_path)) as cluster:
        cluster.hold("b", "watch me")
    with cluster_of(both[0], state=str(tmp_path)):
        pass
    with cluster_of(*both, state=str(tmp_path)) as cluster:
        assert answer(cluster.broker("b").reading()) == HELD


def test_what_python_asks_for_is_looked_at_as_closely_as_what_comes_over_the_socket(tmp_path: Path) -> None:
    with cluster_of(own("k", Till()), state=str(tmp_path)) as cluster:
        with pytest.raises(ControlError, match="before the year 2100"):
            cluster.hold("k", "for ever", until=datetime(9999, 12, 31, tzinfo=UTC))
        with pytest.raises(ControlError, match="up to 160 characters"):
            cluster.hold("k", "x" * 161)
        with pytest.raises(ValueError, match="with its time zone"):
            cluster.hold("k", "for a while", until=datetime(2099, 1, 1))  # noqa: DTZ001 - just this is refused
        assert answer(cluster.broker("k").reading()) != HELD
        cluster.hold("k", "two\nlines\x00 of \x1b[31mred")
        assert cluster.broker("k").reading().detail == "by this program: two lines of [31mred"
        cluster.release("k")


def test_a_reset_says_what_it_could_do(tmp_path: Path) -> None:
    with cluster_of(own("k", Till()), state=str(tmp_path)) as cluster:
        assert cluster.reset("k") == "nothing was final for k; it asks its exchange now"


def test_a_hold_needs_a_reason_an_end_that_is_to_come_and_a_broker_that_is_there(tmp_path: Path) -> None:
    with cluster_of(own("b", Till()), own("a", Till()), state=str(tmp_path)) as cluster:
        refused: list[tuple[Callable[[], str], str]] = [
            (lambda: cluster.hold("a", " "), "a hold needs a reason"),
            (lambda: cluster.hold("a", "x", until=soon(-1)), "that moment is over"),
            (lambda: cluster.hold("c", "x"), "no broker named 'c' in this cluster; there are: a, b"),
            (lambda: cluster.release("c"), "there are: a, b"),
            (lambda: cluster.reset("c"), "there are: a, b"),
            (lambda: cluster.release("a"), "a is not held out"),
        ]
        for command, expected in refused:
            with pytest.raises(ControlError, match=expected):
                command()
    assert all(event != "operator" for event, _, _ in told(tmp_path)), "what was not done is no history"
    with pytest.raises(ControlError, match="not running"):
        cluster.hold("a", "too late")


# --- reset ---------------------------------------------------------------------------------------


@pytest.fixture
def kraken() -> Iterator[SimulatedKraken]:
    exchange = SimulatedKraken()
    with serve(exchange):
        yield exchange


def heartbeats(listener: Listener, name: str, count: int) -> None:
    """So many signs of life of this broker's actor, each of which could have asked."""
    versions: set[int] = set()

    def lived() -> bool:
        versions.add(_supervised(listener, name).version)
        return len(versions) > count

    until(lived)


def test_a_final_refusal_ends_private_calls_until_a_reset_and_over_a_restart(
    kraken: SimulatedKraken, tmp_path: Path
) -> None:
    rules = replace(GUARDED, auth_probes_s=(2.0,))
    spec = simulated_spec(kraken, "k", policy="guarded", rules=rules, poll_interval_s=0.05)
    with cluster_of(spec, state=str(tmp_path)) as cluster, Listener(cluster.health_endpoint) as listener:
        wait_for_reading(listener, "k", lambda reading: reading.available)
        money = cluster.broker("k").reading().cash
        kraken.set_fault("bad_key")
        refused = wait_for_reading(listener, "k", lambda reading: reading.reason is Reason.AUTH)
        assert "asked again at" in refused.detail
        calls = kraken.private_calls
        until(lambda: "`brokerwatch reset`" in listener.reading("k").detail)
        assert kraken.private_calls == calls + 1, "it was confirmed once"
        calls += 1
        kraken.mend()
        for _ in range(10):
            assert cluster.broker("k").get_account_balance() == money, "the last known, and no call"
        heartbeats(listener, "k", 10)
        assert kraken.private_calls == calls, "not one private call between the refusal and the reset"
        until(
            lambda: ("veto", "errors", "auth") in told(tmp_path) or ("veto", "ok", "auth") in told(tmp_path)
        )

    with cluster_of(spec, state=str(tmp_path)) as cluster, Listener(cluster.health_endpoint) as listener:
        wait_for_reading(listener, "k", lambda reading: reading.reason is Reason.AUTH)
        heartbeats(listener, "k", 10)
        assert cluster.broker("k").get_account_balance() == money
        assert kraken.private_calls == calls, "the same credentials are still refused"
        assert cluster.reset("k") == "k may ask its exchange again"
        wait_for_reading(listener, "k", lambda reading: reading.available)
        assert kraken.private_calls >= calls + 2, "it proved itself by two successes"


def test_other_credentials_end_what_was_final_for_the_old_ones(
    kraken: SimulatedKraken, tmp_path: Path
) -> None:
    rules = replace(GUARDED, auth_probes_s=(600.0,))  # on a machine under load two lives take seconds
    right = simulated_spec(kraken, "k", policy="guarded", rules=rules, poll_interval_s=0.05)
    wrong = replace(
        right, credentials=MappingProxyType({**right.credentials, "secret": "d3JvbmcgYnV0IGJhc2U2NA=="})
    )
    for _ in range(2):
        with cluster_of(wrong, state=str(tmp_path)) as cluster, Listener(cluster.health_endpoint) as listener:
            wait_for_reading(listener, "k", lambda reading: reading.reason is Reason.AUTH)
    assert kraken.private_calls == 1, "the second life did not ask again before the time"
    with cluster_of(right, state=str(tmp_path)) as cluster, Listener(cluster.health_endpoint) as listener:
        wait_for_reading(listener, "k", lambda reading: reading.available)


def test_a_reset_does_not_end_a_lockout(kraken: SimulatedKraken, tmp_path: Path) -> None:
    spec = simulated_spec(kraken, "k", policy="guarded", poll_interval_s=0.05)
    with cluster_of(spec, state=str(tmp_path)) as cluster, Listener(cluster.health_endpoint) as listener:
        wait_for_reading(listener, "k", lambda reading: reading.available)
        kraken.set_fault("locked_out")
        wait_for_reading(listener, "k", lambda reading: reading.reason is Reason.LOCKED_OUT)
        calls = kraken.private_calls
        kraken.mend()
        cluster.reset("k")
        heartbeats(listener, "k", 5)
        assert answer(cluster.broker("k").reading()) == (False, Reason.LOCKED_OUT)
        assert kraken.private_calls == calls
    assert not [line for line in told(tmp_path) if line[:2] == ("veto", "locked_out")], (
        "not for a moment either"
    )


def test_a_reset_starts_a_failed_actor_again_also_under_a_hold(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("brokerwatch.cluster.lives.random.uniform", at_once)
    begin, sick = BrokerActor.begin, threading.Event()

    def dying(actor: BrokerActor) -> None:
        if sick.is_set():
            raise RuntimeError("cannot begin")
        begin(actor)

    handle = BrokerActor.handle

    def failing(actor: BrokerActor, message: Any) -> None:
        if sick.is_set():
            raise RuntimeError("a bug")
        handle(actor, message)

    monkeypatch.setattr(BrokerActor, "begin", dying)
    monkeypatch.setattr(BrokerActor, "handle", failing)
    with (
        cluster_of(own("k", Till()), state=str(tmp_path)) as cluster,
        Listener(cluster.health_endpoint) as listener,
    ):
        ask_once(cluster, "k")
        sick.set()
        wait_for_reading(listener, "k", lambda reading: reading.reason is Reason.FAILED, patience_s=60.0)
        cluster.hold("k", "looking at it")
        sick.clear()
        assert cluster.reset("k") == "k is started again"
        wait_for_reading(listener, "k", lambda reading: reading.state is HealthState.UNKNOWN)
        assert cluster.broker("k").get_account_balance() == Decimal(100)
        assert answer(cluster.broker("k").reading()) == HELD, "a reset is no release"
        wait_for_reading(listener, "k", lambda reading: reading.state is HealthState.HEALTHY)
        cluster.release("k")
        assert cluster.broker("k").is_available()


# --- two clusters --------------------------------------------------------------------------------


def test_a_second_cluster_on_one_state_folder_is_refused_with_the_process_that_has_it(tmp_path: Path) -> None:
    with cluster_of(own("k", Till()), state=str(tmp_path)) as first:
        second = cluster_of(own("k", Till()), state=str(tmp_path))
        with pytest.raises(StateFolderTaken, match=f"process {os.getpid()} runs a cluster .*{tmp_path.name}"):
            second.start()
        second.stop()
        assert first.hold("k", "still the first's") == "k is held out by this program: still the first's"
        with cluster_of(own("k", Till()), state=str(tmp_path / "other")):
            pass
    with cluster_of(own("k", Till()), state=str(tmp_path)) as third:
        assert answer(third.broker("k").reading()) == HELD


# --- the commands, as a shell meets them ---------------------------------------------------------


class Desk:
    """A configuration of one simulated account, and the commands of its operator."""

    def __init__(self, exchange: SimulatedKraken, folder: Path) -> None:
        self.endpoint = free_endpoint()
        self.folder = folder
        self.environment = {
            "K_API_KEY": exchange.credentials["api_key"],
            "K_API_SECRET": exchange.credentials["secret"],
        }
        urls = "\n".join(f'{name} = "{exchange.url}"' for name in exchange.url_names)
        (folder / "brokerwatch.toml").write_text(
            f'version = 1\n[cluster]\nhealth_endpoint = "{self.endpoint}"\nheartbeat_s = 0.5\n'
            'state = "memory"\n[brokers.k]\nexchange = "kraken"\npoll_interval_s = 0.1\npolicy = "guarded"\n'
            # A refused key is asked about again only after the test.
            "[brokers.k.rules]\nauth_probes_s = [600.0]\n"
            f"[brokers.k.ccxt.urls.api]\n{urls}\n"
        )

    def runs(self) -> Program:
        return Program(*BROKERWATCH, "run", "--json", cwd=self.folder, environment=self.environment)

    def says(self, *arguments: str) -> Done:
        return command(*arguments, cwd=self.folder)


def test_a_hold_from_the_shell_is_seen_by_all_programs_and_outlives_a_kill(
    kraken: SimulatedKraken, tmp_path: Path
) -> None:
    desk = Desk(kraken, tmp_path)
    with desk.runs() as run, Program(*BROKERWATCH, "listen", desk.endpoint, "--json", cwd=tmp_path) as ear:
        run.until(lambda said: said["available"])
        ear.until(lambda said: said["available"])
        done = desk.says("hold", "k", "--why", "moving funds", "--until", "2h")
        assert (done.status, done.err) == (0, "")
        assert "k is held out by " in done.out
        assert ": moving funds, until " in done.out
        in_utc, local = done.out.splitlines()
        end = datetime.fromisoformat(local.removeprefix("the end in local time: "))
        assert end.utcoffset() is not None
        assert in_utc.endswith(f", until {end.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC")
        heard = ear.until(lambda said: not said["available"])[-1]
        assert heard["reason"] == "held_out"
        assert "moving funds" in heard["detail"]
        assert heard["status"] == "healthy"
        run.until(lambda said: said["reason"] == "held_out")
        found = desk.says("status", desk.endpoint, "k")
        assert (found.status, "held_out" in found.out, "moving funds" in found.out) == (1, True, True)
        until(lambda: "held_out" in str(told(tmp_path / "memory")))
        while_it_runs = desk.says("history", "k", "--json")
        assert while_it_runs.status == 0
        assert '"held_out"' in while_it_runs.out
        second = command("run", cwd=tmp_path, environment=desk.environment)
        assert second.status == 2
        (line,) = second.err.splitlines()
        assert f"process {run.pid} runs a cluster on the state folder {tmp_path / 'memory'}" in line
        assert "`name`" in line
        run.send(signal.SIGKILL)
        run.end()
    gone = desk.says("release", "k")
    assert (gone.status, gone.out) == (2, "")
    assert "no cluster listens at" in gone.err
    assert "start it with `brokerwatch run`" in gone.err
    with desk.runs() as run:
        for said in run.until(lambda said: said["state"] == 1):
            assert (said["available"], said["reason"]) == (False, "held_out")
            assert "moving funds" in said["detail"]
        done = desk.says("release", "k")
        assert (done.status, done.out) == (0, "k is released and is available\n")
        run.until(lambda said: said["available"])
        again = desk.says("release", "k")
        assert (again.status, again.out) == (1, "")
        assert again.err == "brokerwatch: k is not held out: there was nothing to release\n"
        assert run.stopped_by(signal.SIGTERM) == 0
    after_it_stopped = desk.says("history")
    assert after_it_stopped.status == 0
    operators = [line for line in after_it_stopped.out.splitlines() if "  operator" in line]
    assert ["hold by" in operators[0], "release by" in operators[1]] == [True, True]
    assert after_it_stopped.out.splitlines() == sorted(
        after_it_stopped.out.splitlines(), key=lambda line: line[:19]
    )


def test_a_refused_key_is_reset_from_the_shell(kraken: SimulatedKraken, tmp_path: Path) -> None:
    desk = Desk(kraken, tmp_path)
    kraken.set_fault("bad_key")
    with desk.runs() as run:
        run.until(lambda said: said["reason"] == "auth")
        assert kraken.private_calls == 1
        kraken.mend()
        unknown = desk.says("reset", "kk")
        assert (unknown.status, unknown.out) == (2, "")
        assert "no broker named 'kk' in this cluster; there are: k" in unknown.err
        assert kraken.private_calls == 1
        assert desk.says("reset", "k").status == 0
        run.until(lambda said: said["available"])
        assert run.stopped_by(signal.SIGTERM) == 0


def words_of(value: object) -> str:
    """The name of a case: its command line."""
    return value if isinstance(value, str) else " ".join(map(str, cast("tuple[str, ...]", value)))


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("hold", "k"), "Missing option '--why'"),
        (("hold", "--why", "x"), "Missing argument 'BROKER'"),
        (("release",), "Missing argument 'BROKER'"),
        (("hold", "k", "--why", "x", "--until", "later"), "expected a moment such as 30m, 2h"),
        (("hold", "k", "--why", "x", "--until", "999999w"), "expected a moment such as 30m, 2h"),
        (("history", "--since", "yesterday"), "expected a moment such as 30m, 2h"),
        (("history", "--limit", "0"), "--limit"),
        (("hold", "k", "--why", "x"), "no cluster listens at"),
        (("reset", "k", "--cluster", "A/B"), "cluster.name: expected"),
        (("history", "--cluster", "never-ran"), "has this cluster run?"),
        (("release", "k", "--config", "gone.toml"), "gone.toml: cannot be read"),
    ],
    ids=words_of,
)
def test_a_command_that_cannot_be_obeyed_ends_with_2_and_says_what_to_do(
    arguments: tuple[str, ...], expected: str, tmp_path: Path
) -> None:
    done = command(*arguments, cwd=tmp_path)
    assert (done.status, done.out) == (2, "")
    assert expected in done.err


DEMO_ELSEWHERE: Final = """
import sys
from brokerwatch.cli.main import run_alone
from brokerwatch.config.cluster_settings import DEFAULT_HEALTH_ENDPOINT, ClusterSettings
make = ClusterSettings.__init__
endpoint = sys.argv.pop(1)
make.__defaults__ = tuple(endpoint if one == DEFAULT_HEALTH_ENDPOINT else one for one in make.__defaults__)
run_alone()
"""
"""run_cluster.py with another default endpoint: the true one may be taken by a program of this machine."""


def test_two_demos_run_beside_each_other(tmp_path: Path) -> None:
    endpoint = free_endpoint()
    demo = (sys.executable, "-c", DEMO_ELSEWHERE, endpoint, "--demo", "--json")
    with Program(*demo, cwd=tmp_path) as first:
        first.until(lambda said: said["cash"] is not None)
        assert f"health topic {endpoint}" in first.errors
        with Program(*demo, cwd=tmp_path) as second:
            second.until(lambda said: said["cash"] is not None)
            assert second.stopped_by(signal.SIGTERM) == 0
        held = command("hold", "kraken-demo", "--cluster", "demo", "--why", "x", cwd=tmp_path)
        assert held.status == 0, "the first one still has its folder and its socket"
        first.until(lambda said: said["reason"] == "held_out")
        assert first.stopped_by(signal.SIGTERM) == 0


# --- history -------------------------------------------------------------------------------------

NOW_US: Final = time.time_ns() // 1_000


def past(minutes: float, broker: str, after: str, **values: Any) -> Transition:
    chosen: dict[str, Any] = {
        "event": "state", "before": "healthy", "available": False, "reason": Reason.ERRORS, "error_count": 3,
        "fault": None, "detail": "", **values,
    }  # fmt: skip
    return Transition(
        at_us=NOW_US - round(minutes * 60_000_000), broker=broker, exchange="kraken", after=after, **chosen
    )


@pytest.fixture
def remembered(tmp_path: Path) -> Path:
    """A state folder with a history, oldest last as it was written."""
    folder = tmp_path / "memory"
    store = store_of(settings_of(folder))
    batch = Batch()
    batch.transitions.extend(
        [
            past(1, "b", "four"),
            past(30, "a", "three"),
            past(180, "a", "two", event="operator"),
            past(5_000, "b", "one"),
        ]
    )
    store.open()
    store.write(batch)
    store.close()
    return folder


def words(lines: list[Transition]) -> list[str]:
    return [line.after for line in lines]


def test_history_is_told_oldest_first_of_all_or_one_since_then_and_so_many(remembered: Path) -> None:
    def found(broker: str | None = None, minutes: float | None = None, limit: int | None = None) -> list[str]:
        since_us = None if minutes is None else NOW_US - round(minutes * 60_000_000)
        return words(stored_history(settings_of(remembered), broker, since_us, limit))

    assert found() == ["one", "two", "three", "four"]
    assert found("a") == ["two", "three"]
    assert found(minutes=180) == ["two", "three", "four"]
    assert found("b", minutes=180) == ["four"]
    assert found(limit=2) == ["three", "four"]
    assert found("b", limit=1) == ["four"]
    assert found("missing") == []


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((), ["one", "two", "three", "four"]),
        (("a", "--since", "2h"), ["three"]),
        (("--since", "2d", "--limit", "2"), ["three", "four"]),
        (("--since", "2020-01-01"), ["one", "two", "three", "four"]),
    ],
    ids=" ".join,
)
def test_history_as_json_is_one_object_a_line_with_the_same_keys(
    remembered: Path, tmp_path: Path, arguments: tuple[str, ...], expected: list[str]
) -> None:
    done = command("history", *arguments, "--json", "--state", str(remembered), cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    objects = [json.loads(line) for line in done.out.splitlines()]
    assert [said["after"] for said in objects] == expected
    keys = {"at_us", "broker", "exchange", "event", "before", "after", "available", "reason", "error_count",
            "fault", "detail"}  # fmt: skip
    assert all(said.keys() == keys for said in objects)


def test_history_without_anything_to_tell_says_so_and_makes_nothing(remembered: Path, tmp_path: Path) -> None:
    done = command("history", "c", "--since", "1h", "--state", str(remembered), cwd=tmp_path)
    assert (done.status, done.out) == (0, "")
    assert done.err == "brokerwatch: nothing is stored of c since 1h\n"
    for settings in (
        settings_of(tmp_path / "gone"),
        ClusterSettings(store=f"sqlite:///{tmp_path}/gone.db"),
    ):
        with pytest.raises(StoreError, match="nothing is stored at"):
            stored_history(settings, None, None, None)
    assert not (tmp_path / "gone").exists()
    assert not (tmp_path / "gone.db").exists()


def test_history_of_a_folder_finds_the_cluster_that_is_stored_there(remembered: Path, tmp_path: Path) -> None:
    folder = tmp_path / "named"
    named = replace(settings_of(folder), name="del")
    batch = Batch()
    batch.transitions.append(past(1, "k", "of-del"))
    store = store_of(named)
    store.write(batch)
    store.close()
    assert "of-del" in command("history", "--state", str(folder), cwd=tmp_path).out
    assert command("history", "--state", str(folder), "--cluster", "main", cwd=tmp_path).out == ""
    store = store_of(replace(named, name="another"))
    store.write(batch)
    store.close()
    several = command("history", "--state", str(folder), cwd=tmp_path)
    assert several.status == 2
    assert "name one with --cluster: another, del" in " ".join(several.err.split())
    assert "of-del" in command("history", "--state", str(folder), "--cluster", "del", cwd=tmp_path).out
    assert "four" in command("history", "--state", str(remembered), cwd=tmp_path).out


def test_a_line_of_history_is_words_for_people_and_everything_for_programs() -> None:
    line = past(
        1, "kraken-main", "hold", event="operator", before="root", reason=Reason.HELD_OUT, detail="because"
    )
    shown = history_line(line)
    assert "kraken-main      operator  hold by root  (not available: held_out)  because" in shown
    assert json.loads(history_object(line)) == json.loads(json.dumps(asdict(line)))
    assert "\n" not in shown
    up = history_line(past(1, "k", "healthy", before="unavailable", available=True, reason=Reason.OK))
    assert "unavailable -> healthy  (available)" in up
    page = "HTTP 502: '<html><head><title>502 Bad Gateway</title></head></html>'"
    lost = past(1, "k", "unavailable", before="healthy", reason=Reason.ERRORS, detail=page)
    assert history_line(lost).endswith("HTTP 502: 502 Bad Gateway"), "a page of HTML is its title"
    assert page in json.loads(history_object(lost))["detail"], "a program has it as it came"


# --- moments -------------------------------------------------------------------------------------

ZONE: Final = timezone(timedelta(hours=1))
NOON: Final = datetime(2026, 11, 22, 12, 0, 30, tzinfo=ZONE)


@pytest.mark.parametrize(
    ("text", "ahead", "expected"),
    [
        ("30m", True, "2026-11-22T12:30:30+01:00"),
        ("30m", False, "2026-11-22T11:30:30+01:00"),
        ("90s", True, "2026-11-22T12:02:00+01:00"),
        ("3d", False, "2026-11-19T12:00:30+01:00"),
        ("1w", True, "2026-11-29T12:00:30+01:00"),
        ("18:00", True, "2026-11-22T18:00:00"),
        ("18:00", False, "2026-11-21T18:00:00"),
        ("12:00", True, "2026-11-23T12:00:00"),
        ("12:00", False, "2026-11-22T12:00:00"),
        ("2026-11-22", False, "2026-11-22T00:00:00"),
        ("2026-11-22T18:00Z", True, "2026-11-22T18:00:00+00:00"),
        ("2027-07-01 09:00", True, "2027-07-01T09:00:00"),
    ],
)  # fmt: skip
def test_a_moment_is_what_an_operator_means_by_it(text: str, ahead: bool, expected: str) -> None:
    assert moment(text, NOON, ahead=ahead).isoformat() == expected


@pytest.mark.parametrize(
    "text", ["", "now", "30", "m", "-5m", "1.5h", "25:00", "24:00", "12:60", "999999w", "٣m"]
)
def test_what_is_no_moment_names_those_that_are(text: str) -> None:
    for ahead in (True, False):
        with pytest.raises(ValueError, match="expected a moment such as 30m, 2h, 3d, 18:00"):
            moment(text, NOON, ahead=ahead)


@pytest.mark.skipif(not hasattr(time, "tzset"), reason="the zone of this process cannot be changed")
def test_a_summers_day_is_in_summer_time_although_it_is_winter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    time.tzset()
    try:
        found = moment("2027-07-01T18:00", NOON, ahead=True)
        assert found.timestamp() == datetime(2027, 7, 1, 16, 0, tzinfo=UTC).timestamp()
    finally:
        monkeypatch.undo()
        time.tzset()
