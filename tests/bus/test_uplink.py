"""What a node reports: its own count, the chain of validity, and no amount that is not to be published."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any, Final

import pytest

from brokerwatch.bus.publisher import Pack
from brokerwatch.bus.publishing import HealthPublishing, Publishing
from brokerwatch.bus.uplink import Uplink
from brokerwatch.clock import ManualClock
from brokerwatch.messages import Envelope, Reading, ReadingData, Reason, Verdict, topics
from brokerwatch.messages.codec import decode
from tests.support.clusters import PATIENCE_S
from tests.support.wire_examples import reading

EPOCH: Final = "1800000000000000-0000abcd"
LATER: Final = "1800000000000001-0000abcd"
PROCESS: Final = "1799999999999999-0000abcd"
TTL_S: Final = 5.0


class Pipe:
    """What a publisher is asked to send, packed at once."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Envelope]] = []

    def put(self, topic: str, pack: Pack, **_: Any) -> None:
        self.sent.append((topic, decode(pack(topic))))

    def last(self) -> ReadingData:
        data = self.sent[-1][1].data
        assert isinstance(data, ReadingData)
        return data


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def pipes() -> tuple[Pipe, Pipe]:
    return Pipe(), Pipe()


@pytest.fixture
def uplink(clock: ManualClock, pipes: tuple[Pipe, Pipe]) -> Uplink:
    publishers: Any = pipes
    return Uplink(publishers, clock, TTL_S, PROCESS)


def known(clock: ManualClock, **values: Any) -> Reading:
    return reading(clock=clock, broker_epoch=EPOCH, valid_until_s=clock.up_s() + TTL_S, **values)


def test_each_supervisor_gets_the_same_on_the_topic_of_a_sign_of_life(
    uplink: Uplink, clock: ManualClock, pipes: tuple[Pipe, Pipe]
) -> None:
    uplink.publish(known(clock), with_cash=True)
    for pipe in pipes:
        ((topic, envelope),) = pipe.sent
        assert topic == topics.alive("kraken", "kraken-main")
        assert (envelope.stamp.src, envelope.stamp.epoch) == ("broker/kraken/kraken-main", EPOCH)
        assert envelope.stamp.ttl_ms == 5_000
        assert pipe.last().cash == "1234.56"


def test_versions_rise_over_a_restart_of_the_nodes_own_supervisor_and_a_hold_is_newer_than_what_was_before(
    uplink: Uplink, clock: ManualClock, pipes: tuple[Pipe, Pipe]
) -> None:
    held = Verdict(available=False, reason=Reason.HELD_OUT)
    said: list[tuple[str, int, Reason]] = []
    for version, verdict in ((7, None), (7, held), (7, None), (30, None), (8, held)):
        one = known(clock, version=version, **({"verdict": verdict} if verdict else {}))
        # The supervisor of the node has another HealthPublishing in each of its lives, and one uplink.
        publishing: Any = Publishing(Pipe(), "supervisor/n", EPOCH, clock, TTL_S)  # type: ignore[arg-type] # pyright: ignore[reportArgumentType] - it keeps what is put
        HealthPublishing(publishing, publish_balances=True, uplink=uplink).publish(one)
        data = pipes[0].last()
        said.append((data.broker_epoch, data.version, data.reason))
    blank = known(clock, version=0)
    uplink.publish(blank, with_cash=True)
    assert [version for _, version, _ in said] == [7, 8, 9, 30, 31]
    assert [reason for *_, reason in said] == [
        Reason.OK,
        Reason.HELD_OUT,
        Reason.OK,
        Reason.OK,
        Reason.HELD_OUT,
    ]
    assert pipes[0].last().version == 32


def test_a_new_life_of_the_broker_counts_anew_and_one_without_a_life_has_that_of_the_process(
    uplink: Uplink, clock: ManualClock, pipes: tuple[Pipe, Pipe]
) -> None:
    broken = reading(clock=clock, broker_epoch="", version=0, broker="b")
    uplink.publish(broken, with_cash=True)
    assert (pipes[0].last().broker_epoch, pipes[0].last().version) == (PROCESS, 1)
    uplink.publish(known(clock, version=40), with_cash=True)
    later = reading(clock=clock, broker_epoch=LATER, version=1, valid_until_s=clock.up_s() + TTL_S)
    uplink.publish(later, with_cash=True)
    assert (pipes[0].last().broker_epoch, pipes[0].last().version) == (LATER, 1)
    assert [envelope.stamp.seq for _, envelope in pipes[0].sent] == [1, 1, 1], "each life has its own count"


def test_the_proof_never_begins_anew(uplink: Uplink, clock: ManualClock, pipes: tuple[Pipe, Pipe]) -> None:
    shown = known(clock, proven_until_s=clock.up_s() + 60.0)
    clock.advance(3.0)
    uplink.publish(shown, with_cash=True)
    assert pipes[0].last().proof_ms == 2_000, "what is left of the reading's own validity"
    short = known(clock, proven_until_s=clock.up_s() + 1.0)
    uplink.publish(short, with_cash=True)
    assert pipes[0].last().proof_ms == 1_000
    clock.advance(1.0)
    uplink.publish(short, with_cash=True)
    said = pipes[0].last()
    assert (said.available, said.reason) == (False, Reason.UNPROVEN)


def test_without_balances_no_amount_leaves_the_node(
    uplink: Uplink, clock: ManualClock, pipes: tuple[Pipe, Pipe]
) -> None:
    uplink.publish(known(clock, cash_parts={"USD": Decimal("1234.56")}), with_cash=False)
    assert "1234" not in str(pipes[0].sent[-1][1])
    assert "0.5" not in str(pipes[0].sent[-1][1].data)


def test_a_farewell_is_valid_for_no_time(
    uplink: Uplink, clock: ManualClock, pipes: tuple[Pipe, Pipe]
) -> None:
    uplink.publish(known(clock), with_cash=True, ttl_ms=0)
    assert [envelope.stamp.ttl_ms for pipe in pipes for _, envelope in pipe.sent] == [0, 0]


def test_what_is_counted_later_is_handed_over_later(clock: ManualClock) -> None:
    """Else the older of two readings of two threads would replace the newer one that waits."""
    first_is_here, go_on = threading.Event(), threading.Event()

    class Slow(Pipe):
        def put(self, topic: str, pack: Pack, **values: Any) -> None:
            if not first_is_here.is_set():
                first_is_here.set()
                assert go_on.wait(PATIENCE_S)
            super().put(topic, pack, **values)

    pipe: Any = Slow()
    uplink = Uplink([pipe], clock, TTL_S, PROCESS)
    threads = [
        threading.Thread(
            target=uplink.publish, args=(known(clock, version=version),), kwargs={"with_cash": True}
        )
        for version in (1, 2)
    ]
    threads[0].start()
    assert first_is_here.wait(PATIENCE_S)
    threads[1].start()
    threads[1].join(0.05)  # with the fault it is through by then
    go_on.set()
    for thread in threads:
        thread.join(PATIENCE_S)
    versions = [data.version for _, each in pipe.sent if isinstance(data := each.data, ReadingData)]
    assert versions == [1, 2]
