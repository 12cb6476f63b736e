"""The tables of pools and every statement on them; what they promise is in `claims`.

All times are the database's own (`clock_timestamp()`, which goes on inside a transaction), read when a row is
locked and not before: a statement that waited for a lock judges by the time at which it got it.

The tables change by expand and contract, so that two versions of brokerwatch may use them side by side. A
version *expands*: it adds tables, and columns that have a default, and its `serves_from` stays. A later one
*contracts*: it removes what no version in use needs any more, and raises `serves_from` to the oldest that can
do without. So statements name their columns, and no column changes its meaning.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    DateTime,
    Double,
    Index,
    MetaData,
    Table,
    Text,
    TextClause,
    text,
)

from brokerwatch.storage.database import Schema

Statement: TypeAlias = TextClause

SHORTEST_IDLE_MS: Final = 1_000
"""A process that was stopped between two statements would keep its locks, and others lose their claims."""
LONGEST_IDLE_MS: Final = 5_000

_TABLES: Final = MetaData()

CLAIM: Final = Table(
    "brokerwatch_claim",
    _TABLES,
    # The key is the exchange's, whichever pool uses it. Its rows are locked in the order of its bytes.
    Column("key", Text(collation="C"), primary_key=True),
    Column("pool", Text, nullable=False),
    Column("owner", Text, nullable=False),
    Column("epoch", BigInteger, nullable=False),
    # The names of the accounts behind the key, for people; nothing is decided by it.
    Column("accounts", Text, nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
    Index("brokerwatch_claim_owner", "pool", "owner"),
)

NODE: Final = Table(
    "brokerwatch_pool_node",
    _TABLES,
    Column("pool", Text, primary_key=True),
    Column("name", Text(collation="C"), primary_key=True),
    Column("incarnation", Text, nullable=False),
    Column("capacity", Double, nullable=False),
    Column("labels", Text, nullable=False),
    Column("egress", Text, nullable=False),
    Column("calls_per_s", Double, nullable=False),
    Column("since_us", BigInteger, nullable=False),
    Column("until", DateTime(timezone=True), nullable=False),
    # `incarnation/digest`: the list of the accounts in its file. A process of an older version leaves it as
    # it is, so it counts only for the process that wrote it. Empty: that one did not say.
    Column("accounts", Text, nullable=False, server_default=""),
)

ACCOUNTS: Final = Table(
    "brokerwatch_pool_accounts",
    _TABLES,
    # Nodes with the same accounts share one row.
    Column("pool", Text, primary_key=True),
    Column("digest", Text(collation="C"), primary_key=True),
    Column("accounts", Text, nullable=False),
)


def _lists_accounts(connection: Connection) -> None:
    ACCOUNTS.create(connection)
    connection.execute(text("ALTER TABLE brokerwatch_pool_node ADD COLUMN accounts text NOT NULL DEFAULT ''"))


SCHEMA: Final = Schema(
    _TABLES, 2, {1: _lists_accounts}, looked_through=(), name="brokerwatch_pool", serves_from=1
)

_BEGINNING: Final = (
    # Under a stricter level two nodes that want one key would fail, where one has only to wait.
    "SET TRANSACTION ISOLATION LEVEL READ COMMITTED; "
    "SET LOCAL idle_in_transaction_session_timeout = {idle_ms}; "
    # The server guesses that a node has one claim or two, and would compare each key with each claim in turn.
    "SET LOCAL enable_nestloop = off; "
    # A server may confirm what a crash would undo. A claim that is undone is given to another node.
    "SELECT set_config('synchronous_commit', 'on', true) "
    "WHERE current_setting('synchronous_commit') = 'off'"
)


def beginning(lease_s: float) -> str:
    """Of every transaction of a node with this lease.

    A node that is only slow, with thousands of keys to write down, has a quarter of its lease for it.
    """
    idle_ms = min(LONGEST_IDLE_MS, max(SHORTEST_IDLE_MS, lease_s * 1_000 / 4))
    return _BEGINNING.format(idle_ms=round(idle_ms))


_NOW: Final = "clock_timestamp()"
_END: Final = f"{_NOW} + make_interval(secs => CAST(:lease_s AS double precision))"


def _left_s(until: str) -> str:
    return f"CAST(extract(epoch FROM {until} - {_NOW}) AS double precision) AS left_s"


# --- claims -----------------------------------------------------------------------------------------------

TAKE: Final = text(f"""
    INSERT INTO brokerwatch_claim AS c (key, pool, owner, epoch, accounts, until)
    SELECT k.key, :pool, :owner, 1, k.accounts, {_END}
    FROM unnest(CAST(:keys AS text[]), CAST(:accounts AS text[])) AS k(key, accounts)
    -- What another node has for certain is not locked: its renewal would wait for us.
    WHERE NOT EXISTS (
        SELECT FROM brokerwatch_claim AS other
        WHERE other.key = k.key AND other.until >= {_NOW} AND (other.pool, other.owner) <> (:pool, :owner)
    )
    ORDER BY k.key COLLATE "C"
    ON CONFLICT (key) DO UPDATE SET
        pool = excluded.pool,
        owner = excluded.owner,
        accounts = excluded.accounts,
        epoch = c.epoch + CASE
            WHEN (c.pool, c.owner) = (excluded.pool, excluded.owner) AND c.until >= {_NOW} THEN 0 ELSE 1
        END,
        until = greatest(c.until, {_END})
    WHERE c.until < {_NOW} OR (c.pool, c.owner) = (excluded.pool, excluded.owner)
    RETURNING c.key, c.epoch
""")  # noqa: S608 - made of constants alone

# The rows are locked in the order of the keys first, which an UPDATE alone does not promise. What was locked
# is compared with the clock: a condition on the table itself may be judged before the wait for the lock.
RENEW: Final = text(f"""
    WITH held AS (
        SELECT c.key, c.until
        FROM brokerwatch_claim AS c
        JOIN unnest(CAST(:keys AS text[]), CAST(:epochs AS bigint[])) AS h(key, epoch) ON c.key = h.key
        WHERE (c.pool, c.owner, c.epoch) = (:pool, :owner, h.epoch)
        ORDER BY c.key FOR UPDATE OF c
    )
    UPDATE brokerwatch_claim AS c SET until = greatest(c.until, {_END})
    FROM held
    WHERE c.key = held.key AND (c.pool, c.owner) = (:pool, :owner) AND held.until >= {_NOW}
    RETURNING c.key
""")  # noqa: S608 - made of constants alone


def _released(which: str) -> TextClause:
    return text(f"""
        WITH held AS (
            SELECT key FROM brokerwatch_claim
            WHERE (pool, owner) = (:pool, :owner) {which}
            ORDER BY key FOR UPDATE
        )
        UPDATE brokerwatch_claim AS c SET until = {_NOW}
        FROM held
        WHERE c.key = held.key AND (c.pool, c.owner) = (:pool, :owner) AND c.until > {_NOW}
    """)  # noqa: S608 - made of constants alone


RELEASE: Final = _released("AND key = ANY(CAST(:keys AS text[]))")
RELEASE_ALL: Final = _released("")

CLAIMS: Final = text(f"""
    SELECT key, owner, epoch, {_left_s("until")}, pool, accounts FROM brokerwatch_claim
    WHERE pool = :pool OR CAST(:everywhere AS boolean) ORDER BY key
""")  # noqa: S608 - made of constants alone

# --- nodes ------------------------------------------------------------------------------------------------

BEAT: Final = text(f"""
    INSERT INTO brokerwatch_pool_node AS n
        (pool, name, incarnation, capacity, labels, egress, calls_per_s, since_us, until, accounts)
    VALUES (
        :pool, :name, :incarnation, :capacity, :labels, :egress, :calls_per_s, :since_us, {_END}, :accounts
    )
    ON CONFLICT (pool, name) DO UPDATE SET
        incarnation = excluded.incarnation, capacity = excluded.capacity, labels = excluded.labels,
        egress = excluded.egress, calls_per_s = excluded.calls_per_s, since_us = excluded.since_us,
        until = {_END}, accounts = excluded.accounts
    WHERE n.incarnation = excluded.incarnation OR n.until < {_NOW}
    RETURNING EXISTS (
        SELECT FROM brokerwatch_pool_accounts AS a WHERE a.pool = :pool AND a.digest = :digest
    ) AS is_listed
""")  # noqa: S608 - made of constants alone

LIFE_LEFT: Final = text(f"""
    SELECT {_left_s("until")} FROM brokerwatch_pool_node WHERE pool = :pool AND name = :name
""")  # noqa: S608 - made of constants alone

LIVE_NODES: Final = text(f"""
    SELECT name, incarnation, capacity, labels, egress, calls_per_s, since_us,
        CASE WHEN split_part(accounts, '/', 1) = incarnation THEN split_part(accounts, '/', 2) ELSE '' END
            AS digest
    FROM brokerwatch_pool_node
    WHERE pool = :pool AND until >= {_NOW} ORDER BY name
""")  # noqa: S608 - made of constants alone

FORGET_NODE: Final = text(
    "DELETE FROM brokerwatch_pool_node WHERE pool = :pool AND name || '/' || incarnation = :owner"
)

FORGET_NODES: Final = text(
    f"DELETE FROM brokerwatch_pool_node WHERE pool = :pool AND until < {_NOW} - interval '1 day'"  # noqa: S608
)

# --- the accounts in the files of the nodes ---------------------------------------------------------------

LIST_ACCOUNTS: Final = text("""
    INSERT INTO brokerwatch_pool_accounts (pool, digest, accounts) VALUES (:pool, :digest, :listed)
    ON CONFLICT DO NOTHING
""")

LISTED_ACCOUNTS: Final = text("""
    SELECT digest, accounts FROM brokerwatch_pool_accounts
    WHERE pool = :pool AND digest = ANY(CAST(:digests AS text[]))
""")

# Where a node has just come to a list that is removed here, its next beat writes it again.
FORGET_ACCOUNTS: Final = text("""
    DELETE FROM brokerwatch_pool_accounts AS a
    WHERE a.pool = :pool AND NOT EXISTS (
        SELECT FROM brokerwatch_pool_node AS n
        WHERE n.pool = a.pool AND split_part(n.accounts, '/', 2) = a.digest
    )
""")
