"""Many reloads while orders run: no order is lost or doubled, no poll missed, no account falsely available.

`make test` runs a short storm, and `make storm` one of 200 reloads.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import threading
from collections import Counter
from dataclasses import replace
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import pytest

from brokerwatch.bus.listener import Listener
from brokerwatch.cluster import key_changes
from brokerwatch.cluster.broker import requests_of
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import Settings
from brokerwatch.config.policy import GUARDED
from brokerwatch.errors import (
    BrokerwatchError,
    ConfigError,
    OrderNotSent,
    OrderStateUnknown,
    TradingDisabled,
    UnknownBroker,
)
from brokerwatch.exchanges.order_answers import canonical_id
from brokerwatch.health.changes import Change
from brokerwatch.simulator import SimulatedExchange, serve
from tests.support.clusters import PATIENCE_S, Till, cluster_of, simulated_spec, until
from tests.support.desks import KINDS, ORDER_PATHS, SYMBOLS, rich
from tests.support.hung_loops import Block, loop_of

RELOADS: Final = int(os.environ.get("BROKERWATCH_STORM", "30"))
POLL_S: Final = 0.05
STAKE: Final = Decimal(50)


class Trader:
    """A thread that places orders at one account, one after the other, and remembers what became of each."""

    def __init__(self, cluster: Cluster, exchange: SimulatedExchange, name: str) -> None:
        self.exchange, self.broker = exchange, cluster.broker(name)
        self.ends: dict[str, str] = {}
        self.stopped = threading.Event()
        self.surprises: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, name=f"trader {name}", daemon=True)

    def _run(self) -> None:
        while not self.stopped.wait(0.01):
            order_id = self.broker.new_order_id()
            try:
                self.broker.place_market_order(
                    SYMBOLS[self.exchange.ccxt_id],
                    "buy",
                    quote_amount=STAKE,
                    validate_only=False,
                    client_order_id=order_id,
                )
            except OrderStateUnknown:
                self.ends[order_id] = "unknown"
            except (OrderNotSent, TradingDisabled, UnknownBroker):
                self.ends[order_id] = "not sent"
            except BrokerwatchError as error:  # an entry that is refused was not sent either
                self.ends[order_id] = f"not sent: {error}"
            except BaseException as error:  # noqa: BLE001 - the test looks at it
                self.surprises.append(error)
                return
            else:
                self.ends[order_id] = "taken"

    def ended(self) -> None:
        """Wait for its end."""
        self.stopped.set()
        self.thread.join(60)
        assert not self.thread.is_alive()
        assert self.surprises == []

    def ids(self, end: str) -> set[str]:
        """The orders that came to this end."""
        return {canonical_id(order_id) for order_id, word in self.ends.items() if word.startswith(end)}


class Storm:
    """Accounts of all kinds, and reloads that change everything about some of them."""

    def __init__(self, folder: Path) -> None:
        self.random = random.Random(7)
        self.exchanges = [kind() for kind in KINDS]
        for exchange in self.exchanges:
            rich(exchange)
            exchange.set_balance({"USD": ("10000000", "0"), "USDT": ("10000000", "0"), "BTC": ("1", "0")})
        self.steady, self.dark = Till(), Till()
        self.dark.failure = ConnectionError("it is dark")
        self.folder = folder

    def specs(self) -> dict[str, BrokerSpec]:
        values: dict[str, Any] = {
            "trading": True,
            "policy": "simple",
            "poll_interval_s": POLL_S,
            "same_account": True,
            "entry_max_age_s": 60.0,
        }
        found: dict[str, BrokerSpec] = {}
        for exchange in self.exchanges:
            found[exchange.ccxt_id] = simulated_spec(exchange, exchange.ccxt_id, **values)
        found["steady"] = BrokerSpec("steady", fetch=self.steady, poll_interval_s=POLL_S)
        found["dark"] = BrokerSpec(
            "dark", fetch=self.dark, poll_interval_s=POLL_S, policy="guarded", rules=GUARDED
        )
        return found

    def changed(self, specs: dict[str, BrokerSpec], number: int) -> dict[str, BrokerSpec]:
        """The next configuration: something of each kind of change, by chance."""
        found = dict(specs)
        for exchange in self.exchanges:
            name = exchange.ccxt_id
            changes: dict[str, Any] = {}
            match self.random.randrange(6):
                case 0:
                    changes = {"labels": {"round": str(number)}}
                case 1:
                    changes = {"fetch_deadline_s": 5.0 + self.random.randrange(3)}
                case 2:
                    changes = {"max_consecutive_errors": 3 + self.random.randrange(3)}
                case 3:
                    changes = {
                        "credentials": MappingProxyType(
                            exchange.add_key(account=found[name].credentials["api_key"])
                        )
                    }
                case 4:
                    changes = {"requests_per_s": 500.0 + number, "entry_max_age_s": 60.0 + number}
                case _:
                    pass
            found[name] = replace(found[name], **changes)
        dark: dict[str, Any] = {
            "max_consecutive_errors": 1 + self.random.randrange(9),
            "labels": {"round": str(number)},
        }
        found["dark"] = replace(found["dark"], policy="guarded", rules=GUARDED, **dark)
        extra = f"extra-{number % 3}"
        if extra in found:
            del found[extra]
        else:
            found[extra] = simulated_spec(self.exchanges[number % 3], extra, poll_interval_s=POLL_S)
        names = list(found)
        self.random.shuffle(names)
        return {name: found[name] for name in names}


def _has_no_unknown_order(trader: Trader) -> bool:
    return not requests_of(trader.broker).account().executor.unaccounted


def _is_above(till: Till, fetches: int) -> bool:
    return till.fetches > fetches


def _open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _tasks(cluster: Cluster) -> int:
    return sum(len(asyncio.all_tasks(loop.asyncio_loop)) for loop in cluster._loops)  # pyright: ignore[reportPrivateUsage] - they show nowhere else


@pytest.mark.timeout(120 + 5 * RELOADS)
def test_a_storm_of_reloads_while_orders_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_changes, "KEYS_S", PATIENCE_S)
    storm = Storm(tmp_path)
    with serve(*storm.exchanges):
        specs = storm.specs()
        cluster = cluster_of(*specs.values(), state=str(tmp_path), status_interval_s=0.5)
        with cluster, Listener(cluster.health_endpoint) as listener:
            traders = [Trader(cluster, exchange, exchange.ccxt_id) for exchange in storm.exchanges]
            for trader in traders:
                until(lambda trader=trader: trader.broker.reading().as_of is not None)  # type: ignore[misc]
            false: list[Change] = []
            lost: list[str] = []

            def look(change: Change) -> None:
                if change.after.available and (change.broker == "dark" or change.after.as_of is None):
                    false.append(change)
                if change.lost and change.after.reason != "shutdown":
                    lost.append(f"{change.broker}: {change.after.reason}: {change.after.detail}")

            cluster.router.on_change(look)
            for trader in traders:
                trader.thread.start()
            threads = files = tasks = 0
            for number in range(RELOADS):
                if number == 6:  # everything that is made once has been made
                    threads, files, tasks = threading.active_count(), _open_files(), _tasks(cluster)
                if number % 4 == 1:  # the answer to an order is lost while the configuration changes
                    unlucky = storm.exchanges[number % 3]
                    path = ORDER_PATHS[unlucky.ccxt_id]
                    unlucky.set_fault("reset", path=path, executed=True, times=1)
                before = storm.steady.fetches
                wanted = storm.changed(specs, number)
                settings = Settings(cluster._members.settings, tuple(wanted.values()))  # pyright: ignore[reportPrivateUsage] - what holds
                if number % 7 == 3:
                    wrong = replace(wanted["steady"], exchange="another")
                    with pytest.raises(ConfigError):
                        cluster.reload(replace(settings, brokers=(*settings.brokers[1:], wrong)))
                said = cluster.reload(settings)
                assert all("is used" in words for words in said.keys.values()), said.keys
                for name in said.keys:  # only now the old key may be deleted
                    exchange = next(each for each in storm.exchanges if each.ccxt_id == name)
                    old = specs[name].credentials["api_key"]
                    if old != exchange.credentials["api_key"]:  # that one is the extra accounts' too
                        exchange.remove_key(old)
                specs = wanted
                assert [reading.broker for reading in cluster.readings()] == list(specs)
                assert not cluster.broker("dark").is_available()
                until(partial(_is_above, storm.steady, before))
            for trader in traders:
                trader.exchange.mend()
                trader.ended()
                until(partial(_has_no_unknown_order, trader))
                placed = trader.exchange.orders_of(specs[trader.broker.name].credentials["api_key"])
                ids = Counter(canonical_id(order.client_id) for order in placed)
                assert max(ids.values()) == 1, "no order is doubled"
                ends = {end: trader.ids(end) for end in ("taken", "unknown", "not sent")}
                assert len(ends["taken"]) > RELOADS / 2
                assert not [end for end in trader.ends.values() if "refused" in end], (
                    "with a key that is gone"
                )
                assert ends["taken"] <= ids.keys(), "no order that was taken is lost"
                assert ids.keys() <= ends["taken"] | ends["unknown"], "what was not sent was not placed"
            assert false == []
            assert [each for each in lost if not each.startswith(("dark", "extra"))] == []
            until(lambda: sorted(listener.readings()) == sorted(specs))
            until(lambda: threading.active_count() <= threads - len(traders) + 3)
            # A few sockets of kept connections and of name look-ups more or less.
            until(lambda: _open_files() <= files + 10)
            until(lambda: _tasks(cluster) <= tasks + 10)


def test_a_reload_while_a_loop_is_replaced_loses_no_account(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_changes, "KEYS_S", 0.1)
    storm = Storm(tmp_path)
    with serve(*storm.exchanges):
        specs = storm.specs()
        with cluster_of(*specs.values(), state=str(tmp_path), heartbeat_s=0.1) as cluster:
            loop = loop_of(cluster)
            with Block(loop.asyncio_loop) as block:
                block.hang()
                for number in range(8):
                    specs = storm.changed(specs, number)
                    settings = Settings(cluster._members.settings, tuple(specs.values()))  # pyright: ignore[reportPrivateUsage] - what holds
                    with contextlib.suppress(ConfigError):
                        cluster.reload(settings)
                until(lambda: loop_of(cluster) is not loop)
                for name in specs:
                    if name != "dark":
                        until(partial(_answers, cluster, name))
                assert not cluster.broker("dark").is_available()


def _answers(cluster: Cluster, name: str) -> bool:
    with contextlib.suppress(BrokerwatchError):
        return cluster.broker(name).get_account_balance() > 0 and cluster.broker(name).is_available()
    return False
