"""A cluster in a pool: what its page, its listeners and a remote supervisor show when a claim is over."""

from __future__ import annotations

import pytest

from brokerwatch.bus.listener import Listener
from brokerwatch.errors import BalanceUnknown, CouldNotAsk
from brokerwatch.gateway.lease import Term
from brokerwatch.messages import Reading, Reason
from brokerwatch.simulator import SimulatedKraken, serve
from tests.support.clusters import cluster_of, simulated_spec, until, wait_for_reading

CALL_S = 1.0


def is_out(reading: Reading) -> bool:
    return (reading.available, reading.reason) == (False, Reason.CLAIM)


def is_in(reading: Reading) -> bool:
    return reading.available and reading.as_of is not None


def test_the_end_of_a_claim_reaches_the_listeners_and_so_does_its_return() -> None:
    term, exchange = Term(float("inf"), CALL_S, 1), SimulatedKraken()
    with serve(exchange):
        spec = simulated_spec(exchange, "k", poll_interval_s=0.1, fetch_deadline_s=CALL_S)
        with (
            cluster_of(spec, heartbeat_s=0.1, term_of=lambda _: term) as cluster,
            Listener(cluster.health_endpoint) as listener,
        ):
            wait_for_reading(listener, "k", is_in)
            term.end("node b has it")
            heard = wait_for_reading(listener, "k", is_out)
            assert heard.detail == "this process has the API key no more: node b has it"
            assert heard.cash is not None, "the last known balance stays"
            assert is_out(cluster.broker("k").reading())
            calls = exchange.private_calls
            for _ in range(3):
                with pytest.raises(CouldNotAsk):
                    cluster.broker("k").get_positions()
            assert exchange.private_calls == calls
            assert cluster.broker("k").get_error_count() == 0, "it is no fault of the exchange"
            term.extend(float("inf"), 2)
            wait_for_reading(listener, "k", is_in)
            until(lambda: exchange.private_calls > calls)


def test_an_account_that_never_had_a_claim_is_out_from_the_start_and_shows_no_zero() -> None:
    term, exchange = Term(float("-inf"), CALL_S), SimulatedKraken()
    with serve(exchange):
        spec = simulated_spec(exchange, "k", fetch_deadline_s=CALL_S)
        with cluster_of(spec, heartbeat_s=0.1, term_of=lambda _: term) as cluster:
            broker = cluster.broker("k")
            until(lambda: is_out(broker.reading()))
            with pytest.raises(BalanceUnknown):
                broker.get_account_balance()
            assert broker.reading().cash is None
            assert exchange.private_calls == 0
