"""The epoch of a claim in the numbers of a key: the exchange itself refuses an owner that wakes too late."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.clock import ManualClock
from brokerwatch.cluster.broker import requests_of
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.loader import load
from brokerwatch.config.nonce_fence import CONFIRMED
from brokerwatch.errors import ConfigError
from brokerwatch.gateway.catalogue import Catalogue
from brokerwatch.gateway.lease import Term
from brokerwatch.gateway.nonces import EPOCH_STEP, LAST_EPOCH, Nonces
from brokerwatch.messages import FaultKind
from brokerwatch.simulator import SimulatedKraken, SimulatedOkx, serve
from tests.gateway.test_lane import Book
from tests.support.clusters import cluster_of, simulated_spec, until
from tests.support.own_instances import cluster_on, own

FENCED: Mapping[str, Any] = {"nonce_fence": True, "nonce_fence_confirmed": CONFIRMED}


def fenced(clock: ManualClock, book: Book, epoch: int) -> Nonces:
    found = Nonces("k", clock, book)
    found.fence = Term(float("inf"), 1.0, epoch)
    return found


class Exchange:
    """It takes a number that is greater than every one before."""

    def __init__(self) -> None:
        self.highest = 0

    def takes(self, number: int) -> bool:
        assert 0 < number < 2**63
        taken = number > self.highest
        self.highest = max(self.highest, number)
        return taken


@given(
    st.lists(
        st.tuples(
            st.sampled_from(("owner", "owner", "stale", "stale", "takeover", "jump", "wait", "recall")),
            st.floats(-10_000_000, 10_000_000),
        ),
        max_size=40,
    ),
    st.integers(1, LAST_EPOCH - 50),
)
def test_once_the_new_owner_has_asked_no_number_of_an_earlier_one_is_taken(
    steps: list[tuple[str, float]], epoch: int
) -> None:
    clock, book, exchange = ManualClock(), Book(), Exchange()
    owner, stale = fenced(clock, book, epoch), list[Nonces]()
    has_asked = False

    async def walk() -> None:
        nonlocal owner, has_asked, epoch
        for step, amount in steps:
            match step:
                case "owner":
                    await owner.reserve()
                    assert exchange.takes(owner.next()), "the owner is never refused"
                    has_asked = True
                case "stale":
                    for one in stale:
                        await one.reserve()
                        assert not (exchange.takes(one.next()) and has_asked)
                case "takeover":
                    epoch += 1
                    stale.append(owner)
                    owner, has_asked = fenced(clock, book, epoch), False
                    owner.above(book.ceiling)
                case "recall":
                    for one in stale:
                        one.above(book.ceiling)  # it reads the store that the new owner writes
                case "wait":
                    clock.advance(abs(amount) / 1_000)
                case _:
                    clock.jump_wall(amount)

    asyncio.run(walk())


def test_the_numbers_stay_below_two_to_the_63_in_every_epoch() -> None:
    clock, book = ManualClock(), Book()
    for epoch in (0, 1, LAST_EPOCH, LAST_EPOCH + 1, 10**9):
        nonces = fenced(clock, book, epoch)
        asyncio.run(nonces.reserve())
        numbers = [nonces.next() for _ in range(3)]
        assert numbers == sorted(set(numbers))
        assert numbers[-1] < 2**63
        assert numbers[0] // EPOCH_STEP == min(epoch, LAST_EPOCH)


def test_a_key_without_a_fence_counts_as_before() -> None:
    clock = ManualClock()
    nonces = Nonces("k", clock, Book())
    asyncio.run(nonces.reserve())
    assert nonces.next() == clock.now().wall_us // 1_000


# --- two processes on the simulated exchange ---------------------------------------------------------


def node(exchange: SimulatedKraken, epoch: int, **values: Any) -> tuple[Cluster, Term]:
    term = Term(float("inf"), 5.0, epoch)
    spec = simulated_spec(exchange, "k", fetch_deadline_s=5.0, policy="simple", **FENCED, **values)
    return cluster_of(spec, term_of=lambda _: term), term


def has_answered(cluster: Cluster) -> bool:
    reading = cluster.broker("k").reading()
    return reading.available and reading.as_of is not None


def test_an_owner_of_an_earlier_epoch_that_knows_nothing_of_it_is_refused_by_the_exchange() -> None:
    """As if it had stood still since before the end of its term, and its clock had told it nothing."""
    exchange = SimulatedKraken()
    with serve(exchange), ExitStack() as both:
        former, _ = node(exchange, 7, poll_interval_s=0.05)
        both.enter_context(former)
        until(lambda: has_answered(former))
        assert exchange.last_nonce() // EPOCH_STEP == 7
        owner, _ = node(exchange, 8, poll_interval_s=0.05)
        both.enter_context(owner)
        until(lambda: has_answered(owner))
        until(lambda: former.broker("k").reading().fault is FaultKind.NONCE_CLOCK)
        until(lambda: not former.broker("k").is_available())
        assert "Invalid nonce" in former.broker("k").reading().detail
        until(lambda: has_answered(owner))  # the owner is not disturbed by it
        assert owner.broker("k").get_error_count() == 0
        assert exchange.last_nonce() // EPOCH_STEP == 8


def test_a_claim_that_is_taken_anew_counts_in_its_new_epoch() -> None:
    exchange = SimulatedKraken()
    with serve(exchange):
        cluster, term = node(exchange, 3, poll_interval_s=0.05)
        with cluster:
            until(lambda: exchange.last_nonce() // EPOCH_STEP == 3)
            term.end("node b has it")
            exchange.use_nonce(4 * EPOCH_STEP + 1)  # node b asks
            term.extend(float("inf"), 5)
            until(lambda: exchange.last_nonce() // EPOCH_STEP == 5)
            until(lambda: has_answered(cluster))


def test_the_trader_s_own_calls_carry_the_epoch_too() -> None:
    exchange, term = SimulatedKraken(), Term(float("inf"), 1.0, 9)
    with serve(exchange):
        mine = own(exchange)
        with cluster_on(mine, term_of=lambda _: term, **FENCED) as cluster:
            broker = cluster.broker("mine")
            broker.get_account_balance()
            with broker.lane() as turn:
                assert turn.nonce() // EPOCH_STEP == 9
                mine.fetch_balance()
            assert exchange.last_nonce() // EPOCH_STEP == 9


def test_outside_a_pool_the_fence_is_ignored_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    exchange = SimulatedKraken()
    with serve(exchange), cluster_of(simulated_spec(exchange, "k", **FENCED)) as cluster:
        cluster.broker("k").get_account_balance()
        assert exchange.last_nonce() < EPOCH_STEP
        assert requests_of(cluster.broker("k")).account().access.lane.nonces.fence is None
    assert "nonce_fence is ignored, because this process is in no pool" in caplog.text


# --- the configuration -------------------------------------------------------------------------------


@pytest.mark.parametrize("words", ["", "yes", "this key can not go back"])
def test_the_fence_has_to_be_confirmed_in_words(words: str) -> None:
    with pytest.raises(ConfigError, match=CONFIRMED):
        BrokerSpec("k", exchange="kraken", nonce_fence=True, nonce_fence_confirmed=words)


def test_the_words_alone_are_no_mistake_and_others_are() -> None:
    assert BrokerSpec("k", exchange="kraken", nonce_fence_confirmed=CONFIRMED).nonce_fence is False
    with pytest.raises(ConfigError, match="nonce_fence_confirmed"):
        BrokerSpec("k", exchange="kraken", nonce_fence_confirmed="maybe")


@pytest.mark.parametrize("way", ["a file", "a program"])
def test_an_exchange_without_rising_numbers_has_no_fence(way: str, tmp_path: Path) -> None:
    exchange = SimulatedOkx()
    if way == "a program":
        with serve(exchange), pytest.raises(ConfigError, match="does not refuse a number"):
            cluster_of(simulated_spec(exchange, "o", **FENCED)).start()
        return
    secret = tmp_path / "secret"
    secret.write_text("c2VjcmV0")
    secret.chmod(0o600)
    path = tmp_path / "desk.toml"
    named = "".join(f'{name}_file = "{secret}"\n' for name in ("api_key", "secret", "password"))
    path.write_text(
        f'version = 1\n[brokers.o]\nexchange = "okx"\nnonce_fence = true\n{named}'
        f'nonce_fence_confirmed = "{CONFIRMED}"\n'
    )
    with pytest.raises(ConfigError) as caught:
        load(path, Catalogue())
    [problem] = caught.value.problems
    assert (problem.key, problem.line) == ("brokers.o.nonce_fence", 4)
    assert "does not refuse a number" in problem.expected
