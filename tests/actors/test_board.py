"""The notice board: two writers, one truth, and no word from an older life."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from brokerwatch.actors.board import Board, Slot
from brokerwatch.clock import LEAP_S, ManualClock, SystemClock
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import UnknownBroker
from brokerwatch.health.reading import evidence, ttl_s
from brokerwatch.health.state_machine import NO_VETOES, Health
from brokerwatch.messages import Balance, Fault, FaultKind, HealthState, Holding, Reading, Reason

SPEC = BrokerSpec("a")
OLD, NEW = "0000000000000001-00000000", "0000000000000002-00000000"


class Desk:
    """A slot, its clock, and a pen."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.health = Health.begin(self.clock.now())
        self.slot = Slot(self.reading(OLD), self.health, NO_VETOES)

    def reading(self, epoch: str) -> Reading:
        return evidence(SPEC, epoch, self.health, self.clock.now(), self.clock, 1.0)

    def succeed(self, epoch: str = OLD) -> bool:
        held = Holding(free=Decimal(5), used=Decimal(0), total=Decimal(5))
        self.health = self.health.seen(
            Balance(holdings={"USD": held}, as_of=self.clock.now()), self.clock.now()
        )
        return self.slot.write_evidence(self.reading(epoch), self.health)

    def fail(self, epoch: str = OLD) -> bool:
        self.health = self.health.failed(Fault(FaultKind.NETWORK, "down"), self.clock.now())
        return self.slot.write_evidence(self.reading(epoch), self.health)


def test_a_reading_expires_when_nobody_renews_it_and_not_before() -> None:
    desk = Desk()
    assert desk.succeed()
    reading = desk.slot.reading
    desk.clock.advance(ttl_s(1.0) - 0.001)
    assert (reading.available, reading.reason, reading.stale) == (True, Reason.OK, False)
    desk.clock.advance(0.001)
    assert (reading.available, reading.reason, reading.stale) == (False, Reason.SILENT, True)
    assert reading.cash == Decimal(5)
    assert reading.available_until_s <= desk.clock.up_s()


def test_a_jump_of_the_wall_clock_neither_ages_nor_expires_anything() -> None:
    desk = Desk()
    desk.succeed()
    desk.clock.jump_wall(-86_400.0)
    assert (desk.slot.reading.available, desk.slot.reading.age_ms) == (True, 0)
    desk.clock.jump_wall(10 * 86_400.0)
    desk.clock.advance(1.0)
    assert (desk.slot.reading.available, desk.slot.reading.age_ms) == (True, 1_000)


@pytest.mark.parametrize("leap", ["sleep", "jump_wall"])
def test_a_trading_thread_that_wakes_first_sees_that_the_machine_slept(leap: str) -> None:
    desk = Desk()
    desk.succeed()
    reading = msgspec.structs.replace(desk.reading(OLD), version=9, leads=desk.clock.leads())
    assert desk.slot.write_evidence(reading, desk.health)
    until = desk.slot.until
    assert desk.clock.is_before(until)
    getattr(desk.clock, leap)(LEAP_S)
    assert desk.clock.is_before(until), "no leap yet"
    getattr(desk.clock, leap)(0.5)
    assert not desk.clock.is_before(until)
    assert not desk.slot.reading.available


def test_the_clock_of_the_machine_is_before_what_is_to_come() -> None:
    clock = SystemClock()
    wall_s, asleep_s = clock.leads()
    later = (clock.up_s() + 1e6, wall_s + LEAP_S, asleep_s + LEAP_S)
    assert clock.is_before(later)
    assert not clock.is_before((clock.up_s(), *later[1:]))
    assert not clock.is_before((later[0], wall_s - LEAP_S, later[2]))
    assert not clock.is_before((*later[:2], asleep_s - LEAP_S))


def test_a_replaced_incarnation_cannot_write() -> None:
    desk = Desk()
    desk.succeed()
    for _ in range(3):
        desk.fail()
    remembered = desk.slot.supersede(NEW, desk.clock.now())
    assert remembered.state is HealthState.UNAVAILABLE, "a restart does not launder a conviction"
    assert not desk.succeed(OLD), "the hung one wakes up with a success and is refused"
    assert desk.slot.reading.state is HealthState.UNAVAILABLE
    assert desk.slot.reading.broker_epoch == NEW


def test_a_successor_knows_the_balance_and_has_proven_nothing() -> None:
    desk = Desk()
    desk.succeed()
    remembered = desk.slot.supersede(NEW, desk.clock.now())
    assert remembered.state is HealthState.UNKNOWN
    assert desk.slot.reading.cash == Decimal(5)
    assert not desk.slot.reading.available


def test_older_evidence_of_the_same_life_is_refused_too() -> None:
    desk = Desk()
    desk.succeed()
    early = desk.slot.reading
    desk.fail()
    assert not desk.slot.write_evidence(msgspec.structs.replace(early, version=0), desk.health)
    assert desk.slot.reading.error_count == 1


def test_evidence_and_vetoes_do_not_write_over_each_other() -> None:
    desk = Desk()
    desk.succeed()
    vetoes = NO_VETOES.lay(Reason.SILENT, "nothing heard", desk.clock.now())
    desk.slot.write_vetoes(vetoes)
    assert (desk.slot.reading.available, desk.slot.reading.reason) == (False, Reason.SILENT)
    assert desk.slot.until[0] == float("-inf")
    assert desk.fail()
    assert desk.slot.reading.reason is Reason.SILENT, "evidence does not end a veto"
    assert desk.slot.reading.error_count == 1
    desk.slot.write_vetoes(vetoes.lift(desk.clock.now(), Reason.SILENT))
    assert (desk.slot.reading.available, desk.slot.reading.state) == (True, HealthState.DEGRADED)


def test_a_board_names_the_brokers_it_has() -> None:
    board = Board([Desk().slot])
    assert [reading.broker for reading in board.readings()] == ["a"]
    with pytest.raises(UnknownBroker, match="no broker named 'b' in this cluster; there are: a"):
        board.slot("b")


def test_a_broker_that_left_is_written_no_more_and_its_slot_serves_when_it_comes_back() -> None:
    desk = Desk()
    board = Board([desk.slot])
    assert desk.succeed()
    gone = desk.slot.close(NO_VETOES.lay(Reason.SHUTDOWN, "it was removed", desk.clock.now()))
    assert (gone.available, gone.reason, desk.slot.reading) == (False, Reason.SHUTDOWN, gone)
    assert not desk.succeed(NEW), "no life of it writes any more"
    desk.slot.write_vetoes(NO_VETOES)
    assert desk.slot.reading is gone
    board.arrange([], {})
    assert "a" not in board
    with pytest.raises(UnknownBroker):
        board.slot("a")
    assert board.former("a") is desk.slot, "a handle of it is still held"
    health = Health.begin(desk.clock.now()).restarted(desk.clock.now())
    desk.slot.reopen(evidence(SPEC, "", health, desk.clock.now(), desk.clock, 1.0), health, NO_VETOES)
    board.arrange(["a"], {"a": desk.slot})
    assert board.slot("a") is desk.slot
    assert (desk.slot.reading.state, desk.slot.reading.available) == (HealthState.UNKNOWN, False)
    assert desk.succeed(NEW)
    assert desk.slot.reading.available


def test_a_slot_that_no_handle_holds_is_not_kept() -> None:
    board = Board([Desk().slot])
    board.arrange([], {})
    assert board.former("a") is None
