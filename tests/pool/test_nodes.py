"""Nodes of one pool on a real PostgreSQL: who has which account, and that no two have one at a time."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal

import pytest

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.cluster_settings import Settings
from brokerwatch.errors import (
    ConfigError,
    ControlError,
    CouldNotAsk,
    OrderError,
    OrderStateUnknown,
    UnknownBroker,
)
from brokerwatch.messages import OrderState, Reason
from brokerwatch.simulator import SimulatedKraken
from tests.support.clusters import until
from tests.support.pools import PoolDesk, called_by, here, overlaps, pool_spec, until_shared


def test_the_first_node_has_all_accounts_and_a_second_one_takes_its_share(
    desk: PoolDesk, kraken: SimulatedKraken
) -> None:
    specs = [pool_spec(kraken, f"k{number}") for number in range(8)]
    one = desk.node("one", specs)
    until_shared([one], specs)
    two = desk.node("two", specs)
    until(lambda: here(two))
    until_shared([one, two], specs)
    assert 0 < len(here(two)) < len(specs)
    with pytest.raises(UnknownBroker, match="not with this node"):
        one.broker(next(iter(here(two))))
    two.stop()
    until_shared([one], specs)
    assert not overlaps(kraken.private_log or (), specs, desk.claims())


def test_what_is_known_goes_along(desk: PoolDesk, kraken: SimulatedKraken) -> None:
    spec = pool_spec(kraken, "k")
    kraken.set_balance({"USD": ("12.50", "0")}, account=spec.credentials["api_key"])
    one = desk.node("one", [spec])
    until_shared([one], [spec])
    one.hold("k", "a test")
    until(lambda: one.reading("k").reason is Reason.HELD_OUT)
    kraken.set_fault("http_502_html")
    until(lambda: one.reading("k").error_count >= 3)
    known = one.reading("k")
    one.stop()
    two = desk.node("two", [spec])
    until(lambda: here(two))
    found = two.reading("k")
    assert (found.cash, found.available) == (known.cash, False)
    assert found.as_of is not None
    assert known.as_of is not None
    assert abs(found.as_of.wall_us - known.as_of.wall_us) < 1_000_000
    assert found.reason is Reason.HELD_OUT
    kraken.mend()

    def released() -> bool:
        try:
            return bool(two.release("k"))
        except ControlError:  # it is just coming
            return False

    until(released)
    until(lambda: two.reading("k").available)


def test_an_account_that_a_program_adds_or_removes_falls_to_a_node_as_all_others_do(
    desk: PoolDesk, kraken: SimulatedKraken
) -> None:
    specs = [pool_spec(kraken, f"k{number}") for number in range(4)]
    one = desk.node("one", specs[:3])
    until_shared([one], specs[:3])
    assert str(one.add(called_by("one", specs[3]))).startswith("k3: added")
    until_shared([one], specs)
    assert str(one.remove("k0")) == "k0: removed"
    until_shared([one], specs[1:])
    # The claim is given back once all that is known of the account is written.
    until(lambda: {row.accounts for row in desk.claims() if row.is_held} == {("k1",), ("k2",), ("k3",)})
    with pytest.raises(UnknownBroker):
        one.remove("k0")


def test_a_reload_that_is_refused_changes_nothing_of_the_accounts_of_the_pool(
    desk: PoolDesk, kraken: SimulatedKraken
) -> None:
    specs = [called_by("one", pool_spec(kraken, f"k{number}")) for number in range(3)]
    one = desk.node("one", specs[:2])
    until_shared([one], specs[:2])
    with pytest.raises(ConfigError, match="restart"):
        one.reload(Settings(desk.settings("other"), tuple(specs[1:])))
    one.add(specs[2])
    until_shared([one], specs)


LOOK_UPS = ("/0/private/OpenOrders", "/0/private/ClosedOrders")


def test_an_order_under_way_is_looked_up_by_the_next_owner_before_anything_else(
    desk: PoolDesk, kraken: SimulatedKraken
) -> None:
    spec = pool_spec(kraken, "k", trading=True, policy="simple")
    kraken.set_balance({"USD": ("1000", "0")}, account=spec.credentials["api_key"])
    one = desk.node("one", [spec])
    until_shared([one], [spec])
    kraken.set_fault("reset", path="/0/private/AddOrder", executed=True)
    for path in LOOK_UPS:
        kraken.set_fault("http_502_html", path=path)
    with pytest.raises(OrderStateUnknown) as unknown:
        one.broker("k").place_market_order("BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False)
    one.stop()
    kraken.mend()
    kraken.set_fault("http_502_html", path=LOOK_UPS[0])
    two = desk.node("two", [spec])

    def refused() -> bool:
        try:
            two.broker("k").place_market_order(
                "BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False
            )
        except UnknownBroker:  # it is just coming
            return False
        except OrderError:
            return True
        raise AssertionError("it is not known yet what became of the order before")

    until(refused)
    kraken.mend()

    def found() -> bool:
        try:
            order = two.broker("k").find_order("BTC/USD", unknown.value.client_order_id)
        except (CouldNotAsk, UnknownBroker):
            return False
        return order is not None and order.state is OrderState.FILLED

    until(found)
    called = [call for call in kraken.private_log or () if call.caller == "two"]
    assert called[0].path in LOOK_UPS, "before its balance is asked for"
    assert kraken.placed_orders == 1
    assert not overlaps(kraken.private_log or (), [spec], desk.claims())


@pytest.mark.parametrize("heartbeat_s", [None, 30.0])
def test_a_reload_leaves_the_heartbeat_of_a_pool_as_it_is(
    desk: PoolDesk, kraken: SimulatedKraken, heartbeat_s: float | None
) -> None:
    specs = tuple(called_by("one", pool_spec(kraken, f"k{number}")) for number in range(2))
    written = replace(desk.settings("one"), heartbeat_s=heartbeat_s)
    with Cluster(specs[:1], written) as one:
        until_shared([one], specs[:1])
        assert "k1: added" in str(one.reload(Settings(written, specs)))
        until_shared([one], specs)
        with pytest.raises(ConfigError, match="heartbeat_s"):
            one.reload(Settings(replace(written, heartbeat_s=0.7), specs))
