"""Which node of a pool may use which API key: one row for each key, in a PostgreSQL that all nodes share.

A claim is the sole right to a key until a moment by the database's clock. A node that takes or renews one
measures its own term from the monotonic moment *before* it asked, so it ends before the database gives the
key to another node. The clocks of two hosts are never compared.

What stays true:

- A key has one row and so one owner, whichever pool it belongs to. A node gets a key that is free, whose
  claim is over, or that it has already.
- The epoch of a key rises by one when the owner is another one than before, or the claim had lapsed; never
  otherwise. So an epoch names one unbroken term of one owner. A claim that lapsed is never renewed.
- Each call is one transaction of one statement over all of its keys, locked in the order of their text: two
  nodes that want the same keys wait for each other, and never in a circle.
- A node that stops in the middle of a call holds up the others for no longer than a quarter of its lease,
  5 s at most.

Two things are the operator's. The clock of the database's host is slewed and not set back or forth, as NTP
daemons do by themselves. And a standby that takes over must have every commit (synchronous replication), or
it may give away a key that is in use.

How the database is opened, and what happens when it fails, is in `database`.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Collection, Generator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from types import MappingProxyType
from typing import Any, Final

import msgspec
from sqlalchemy import Connection, Row

from brokerwatch.config.cluster_settings import ClusterSettings, is_in_a_file
from brokerwatch.errors import NodeNameTaken, StoreError
from brokerwatch.log import logger
from brokerwatch.messages import topics
from brokerwatch.storage import claim_tables
from brokerwatch.storage.database import TRANSACTION_S, Database
from brokerwatch.storage.database_url import understood

_log: Final = logger(__name__)
_LABELS: Final = msgspec.json.Decoder(dict[str, str])
_LISTED: Final = msgspec.json.Decoder(dict[str, list[str]])

SHORTEST_LIMIT_S: Final = 1.0
"""A call for a short lease may take this long all the same: less, and a busy machine never gets through."""
TRIES: Final = 3
"""Of the calls that fit into one lease: one that hangs leaves time for others."""


@dataclass(frozen=True, slots=True)
class PoolNode:
    """One process of a pool. Raises ValueError for what cannot be."""

    name: str
    """Of the node; one live process in the pool has it."""
    incarnation: str
    """Of the process: another one each time that it starts."""
    capacity: float = 1.0
    """Its weight: a node of twice the capacity gets twice the accounts."""
    labels: Mapping[str, str] = field(default_factory=dict[str, str])
    """What accounts may pin, by name, such as `region`."""
    egress: str = ""
    """The address that exchanges see. Empty: not known."""
    calls_per_s: float = math.inf
    """How many polls a second may leave from that address."""
    since_us: int = 0
    """Wall clock of the node, µs: when the process started. For people; nothing is decided by it."""
    accounts: frozenset[tuple[str, str]] | None = None
    """The accounts in its file, each with the fingerprint of its API key before its name. None: it does not
    say, as a node of an older version, and counts as having all."""

    def __post_init__(self) -> None:
        if not topics.is_name(self.name):
            raise ValueError(f"the name of a node: expected {topics.NAME_RULE}, not {self.name!r}")
        if not self.incarnation or "/" in self.incarnation:
            raise ValueError(f"the incarnation of node {self.name!r}: expected a text without a slash")
        if not (math.isfinite(self.capacity) and self.capacity >= 0):
            raise ValueError(f"the capacity of node {self.name!r}: expected 0 or more, not {self.capacity}")
        if not self.calls_per_s >= 0:
            raise ValueError(f"calls_per_s of node {self.name!r}: expected 0 or more, not {self.calls_per_s}")

    @property
    def owner(self) -> str:
        """What its claims go by: `name/incarnation`."""
        return f"{self.name}/{self.incarnation}"


@dataclass(frozen=True, slots=True)
class ClaimRow:
    """What the database says of one key."""

    key: str
    """The fingerprint of the API key."""
    owner: str
    """`name/incarnation` of the node that has it, or had it last."""
    epoch: int
    """Of the owner's term; from 1 on."""
    left_s: float
    """Seconds until the claim ends, by the database's clock. 0 or less: it is over for so long."""
    pool: str
    """The owner's."""
    accounts: tuple[str, ...] = ()
    """The names of the accounts behind it, by name."""

    @property
    def node(self) -> str:
        """The name of the node that has it, or had it last."""
        return self.owner.partition("/")[0]

    @property
    def is_held(self) -> bool:
        """Whether it is not over."""
        return self.left_s > 0


@dataclass(frozen=True, slots=True)
class PoolView:
    """What the database says of one pool at one moment."""

    pool: str
    nodes: tuple[PoolNode, ...]
    """The live ones, by name."""
    claims: tuple[ClaimRow, ...]
    """Of the pool, by key; also those that are over."""


class PoolStore:
    """The nodes and claims of one pool. Any thread may call it; one call at a time touches the database.

    Each method but `close` raises StoreError when the database cannot be asked, and then nothing of the call
    was done, or all of it: the answer to a commit may have been lost. The next call connects anew.
    """

    def __init__(self, url: str, pool: str) -> None:
        """No I/O yet.

        Args:
            url: of a PostgreSQL, as for the store: `postgresql+psycopg://user:password@host/database`.
            pool: the name of the pool. Several pools may share a database.

        Raises:
            StoreError: The URL is not that of a PostgreSQL.
        """
        if understood(url).drivername == "sqlite":
            raise StoreError(
                "a pool needs a PostgreSQL that all of its nodes reach, and the store's URL names a SQLite "
                "file; write postgresql+psycopg://user:password@host/database, or run without a pool"
            )
        self._database = Database(url, claim_tables.SCHEMA)
        self._pool = pool
        self._stated: _Stated | None = None
        """The accounts that were stated last."""
        self._listed: dict[str, frozenset[tuple[str, str]]] = {}
        """The accounts of the live nodes by digest: a list is read once."""

    @property
    def where(self) -> str:
        """The database, for messages: without a password."""
        return self._database.where

    def open(self) -> None:
        """Connect, create or migrate the tables, and forget nodes that ended over a day ago."""
        self._database.open()
        self._rows(claim_tables.FORGET_NODES, {})
        self._rows(claim_tables.FORGET_ACCOUNTS, {})

    def close(self) -> None:
        """Let go of the database, without a goodbye: `leave` says it. A later call opens it again."""
        self._database.close()

    # --- nodes ----------------------------------------------------------------------------------------

    def beat(self, node: PoolNode, lease_s: float) -> None:
        """Say that a node lives for so many seconds from now on.

        Raises:
            NodeNameTaken: Another process of the pool has this name, and its time is not over.
        """
        stated = self._statement(node.accounts)
        values = {
            "name": node.name,
            "incarnation": node.incarnation,
            "capacity": node.capacity,
            "labels": msgspec.json.encode(dict(node.labels)).decode(),
            "egress": node.egress,
            "calls_per_s": node.calls_per_s,
            "since_us": node.since_us,
            "lease_s": lease_s,
            "accounts": f"{node.incarnation}/{stated.digest}" if stated else "",
            "digest": stated.digest if stated else "",
        }
        with self._transaction(lease_s) as connection:
            if done := self._executed(connection, claim_tables.BEAT, values):
                if stated is not None and not done[0].is_listed:
                    listed = {"digest": stated.digest, "listed": stated.text}
                    self._executed(connection, claim_tables.LIST_ACCOUNTS, listed)
                return
            other = self._executed(connection, claim_tables.LIFE_LEFT, {"name": node.name})
        left_s = max(0.0, other[0].left_s) if other else 0.0
        raise NodeNameTaken(
            f"another process of pool {self._pool!r} runs as node {node.name!r}; give each node a name of "
            f"its own. If that process is gone, this one can start when its time is over, in {left_s:.1f} s"
        )

    def live_nodes(self) -> tuple[PoolNode, ...]:
        """The nodes of the pool whose time is not over, by name."""
        with self._transaction() as connection:
            return self._nodes(connection)

    # --- claims ---------------------------------------------------------------------------------------

    def take(
        self,
        keys: Collection[str],
        owner: str,
        lease_s: float,
        accounts: Mapping[str, Collection[str]] = MappingProxyType({}),
    ) -> Mapping[str, int]:
        """Take each of these keys that is free, whose claim is over, or that is the owner's already.

        Args:
            keys: fingerprints of API keys.
            owner: `PoolNode.owner`.
            lease_s: seconds from now on. The owner's own term begins before this call, not after it.
            accounts: the names of the accounts behind a key, for those who look.

        Returns:
            The epoch of each key that is the owner's now. What another node has is left out.
        """
        ordered = sorted(set(keys))
        names = [" ".join(sorted(accounts.get(key, ()))) for key in ordered]
        wanted = {"keys": ordered, "accounts": names, "owner": owner, "lease_s": lease_s}
        return {row.key: row.epoch for row in self._rows(claim_tables.TAKE, wanted, lease_s)} if keys else {}

    def renew(self, held: Mapping[str, int], owner: str, lease_s: float) -> frozenset[str]:
        """Extend claims that are not over. What is not returned is lost, and may be taken anew.

        Args:
            held: epochs by key, as `take` returned them.
            owner: `PoolNode.owner`.
            lease_s: seconds from now on. A claim that was to last longer is not cut short.

        Returns:
            The keys that are the owner's under that epoch without a gap.
        """
        if not held:
            return frozenset()
        keys = sorted(held)
        wanted = {"keys": keys, "epochs": [held[key] for key in keys], "owner": owner, "lease_s": lease_s}
        return frozenset(row.key for row in self._rows(claim_tables.RENEW, wanted, lease_s))

    def release(self, keys: Collection[str], owner: str) -> None:
        """End the owner's claims on these keys. The owner makes no call with them from before this one on."""
        if keys:
            self._rows(claim_tables.RELEASE, {"keys": sorted(set(keys)), "owner": owner})

    def leave(self, owner: str) -> None:
        """Say goodbye: end all claims of the owner, and forget the node."""
        with self._transaction() as connection:
            self._executed(connection, claim_tables.RELEASE_ALL, {"owner": owner})
            self._executed(connection, claim_tables.FORGET_NODE, {"owner": owner})

    def claims(self, *, everywhere: bool = False) -> tuple[ClaimRow, ...]:
        """The claims of the pool by key, also those that are over. `everywhere`: of all pools."""
        return tuple(map(_claim, self._rows(claim_tables.CLAIMS, {"everywhere": everywhere})))

    def view(self) -> PoolView:
        """The live nodes and the claims of the pool, of one moment."""
        with self._transaction() as connection:
            nodes = self._nodes(connection)
            claims = self._executed(connection, claim_tables.CLAIMS, {"everywhere": False})
        return PoolView(self._pool, nodes, tuple(map(_claim, claims)))

    # --- every call -----------------------------------------------------------------------------------

    def _rows(
        self, statement: claim_tables.Statement, values: Mapping[str, Any], lease_s: float = math.inf
    ) -> list[Row[Any]]:
        with self._transaction(lease_s) as connection:
            return self._executed(connection, statement, values)

    @contextlib.contextmanager
    def _transaction(self, lease_s: float = math.inf) -> Generator[Connection]:
        limit_s = max(SHORTEST_LIMIT_S, min(TRANSACTION_S, lease_s / TRIES))
        with self._database.transaction(writes=True, limit_s=limit_s) as connection:
            connection.exec_driver_sql(claim_tables.beginning(lease_s))
            yield connection

    def _executed(
        self, connection: Connection, statement: claim_tables.Statement, values: Mapping[str, Any]
    ) -> list[Row[Any]]:
        done = connection.execute(statement, {"pool": self._pool, **values})
        return list(done.all()) if done.returns_rows else []

    def _nodes(self, connection: Connection) -> tuple[PoolNode, ...]:
        rows = self._executed(connection, claim_tables.LIVE_NODES, {})
        known = {digest: self._listed[digest] for row in rows if (digest := row.digest) in self._listed}
        if self._stated is not None:
            known[self._stated.digest] = self._stated.accounts
        if missing := sorted({row.digest for row in rows if row.digest} - known.keys()):
            for found in self._executed(connection, claim_tables.LISTED_ACCOUNTS, {"digests": missing}):
                known |= self._accounts(found)
        self._listed = known
        return tuple(node for row in rows if (node := self._node(row)) is not None)

    def _accounts(self, row: Row[Any]) -> dict[str, frozenset[tuple[str, str]]]:
        try:
            listed = _LISTED.decode(row.accounts)
        except msgspec.DecodeError as error:
            _log.warning(
                "%s: a list of accounts of pool %r cannot be read: %s", self.where, self._pool, error
            )
            return {}
        return {row.digest: frozenset((key, name) for key, names in listed.items() for name in names)}

    def _statement(self, accounts: frozenset[tuple[str, str]] | None) -> _Stated | None:
        if accounts is None:
            return None
        if self._stated is None or self._stated.accounts is not accounts:
            self._stated = _Stated(accounts)
        return self._stated

    def _node(self, row: Row[Any]) -> PoolNode | None:
        try:
            labels = _LABELS.decode(row.labels)
            return PoolNode(
                row.name,
                row.incarnation,
                row.capacity,
                labels,
                row.egress,
                row.calls_per_s,
                row.since_us,
                self._listed.get(row.digest),
            )
        except (msgspec.DecodeError, ValueError) as error:
            # A row that was spoilt hides no other.
            _log.warning("%s: node %r of pool %r cannot be read: %s", self.where, row.name, self._pool, error)
            return None


class _Stated:
    """The accounts of a node as they are written down."""

    def __init__(self, accounts: frozenset[tuple[str, str]]) -> None:
        self.accounts = accounts
        listed: dict[str, list[str]] = {}
        for key, name in sorted(accounts):
            listed.setdefault(key, []).append(name)
        self.text: str = msgspec.json.encode(listed).decode()
        self.digest: str = blake2b(self.text.encode(), digest_size=16).hexdigest()


def _claim(row: Row[Any]) -> ClaimRow:
    return ClaimRow(row.key, row.owner, row.epoch, row.left_s, row.pool, tuple(row.accounts.split()))


def pool_store(settings: ClusterSettings) -> PoolStore | None:
    """The pool that these settings name, to be looked at; None: they name none, or no database of one."""
    pool = settings.pool
    if pool is None or not pool.name or not settings.remember or is_in_a_file(settings):
        return None
    return PoolStore(settings.store, pool.name)
