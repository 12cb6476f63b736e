"""The stream of an account in a pool: it is open only while this node may use the API key."""

from __future__ import annotations

import pytest

from brokerwatch.gateway import streams
from brokerwatch.gateway.lease import Term
from brokerwatch.messages.stream import StreamState
from brokerwatch.simulator import SimulatedKraken, serve
from tests.cluster.test_push import pushing, state
from tests.support.clusters import cluster_of, until
from tests.support.pro_bots import streams_of


@pytest.mark.parametrize("folds", [True, False])
def test_a_stream_closes_with_the_term_of_its_key_and_opens_again_with_the_next_one(
    monkeypatch: pytest.MonkeyPatch, *, folds: bool
) -> None:
    if not folds:
        monkeypatch.setattr(streams, "STREAMS", {})
    there = StreamState.LIVE if folds else StreamState.SUSPECT
    exchange, term = SimulatedKraken(), Term(float("inf"), 0.5, epoch=1)
    with serve(exchange), cluster_of(pushing(exchange), term_of=lambda _: term) as cluster:
        until(lambda: state(cluster) is there)
        socket = streams_of(exchange)
        term.end("another node has it")
        until(lambda: socket.connections == 0)
        made = socket.made
        term.extend(float("inf"), epoch=2)
        until(lambda: socket.connections == 1)
        until(lambda: state(cluster) is there)
        assert socket.made == made + 1, "and nothing was tried meanwhile"
