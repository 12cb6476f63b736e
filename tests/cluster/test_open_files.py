"""A cluster counts ahead what it opens: no less than it does open, and it starts whole or not at all."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from brokerwatch.cluster.open_files import needed
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.config.pool_settings import PoolNodeSettings, PoolSettings
from tests.support.clusters import Till
from tests.support.descriptors import child_says

PLAIN = ClusterSettings(remember=False)
OWN = BrokerSpec("own", fetch=Till())
KRAKEN = BrokerSpec("k", exchange="kraken")

_SETTINGS = """
import logging, threading
from brokerwatch import BrokerSpec, Cluster, ClusterSettings, NotifySettings, TooFewDescriptors
from brokerwatch.bus.descriptors import free
from brokerwatch.cluster import cluster as cluster_module
from brokerwatch.cluster.open_files import needed
from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.testing import broker_spec, simulated

folder, way = sys.argv[1:]
endpoint = f"ipc://{folder}/health" if way == "whole" else "tcp://127.0.0.1:*"
more = {}
if way == "whole":
    more = dict(
        state=f"{folder}/state",
        http=HttpSettings("127.0.0.1:0"),
        notify=NotifySettings(heartbeat_url="http://127.0.0.1:9/"),
    )
settings = ClusterSettings(health_endpoint=endpoint, remember=way == "whole", heartbeat_s=0.1, **more)

async def own():
    return {"USD": "5"}

specs = [BrokerSpec("own", fetch=own, poll_interval_s=0.1)]
server = simulated("kraken")
if way == "whole":
    kraken = server.__enter__()
    specs += [broker_spec(kraken, name, poll_interval_s=0.1) for name in ("k", "l")]
"""


@pytest.mark.parametrize("way", ["plain", "whole"])
def test_a_cluster_counts_no_less_than_it_opens_and_starts_with_so_many(way: str, tmp_path: Path) -> None:
    said = child_says(
        f"""{_SETTINGS}
count = needed(settings, specs)
leave_free(count)
before = opened()
with Cluster(specs, settings) as cluster:
    pause = threading.Event()
    while not all(reading.available for reading in cluster.readings()):
        pause.wait(0.01)
    print(opened() - before, count)
os._exit(0)
""",
        str(tmp_path),
        way,
    )
    opened, counted = map(int, said.split())
    assert opened < counted
    assert counted < 2 * opened + 20  # no cluster is refused that has enough


def test_with_too_few_it_says_so_and_may_be_started_when_the_limit_was_raised(tmp_path: Path) -> None:
    said = child_says(
        f"""{_SETTINGS}
cluster = Cluster(specs, settings)
refused = 0
for count in range(needed(settings, specs) + 1):
    leave_free(count)
    try:
        cluster.start()
    except TooFewDescriptors as error:
        refused, words = refused + 1, str(error)
cluster.stop()
print(refused, needed(settings, specs), words)
""",
        str(tmp_path),
        "plain",
    )
    refused, counted, words = said.split(maxsplit=2)
    assert refused == counted
    assert re.match(rf"the cluster needs {counted} more open files, .* `ulimit -n \d+`", words)


def test_where_others_take_them_meanwhile_a_start_raises_and_ends_or_hangs_no_process(tmp_path: Path) -> None:
    said = child_says(
        f"""{_SETTINGS}
cluster_module.needed = lambda *_: 0
logging.disable()
outcomes = []
for count in range(1, needed(settings, specs) + 1):
    cluster = Cluster(specs, settings)
    leave_free(count)
    try:
        cluster.start()
    except (TooFewDescriptors, OSError) as error:
        outcomes.append(type(error).__name__)
    else:
        outcomes.append("started")
        cluster.stop()
print(*outcomes)
""",
        str(tmp_path),
        "plain",
    )
    outcomes = said.split()
    assert outcomes[0] != "started"
    assert outcomes[-1] == "started"


def test_what_is_configured_is_counted() -> None:
    least = needed(PLAIN, ())
    for more in (
        replace(PLAIN, health_endpoint="ipc://a"),
        replace(PLAIN, remember=True),
    ):
        assert needed(more, ()) > least
    assert needed(PLAIN, (OWN,)) > least
    assert needed(PLAIN, (KRAKEN, replace(KRAKEN, name="l"))) > needed(PLAIN, (KRAKEN,)) > least


def test_an_account_of_a_pool_opens_no_file_for_the_claim_of_its_key() -> None:
    pool = replace(PLAIN, pool=PoolSettings("desk", node=PoolNodeSettings("one")))
    many = [replace(KRAKEN, name=f"k{number}") for number in range(100)]
    assert needed(PLAIN, many) - needed(PLAIN, []) - (needed(pool, many) - needed(pool, [])) == len(many)
