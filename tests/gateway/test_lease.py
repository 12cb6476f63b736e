"""The term of an API key in a pool: no request begins, and no byte is written, outside it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import ccxt as blocking
import ccxt.async_support as ccxt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerwatch.clock import ManualClock
from brokerwatch.config.pool_settings import MARGIN_S
from brokerwatch.errors import BalanceUnknown, CouldNotAsk
from brokerwatch.exchanges.rate_limit import Budget
from brokerwatch.gateway.async_source import Refrained
from brokerwatch.gateway.http_sessions import Sessions
from brokerwatch.gateway.lane import Lane
from brokerwatch.gateway.lease import ClaimOver, KeyLease, Lease, Term
from brokerwatch.gateway.strict_ccxt import clone, strict_class
from brokerwatch.simulator import SimulatedKraken, SimulatedOkx, serve
from brokerwatch.storage.journal import Journal
from brokerwatch.storage.records import KeyState
from tests.gateway.test_async_source import GOOD, stranger
from tests.support.clusters import cluster_of, simulated_spec
from tests.support.own_instances import cluster_on, own

CALL_S = 1.0
DEADLINE_S = 4.0
"""Of a real request, which a busy machine holds up."""
BUDGET = Budget(1_000.0, 1_000.0)


def far() -> Term:
    """A term for as long as a test lasts."""
    return Term(float("inf"), DEADLINE_S)


# --- the rule ----------------------------------------------------------------------------------------


def test_a_call_begins_only_where_its_longest_time_and_the_margin_end_before_the_term() -> None:
    term = Term(100.0, CALL_S, 3)
    last_s = 100.0 - CALL_S - MARGIN_S
    assert not term.over(last_s - 0.001)
    assert term.over(last_s).startswith("claim")
    assert not term.written_too_late(last_s + MARGIN_S - 0.001)
    assert term.written_too_late(last_s + MARGIN_S).startswith("claim")
    assert term.epoch == 3


def test_a_term_is_extended_and_never_cut_short() -> None:
    term = Term(10.0, CALL_S)
    term.extend(20.0)
    term.extend(15.0)
    assert term.until_s == 20.0
    assert term.over(19.0)
    assert not term.over(18.0)


def test_what_ended_begins_anew_only_by_a_claim_of_a_higher_epoch() -> None:
    term = Term(10.0, CALL_S, 4)
    term.end("node b has it")
    for epoch in (None, 3, 4):
        term.extend(1_000.0, epoch)
        assert term.over(0.0) == "claim: this process has the API key no more: node b has it"
        assert term.written_too_late(0.0)
        assert term.until_s < 0
    term.extend(30.0, 5)
    assert not term.over(0.0)
    assert (term.until_s, term.epoch, term.ended) == (30.0, 5, "")


# --- the lane ----------------------------------------------------------------------------------------


def lane_in(term: Term, clock: ManualClock, loop: Lease | None = None) -> Lane:
    lease = KeyLease(Lease() if loop is None else loop, term, clock)
    return Lane("k", BUDGET, clock, Journal(None), KeyState("k"), lease=lease)


def test_a_lane_gives_no_turn_and_no_further_call_outside_the_term() -> None:
    clock = ManualClock()
    term = Term(clock.up_s() + 10.0, CALL_S)
    lane = lane_in(term, clock)

    async def story() -> None:
        async with lane.turn():
            await lane.another()
            clock.advance(10.0)
            with pytest.raises(Refrained, match=r"^claim") as caught:
                await lane.another()
            assert caught.value.by_claim
        with pytest.raises(Refrained, match=r"^claim"):
            async with lane.turn(urgent=True):
                pytest.fail("a turn after the term")
        with pytest.raises(CouldNotAsk, match=r"^claim"):
            lane.next_nonce()
        term.extend(clock.up_s() + 10.0)
        async with lane.turn():
            assert lane.next_nonce()

    asyncio.run(story())


def test_a_loop_that_was_replaced_is_named_before_a_term() -> None:
    clock, loop = ManualClock(), Lease()
    lane = lane_in(Term(0.0, CALL_S), clock, loop)
    loop.revoked = "it hung"
    with pytest.raises(Refrained, match="not asked: it hung") as caught:
        lane.refrain_when_barred()
    assert not caught.value.by_claim


# --- one request, on real ccxt and aiohttp ---------------------------------------------------------------


@dataclass
class Key:
    """A key with a term, and an instance of it."""

    clock: ManualClock
    term: Term
    lease: KeyLease
    instance: Any
    sessions: Sessions | None = None
    numbers: list[int] = field(default_factory=list[int])

    def next(self) -> int:
        self.numbers.append(len(self.numbers) + 1)
        return self.numbers[-1]


def key_at(url: str, library: Any = ccxt) -> Key:
    clock, loop = ManualClock(), Lease()
    term = Term(clock.up_s() + 100.0, CALL_S)
    lease = KeyLease(loop, term, clock)
    instance = strict_class(library.kraken)(
        {
            "urls": {"api": {"private": url, "public": url}},
            "apiKey": "k",
            "secret": "c2VjcmV0",
            "enableRateLimit": False,
        }
    )
    instance.lease = lease
    found = Key(clock, term, lease, instance)
    instance.nonces = found
    if library is ccxt:
        # As in a cluster: the connections know the loop alone.
        found.sessions = Sessions(loop)
        found.sessions.lend(instance, large=False)
    return found


@pytest.mark.parametrize("way", ["our own", "ccxt's"])
def test_no_request_of_a_turn_is_signed_outside_the_term(way: str) -> None:
    async def ask(url: str) -> None:
        key = key_at(url)
        if way == "ccxt's":
            key.instance.ask = None
        await clone(key.instance).privatePostBalanceEx()
        key.clock.advance(100.0 - CALL_S - MARGIN_S)
        with pytest.raises(ClaimOver, match=r"^claim"):
            await clone(key.instance).privatePostBalanceEx()
        assert key.numbers == [1], "and no number was used up for it"
        assert key.sessions is not None
        await key.sessions.close()

    with stranger(200, GOOD) as (url, asked):
        asyncio.run(ask(url))
    assert len(asked.asked) == 1


def test_a_call_that_blocks_is_not_sent_outside_the_term() -> None:
    with stranger(200, GOOD) as (url, asked):
        key = key_at(url, blocking)
        key.instance.privatePostBalanceEx()
        key.term.end("node b has it")
        with pytest.raises(ClaimOver, match="node b has it"):
            key.instance.privatePostBalanceEx()
    assert len(asked.asked) == 1


@pytest.mark.parametrize("way", ["our own", "ccxt's"])
@pytest.mark.parametrize(
    ("method", "moment"),
    [
        ("publicGetAssets", "while it was connected"),
        ("privatePostBalanceEx", "while it was connected"),
        ("privatePostBalanceEx", "before it was written"),
    ],
)
def test_a_request_that_would_be_written_too_late_is_not_written(way: str, method: str, moment: str) -> None:
    async def ask(url: str) -> None:
        key = key_at(url)
        if way == "ccxt's":
            key.instance.ask = None
        connector = key.instance.session.connector
        late = "_create_connection" if moment == "while it was connected" else "connect"
        before: Callable[..., Any] = getattr(connector, late)

        async def delayed(*given: Any, **named: Any) -> Any:
            found = await before(*given, **named)
            key.clock.advance(100.0 - CALL_S)
            return found

        setattr(connector, late, delayed)
        with pytest.raises((ClaimOver, ccxt.NetworkError)):
            await getattr(key.instance, method)()
        assert key.sessions is not None
        await key.sessions.close()

    with stranger(200, GOOD) as (url, asked):
        asyncio.run(ask(url))
    assert asked.asked == []


# --- whatever happens --------------------------------------------------------------------------------

Step = tuple[str, float]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(("ask", "ask", "ask", "extend", "wait", "end", "again", "slow sign", "slow line")),
        st.floats(0.0, 6.0),
    ),
    min_size=5,
    max_size=25,
)


@dataclass
class Watched:
    """A server that notes by our clock when something arrives, and the term as it was then."""

    clock: ManualClock
    term: Term
    arrivals: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                self.arrivals.append((self.clock.up_s(), self.term.until_s))
                length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or 0)
                await reader.readexactly(length)
                writer.write(answer % (len(GOOD), GOOD))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_nothing_ever_arrives_so_late_that_its_call_would_outlast_the_term(steps: list[Step]) -> None:
    async def story() -> None:
        clock = ManualClock()
        watched = Watched(clock, Term(clock.up_s() + 5.0, CALL_S, 1))
        server = await asyncio.start_server(watched.serve, "127.0.0.1", 0)
        key = key_at(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        key.clock, key.term = clock, watched.term
        key.instance.lease = KeyLease(Lease(), key.term, clock)
        lane = Lane("k", BUDGET, clock, Journal(None), KeyState("k"), lease=key.instance.lease)
        connector = key.instance.session.connector
        connect, sign_s, line_s = connector.connect, 0.0, 0.0

        async def slowly(*given: Any, **named: Any) -> Any:
            nonlocal line_s
            found = await connect(*given, **named)
            clock.advance(line_s)
            line_s = 0.0
            return found

        def number() -> int:
            nonlocal sign_s
            clock.advance(sign_s)
            sign_s = 0.0
            return key.next()

        connector.connect, key.instance.nonce = slowly, number
        for step, amount in steps:
            match step:
                case "ask":
                    try:
                        async with lane.turn():
                            await clone(key.instance).privatePostBalanceEx()
                    except (Refrained, ClaimOver, blocking.NetworkError):
                        pass
                case "extend":
                    key.term.extend(clock.up_s() + amount)
                case "wait":
                    clock.advance(amount)
                case "end":
                    key.term.end("node b has it")
                case "again":
                    key.term.extend(clock.up_s() + amount, key.term.epoch + 1)
                case "slow sign":
                    sign_s = amount
                case _:
                    line_s = amount
        assert key.sessions is not None
        await key.sessions.close()
        server.close()
        await server.wait_closed()
        for arrived_s, until_s in watched.arrivals:
            assert arrived_s + CALL_S < until_s

    asyncio.run(story())


# --- a whole cluster ----------------------------------------------------------------------------------


@contextmanager
def simulated(exchange: Any) -> Generator[Any]:
    with serve(exchange):
        yield exchange


def test_a_cluster_asks_nothing_of_an_account_whose_term_is_over_and_goes_on_when_it_is_extended() -> None:
    term, asked_for = far(), list[str]()

    def term_of(fingerprint: str) -> Term:
        asked_for.append(fingerprint)
        return term

    with simulated(SimulatedKraken()) as exchange:
        spec = simulated_spec(exchange, "kraken", fetch_deadline_s=DEADLINE_S)
        with cluster_of(spec, term_of=term_of) as cluster:
            broker = cluster.broker("kraken")
            assert broker.get_account_balance() >= 0
            term.end("node b has it")
            before = exchange.private_calls
            with pytest.raises(CouldNotAsk, match="node b has it"), broker.lane():
                pytest.fail("a turn after the term")
            with pytest.raises(CouldNotAsk):
                broker.get_positions()
            assert exchange.private_calls == before
            term.extend(float("inf"), 1)
            broker.get_positions()
            assert exchange.private_calls > before
    assert set(asked_for) == {asked_for[0]}
    assert asked_for[0]


def test_no_request_of_a_key_with_a_term_may_take_longer_than_its_longest_call() -> None:
    with simulated(SimulatedOkx()) as exchange:
        spec = simulated_spec(exchange, "okx", fetch_deadline_s=3.0)
        with cluster_of(spec, term_of=lambda _: Term(float("inf"), 2.5)) as cluster:
            account = cluster._members.wired.accounts["okx"]  # pyright: ignore[reportPrivateUsage] - as below
            cluster.broker("okx").get_account_balance()
            assert account.access.connection.instance.timeout == 2_500


@pytest.mark.parametrize("library", [blocking, ccxt])
def test_a_call_of_the_trader_s_own_gets_no_number_outside_the_term(library: Any) -> None:
    """At an exchange that counts; elsewhere his own call inside a turn cannot be seen."""

    async def story(exchange: SimulatedKraken) -> None:
        mine, term = own(exchange, library), far()
        async with cluster_on(mine, term_of=lambda _: term) as cluster:
            broker = cluster.broker("mine")
            await broker.aio.get_account_balance()
            async with broker.lane() as turn:
                term.end("node b has it")
                before = exchange.private_calls
                with pytest.raises(CouldNotAsk, match="node b has it"):
                    turn.nonce()
                with pytest.raises(CouldNotAsk, match="node b has it"):
                    await mine.fetch_balance() if library is ccxt else mine.fetch_balance()
                assert exchange.private_calls == before
        if library is ccxt:
            await mine.close()

    with simulated(SimulatedKraken()) as exchange:
        asyncio.run(story(exchange))


def test_a_key_takes_its_term_along_to_another_event_loop() -> None:
    term = far()
    with simulated(SimulatedOkx()) as exchange:
        spec = simulated_spec(exchange, "okx", fetch_deadline_s=DEADLINE_S)
        with cluster_of(spec, term_of=lambda _: term) as cluster:
            members = cluster._members  # pyright: ignore[reportPrivateUsage] - where it runs shows nowhere else
            cluster.broker("okx").get_account_balance()
            before = members.wired.accounts["okx"].access.lane
            assert members.loops.watched[0].replace("a test says so")
            after = members.wired.accounts["okx"].access.lane
            assert after is not before
            assert after.lease.term is term
            assert after.lease.revoked == ""
            assert before.lease.revoked == "a test says so"


def test_an_account_that_was_never_asked_within_a_term_has_no_balance_and_no_zero() -> None:
    term = Term(float("-inf"), DEADLINE_S)
    with simulated(SimulatedKraken()) as exchange:
        spec = simulated_spec(exchange, "kraken", fetch_deadline_s=DEADLINE_S)
        with cluster_of(spec, term_of=lambda _: term) as cluster:
            broker = cluster.broker("kraken")
            with pytest.raises(BalanceUnknown):
                broker.get_account_balance()
            assert exchange.private_calls == 0
            assert broker.get_error_count() == 0


@pytest.mark.parametrize("which", ["the machine sleeps", "the wall clock alone shows it"])
def test_time_that_the_monotonic_clock_does_not_count_counts_for_a_term(which: str) -> None:
    clock = ManualClock()
    term = Term(clock.up_s() + 20.0, 1.0, 1, clock.leads())
    lease = KeyLease(Lease(), term, clock)
    assert not lease.revoked
    if which == "the machine sleeps":
        clock.sleep(30.0)
    else:
        clock.jump_wall(30.0)
    assert lease.revoked.startswith("claim")
    assert lease.too_late.startswith("claim")
    term.extend(clock.up_s() + 20.0, leads=clock.leads())
    assert not lease.revoked
    clock.jump_wall(-600.0)
    assert not lease.revoked, "a clock that is set back makes no term shorter, nor longer"
    clock.advance(18.9)
    assert lease.revoked
