"""A name server that hangs holds up one host and no other, and no process waits for it to end."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.gateway import name_lookup
from brokerwatch.gateway.name_lookup import MOST_PER_HOST, NameLookup
from brokerwatch.simulator import SimulatedKraken, serve
from tests.support.clusters import PATIENCE_S, cluster_of, simulated_spec, until

MANY = 40
"""More than asyncio's own pool has threads on any machine that tests run on."""


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Every host below hangs.invalid hangs until the event is set."""
    ends = threading.Event()
    real = socket.getaddrinfo

    def lookup(host: Any, *more: Any, **named: Any) -> Any:
        if str(host).endswith("hangs.invalid"):
            ends.wait(PATIENCE_S)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return real(host, *more, **named)

    monkeypatch.setattr(socket, "getaddrinfo", lookup)
    yield ends
    ends.set()
    until(lambda: not any(thread.name.startswith("brokerwatch-dns") for thread in threading.enumerate()))


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


@pytest.mark.usefixtures("hanging")
def test_hosts_that_hang_starve_no_other() -> None:
    async def look_up() -> None:
        names = NameLookup()
        stuck = [
            asyncio.create_task(names.addresses(f"h{number}.hangs.invalid", 443, socket.AF_UNSPEC))
            for number in range(MANY)
        ]
        async with asyncio.timeout(PATIENCE_S):
            [first, *_] = await names.addresses("localhost", 443, socket.AF_INET)
        assert first[4] == ("127.0.0.1", 443)
        assert not any(task.done() for task in stuck)
        await _cancelled(*stuck)

    asyncio.run(look_up())


def test_a_host_that_hangs_has_a_limit_and_is_found_again_when_it_answers(
    hanging: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(name_lookup, "GIVEN_UP_AFTER_S", 0.01)

    async def look_up() -> None:
        names = NameLookup()
        for _ in range(MOST_PER_HOST):
            with pytest.raises(socket.gaierror, match="no name server has answered"):
                await names.addresses("hangs.invalid", 443, socket.AF_UNSPEC)
        with pytest.raises(socket.gaierror, match=f"{MOST_PER_HOST} lookups of hangs.invalid hang"):
            await names.addresses("hangs.invalid", 443, socket.AF_UNSPEC)
        hanging.set()
        said = "hang"
        async with asyncio.timeout(PATIENCE_S):
            while "hang" in said.removesuffix("hangs.invalid"):
                with pytest.raises(socket.gaierror) as failed:
                    await names.addresses("hangs.invalid", 443, socket.AF_UNSPEC)
                said = "" if "Temporary" in str(failed.value) else "hang"
                await asyncio.sleep(0)

    asyncio.run(look_up())


@pytest.mark.usefixtures("hanging")
def test_accounts_whose_hosts_hang_leave_the_others_their_addresses_and_do_not_hold_up_a_stop() -> None:
    kraken = SimulatedKraken()
    kraken.set_balance({"USD": ("5", "0")})
    with serve(kraken):
        well = simulated_spec(kraken)
        port = kraken.url.rpartition(":")[2]

        def at(host: str, name: str, key: str) -> BrokerSpec:
            urls = {"api": dict.fromkeys(kraken.url_names, f"http://{host}:{port}")}
            credentials = {**well.credentials, "api_key": key}
            return BrokerSpec(
                name,
                exchange="kraken",
                credentials=credentials,
                ccxt={"urls": urls},
                simulated=True,
                poll_interval_s=0.5,
            )

        stuck = [at(f"h{number}.hangs.invalid", f"h{number}", f"key{number}") for number in range(MANY)]
        with cluster_of(*stuck, at("localhost", "well", well.credentials["api_key"])) as cluster:
            _wait_for_lookups()
            assert cluster.broker("well").get_account_balance() == 5
        lookups = [thread for thread in threading.enumerate() if thread.name.startswith("brokerwatch-dns")]
        assert lookups, "the stop was over before they were"
        assert all(thread.daemon for thread in lookups)


def _wait_for_lookups() -> None:
    until(lambda: sum(thread.name.startswith("brokerwatch-dns") for thread in threading.enumerate()) >= MANY)


ENDS = """
import asyncio, socket, threading
from brokerwatch.gateway.name_lookup import NameLookup
hangs = threading.Event()
begun = threading.Event()
def lookup(*_, **__):
    begun.set()
    hangs.wait()
socket.getaddrinfo = lookup
async def main():
    task = asyncio.create_task(NameLookup().addresses("h", 443, 0))
    while not begun.is_set():
        await asyncio.sleep(0)
    task.cancel()
asyncio.run(main())
"""


def test_a_process_ends_while_a_lookup_hangs(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-c", ENDS], cwd=tmp_path, timeout=PATIENCE_S, check=True)
