"""Accounts on nodes: the same everywhere, in proportion to capacity, together by key, and within budgets."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from fractions import Fraction
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerwatch.placement.assignment import PlacedAccount, PlacedNode, placed, why_not
from brokerwatch.placement.rendezvous import draw, score

REGIONS: Final = ("tokyo", "dublin")
FALSE_ALARM: Final = 1e-9
"""How likely a test of shares may fail by chance, were the names drawn anew."""


def numbered(count: int) -> list[PlacedAccount]:
    """Accounts with a key each."""
    return [PlacedAccount(f"a{number}", f"key{number}") for number in range(count)]


def pools(*, budgets: bool = True, least: int = 1) -> st.SearchStrategy[list[PlacedNode]]:
    """The live nodes; some share an address."""
    node = st.builds(
        PlacedNode,
        name=st.sampled_from([f"node{number}" for number in range(12)]),
        capacity=st.sampled_from([0.0, 0.5, 1.0, 1.0, 1.0, 3.0]) if budgets else st.floats(0.1, 10.0),
        labels=st.fixed_dictionaries({}, optional={"region": st.sampled_from(REGIONS), "tier": st.just("a")}),
        egress=st.sampled_from(["", "192.0.2.1", "192.0.2.2"]),
        calls_per_s=st.sampled_from([0.0, 0.3, 1.0, 2.0, math.inf]) if budgets else st.just(math.inf),
    )
    return st.lists(node, min_size=least, max_size=8, unique_by=lambda one: one.name)


def desks() -> st.SearchStrategy[list[PlacedAccount]]:
    """Accounts; some share a key, some have none."""
    account = st.builds(
        PlacedAccount,
        name=st.sampled_from([f"a{number}" for number in range(40)]),
        key=st.sampled_from(["", *(f"key{number}" for number in range(12))]),
        pins=st.fixed_dictionaries({}, optional={"region": st.sampled_from(REGIONS), "tier": st.just("a")}),
        calls_per_s=st.sampled_from([0.0, 0.1, 0.1, 0.2, 0.7]),
    )
    return st.lists(account, max_size=25, unique_by=lambda one: one.name)


def unpinned(accounts: Iterable[PlacedAccount], calls_per_s: float = 0.0) -> list[PlacedAccount]:
    return [replace(one, pins={}, calls_per_s=calls_per_s) for one in accounts]


def groups(accounts: Iterable[PlacedAccount]) -> list[list[PlacedAccount]]:
    """By key, each account without one for itself."""
    found: dict[str, list[PlacedAccount]] = {}
    for one in accounts:
        found.setdefault(f"key {one.key}" if one.key else f"account {one.name}", []).append(one)
    return list(found.values())


def may(group: Iterable[PlacedAccount], node: PlacedNode) -> bool:
    """Whether a node may run all accounts of one key."""
    return node.capacity > 0 and all(
        node.labels.get(label) == value for one in group for label, value in one.pins.items()
    )


def calls(accounts: Iterable[PlacedAccount]) -> Fraction:
    """What they need together, exactly as it is written."""
    return sum((Fraction(str(one.calls_per_s)) for one in accounts), Fraction(0))


# --- which node -------------------------------------------------------------------------------------------


def test_two_versions_side_by_side_place_alike_so_these_never_change() -> None:
    nodes = [PlacedNode("n1"), PlacedNode("n2", capacity=2.5), PlacedNode("n3", capacity=0.7)]
    assert draw(b"key:key0", b"n1") == GOLDEN_DRAW
    assert score(GOLDEN_DRAW, 2.5).hex() == GOLDEN_SCORE
    assert [placed(numbered(12), nodes)[f"a{number}"] for number in range(12)] == GOLDEN_NODES


GOLDEN_DRAW: Final = 3967450871156355
GOLDEN_SCORE: Final = "0x1.3b92e9a661aadp+4"
GOLDEN_NODES: Final = ["n2", "n1", "n2", "n2", "n3", "n2", "n1", "n1", "n1", "n1", "n1", "n2"]


@given(drawn=st.integers(0, 2**52 - 1), capacity=st.floats(1e-3, 1e6))
def test_a_score_is_capacity_over_the_logarithm_of_the_draw(drawn: int, capacity: float) -> None:
    # The platform's logarithm is right to the last bits too, which is all that is held here.
    expected = capacity / -math.log((drawn + 0.5) / 2**52)
    assert score(drawn, capacity) == pytest.approx(expected, rel=1e-10)


@given(accounts=desks(), nodes=pools(), seed=st.integers(0, 2**32))
def test_the_order_of_accounts_and_nodes_changes_nothing(
    accounts: list[PlacedAccount], nodes: list[PlacedNode], seed: int
) -> None:
    before = placed(accounts, nodes)
    chance = random.Random(seed)
    chance.shuffle(accounts)
    chance.shuffle(nodes)
    assert placed(accounts, nodes) == before


@given(accounts=desks(), nodes=pools())
def test_keys_stay_together_and_pins_capacities_and_budgets_hold(
    accounts: list[PlacedAccount], nodes: list[PlacedNode]
) -> None:
    found = placed(accounts, nodes)
    by_name = {node.name: node for node in nodes}
    used: Counter[str] = Counter()
    for group in groups(accounts):
        (home,) = {found.get(one.name) for one in group}
        if home is not None:
            assert may(group, by_name[home])
            used[by_name[home].egress or f"of {home}"] += calls(group)  # type: ignore[assignment]
    for node in nodes:
        if math.isfinite(node.calls_per_s):
            assert used[node.egress or f"of {node.name}"] <= Fraction(str(node.calls_per_s))


@given(accounts=desks(), nodes=pools())
def test_whatever_is_left_out_had_no_room_and_is_explained(
    accounts: list[PlacedAccount], nodes: list[PlacedNode]
) -> None:
    found = placed(accounts, nodes)
    by_name = {node.name: node for node in nodes}
    for group in groups(accounts):
        if group[0].name in found:
            continue
        for node in nodes:
            if may(group, node):
                behind = [one for one in nodes if (one.egress or one.name) == (node.egress or node.name)]
                there = [one for one in accounts if one.name in found and by_name[found[one.name]] in behind]
                budget = min(one.calls_per_s for one in behind)
                assert calls(there) + calls(group) > Fraction(str(budget))
        assert why_not(group[0], nodes, accounts)


# --- nodes that come and go -------------------------------------------------------------------------------


@given(accounts=desks(), nodes=pools(budgets=False, least=2))
def test_a_node_that_leaves_moves_only_its_own_accounts_and_one_that_joins_takes_only_what_it_wins(
    accounts: list[PlacedAccount], nodes: list[PlacedNode]
) -> None:
    with_it, without_it = placed(accounts, nodes), placed(accounts, nodes[1:])
    name = nodes[0].name
    assert {account: node for account, node in with_it.items() if node != name} == {
        account: node for account, node in without_it.items() if with_it[account] != name
    }
    for account, node in with_it.items():
        if node == name and account in without_it:
            key = next(one.key for one in accounts if one.name == account)
            subject = (f"key:{key}" if key else f"account:{account}").encode()
            other = next(one for one in nodes if one.name == without_it[account])
            assert score(draw(subject, name.encode()), nodes[0].capacity) > score(
                draw(subject, other.name.encode()), other.capacity
            )


@given(accounts=desks(), nodes=pools(least=2), budget=st.sampled_from([0.2, 0.5, 1.0]))
def test_on_full_addresses_a_node_that_leaves_moves_no_more_than_its_accounts_times_the_addresses(
    accounts: list[PlacedAccount], nodes: list[PlacedNode], budget: float
) -> None:
    alike = [replace(one, key="") for one in unpinned(accounts, calls_per_s=0.1)]
    full = [replace(one, egress="", calls_per_s=budget) for one in nodes]
    before, after = placed(alike, full), placed(alike, full[1:])
    own = sum(node == full[0].name for node in before.values())
    moved = sum(before.get(one.name) != after.get(one.name) for one in alike)
    assert own <= moved <= own * len(full)  # to leave the pool altogether is a move as well
    assert set(after) <= set(before)


@given(capacities=st.lists(st.floats(0.2, 8.0), min_size=1, max_size=6))
@settings(max_examples=10)
def test_the_shares_follow_the_capacities(capacities: list[float]) -> None:
    nodes = [PlacedNode(f"n{number}", capacity) for number, capacity in enumerate(capacities)]
    count = 1_500
    shares = Counter(placed(numbered(count), nodes).values())
    for node in nodes:
        expected = count * node.capacity / sum(capacities)
        assert abs(shares[node.name] - expected) <= allowed(count, node.capacity / sum(capacities))


def allowed(count: int, share: float) -> float:
    """By how much a share may differ: Bernstein's bound for `count` draws, solved for the false alarm."""
    log = math.log(2 * 6 * 10 / FALSE_ALARM)
    return log / 3 + math.sqrt((log / 3) ** 2 + 2 * log * count * share * (1 - share))


# --- nodes whose files differ -----------------------------------------------------------------------------

Files = dict[str, dict[str, str]]
"""By node: the accounts in its file, by name, with the key of each."""


def files(keys: Callable[[str], st.SearchStrategy[str]]) -> st.SearchStrategy[Files]:
    names = [f"a{number}" for number in range(6)]
    file = st.fixed_dictionaries({}, optional={name: keys(name) for name in names})
    return st.dictionaries(st.sampled_from(["n1", "n2", "n3", "n4"]), file, min_size=1)


def taken(these: Files, *, silent: str = "") -> list[tuple[str, str]]:
    """Which node takes which account, as each of them computes it. `silent`: it does not say what it has."""
    nodes = [
        PlacedNode(
            name, accounts=None if name == silent else frozenset((key, one) for one, key in file.items())
        )
        for name, file in these.items()
    ]
    return sorted(
        (account, name)
        for name, file in these.items()
        for account, node in placed([PlacedAccount(one, key) for one, key in file.items()], nodes).items()
        if node == name
    )


@given(these=files(lambda name: st.sampled_from([f"old-{name}", f"new-{name}"])))
def test_each_account_is_with_one_of_the_nodes_that_have_it_whatever_key_they_know(these: Files) -> None:
    assert [account for account, _ in taken(these)] == sorted(
        {one for file in these.values() for one in file}
    )


@given(these=files(lambda _name: st.sampled_from(["k1", "k2", "k3"])))
def test_no_account_and_no_key_is_with_two_nodes_whose_files_differ(these: Files) -> None:
    found = taken(these)
    assert len({account for account, _ in found}) == len(found)
    owners = {(these[node][account], node) for account, node in found}
    assert len({key for key, _ in owners}) == len(owners)
    assert bool(found) == any(these.values())


def test_a_key_goes_to_a_node_that_has_the_most_of_its_accounts() -> None:
    assert taken({"n1": {"a": "k"}, "n2": {"a": "k", "b": "k"}, "n3": {}}) == [("a", "n2"), ("b", "n2")]


def test_a_node_that_takes_none_takes_no_account_from_those_whose_files_have_less() -> None:
    drained = PlacedNode("n1", 0.0, accounts=frozenset({("k", "a"), ("k", "b")}))
    other = PlacedNode("n2", accounts=frozenset({("k", "a")}))
    assert placed([PlacedAccount("a", "k")], [drained, other]) == {"a": "n2"}


def test_a_node_that_does_not_say_what_it_has_counts_as_having_all() -> None:
    nodes = [PlacedNode("n1", accounts=frozenset()), PlacedNode("n2")]
    assert set(placed(numbered(9), nodes).values()) == {"n2"}
    nodes[0] = replace(nodes[0], accounts=frozenset((one.key, one.name) for one in numbered(9)))
    assert placed(numbered(9), nodes) == placed(numbered(9), [PlacedNode("n1"), PlacedNode("n2")])


# --- words ------------------------------------------------------------------------------------------------

TOKYO: Final = PlacedNode("t", labels={"region": "tokyo"}, egress="192.0.2.1", calls_per_s=1.0)
DUBLIN: Final = PlacedNode("d", labels={"region": "dublin"})
IDLE: Final = PlacedNode("i", capacity=0.0)
PINNED: Final[Mapping[str, str]] = {"region": "tokyo"}


@pytest.mark.parametrize(
    ("account", "nodes", "others", "said"),
    [
        (PlacedAccount("a"), [], [], "the pool has no live node; start one"),
        (
            PlacedAccount("a", pins={"region": "mars"}), [TOKYO, DUBLIN], [],
            'it is pinned to region = "mars", and no live node has that: they have region = "dublin", '
            'region = "tokyo"; start a node with it, or change the pin',
        ),
        (
            PlacedAccount("a", pins={"tier": "x"}), [TOKYO], [],
            'it is pinned to tier = "x", and no live node has that: they have no such label; start a node '
            "with it, or change the pin",
        ),
        (
            PlacedAccount("a"), [IDLE], [],
            "the nodes that it may run on take no accounts, because their capacity is 0: i",
        ),
        (
            PlacedAccount("a", "k"), [PlacedNode("n", accounts=frozenset({("k", "b")})), IDLE], [],
            "the files of the nodes that it may run on (n) do not have it; add it to them, and reload these "
            "nodes",
        ),
        (
            PlacedAccount("a", "k"),
            [
                PlacedNode("n", accounts=frozenset({("k", "b"), ("k", "c")})),
                PlacedNode("m", accounts=frozenset({("k", "a")})),
            ],
            [],
            "accounts of one key go to one node, and no node has all of a, b, c in its file; give all nodes "
            "the same accounts, and reload them",
        ),
        (
            PlacedAccount("a", "k", PINNED), [TOKYO, DUBLIN], [PlacedAccount("b", "k", {"region": "dublin"})],
            "accounts of one key go to one node, and these pin region to dublin and tokyo with b of the same "
            "key; pin all of them to the same",
        ),
        (
            PlacedAccount("a", "k", PINNED, 0.7), [TOKYO, DUBLIN], [PlacedAccount("b", "k", {}, 0.6)],
            "it needs 1.3 calls a second with b of the same key, and no egress address of the nodes that it "
            "may run on (t) has a budget above 1; poll it less often, or raise calls_per_s of a node",
        ),
        (
            PlacedAccount("a", "k", PINNED, 0.7), [TOKYO, DUBLIN], [PlacedAccount("b", "l", PINNED, 0.8)],
            "it needs 0.7 calls a second, and other accounts use up the egress addresses of the nodes that "
            "it may run on (t); start a node behind another address, or raise calls_per_s of a node",
        ),
    ],
)  # fmt: skip
def test_an_account_that_is_left_out_is_explained(
    account: PlacedAccount, nodes: list[PlacedNode], others: list[PlacedAccount], said: str
) -> None:
    assert account.name not in placed([account, *others], nodes)
    assert why_not(account, nodes, [account, *others]) == said


def test_the_accounts_that_have_the_fewest_nodes_choose_first() -> None:
    many = [PlacedAccount(f"a{number}", calls_per_s=0.4) for number in range(20)]
    pinned = PlacedAccount("p", pins=PINNED, calls_per_s=0.3)
    assert placed([*many, pinned], [TOKYO, DUBLIN])["p"] == "t"


def test_nodes_behind_one_address_share_the_smallest_budget_that_one_of_them_states() -> None:
    one = PlacedNode("one", egress="192.0.2.1", calls_per_s=5.0)
    two = PlacedNode("two", egress="192.0.2.1", calls_per_s=0.3)
    accounts = [PlacedAccount(f"a{number}", calls_per_s=0.1) for number in range(9)]
    assert len(placed(accounts, [one, two])) == 3
    assert len(placed(accounts, [replace(one, egress=""), two])) == 9


@pytest.mark.parametrize("wrong", [-1.0, math.nan, math.inf])
def test_numbers_that_cannot_be_are_refused(wrong: float) -> None:
    with pytest.raises(ValueError, match="calls_per_s of account 'a': expected 0 or more"):
        PlacedAccount("a", calls_per_s=wrong)
    with pytest.raises(ValueError, match="capacity of node 'n': expected 0 or more"):
        PlacedNode("n", capacity=wrong)
    if wrong != math.inf:
        with pytest.raises(ValueError, match="calls_per_s of node 'n': expected 0 or more"):
            PlacedNode("n", calls_per_s=wrong)


def test_one_name_twice_is_refused() -> None:
    with pytest.raises(ValueError, match="two accounts have the name 'a0'"):
        placed([*numbered(2), *numbered(1)], [])
    with pytest.raises(ValueError, match="two nodes have the name 'n'"):
        placed([], [PlacedNode("n"), PlacedNode("n", capacity=2.0)])


def test_a_large_pool_is_placed_whole() -> None:
    nodes = [PlacedNode(f"n{number}", capacity=1.0 + number % 3) for number in range(30)]
    found = placed(numbered(2_000), nodes)
    assert len(found) == 2_000
    assert set(found.values()) == {node.name for node in nodes}
