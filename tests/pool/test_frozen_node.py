"""A node that stands still for longer than its lease, as a program: it asks nothing when it goes on."""

from __future__ import annotations

import signal
from collections.abc import Mapping
from pathlib import Path

from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.simulator import SimulatedKraken
from brokerwatch.simulator.account import CALLER_HEADER
from tests.support.clusters import until
from tests.support.pools import PoolDesk, overlaps, pool_spec
from tests.support.ports import free_endpoint
from tests.support.programs import BROKERWATCH, Program

ACCOUNTS = 4


def node(
    name: str, desk: PoolDesk, folder: Path, exchange: SimulatedKraken, specs: Mapping[str, BrokerSpec]
) -> Program:
    """The program; its calls carry its name."""
    urls = "\n".join(f'{each} = "{exchange.url}"' for each in exchange.url_names)
    text = (
        f'version = 1\n[cluster]\nname = "desk"\nheartbeat_s = 0.5\nstate = "memory"\nstore = "{desk.url}"\n'
        f'broker_endpoint = "{free_endpoint()}"\nhealth_endpoint = "{free_endpoint()}"\n'
        '[pool]\nname = "tests"\nlease_s = 6.0\nskew_s = 0.25\n'
    )
    environment: dict[str, str] = {}
    for account, spec in specs.items():
        text += f'[brokers.{account}]\nexchange = "kraken"\npoll_interval_s = 0.1\nfetch_deadline_s = 1.0\n'
        text += f'[brokers.{account}.ccxt.headers]\n{CALLER_HEADER} = "{name}"\n'
        text += f"[brokers.{account}.ccxt.urls.api]\n{urls}\n"
        prefix = account.upper()
        environment[f"{prefix}_API_KEY"] = spec.credentials["api_key"]
        environment[f"{prefix}_API_SECRET"] = spec.credentials["secret"]
    path = folder / f"{name}.toml"
    path.write_text(text)
    path.chmod(0o600)
    words = ("node", "--pool", "tests", "--name", name, "--config", str(path), "--json")
    return Program(*BROKERWATCH, *words, cwd=folder, environment=environment)


def test_a_node_that_stood_still_asks_nothing_with_the_keys_that_others_have_by_now(
    desk: PoolDesk, kraken: SimulatedKraken, tmp_path: Path
) -> None:
    specs = {f"k{number}": pool_spec(kraken, f"k{number}") for number in range(ACCOUNTS)}
    keys = {spec.credentials["api_key"] for spec in specs.values()}
    log = kraken.private_log
    assert log is not None

    def owners() -> dict[str, str]:
        return {row.key: row.node for row in desk.claims() if row.is_held}

    def asked_since(at: int, caller: str) -> set[str]:
        return {call.key for call in log[at:] if call.caller == caller}

    with node("one", desk, tmp_path, kraken, specs) as one:
        until(lambda: asked_since(0, "one") == keys)
        with node("two", desk, tmp_path, kraken, specs) as two:
            until(lambda: len(owners()) == ACCOUNTS and set(owners().values()) == {"one", "two"})
            began = len(log)
            until(lambda: asked_since(began, "one") | asked_since(began, "two") == keys)
            one.send(signal.SIGSTOP)
            stopped = len(log)
            try:
                until(lambda: asked_since(stopped, "two") == keys)
            except AssertionError:
                missing = keys - asked_since(stopped, "two")
                said = two.errors[-2_000:]
                raise AssertionError(f"not asked with {missing}; {desk.claims()}; it said: {said}") from None
            taken = len(log)
            one.send(signal.SIGCONT)
            # It finds its claims lost, and gets its share back from the other one.
            until(lambda: set(owners().values()) == {"one", "two"})
            until(lambda: asked_since(taken, "one"))
    assert not overlaps(log, specs.values(), desk.claims())
