"""A secret never appears: not in logs at DEBUG, errors, messages, the database or a traceback."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import traceback
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from brokerwatch import BalanceUnknown, Broker, BrokerSpec, Cluster, Listener
from brokerwatch.simulator import (
    FAULTS,
    SimulatedCoinbase,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
)
from brokerwatch.storage.state_folder import stored_history
from tests.support.clusters import cluster_of, simulated_spec, wait_for_reading

# A lockout ends all private calls, so it comes last.
QUICK = [*sorted(FAULTS.keys() - {"hang", "drip", "locked_out"}), "locked_out"]


@pytest.fixture(params=[SimulatedKraken, SimulatedCoinbase, SimulatedOkx])
def exchange(request: pytest.FixtureRequest) -> Iterator[SimulatedExchange]:
    made: SimulatedExchange = request.param()
    with serve(made):
        yield made


@pytest.fixture
def everything_logged() -> Iterator[io.StringIO]:
    """All that any logger says at DEBUG, with tracebacks."""
    said = io.StringIO()
    handler = logging.StreamHandler(said)
    handler.setFormatter(logging.Formatter("%(name)s %(message)s"))
    root = logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield said
    finally:
        root.setLevel(before)
        root.removeHandler(handler)


def secrets_of(spec: BrokerSpec) -> list[str]:
    """Every credential as it may be written, and of a PEM each line that says something."""
    found: list[str] = []
    for value in spec.credentials.values():
        lines = [line for line in value.splitlines() if line and not line.startswith("-----")]
        found += [value, json.dumps(value)[1:-1], repr(value)[1:-1], *lines]
    return found


def provoke(cluster: Cluster, broker: Broker, exchange: SimulatedExchange) -> list[str]:
    """Meet every fault there is; return what the errors say, whole."""
    said: list[str] = []
    for fault in QUICK:
        exchange.set_fault(fault)
        try:
            broker.get_account_balance()
        except BalanceUnknown as error:
            said += [str(error), repr(error), "".join(traceback.format_exception(error))]
        said += [repr(broker.reading()), broker.reading().detail]
        exchange.mend()
        with contextlib.suppress(BalanceUnknown):
            said.append(repr(broker.get_account_balance_detailed()))
    said += [repr(cluster), repr(broker), repr(vars(broker))]
    return said


@pytest.mark.parametrize("policy", ["simple", "guarded"])
def test_nothing_that_is_said_or_stored_has_a_secret_in_it(
    exchange: SimulatedExchange, tmp_path: Path, everything_logged: io.StringIO, policy: str
) -> None:
    spec = replace(simulated_spec(exchange, policy=policy), simulated=False)
    with cluster_of(spec, state=str(tmp_path)) as cluster, Listener(cluster.health_endpoint) as listener:
        said = provoke(cluster, cluster.broker(spec.name), exchange)
        cluster.hold(spec.name, "a test")
        heard = wait_for_reading(listener, spec.name, lambda reading: not reading.available)
        said += [repr(heard), json.dumps([repr(reading) for reading in listener.readings().values()])]
        settings = cluster._settings  # pyright: ignore[reportPrivateUsage] - where it was stored
    said += [repr(line) for line in stored_history(settings, None, None, None)]
    said.append(everything_logged.getvalue())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.name == "brokerwatch.db" for path in files)
    stored = b"".join(path.read_bytes() for path in files)
    assert len("".join(said)) > 10_000, "a test that looks through nothing proves nothing"
    for secret in secrets_of(spec):
        assert not [text[:200] for text in said if secret in text]
        assert secret.encode() not in stored
        assert not [path for path in files if secret in path.name]


def test_a_trace_of_the_gateway_s_own_crash_has_no_secret_in_it(
    everything_logged: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    kraken = SimulatedKraken()
    with serve(kraken):
        spec = simulated_spec(kraken)

        def crash(*args: object, **named: object) -> object:
            raise RuntimeError(f"a bug that quotes {args} {named} {spec.credentials['secret']}")

        monkeypatch.setattr("brokerwatch.exchanges.kraken.holdings", crash)
        with cluster_of(spec) as cluster:
            broker = cluster.broker(spec.name)
            with pytest.raises(BalanceUnknown) as caught:
                broker.get_account_balance()
    said = "".join(traceback.format_exception(caught.value)) + everything_logged.getvalue()
    assert "a bug that quotes" in str(caught.value)
    for secret in secrets_of(spec):
        assert secret not in said
