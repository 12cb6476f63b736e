"""Nodes of one pool whose files do not have the same accounts: each account is with a node that has it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.nonce_fence import CONFIRMED
from brokerwatch.preflight.diagnosis import LineOutcome
from brokerwatch.preflight.pool_checks import pool_lines
from brokerwatch.simulator import SimulatedKraken, SimulatedOkx
from tests.support.clusters import until
from tests.support.pools import PoolDesk, called_by, here, overlaps, pool_spec, until_shared


def test_accounts_that_only_some_nodes_have_are_with_one_of_those(
    desk: PoolDesk, kraken: SimulatedKraken
) -> None:
    specs = [pool_spec(kraken, f"k{number}") for number in range(9)]
    one = desk.node("one", specs[:6])
    two = desk.node("two", specs[3:])
    until_shared([one, two], specs)
    assert here(one) >= {"k0", "k1", "k2"}
    assert here(two) >= {"k6", "k7", "k8"}
    two.stop()
    until_shared([one], specs[:6])
    assert not overlaps(kraken.private_log or (), specs, desk.claims())


def test_an_account_is_watched_while_it_is_added_and_removed_at_one_node_after_the_other(
    desk: PoolDesk, kraken: SimulatedKraken
) -> None:
    specs = [pool_spec(kraken, f"k{number}") for number in range(8)]
    nodes = {name: desk.node(name, specs[:2]) for name in ("one", "two")}

    def each(name: str) -> Cluster:
        return nodes[name]

    until_shared(nodes.values(), specs[:2])
    for spec in specs[2:]:
        each("one").add(called_by("one", spec))
    until_shared(nodes.values(), specs)
    assert here(each("one")) >= {spec.name for spec in specs[2:]}
    for spec in specs[2:]:
        each("two").add(called_by("two", spec))
    until_shared(nodes.values(), specs)
    for spec in specs[2:]:
        each("two").remove(spec.name)
    until(lambda: here(each("one")) >= {spec.name for spec in specs[2:]})
    until_shared(nodes.values(), specs)
    assert not overlaps(kraken.private_log or (), specs, desk.claims())


def test_an_account_is_with_one_node_while_they_know_different_keys_of_it(
    desk: PoolDesk, kraken: SimulatedKraken
) -> None:
    specs = [pool_spec(kraken, f"k{number}") for number in range(8)]
    newer = [replace(spec, credentials=pool_spec(kraken, f"new-{spec.name}").credentials) for spec in specs]
    one, two = desk.node("one", specs), desk.node("two", newer)
    until(lambda: here(one) and here(two))
    until_shared([one, two], specs)


def test_an_account_that_one_node_cannot_set_up_is_watched_by_another(
    desk: PoolDesk, okx: SimulatedOkx, caplog: pytest.LogCaptureFixture
) -> None:
    specs = [pool_spec(okx, f"k{number}") for number in range(8)]
    # What is no mistake by itself, and is one at this exchange.
    faulty = [replace(spec, nonce_fence=True, nonce_fence_confirmed=CONFIRMED) for spec in specs[:4]]
    one = desk.node("one", [*faulty, *specs[4:]])
    until(lambda: "cannot be watched here" in caplog.text and here(one) == {"k4", "k5", "k6", "k7"})
    until(lambda: {name for row in desk.claims() if row.is_held for name in row.accounts} == here(one))
    two = desk.node("two", specs)
    until_shared([one, two], specs)
    assert {"k0", "k1", "k2", "k3"} <= here(two)
    assert here(one)
    assert caplog.text.count("k0 cannot be watched here") == 1


def test_the_doctor_says_which_nodes_do_not_have_an_account(desk: PoolDesk, kraken: SimulatedKraken) -> None:
    specs = [pool_spec(kraken, "a"), pool_spec(kraken, "b")]
    one = desk.node("one", specs[:1])
    until_shared([one], specs[:1])
    lines = {line.check: line for line in pool_lines(desk.settings("look"), specs)}
    assert lines["placement"].outcome is LineOutcome.FAIL
    assert "no node takes b: the files of the nodes that it may run on (one)" in lines["placement"].evidence
    two = desk.node("two", specs)
    until_shared([one, two], specs)
    lines = {line.check: line for line in pool_lines(desk.settings("look"), specs)}
    assert (lines["files"].outcome, lines["files"].evidence) == (
        LineOutcome.WARN,
        "node one has not all accounts of this file: b",
    )
