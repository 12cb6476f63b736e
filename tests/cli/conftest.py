"""Two clusters of this process, for the commands that look at a cluster from outside."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from brokerwatch import BalanceUnknown, Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from tests.support.clusters import ONLY_WHEN_ASKED, Till, cluster_of


@dataclass(frozen=True, slots=True)
class Beside:
    """A running cluster of one sound, one unreliable and one failed broker, and one of a sound one alone."""

    mixed: Cluster
    sound: Cluster


def own(name: str, till: Till) -> BrokerSpec:
    return BrokerSpec(name, fetch=till, poll_interval_s=ONLY_WHEN_ASKED)


@pytest.fixture(scope="module")
def beside() -> Iterator[Beside]:
    shaky, down = Till(), Till()
    with (
        cluster_of(own("fine", Till()), own("shaky", shaky), own("down", down), name="mixed") as mixed,
        cluster_of(own("fine", Till()), name="sound") as sound,
    ):
        for cluster, name in ((mixed, "fine"), (mixed, "shaky"), (sound, "fine")):
            cluster.broker(name).get_account_balance()
        shaky.failure = down.failure = ConnectionError("refused")
        mixed.broker("shaky").get_account_balance()
        for _ in range(3):
            with pytest.raises(BalanceUnknown):
                mixed.broker("down").get_account_balance()
        yield Beside(mixed, sound)


def told_where(folder: Path, endpoint: str) -> Path:
    """A configuration that says where its cluster publishes."""
    config = folder / "brokerwatch.toml"
    config.write_text(f'version = 1\n[cluster]\nhealth_endpoint = "{endpoint}"\n')
    return config
