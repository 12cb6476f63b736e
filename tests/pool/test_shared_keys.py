"""Accounts of one API key in a pool: what becomes of the others when one of them goes or comes."""

from __future__ import annotations

from dataclasses import replace

from brokerwatch.config.cluster_settings import Settings
from brokerwatch.simulator import SimulatedKraken
from tests.support.clusters import until
from tests.support.pools import PoolDesk, called_by, here, overlaps, pool_spec, until_shared


def test_an_account_that_is_removed_leaves_the_other_one_on_its_key_alone(
    desk: PoolDesk, kraken: SimulatedKraken
) -> None:
    first = pool_spec(kraken, "first")
    second = replace(first, name="second")
    specs = [called_by("one", first), called_by("one", second)]
    one = desk.node("one", specs)
    until_shared([one], specs)
    one.reload(Settings(desk.settings("one"), (specs[1],)))
    until(lambda: here(one) == {"second"})
    calls = kraken.private_log
    assert calls is not None
    asked = len(calls)
    until(lambda: len(calls) > asked + 5)
    until_shared([one], [specs[1]])


def test_an_account_that_comes_to_a_key_in_use_changes_nothing_for_the_other_one(
    desk: PoolDesk, kraken: SimulatedKraken
) -> None:
    first = pool_spec(kraken, "first")
    specs = [called_by("one", first), called_by("one", replace(first, name="second"))]
    one = desk.node("one", specs[:1])
    until_shared([one], specs[:1])
    before = one.reading("first").broker_epoch
    one.reload(Settings(desk.settings("one"), tuple(specs)))
    until_shared([one], specs)
    assert one.reading("first").broker_epoch == before
    one.stop()
    two = desk.node("two", specs)
    until_shared([two], specs)
    assert not overlaps(kraken.private_log or (), specs, desk.claims())
