"""Operators' holds on accounts whose node loses its claims meanwhile."""

from __future__ import annotations

from pathlib import Path

from brokerwatch.messages import Reason
from brokerwatch.simulator import SimulatedKraken
from tests.chaos.links import Links
from tests.pool.partitions import DEADLINE_S, linked
from tests.support.clusters import until
from tests.support.pools import LEASE_S, PoolDesk, pool_spec, until_shared
from tests.support.postgres import PostgreSQL
from tests.support.stores import emptied


def test_a_hold_that_could_not_be_stored_yet_stays_when_its_node_gets_the_account_back(
    postgresql: PostgreSQL, kraken: SimulatedKraken, tmp_path: Path
) -> None:
    url = emptied(postgresql)
    spec = pool_spec(kraken, "k", fetch_deadline_s=DEADLINE_S)
    desk = PoolDesk(url, tmp_path, lease_s=LEASE_S)
    with Links() as links, linked(links, url) as (link, its_url):
        one = desk.node("one", [spec], url=its_url)
        try:
            until_shared([one], [spec])
            links.do(link.set, cut=True)
            said = one.hold("k", "a test")
            assert "it could not be stored yet" in said
            until(lambda: desk.claims()[0].left_s < 0)
            links.do(link.set)
            until(lambda: desk.claims()[0].epoch >= 2)
            asked = len(kraken.private_log or ())
            until(lambda: len(kraken.private_log or ()) > asked + 2)
            assert one.reading("k").reason is Reason.HELD_OUT
        finally:
            desk.close()
