"""API keys in a pool: what becomes of their other accounts when one goes or comes, and of their numbers."""

from __future__ import annotations

from dataclasses import replace

from brokerwatch.clock import SystemClock
from brokerwatch.config.cluster_settings import Settings
from brokerwatch.gateway.catalogue import lane_name
from brokerwatch.messages import FaultKind
from brokerwatch.simulator import SimulatedKraken
from brokerwatch.storage.backlog import Batch
from brokerwatch.storage.records import KeyState
from brokerwatch.storage.store import Store
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


def test_a_key_whose_last_owner_had_its_numbers_from_a_clock_ahead_and_wrote_so_late_comes_back(
    desk: PoolDesk, kraken: SimulatedKraken
) -> None:
    account = pool_spec(kraken, "account")
    specs = [called_by("one", account)]
    one = desk.node("one", specs)
    until_shared([one], specs)
    an_hour_ahead = SystemClock().now().wall_us // 1_000 + 3_600_000
    key = account.credentials["api_key"]
    kraken.use_nonce(an_hour_ahead, key)
    until(lambda: one.reading("account").fault is FaultKind.NONCE_CLOCK)
    until(lambda: not one.reading("account").available)
    # What its last owner had reserved reaches the database only now.
    late = Store(desk.url, "tests")
    try:
        state = KeyState(lane_name(account), nonce_ceiling=an_hour_ahead + 60_000)
        late.write(Batch(keys={state.fingerprint: state}))
    finally:
        late.close()
    until_shared([one], specs)
    assert an_hour_ahead < kraken.last_nonce(key) < an_hour_ahead + 120_000
