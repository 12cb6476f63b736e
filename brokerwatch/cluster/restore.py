"""How a cluster begins where the one before it ended: last known balances, convictions, holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future

from brokerwatch.actors.board import Board
from brokerwatch.actors.protocol import ITS_END, OperatorCommand, Recall, held_words
from brokerwatch.clock import Clock, Instant, moment
from brokerwatch.cluster.lives import Lives
from brokerwatch.cluster.persistence import Persistence
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.reading import evidence
from brokerwatch.health.state_machine import NO_VETOES, Health, Vetoes
from brokerwatch.messages import Reading, Reason
from brokerwatch.storage.records import Remembered


def restored(
    specs: Mapping[str, BrokerSpec], board: Board, state: Persistence, clock: Clock, heartbeat_s: float
) -> dict[str, Health]:
    """The health with which each broker begins; it and the holds that go on are shown on the board."""
    now, remembered = clock.now(), state.remembered
    healths: dict[str, Health] = {}
    for name, spec in specs.items():
        health = state.journal.restored(spec, remembered.healths.get(name), now, known=state.known)
        healths[name] = health
        board.slot(name).write_evidence(evidence(spec, "", health, now, clock, heartbeat_s), health)
    for name, hold in remembered.holds.items():
        until = moment(hold.until_us, now)
        if name not in board:
            continue  # it may come back into the configuration, and is held out then
        slot = board.slot(name)
        if until is not None and until.up_s <= now.up_s:
            state.journal.held(name, None)
            state.journal.commanded("release", ITS_END, slot.reading, held_words(hold), now)
            continue
        slot.write_vetoes(slot.parts()[1].lay(Reason.HELD_OUT, held_words(hold), now, until=until))
    return healths


def rejoined(
    spec: BrokerSpec, state: Persistence, clock: Clock, heartbeat_s: float
) -> tuple[Health, Reading, Vetoes]:
    """With what a broker begins that joins a cluster which runs: its health, evidence and vetoes.

    It may have been in this cluster before. It has everything to prove, also where it is new: no change of a
    configuration makes an account available.
    """
    now, name = clock.now(), spec.name
    stored = state.journal.newest(name)
    # What was stored before the start may be lost, and what is known of it since then is not.
    known = state.known or stored is not None
    health = state.journal.restored(spec, stored, now, known=known).restarted(now)
    vetoes = NO_VETOES.lay(Reason.NEVER_SEEN, "not started yet", now)
    hold = state.journal.hold_of(name)
    if hold is not None:
        until = moment(hold.until_us, now)
        if until is None or until.up_s > now.up_s:
            vetoes = vetoes.lay(Reason.HELD_OUT, held_words(hold), now, until=until)
        else:
            state.journal.held(name, None)
    return health, evidence(spec, "", health, now, clock, heartbeat_s), vetoes


def recall(
    specs: Mapping[str, BrokerSpec],
    board: Board,
    remembered: Remembered,
    state: Persistence,
    lives: Lives,
    now: Instant,
) -> None:
    """Hand what could be read only after the start to the actors that run."""
    for name, found in recalls(specs, remembered, state, now).items():
        lives.recall(name, found)
    for hold in missed_holds(board, remembered, state, now):
        lives.obey(hold)


def recalls(
    specs: Mapping[str, BrokerSpec], remembered: Remembered, state: Persistence, now: Instant
) -> dict[str, Recall]:
    """The balances of before that could be read only after the start, with what was in doubt, by broker."""
    found: dict[str, Recall] = {}
    for name, spec in specs.items():
        health = state.journal.restored(spec, remembered.healths.get(name), now, known=True)
        if health.balance is not None:
            watched = state.journal.watched(spec, remembered.healths.get(name))
            found[name] = Recall(health.balance, health.doubts, watched)
    return found


def missed_holds(
    board: Board, remembered: Remembered, state: Persistence, now: Instant
) -> Iterator[OperatorCommand]:
    """The holds of before that could be read only after the start, as commands without a waiting caller.

    One that was known from its own file, and released since the start, is not among them.
    """
    for name, hold in remembered.holds.items():
        until = moment(hold.until_us, now)
        if name not in board or (until is not None and until.up_s <= now.up_s):
            continue
        laid = Reason.HELD_OUT in board.slot(name).parts()[1].laid
        # In this order: a release is in the journal before it is on the board.
        if not laid and state.journal.hold_of(name) is not None:
            yield OperatorCommand("hold", name, hold.by, hold.why, until, Future())
