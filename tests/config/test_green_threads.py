"""gevent and eventlet: refused in one sentence where they have replaced what threads are made of.

What they put in the place of the standard library is told by its module, as with gevent 26.9 and eventlet
0.41. Neither is installed for the tests.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable

import pytest

from brokerwatch.bus.listener import Listener
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.config.green_threads import replaced
from brokerwatch.errors import ConfigError

SETTINGS = ClusterSettings(health_endpoint="tcp://127.0.0.1:*", remember=False)


def green(module: str) -> Callable[..., None]:
    """Something of a library that replaces threads."""

    def stand_in(*_: object, **__: object) -> None:
        raise AssertionError("nothing may be started here")

    stand_in.__module__ = module
    return stand_in


@pytest.mark.parametrize(
    ("name", "module", "said"),
    [
        ("threading.Lock", "gevent.thread", "gevent has replaced threads"),
        ("threading._start_new_thread", "eventlet.green.thread", "eventlet has replaced threads"),
        ("queue.SimpleQueue", "gevent._gevent_cqueue", "gevent has replaced queues"),
        ("socket.socket", "eventlet.greenio.base", "eventlet has replaced sockets"),
        ("select.select", "gevent.select", "gevent has replaced select"),
    ],
)
def test_a_process_with_green_threads_is_refused_before_anything_starts(
    monkeypatch: pytest.MonkeyPatch, name: str, module: str, said: str
) -> None:
    of, _, attribute = name.rpartition(".")
    before = Cluster((), SETTINGS)
    with monkeypatch.context() as patched:
        patched.setattr(importlib.import_module(of), attribute, green(module), raising=False)
        for start in (lambda: Cluster((), SETTINGS), before.start, lambda: Listener("tcp://127.0.0.1:5571")):
            with pytest.raises(ConfigError, match=said) as refused:
                start()
            assert len(str(refused.value).splitlines()) == 1
    with before:
        assert before.readings() == ()


def test_a_process_with_real_threads_is_not_refused() -> None:
    assert replaced() == ""
