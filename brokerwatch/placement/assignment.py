"""Which node of a pool watches which account: a pure function of the accounts and the live nodes.

Every node computes it for itself, and what it answers is a wish. That no two nodes use one API key rests on
the claims of the pool (`storage/claims.py`) and never on this.

The accounts of one API key go together. What such a group needs is looked for in three steps:

1. A node *may* run it if its capacity is above 0, it has every label that one of the accounts pins, and its
   file has the accounts. Where files differ, those nodes may whose files have the most of the group.
2. Among these the group prefers the node with the highest score (`rendezvous`).
3. The calls of all groups behind one egress address stay within that address's budget. A group that finds no
   room takes the next node of its preference.

The groups choose one after the other, in an order that depends on nothing but the group: those with more pins
first, because they have the fewest nodes to choose from; then those with more calls, because they fit in the
fewest; then by hash. So the order of the inputs changes nothing.

Files differ while an account or a key is added at one node after the other. Each node knows what all of them
have, and forms the groups from that: accounts belong together that share a key in any of the files. So nodes
with different files agree on each account that they have, also while they have different keys for it. Budgets
are an exception: each node adds up the calls of its own accounts.

While budgets suffice, a node that leaves moves only its own accounts, and one that joins takes only what it
wins. Where addresses are full, a group that moves may take the place of one that chooses later, which moves
on. Among groups that need the same, each such chain enters an address once at most: with k groups on a node
that leaves and n addresses left, at most k × n change to another node.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter
from typing import Final, TypeVar

from brokerwatch.placement.rendezvous import draw, score

_PARTS: Final = 1_000_000
"""Calls are added up in millionths of a call a second: whole numbers have the same sum in any order."""


@dataclass(frozen=True, slots=True)
class PlacedAccount:
    """An account that some node of the pool is to watch. Raises ValueError for calls that cannot be."""

    name: str
    """Of the account; one account has it."""
    key: str = ""
    """The fingerprint of its API key. Empty: it has none, and goes alone."""
    pins: Mapping[str, str] = field(default_factory=dict[str, str])
    """Labels, by name, that its node must have."""
    calls_per_s: float = 0.0
    """How many private calls a second it makes of its egress address's budget."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.calls_per_s) and self.calls_per_s >= 0):
            raise ValueError(
                f"calls_per_s of account {self.name!r}: expected 0 or more, not {self.calls_per_s}"
            )


@dataclass(frozen=True, slots=True)
class PlacedNode:
    """A live node of the pool. Raises ValueError for a capacity or a budget that cannot be."""

    name: str
    """Of the node; one live node has it."""
    capacity: float = 1.0
    """Its weight: a node of twice the capacity gets twice the accounts. 0: it gets none."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """What accounts may pin, by name, such as `region`."""
    egress: str = ""
    """The address that exchanges see. Nodes behind one address share its budget. Empty: one of its own."""
    calls_per_s: float = math.inf
    """The budget of that address. Where the nodes behind it differ, the smallest counts."""
    accounts: frozenset[tuple[str, str]] | None = None
    """The accounts in its file, each as its key and its name. None: it does not say, and counts as having
    all."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.capacity) and self.capacity >= 0):
            raise ValueError(f"capacity of node {self.name!r}: expected 0 or more, not {self.capacity}")
        if not self.calls_per_s >= 0:
            raise ValueError(f"calls_per_s of node {self.name!r}: expected 0 or more, not {self.calls_per_s}")

    @property
    def address(self) -> tuple[str, str]:
        """What its budget belongs to: its egress address, or the node alone."""
        return ("egress", self.egress) if self.egress else ("node", self.name)


_Named = TypeVar("_Named", PlacedAccount, PlacedNode)


def placed(accounts: Iterable[PlacedAccount], nodes: Iterable[PlacedNode]) -> Mapping[str, str]:
    """Say which node watches which account.

    10,000 accounts over 100 nodes take 2.1 s of a core (CPython 3.11.7, AMD EPYC), half of it for the million
    hashes. So call it when accounts or nodes have changed, and not on a trader's thread.

    Args:
        accounts: all accounts of the pool, in any order.
        nodes: the live nodes, in any order.

    Returns:
        The name of the node, by name of account. An account that no node may run, or that found no room, is
        left out; `why_not` says why.

    Raises:
        ValueError: Two accounts or two nodes have one name.
    """
    live = _by_name(nodes, "nodes")
    room = _budgets(live.values())
    found: dict[str, str] = {}
    files = _Files(live.values())
    for group in sorted(files.groups(_by_name(accounts, "accounts").values()), key=attrgetter("turn")):
        for node in group.best_first(files.having(group, filter(group.may_run_on, live.values()))):
            if group.calls <= room[node.address]:
                room[node.address] -= group.calls
                here = (account.name for account in group.accounts if files.has(node, account.name))
                found.update((name, node.name) for name in here)
                break
    return found


def why_not(account: PlacedAccount, nodes: Iterable[PlacedNode], others: Iterable[PlacedAccount] = ()) -> str:
    """Say in words why `placed` left this account out, and what to do.

    Args:
        account: one that `placed` left out.
        nodes: the nodes that `placed` was given.
        others: the accounts that `placed` was given. Without them the accounts of the same key are not known.
    """
    live = list(nodes)
    files = _Files(live)
    among = {one.name: one for one in (*others, account)}
    group = next(group for group in files.groups(among.values()) if account in group.accounts)
    mates = [one.name for one in group.accounts if one.name != account.name]
    together = f" with {', '.join(mates)} of the same key" if mates else ""
    if not live:
        return "the pool has no live node; start one"
    for label, values in group.contradictions:
        return (
            f"accounts of one key go to one node, and these pin {label} to {' and '.join(values)}{together}; "
            "pin all of them to the same"
        )
    fitting = sorted((node for node in live if group.has_labels(node)), key=attrgetter("name"))
    if not fitting:
        return _unlabelled(group, live)
    ready = [node for node in fitting if node.capacity > 0]
    names = ", ".join(node.name for node in ready or fitting)
    if not ready:
        return f"the nodes that it may run on take no accounts, because their capacity is 0: {names}"
    if not any(files.has(node, account.name) for node in ready):
        return (
            f"the files of the nodes that it may run on ({names}) do not have it; add it to them, and reload "
            "these nodes"
        )
    ready = list(files.having(group, ready))
    names = ", ".join(node.name for node in ready)
    if not all(files.has(node, name) for node in ready for name in group.names):
        return (
            f"accounts of one key go to one node, and no node has all of {', '.join(sorted(group.names))} in "
            "its file; give all nodes the same accounts, and reload them"
        )
    needed = f"{group.calls / _PARTS:g} calls a second{together}"
    room = _budgets(live)
    largest = max(room[node.address] for node in ready)
    if group.calls > largest:
        return (
            f"it needs {needed}, and no egress address of the nodes that it may run on ({names}) has a "
            f"budget above {largest / _PARTS:g}; poll it less often, or raise calls_per_s of a node"
        )
    return (
        f"it needs {needed}, and other accounts use up the egress addresses of the nodes that it may run on "
        f"({names}); start a node behind another address, or raise calls_per_s of a node"
    )


class _Group:
    """Accounts that go to one node: those of one API key."""

    def __init__(self, accounts: Iterable[PlacedAccount], subject: str, names: frozenset[str]) -> None:
        self.accounts = sorted(accounts, key=attrgetter("name"))
        self.names = names
        """Of its accounts in the files of all nodes."""
        self._subject = subject.encode()
        self._pins = {(label, value) for one in self.accounts for label, value in one.pins.items()}
        self.calls: int = sum(_parts(one.calls_per_s) for one in self.accounts)

    @property
    def turn(self) -> tuple[int, int, int, bytes]:
        """When it chooses: the smallest first."""
        return (-len(self._pins), -self.calls, draw(self._subject, b""), self._subject)

    @property
    def pins(self) -> list[tuple[str, str]]:
        """Every label and value that one of the accounts pins."""
        return sorted(self._pins)

    @property
    def contradictions(self) -> Iterator[tuple[str, list[str]]]:
        """Each label that is pinned to more than one value, with these."""
        for label, pins in groupby(self.pins, key=lambda pin: pin[0]):
            values = [value for _, value in pins]
            if len(values) > 1:
                yield label, values

    def has_labels(self, node: PlacedNode) -> bool:
        return all(node.labels.get(label) == value for label, value in self._pins)

    def may_run_on(self, node: PlacedNode) -> bool:
        return node.capacity > 0 and self.has_labels(node)

    def best_first(self, nodes: Iterable[PlacedNode]) -> Iterator[PlacedNode]:
        """These nodes, the preferred one first."""
        drawn = [(draw(self._subject, node.name.encode()), node) for node in nodes]
        # Among nodes of one capacity the larger draw has the larger score. So the first node, which is nearly
        # always the last that is asked for, costs a logarithm for each capacity and not for each node.
        best: dict[float, tuple[int, PlacedNode]] = {}
        for one in drawn:
            other = best.get(one[1].capacity)
            if other is None or (one[0], one[1].name) > (other[0], other[1].name):
                best[one[1].capacity] = one
        if best:
            yield max(best.values(), key=_rank)[1]
            yield from (node for _, node in sorted(drawn, key=_rank, reverse=True))


def _rank(drawn: tuple[int, PlacedNode]) -> tuple[float, str]:
    return score(drawn[0], drawn[1].capacity), drawn[1].name


class _Files:
    """What the live nodes say of the accounts in their files."""

    def __init__(self, nodes: Iterable[PlacedNode]) -> None:
        said = {node.accounts for node in nodes if node.accounts is not None}
        self._names = {accounts: frozenset(name for _, name in accounts) for accounts in said}
        self._pairs: frozenset[tuple[str, str]] = frozenset().union(*said)

    def groups(self, accounts: Iterable[PlacedAccount]) -> Iterator[_Group]:
        """These accounts, those together that share a key in any file."""
        here = list(accounts)
        pairs = self._pairs.union((one.key, one.name) for one in here)
        names = _Together(name for _, name in pairs)
        keys: dict[str, list[str]] = {}
        for key, name in pairs:
            if key:
                keys.setdefault(key, []).append(name)
        for same in keys.values():
            names.join(same)
        keys_of: dict[str, set[str]] = {}
        for key, name in pairs:
            keys_of.setdefault(names.first(name), set()).add(key)
        members = names.members()
        mine: dict[str, list[PlacedAccount]] = {}
        for one in here:
            mine.setdefault(names.first(one.name), []).append(one)
        for first, group in mine.items():
            (key, *others) = keys_of[first]
            # The nodes know different keys of one account: they agree on its name alone.
            subject = f"account:{first}" if others or not key else f"key:{key}"
            yield _Group(group, subject, members[first])

    def has(self, node: PlacedNode, name: str) -> bool:
        """Whether the file of a node has an account, as far as that is known."""
        return node.accounts is None or name in self._names[node.accounts]

    def having(self, group: _Group, nodes: Iterable[PlacedNode]) -> Iterator[PlacedNode]:
        """Those of these nodes whose files have the most accounts of the group, and those that do not say."""
        among = list(nodes)
        said = {node.accounts for node in among if node.accounts is not None}
        if not said:
            return iter(among)
        count = {accounts: len(group.names & self._names[accounts]) for accounts in said}
        most = max(1, max(count.values(), default=0))
        return (node for node in among if node.accounts is None or count[node.accounts] == most)


class _Together:
    """Names of which some belong together. The smallest one stands for all of them."""

    def __init__(self, names: Iterable[str]) -> None:
        self._above = {name: name for name in names}

    def first(self, name: str) -> str:
        above = self._above
        while above[name] != name:
            above[name] = name = above[above[name]]
        return name

    def join(self, names: Iterable[str]) -> None:
        firsts = sorted({self.first(name) for name in names})
        for other in firsts[1:]:
            self._above[other] = firsts[0]

    def members(self) -> dict[str, frozenset[str]]:
        found: dict[str, list[str]] = {}
        for name in self._above:
            found.setdefault(self.first(name), []).append(name)
        return {first: frozenset(names) for first, names in found.items()}


def _by_name(these: Iterable[_Named], what: str) -> dict[str, _Named]:
    found: dict[str, _Named] = {}
    for one in these:
        if found.setdefault(one.name, one) is not one:
            raise ValueError(f"two {what} have the name {one.name!r}")
    return found


def _budgets(nodes: Iterable[PlacedNode]) -> dict[tuple[str, str], float]:
    """Of each address, in millionths of a call a second."""
    room: dict[tuple[str, str], float] = {}
    for node in nodes:
        budget = math.inf if math.isinf(node.calls_per_s) else _parts(node.calls_per_s)
        room[node.address] = min(room.get(node.address, math.inf), budget)
    return room


def _parts(calls_per_s: float) -> int:
    return round(calls_per_s * _PARTS)


def _unlabelled(group: _Group, nodes: Iterable[PlacedNode]) -> str:
    wanted = ", ".join(f'{label} = "{value}"' for label, value in group.pins)
    there = {
        f'{label} = "{node.labels[label]}"'
        for node in nodes
        for label, _ in group.pins
        if label in node.labels
    }
    have = f"they have {', '.join(sorted(there))}" if there else "they have no such label"
    return (
        f"it is pinned to {wanted}, and no live node has that: {have}; "
        "start a node with it, or change the pin"
    )
