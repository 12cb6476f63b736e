"""Which nodes of a pool count while others come and go: a pure question of time."""

from __future__ import annotations

from itertools import pairwise

from brokerwatch.pool.settling import (
    HANDED_WITHIN_S,
    JOINS,
    LONGEST_SETTLE_S,
    TAKE_AGAIN_S,
    Settling,
    settle_s,
)
from brokerwatch.storage.claims import PoolNode

MANY = 10_000
A, B, C, D = (PoolNode(name, "1") for name in "abcd")


def test_nodes_that_start_one_after_the_other_count_together() -> None:
    settling = Settling()
    counted: list[tuple[PoolNode, ...]] = []
    for now_s, live in enumerate(((), (A,), (A,), (A, B), (A, B, C), (A, B, C, D), *((A, B, C, D),) * 7)):
        settling.look(live, MANY, now_s)
        counted.append(settling.nodes)
    assert [nodes for nodes, after in pairwise(counted) if nodes != after] == [()]
    assert counted[-1] == (A, B, C, D)


def counting(settling: Settling) -> str:
    return "".join(node.name for node in settling.nodes)


def test_a_node_that_leaves_counts_no_more_at_once_also_while_another_one_joins() -> None:
    settling = Settling()
    settling.look((A, B), MANY, 0.0)
    settling.look((A, B), MANY, LONGEST_SETTLE_S)
    assert counting(settling) == "ab"
    settling.look((A, B, C), MANY, 100.0)
    assert counting(settling) == "ab"
    settling.look((A, C), MANY, 100.5)
    assert counting(settling) == "a"
    settling.look((A,), MANY, 101.0)
    settling.look((A, C), MANY, 300.0)
    assert counting(settling) == "a", "the wait begins anew"
    settling.look((A, C), MANY, 300.0 + LONGEST_SETTLE_S)
    assert counting(settling) == "ac"


def test_a_process_that_comes_again_under_its_name_has_joined() -> None:
    settling, again = Settling(), PoolNode("a", "2")
    settling.look((A,), MANY, 0.0)
    settling.look((A,), MANY, 10.0)
    settling.look((again,), MANY, 20.0)
    assert counting(settling) == ""
    settling.look((again,), MANY, 30.0)
    assert counting(settling) == "a"


def test_nodes_that_go_on_joining_are_waited_for_so_long_and_no_longer() -> None:
    settling, now_s, live = Settling(), 0.0, [A]
    while not settling.nodes:
        settling.look(live, MANY, now_s)
        live, now_s = [*live, PoolNode(f"n{len(live)}", "1")], now_s + LONGEST_SETTLE_S / 2
    assert now_s <= (JOINS + 1) * LONGEST_SETTLE_S


def test_the_wait_is_as_long_as_the_pool_is_large_and_its_end_is_said() -> None:
    assert settle_s(30) < 0.1
    assert settle_s(1_000) < settle_s(2_000) < settle_s(100_000) == LONGEST_SETTLE_S
    settling = Settling()
    left_s = settling.look((A,), 30, 5.0)
    assert 0 < left_s <= settle_s(30)
    assert settling.look((A,), 30, 5.0 + left_s) == float("inf")
    assert settling.nodes == (A,)


def test_keys_that_are_to_be_handed_over_are_looked_for_often_and_for_a_while() -> None:
    settling = Settling()
    assert settling.take_again_s(3, 0.0) == float("inf"), "the nodes have not changed"
    settling.look((A, B), 30, 0.0)
    settling.look((A, B), 30, 1.0)
    assert settling.take_again_s(0, 1.0) == float("inf")
    assert settling.take_again_s(3, 1.0) == TAKE_AGAIN_S
    assert settling.take_again_s(MANY, 1.0) > 10 * TAKE_AGAIN_S
    settling.look((A, B), 30, 2.0)
    assert settling.take_again_s(3, 2.0 + HANDED_WITHIN_S) == float("inf"), "another pool may have them"
