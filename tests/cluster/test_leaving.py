"""An account that left: its orders are followed to their end, and then nothing of it is left."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from brokerwatch.cluster.broker import requests_of
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.cluster_settings import ClusterSettings
from brokerwatch.errors import OrderStateUnknown, UnknownBroker
from brokerwatch.orders import following
from brokerwatch.simulator import SimulatedExchange
from brokerwatch.storage.state_folder import stored_order_events
from tests.support.clusters import until
from tests.support.desks import KINDS, Opened, lose, rich
from tests.support.hung_loops import Block, loop_of

pytestmark = pytest.mark.usefixtures("patient_stops")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks follow each other sooner than in earnest."""
    monkeypatch.setattr(following, "FIRST_LOOK_S", 0.05)
    monkeypatch.setattr(following, "LONGEST_LOOK_S", 0.2)


def states(state: Path) -> list[str]:
    settings = ClusterSettings(state=str(state))
    return [event.state for event in stored_order_events(settings, None, None, None)]


def leavers(cluster: Cluster) -> int:
    return len(list(cluster._members.leavers))  # pyright: ignore[reportPrivateUsage] - it shows nowhere else


def lanes(cluster: Cluster) -> int:
    gateway = cluster._members.gateway  # pyright: ignore[reportPrivateUsage] - it shows nowhere else
    assert gateway is not None
    return len(gateway._lanes._lanes)  # pyright: ignore[reportPrivateUsage] - as above


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_order_of_an_account_that_left_is_followed_until_it_is_filled(
    kind: type[SimulatedExchange], tmp_path: Path
) -> None:
    exchange = rich(kind())
    with Opened(exchange, state=str(tmp_path)) as desk:
        exchange.fills_at_once = False
        desk.buy()
        desk.cluster.remove(desk.broker.name)
        with pytest.raises(UnknownBroker, match="nothing was sent"):
            desk.buy()
        assert (leavers(desk.cluster), lanes(desk.cluster)) == (1, 1)
        exchange.fill_open_orders()
        until(lambda: (leavers(desk.cluster), lanes(desk.cluster)) == (0, 0))
        assert exchange.placed_orders == 1
    assert states(tmp_path) == ["sent", "accepted", "filled"]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_an_order_whose_answer_was_lost_is_looked_up_after_its_account_left(
    kind: type[SimulatedExchange], tmp_path: Path
) -> None:
    exchange = rich(kind())
    with Opened(exchange, state=str(tmp_path), fetch_deadline_s=2.0) as desk:
        lose(desk, executed=True)
        with pytest.raises(OrderStateUnknown):
            desk.buy()
        desk.cluster.remove(desk.broker.name)
        calls = exchange.private_calls
        until(lambda: exchange.private_calls > calls)
        exchange.mend()
        until(lambda: leavers(desk.cluster) == 0)
    assert states(tmp_path)[-1] in ("filled", "accepted")


def test_an_account_that_comes_back_follows_its_orders_itself(tmp_path: Path) -> None:
    exchange = rich(KINDS[0]())
    with Opened(exchange, state=str(tmp_path)) as desk:
        exchange.fills_at_once = False
        desk.buy()
        spec = requests_of(desk.broker).spec
        desk.cluster.remove(spec.name)
        desk.cluster.add(replace(spec, labels={"again": "yes"}))
        assert leavers(desk.cluster) == 0
        until(lambda: len(requests_of(desk.broker).account().executor.followed()) == 1)
        exchange.fill_open_orders()
        until(lambda: not requests_of(desk.broker).account().executor.followed())
        until(lambda: desk.broker.get_account_balance() > 0)
    assert states(tmp_path) == ["sent", "accepted", "filled"]


def test_an_order_of_an_account_that_left_is_followed_on_the_loop_that_takes_over(tmp_path: Path) -> None:
    exchange = rich(KINDS[0]())
    with Opened(exchange, state=str(tmp_path)) as desk:
        exchange.fills_at_once = False
        desk.buy()
        desk.cluster.remove(desk.broker.name)
        loop = loop_of(desk.cluster)
        with Block(loop.asyncio_loop) as block:
            block.hang()
            until(lambda: loop_of(desk.cluster) is not loop)
            exchange.fill_open_orders()
            until(lambda: leavers(desk.cluster) == 0)
    assert states(tmp_path) == ["sent", "accepted", "filled"]
