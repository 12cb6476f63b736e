"""A vital part that stays broken: it is said once, and every account has failed; exits still go out."""

from __future__ import annotations

from decimal import Decimal
from typing import Final

import pytest

from brokerwatch.actors.supervisor import HealthSupervisor
from brokerwatch.bus.inbox import Inbox
from brokerwatch.bus.publisher import Publisher
from brokerwatch.errors import EntryRefused
from brokerwatch.messages import Reason
from brokerwatch.simulator import SimulatedKraken, serve
from tests.support.clusters import cluster_of, simulated_spec, until
from tests.support.desks import rich
from tests.support.parts import HEARTBEAT_S, always, dies, quick, running

BROKEN: Final = {
    "the supervisor": (HealthSupervisor, "handle", ""),
    "the bus of the brokers": (Publisher, "_send", "brokerwatch-brokers"),
    "the inbox of the supervisor": (Inbox, "_keep", ""),
    "the health topic": (Publisher, "_send", "brokerwatch-health"),
}
"""The vital parts that can stay broken: where they break it, and of which thread."""


@pytest.mark.parametrize("way", ["dies", "hangs"])
@pytest.mark.parametrize("part", BROKEN)
def test_where_a_part_stays_broken_it_is_said_once_and_every_account_has_failed(
    part: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, method, name = BROKEN[part]
    with running(monkeypatch) as scene:
        scene.lines.clear()  # a slow machine may have had a word to say at the start
        always(owner, method, dies if way == "dies" else scene.hang, scene.patch, of=name)
        until(lambda: part in scene.cluster.hung)
        until(lambda: not scene.listener.is_available("a"))
        until(lambda: scene.cluster.reading("a").reason is Reason.FAILED)
        handle = scene.cluster.broker("a")
        assert not handle.is_available()
        assert part in handle.reading().detail
        assert "restart this program" in handle.reading().detail
        said = [line for line in scene.lines if line.startswith(f"{part}: ")]
        assert len(said) == 1
        scene.held.set()


def test_an_exit_goes_out_although_the_cluster_itself_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    quick(monkeypatch)
    exchange = SimulatedKraken()
    with (
        serve(rich(exchange)),
        cluster_of(
            simulated_spec(exchange, "mine", trading=True, fetch_deadline_s=2.0, poll_interval_s=0.2),
            heartbeat_s=HEARTBEAT_S,
        ) as cluster,
    ):
        broker = cluster.broker("mine")
        until(lambda: broker.is_available() and broker.reading().age_ms is not None)
        broker.get_all_products()
        monkeypatch.setattr(Publisher, "_send", dies)
        until(lambda: broker.reading().reason is Reason.FAILED)
        with pytest.raises(EntryRefused, match="restart this program"):
            broker.place_market_order("BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False)
        sold = broker.close_position("BTC/USD", base_amount=Decimal("0.1"), validate_only=False)
        assert sold.order_id
        monkeypatch.undo()
