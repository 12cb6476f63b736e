"""The claims of a pool on a real PostgreSQL: one owner of each key, and epochs that rise with each owner."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Final
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test
from sqlalchemy import Connection

from brokerwatch.errors import NodeNameTaken, StoreError
from brokerwatch.storage import claim_tables
from brokerwatch.storage import claims as claims_module
from brokerwatch.storage.claims import PoolNode, PoolStore
from brokerwatch.storage.database import Schema
from tests.support.clusters import until
from tests.support.postgres import PASSWORD, PostgreSQL, frozen

LONG_S: Final = 3_600.0
"""A lease that does not end within a test. Where one has to end, the test moves it into the past."""
A, B = "a/1", "b/1"
Maker = Callable[..., PoolStore]


@pytest.fixture
def pool(server: PostgreSQL) -> Iterator[Maker]:
    """Makes stores of pools, which are closed afterwards."""
    made: list[PoolStore] = []

    def make(name: str = "main") -> PoolStore:
        made.append(PoolStore(server.url(quote(PASSWORD)), name))
        return made[-1]

    yield make
    for store in made:
        store.close()


def inside(store: PoolStore, lease_s: float = LONG_S) -> AbstractContextManager[Connection]:
    """A transaction of the store, for what a test does in the middle of one."""
    return store._transaction(lease_s)  # pyright: ignore[reportPrivateUsage] - nothing else stops there


# --- claims -----------------------------------------------------------------------------------------------


def test_a_key_has_one_owner_until_it_is_released(pool: Maker) -> None:
    one, two = pool(), pool()
    assert one.take(["k1", "k2"], A, LONG_S) == {"k1": 1, "k2": 1}
    assert two.take(["k2", "k3"], B, LONG_S) == {"k3": 1}
    assert one.take(["k1", "k3"], A, LONG_S) == {"k1": 1}  # its own again: the same term
    one.release(["k2", "k3"], A)
    assert two.take(["k1", "k2", "k3"], B, LONG_S) == {"k2": 2, "k3": 1}
    assert two.take([], B, LONG_S) == {}


def test_a_claim_ends_by_the_databases_clock_and_a_lapse_is_a_new_term(pool: Maker) -> None:
    one, two = pool(), pool()
    assert one.take(["k"], A, 0.03) == {"k": 1}
    until(lambda: one.claims()[0].left_s < 0)
    assert one.renew({"k": 1}, A, LONG_S) == frozenset()  # though no other has it
    assert one.take(["k"], A, 0.03) == {"k": 2}
    until(lambda: two.take(["k"], B, LONG_S))
    assert two.renew({"k": 3}, B, LONG_S) == {"k"}
    assert one.renew({"k": 2}, A, LONG_S) == frozenset()
    assert one.take(["k"], A, LONG_S) == {}


def test_only_the_owner_renews_or_releases_and_only_under_its_epoch(pool: Maker) -> None:
    one, elsewhere = pool(), pool("other")
    one.take(["k"], A, LONG_S)
    assert elsewhere.take(["k"], A, LONG_S) == {}  # one key, whichever pool asks
    for store, held, owner in ((one, {"k": 2}, A), (one, {"k": 1}, B), (elsewhere, {"k": 1}, A)):
        assert store.renew(held, owner, LONG_S) == frozenset()
    one.release(["k"], B)
    elsewhere.release(["k"], A)
    elsewhere.leave(A)
    assert one.renew({"k": 1, "gone": 1}, A, 2 * LONG_S) == {"k"}
    (row,) = one.claims()
    assert (row.key, row.owner, row.epoch, row.pool) == ("k", A, 1, "main")
    assert LONG_S < row.left_s <= 2 * LONG_S
    assert one.renew({"k": 1}, A, 1.0) == {"k"}
    assert one.claims()[0].left_s > LONG_S  # an answer that came late cuts nothing short
    assert elsewhere.claims() == ()
    assert [other.key for other in elsewhere.claims(everywhere=True)] == ["k"]


def test_a_goodbye_frees_all_that_a_node_had(pool: Maker) -> None:
    one, two = pool(), pool()
    one.beat(PoolNode("a", "1"), LONG_S)
    two.beat(PoolNode("b", "1"), LONG_S)
    one.take(["k1", "k2"], A, LONG_S)
    two.take(["k3"], B, LONG_S)
    one.leave(A)
    assert [node.name for node in two.live_nodes()] == ["b"]
    assert two.take(["k1", "k2", "k3"], B, LONG_S) == {"k1": 2, "k2": 2, "k3": 1}


class Terms(RuleBasedStateMachine):
    """The claims beside a model of a few lines, in which time is what the test makes of it."""

    store: PoolStore

    def __init__(self) -> None:
        super().__init__()
        with inside(self.store) as connection:
            connection.exec_driver_sql("DELETE FROM brokerwatch_claim")
        self.terms: dict[str, tuple[str, int, bool]] = {}

    keys = st.sets(st.sampled_from(["k1", "k2", "k3"]), min_size=1)
    owners = st.sampled_from([A, B, "a/2"])

    @rule(keys=keys, owner=owners)
    def take(self, keys: set[str], owner: str) -> None:
        got: dict[str, int] = {}
        for key in keys:
            had, epoch, live = self.terms.get(key, ("", 0, False))
            if not live or had == owner:
                got[key] = epoch + (not live)
                self.terms[key] = (owner, got[key], True)
        assert self.store.take(keys, owner, LONG_S) == got

    @rule(keys=keys, owner=owners, behind=st.sampled_from([0, 0, 0, 1]))
    def renew(self, keys: set[str], owner: str, behind: int) -> None:
        held = {key: self.terms.get(key, ("", 0, False))[1] - behind for key in keys}
        ours = {key for key in keys if not behind and self.terms.get(key) == (owner, held[key], True)}
        assert self.store.renew(held, owner, LONG_S) == ours

    @rule(keys=keys, owner=owners)
    def release(self, keys: set[str], owner: str) -> None:
        self.store.release(keys, owner)
        self._end({key for key in keys if self.terms.get(key, ("",))[0] == owner})

    @rule(owner=owners)
    def leave(self, owner: str) -> None:
        self.store.leave(owner)
        self._end({key for key, term in self.terms.items() if term[0] == owner})

    @rule(key=st.sampled_from(["k1", "k2", "k3"]))
    def lapse(self, key: str) -> None:
        with inside(self.store) as connection:  # moves the end into the past, as if the lease had passed
            past = "clock_timestamp() - interval '1 s'"
            connection.exec_driver_sql(f"UPDATE brokerwatch_claim SET until = {past} WHERE key = '{key}'")
        self._end({key} & set(self.terms))

    @invariant()
    def the_table_is_the_model(self) -> None:
        rows = {row.key: (row.owner, row.epoch, row.left_s > 0) for row in self.store.claims()}
        assert rows == self.terms

    def _end(self, keys: set[str]) -> None:
        for key in keys:
            self.terms[key] = (*self.terms[key][:2], False)


def test_any_history_of_claims_is_that_of_the_model(pool: Maker) -> None:
    Terms.store = pool()
    checks = settings(max_examples=15, stateful_step_count=15, suppress_health_check=[HealthCheck.too_slow])
    run_state_machine_as_test(Terms, settings=checks)


# --- many at once -----------------------------------------------------------------------------------------

AUDIT: Final = """
    DROP TABLE IF EXISTS claim_audit;
    CREATE TABLE claim_audit (
        id bigserial, at timestamptz, key text, owner text, epoch bigint,
        old_owner text, old_epoch bigint, old_until timestamptz
    );
    CREATE OR REPLACE FUNCTION claim_audited() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO claim_audit (at, key, owner, epoch, old_owner, old_epoch, old_until) VALUES (
            clock_timestamp(), NEW.key, NEW.owner, NEW.epoch, OLD.owner, OLD.epoch, OLD.until
        );
        RETURN NEW;
    END $$;
    CREATE TRIGGER claim_audited BEFORE INSERT OR UPDATE ON brokerwatch_claim
        FOR EACH ROW EXECUTE FUNCTION claim_audited()
"""


@dataclass(frozen=True)
class Believed:
    """What a node believed: that a key was its own, in this process's monotonic seconds."""

    key: str
    epoch: int
    owner: str
    from_s: float
    until_s: float


def fight(store: PoolStore, owner: str, keys: list[str], seed: int) -> list[Believed]:
    """Take, renew and release at random, in leases so short that many lapse between two calls."""
    chance, held, believed = random.Random(seed), dict[str, int](), list[Believed]()
    for _ in range(30):
        lease_s = chance.choice([0.01, 0.03, 0.06, 0.2])
        asked_s = time.monotonic()
        some = chance.sample(keys, 25)
        if held and chance.random() < 0.4:
            kept = store.renew(held, owner, lease_s)
            held = {key: epoch for key, epoch in held.items() if key in kept}
            got = held
        else:
            got = dict(store.take(some, owner, lease_s))
            held.update(got)
        now_s = time.monotonic()
        if now_s < asked_s + lease_s:
            believed += [Believed(key, epoch, owner, now_s, asked_s + lease_s) for key, epoch in got.items()]
        if chance.random() < 0.15:
            now_s = time.monotonic()  # what is released is believed until just before
            believed = [replace(one, until_s=min(one.until_s, now_s)) for one in believed]
            store.leave(owner)
            held = {}
    return believed


def test_eight_nodes_that_fight_for_fifty_keys_never_overlap(
    server: PostgreSQL, pool: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    # They wait for each other in turns, on a machine that may be busy.
    monkeypatch.setattr(claims_module, "SHORTEST_LIMIT_S", 9.0)
    monkeypatch.setattr(claim_tables, "SHORTEST_IDLE_MS", 5_000)
    stores = [pool() for _ in range(8)]
    stores[0].open()
    server.execute(AUDIT)
    keys = [f"key{number}" for number in range(50)]
    believed, failures = list[Believed](), list[BaseException]()

    def run(number: int) -> None:
        try:
            believed.extend(fight(stores[number], f"n{number}/1", keys, seed=number))
        except BaseException as error:  # noqa: BLE001 - shown by the test, which fails
            failures.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []  # no deadlock either
    takeovers = audited(server)
    assert set(takeovers) == set(keys)
    # Or there was no fight. How many there are in a time depends on the machine.
    assert sum(takeovers.values()) > 2 * len(keys)
    # What the nodes believed: an epoch is one owner's, and no two owners' times meet.
    assert len({(one.key, one.epoch) for one in believed}) == len(
        {(one.key, one.epoch, one.owner) for one in believed}
    )
    for key in keys:
        own = sorted((one for one in believed if one.key == key), key=lambda one: (one.epoch, one.from_s))
        for earlier, later in pairwise(own):
            if earlier.owner != later.owner:
                assert earlier.until_s <= later.from_s, (earlier, later)


def audited(server: PostgreSQL) -> Counter[str]:
    """How often each key changed hands, as the database noted row by row; raises where it broke a rule."""
    takeovers: Counter[str] = Counter()
    columns = "at, key, owner, epoch, old_owner, old_epoch, old_until"
    for row in server.execute(f"SELECT {columns} FROM claim_audit WHERE old_owner IS NOT NULL ORDER BY id"):
        at, key, owner, epoch, old_owner, old_epoch, old_end = row
        if owner != old_owner:
            assert (old_end < at, epoch) == (True, old_epoch + 1), row
        elif old_end >= at:
            assert epoch == old_epoch, row
        else:  # it had lapsed, perhaps only between the statement's look at the clock and the trigger's
            assert epoch in (old_epoch, old_epoch + 1), row
        takeovers[key] += owner != old_owner
    return takeovers


# --- nodes ------------------------------------------------------------------------------------------------


def test_the_live_nodes_are_those_whose_time_is_not_over(server: PostgreSQL, pool: Maker) -> None:
    one, elsewhere = pool(), pool("other")
    tokyo = PoolNode("b", "x-1", 2.5, {"region": "tokyo", "Ω": "'\""}, "192.0.2.1", 1_800_000_000_000_000)
    one.beat(tokyo, LONG_S)
    one.beat(PoolNode("a", "1"), LONG_S)
    elsewhere.beat(PoolNode("a", "2"), LONG_S)
    assert one.live_nodes() == (PoolNode("a", "1"), tokyo)
    one.beat(replace(tokyo, capacity=0.0), LONG_S)
    server.execute("UPDATE brokerwatch_pool_node SET labels = 'spoilt' WHERE name = 'a' AND pool = 'main'")
    assert one.live_nodes() == (replace(tokyo, capacity=0.0),)
    server.execute("UPDATE brokerwatch_pool_node SET until = clock_timestamp() - interval '2 days'")
    assert one.live_nodes() == ()
    one.open()
    assert server.execute("SELECT pool FROM brokerwatch_pool_node") == [("other",)]


def test_nodes_state_the_accounts_of_their_files_and_share_one_list_of_them(
    server: PostgreSQL, pool: Maker
) -> None:
    one, two = pool(), pool()
    both = frozenset({("k", "x"), ("k", "y"), ("l", "Ω")})
    a, b = PoolNode("a", "1", accounts=both), PoolNode("b", "1", accounts=frozenset(both))
    one.beat(a, LONG_S)
    two.beat(b, LONG_S)
    assert one.live_nodes() == two.live_nodes() == (a, b)
    assert server.execute("SELECT count(*) FROM brokerwatch_pool_accounts") == [(1,)]
    none = replace(b, accounts=frozenset())
    two.beat(none, LONG_S)
    assert one.live_nodes() == two.live_nodes() == one.view().nodes == (a, none)
    one.beat(replace(a, accounts=None), LONG_S)
    assert two.live_nodes() == (replace(a, accounts=None), none)
    two.open()
    assert server.execute("SELECT accounts FROM brokerwatch_pool_accounts") == [("{}",)]


@pytest.mark.parametrize("damage", ["DELETE FROM {}", "UPDATE {} SET accounts = 'spoilt'"])
def test_a_list_of_accounts_that_cannot_be_read_counts_as_all(
    server: PostgreSQL, pool: Maker, damage: str
) -> None:
    one = pool()
    a = PoolNode("a", "1", accounts=frozenset({("k", "x")}))
    one.beat(a, LONG_S)
    server.execute(damage.format("brokerwatch_pool_accounts"))
    assert pool().live_nodes() == (replace(a, accounts=None),)
    if damage.startswith("DELETE"):
        one.beat(a, LONG_S)
        assert pool().live_nodes() == (a,), "it was not written again"


def test_what_one_process_stated_does_not_count_for_an_older_version_that_follows_it(
    server: PostgreSQL, pool: Maker
) -> None:
    one = pool()
    one.beat(PoolNode("a", "1", accounts=frozenset()), LONG_S)
    server.execute("UPDATE brokerwatch_pool_node SET incarnation = '2'")  # and leaves the new column alone
    assert one.live_nodes() == (PoolNode("a", "2"),)


def test_a_second_process_of_one_name_is_refused_until_the_first_ones_time_is_over(pool: Maker) -> None:
    one, two = pool(), pool()
    first, second = PoolNode("a", "1"), PoolNode("a", "2")
    one.beat(first, 90.0)
    with pytest.raises(
        NodeNameTaken,
        match=r"runs as node 'a'; give each node a name of its own\. .* in (90\.0|[78]\d\.\d) s$",
    ):
        two.beat(second, LONG_S)
    one.beat(first, 0.02)  # its own name is never taken

    def begins() -> bool:
        try:
            two.beat(second, LONG_S)
        except NodeNameTaken:
            return False
        return True

    until(begins)
    with pytest.raises(NodeNameTaken):
        one.beat(first, LONG_S)
    one.leave(first.owner)  # the goodbye of one process is not the other's
    assert one.live_nodes() == (second,)


@pytest.mark.parametrize(
    ("name", "incarnation", "capacity", "said"),
    [
        ("A b", "1", 1.0, "the name of a node: expected 1 to 48 of a-z"),
        ("a", "1/2", 1.0, "without a slash"),
        ("a", "", 1.0, "without a slash"),
        ("a", "1", -1.0, "expected 0 or more, not -1.0"),
    ],
)
def test_a_node_that_cannot_be_is_refused(name: str, incarnation: str, capacity: float, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        PoolNode(name, incarnation, capacity)


# --- the database -----------------------------------------------------------------------------------------


def test_a_pool_on_a_file_is_refused_with_what_to_write() -> None:
    with pytest.raises(StoreError, match=r"needs a PostgreSQL .* write postgresql\+psycopg://user"):
        PoolStore("sqlite:///x.db", "main")
    with pytest.raises(StoreError, match="which is no store of ours; write"):
        PoolStore("mysql://ann:topsecret@host/x", "main")


def test_a_server_that_freezes_or_dies_costs_an_error_within_seconds(server: PostgreSQL, pool: Maker) -> None:
    store = pool()
    held = store.take(["k"], A, LONG_S)
    server.kill()
    try:
        with pytest.raises(StoreError, match="check that the server runs"):
            store.renew(held, A, LONG_S)
    finally:
        server.start()
    assert store.renew(held, A, LONG_S) == {"k"}  # and the claim outlived the server
    thaw: list[Callable[[], None]] = []

    def asks_a_frozen_server() -> None:
        with inside(store, lease_s=0.1) as connection:
            thaw.append(frozen(server))
            connection.exec_driver_sql("SELECT 1")

    try:
        with pytest.raises(StoreError, match="connection"):
            asks_a_frozen_server()
    finally:
        thaw[0]()
    assert store.renew(held, A, LONG_S) == {"k"}


def test_a_node_that_stops_in_the_middle_of_a_call_holds_up_no_other(pool: Maker) -> None:
    one, two = pool(), pool()
    one.take(["k1", "k2"], A, LONG_S)
    renewed: list[frozenset[str]] = []

    def stops_inside() -> None:
        with inside(two, 4.0) as connection:  # a quarter of that it may stand still
            connection.exec_driver_sql("SELECT key FROM brokerwatch_claim FOR UPDATE")
            renewed.append(one.renew({"k1": 1, "k2": 1}, A, LONG_S))  # waits until the server ends `two`

    with pytest.raises(StoreError, match="idle-in-transaction timeout"):
        stops_inside()
    assert renewed == [{"k1", "k2"}]
    assert two.take(["k1", "k3"], B, LONG_S) == {"k3": 1}


def test_a_claim_that_lapses_while_its_renewal_waits_is_not_renewed(server: PostgreSQL, pool: Maker) -> None:
    one, two, eye = pool(), pool(), pool()
    eye.open()
    renewed: list[frozenset[str]] = []
    renewal = threading.Thread(target=lambda: renewed.append(one.renew({"k": 1}, A, LONG_S)))
    one.take(["k"], A, 0.5)
    with inside(two) as connection:
        connection.exec_driver_sql("SET LOCAL idle_in_transaction_session_timeout = 0")
        connection.exec_driver_sql("SELECT key FROM brokerwatch_claim FOR UPDATE")
        renewal.start()
        until(lambda: server.execute("SELECT 1 FROM pg_stat_activity WHERE wait_event_type = 'Lock'"))
        until(lambda: eye.claims()[0].left_s < 0)
    renewal.join()
    assert renewed == [frozenset()]


def test_to_ask_for_a_key_that_another_node_has_locks_nothing_of_it(pool: Maker) -> None:
    one, two = pool(), pool()
    one.take(["k"], A, LONG_S)
    with inside(two) as connection:  # which is not ended yet
        values = {"pool": "main", "owner": B, "keys": ["k"], "accounts": [""], "lease_s": LONG_S}
        assert connection.execute(claim_tables.TAKE, values).all() == []
        locks = connection.exec_driver_sql("SELECT xmax::text FROM brokerwatch_claim").scalar()
    assert locks == "0"


def test_a_commit_that_a_crash_would_undo_is_not_confirmed(server: PostgreSQL, pool: Maker) -> None:
    store = pool()
    server.execute(f"ALTER DATABASE {server.url().rpartition('/')[2]} SET synchronous_commit = off")
    try:
        with inside(store) as connection:
            assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
            assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "read committed"
    finally:
        server.execute(f"ALTER DATABASE {server.url().rpartition('/')[2]} RESET synchronous_commit")


# --- two versions side by side ----------------------------------------------------------------------------


def expands(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE brokerwatch_claim ADD COLUMN note text NOT NULL DEFAULT ''")


def contracts(connection: Connection) -> None:
    connection.exec_driver_sql("ALTER TABLE brokerwatch_pool_node DROP COLUMN since_us")


def test_two_versions_use_one_pool_until_the_newer_one_contracts(
    pool: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    newest = claim_tables.SCHEMA.version

    def version(number: int, serves_from: int) -> PoolStore:
        base = claim_tables.SCHEMA
        steps: dict[int, Any] = {newest: expands, newest + 1: contracts}
        schema = Schema(base.tables, number, steps, (), base.name, serves_from)
        monkeypatch.setattr(claim_tables, "SCHEMA", schema)
        return pool()

    old = pool()
    held = old.take(["k"], A, LONG_S)
    new = version(newest + 1, serves_from=newest)
    assert new.take(["k", "k2"], B, LONG_S) == {"k2": 1}
    assert old.renew(held, A, LONG_S) == {"k"}
    old.close()
    assert old.renew(held, A, LONG_S) == {"k"}  # opened anew on the newer tables
    old.beat(PoolNode("a", "1"), LONG_S)
    assert new.live_nodes() == (PoolNode("a", "1"),)
    old.leave(A)
    assert new.take(["k"], B, LONG_S) == {"k": 2}
    last = version(newest + 2, serves_from=newest + 1)
    assert [row.key for row in last.claims()] == ["k", "k2"]
    assert [row.key for row in new.claims()] == ["k", "k2"]
    with pytest.raises(StoreError):
        old.beat(PoolNode("a", "1"), LONG_S)
    said = rf"made by a newer .* \(its schema is {newest + 2}, this version knows {newest}\)"
    with pytest.raises(StoreError, match=said):
        old.claims()


def test_tables_of_the_first_version_are_expanded_under_nodes_that_go_on_using_them(
    server: PostgreSQL, pool: Maker
) -> None:
    server.execute(FIRST_VERSION)
    beat = (
        "INSERT INTO brokerwatch_pool_node AS n "
        "(pool, name, incarnation, capacity, labels, egress, calls_per_s, since_us, until) "
        "VALUES ('main', 'old', '1', 1, '{}', '', 'Infinity', 0, now() + interval '1 hour') "
        "ON CONFLICT (pool, name) DO UPDATE SET until = excluded.until"
    )
    server.execute(beat)
    old, new = PoolNode("old", "1"), PoolNode("new", "1", accounts=frozenset({("k", "x")}))
    one = pool()
    one.beat(new, LONG_S)
    server.execute(beat)
    assert one.live_nodes() == (new, old)
    assert server.execute("SELECT version, serves_from FROM brokerwatch_pool ORDER BY version") == [
        (1, 1),
        (2, 1),
    ]


FIRST_VERSION: Final = """
    CREATE TABLE brokerwatch_pool (version integer PRIMARY KEY, serves_from integer NOT NULL);
    INSERT INTO brokerwatch_pool VALUES (1, 1);
    CREATE TABLE brokerwatch_claim (
        key text COLLATE "C" PRIMARY KEY, pool text NOT NULL, owner text NOT NULL, epoch bigint NOT NULL,
        accounts text NOT NULL, until timestamptz NOT NULL
    );
    CREATE INDEX brokerwatch_claim_owner ON brokerwatch_claim (pool, owner);
    CREATE TABLE brokerwatch_pool_node (
        pool text, name text COLLATE "C", incarnation text NOT NULL, capacity double precision NOT NULL,
        labels text NOT NULL, egress text NOT NULL, calls_per_s double precision NOT NULL,
        since_us bigint NOT NULL, until timestamptz NOT NULL, PRIMARY KEY (pool, name)
    )
"""
