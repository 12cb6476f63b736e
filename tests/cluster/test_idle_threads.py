"""A cluster that has nothing to do uses next to no CPU: each of its threads turns when something came."""

from __future__ import annotations

import threading
from collections import Counter

import pytest

from brokerwatch import BrokerSpec
from brokerwatch.bus.turning import Turning
from tests.support.clusters import Till, cluster_of

POLLS = 10


def test_no_thread_turns_more_often_than_something_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    turns: Counter[str] = Counter()
    turned = Turning.turn

    def counted(turning: Turning) -> None:
        turns[threading.current_thread().name] += 1
        turned(turning)

    monkeypatch.setattr(Turning, "turn", counted)
    spec = BrokerSpec("a", fetch=Till(), poll_interval_s=0.1)
    with cluster_of(spec, heartbeat_s=0.1) as cluster, cluster.listener() as listener:
        changes = listener.changes(wait_s=60.0, renewals=True)
        for _ in range(POLLS):
            next(changes)
        counted_then = dict(turns)
        for _ in range(POLLS):
            next(changes)
        often = {
            name: turned - counted_then.get(name, 0)
            for name, turned in turns.items()
            if turned - counted_then.get(name, 0) > 20 * POLLS
        }
    assert turns
    assert not often, "a thread spins"
