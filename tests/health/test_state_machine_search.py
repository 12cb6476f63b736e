"""Every history of a small world, and not a sample: what a random walk misses stands here.

First all sequences of outcomes against the contract, written out independently. Then a
breadth-first search over one broker, a wire that loses, doubles and reorders, a view, the ticks of
its watcher and restarts: each state that can be reached is looked at once, and each invariant of
view and wire is held in it. A failure comes with the shortest trace that leads to it.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from decimal import Decimal
from typing import Final, NamedTuple

import pytest

from brokerwatch.clock import Instant, ManualClock
from brokerwatch.health.state_machine import AVAILABLE, Health, verdict
from brokerwatch.health.supervision import View, look_round
from brokerwatch.messages import Balance, Fault, FaultKind, HealthState, Holding, Reading, Reason, Verdict

U, H, D, X = HealthState.UNKNOWN, HealthState.HEALTHY, HealthState.DEGRADED, HealthState.UNAVAILABLE
START: Final = Instant(wall_us=1_800_000_000_000_000, up_s=0.0)
FAULT: Final = Fault(FaultKind.NETWORK)


def balance_no(number: int) -> Balance:
    """The balance of the success with this number; it says its number as cash and as its age."""
    amount = Decimal(number)
    held = Holding(free=amount, used=Decimal(0), total=amount)
    return Balance(holdings={"USD": held}, as_of=Instant(START.wall_us + number, float(number)))


BALANCES: Final = tuple(balance_no(number) for number in range(32))


# All sequences of outcomes --------------------------------------------------------------------------


def contract(history: str, threshold: int) -> tuple[HealthState, bool, int, int | None]:
    """(state, available, error_count, index of the last known) after `history` of s, f and n.

    What is no outcome (n) counts nowhere. The errors are the run of f at the end. Below the threshold
    the broker is available, from it on it is not, and the last known is that of the last s.
    """
    told = history.replace("n", "")
    errors = len(told) - len(told.rstrip("f"))
    last = history.rfind("s")
    state = H if errors == 0 else D if errors < threshold else X
    return state, errors < threshold, errors, None if last < 0 else last


def step(health: Health, outcome: str, index: int) -> Health:
    if outcome == "s":
        return health.seen(BALANCES[index], START)
    return health.failed(FAULT, START) if outcome == "f" else health.ignored(START)


@pytest.mark.parametrize(("threshold", "longest"), [(3, 11), (1, 7), (2, 7), (4, 8)])
def test_every_sequence_of_outcomes_keeps_the_contract(threshold: int, longest: int) -> None:
    waiting: list[tuple[str, Health]] = [("", Health.begin(START, threshold=threshold))]
    looked_at = 0
    while waiting:
        history, health = waiting.pop()
        looked_at += 1
        state, available, errors, last = contract(history, threshold)
        found = verdict(health.state)
        assert (health.state, found.available, health.error_count) == (state, available, errors), history
        assert found.reason is (Reason.OK if available else Reason.ERRORS), history
        assert health.balance is (None if last is None else BALANCES[last]), history
        assert health.fault == (FAULT if errors else None), history
        assert health.version == len(history), history
        if len(history) < longest:
            waiting += [(history + outcome, step(health, outcome, len(history))) for outcome in "sfn"]
    assert looked_at == (3 ** (longest + 1) - 1) // 2


# One broker, a bad wire, a view ---------------------------------------------------------------------

WIRE: Final = 2
THRESHOLD: Final = 2
LIMIT_S: Final = 5.0
"""Four heartbeats of one second, and one."""
STEP_S: Final = 2.5
"""Half of the limit: two ticks lie exactly on it, three beyond it."""
GRACE_S: Final = 5.0
"""A tick that is later than this convicts no broker."""
CLOCK: Final = ManualClock()

EvidenceKey = tuple[str, int, HealthState, int, Decimal | None]
Key = tuple[object, ...]
Trail = tuple["Trail", str] | None
"""What happened, the last first: the shortest way to here, printed by an assertion that fails."""


class World(NamedTuple):
    """Everything there is: the broker, the wire, the view; and what the search remembers to judge by."""

    health: Health
    epoch: int
    wire: tuple[Reading, ...]
    view: View
    up_s: float
    events: int
    restarts: int
    ticks: int
    fresh_s: float
    """When the view last took something new, or got a new start: what silence is counted from."""
    convicted_no: int
    """The newest success that was known to the part that last made the view's evidence unavailable."""
    trail: Trail

    @property
    def now(self) -> Instant:
        return Instant(START.wall_us + round(self.up_s * 1e6), self.up_s)

    def picture(self) -> Key:
        """What can be seen of it now. Readings are interned, so each is known by its id."""
        balance = self.health.balance
        return (
            self.health.state,
            self.health.error_count,
            self.health.version,
            None if balance is None else balance.as_of.up_s,
            self.epoch,
            tuple(sorted(map(id, self.wire))),
            id(self.view.newest),
            frozenset(self.view.vetoes.laid),
        )

    def key(self) -> Key:
        """What makes it this world and no other: also what may still happen in it."""
        return (
            self.picture(),
            self.view.heard_s,
            self.up_s,
            self.events,
            self.restarts,
            self.ticks,
            self.fresh_s,
            self.convicted_no,
        )


class Search:
    """Breadth first, so that the first counterexample is a shortest one."""

    def __init__(self, events: int, restarts: int, ticks: int) -> None:
        self.budget = (events, restarts, ticks)
        self.known: dict[EvidenceKey, Reading] = {}
        self.reached: Counter[str] = Counter()
        self.seen: set[Key] = set()
        self.held: set[Key] = set()

    def run(self) -> int:
        events, restarts, ticks = self.budget
        health = Health.begin(START, threshold=THRESHOLD)
        blank = View(self.evidence(health, ""), START.up_s)
        first = World(
            health=health,
            epoch=1,
            wire=(),
            view=blank.vetoed(Reason.NEVER_SEEN, "not heard yet", START),
            up_s=START.up_s,
            events=events,
            restarts=restarts,
            ticks=ticks,
            fresh_s=START.up_s,
            convicted_no=-1,
            trail=None,
        )
        waiting = deque([first])
        self.seen.add(first.key())
        while waiting:
            world = waiting.popleft()
            if world.picture() not in self.held:
                self.held.add(world.picture())
                self.holds(world)
            for after in self.successors(world):
                key = after.key()
                if key not in self.seen:
                    self.seen.add(key)
                    waiting.append(after)
        return len(self.seen)

    # What can happen ---------------------------------------------------------------------------------

    def successors(self, world: World) -> Iterator[World]:
        if world.events:
            yield from self.outcomes(world)
        if world.restarts:
            yield from self.restarted(world)
        if world.ticks:
            yield self.ticked(world, late=False)
            yield self.ticked(world, late=True)
        for place, message in enumerate(world.wire):
            rest = world.wire[:place] + world.wire[place + 1 :]
            yield world._replace(wire=rest, trail=(world.trail, "lose " + message.detail))
            # It stays on the wire, so it may come again; whether it does is a later choice.
            yield self.delivered(world, message)

    def outcomes(self, world: World) -> Iterator[World]:
        number = self.budget[0] - world.events + 1
        moved = {
            "success": world.health.seen(BALANCES[number], world.now),
            "fault": world.health.failed(FAULT, world.now),
            "heartbeat": world.health.ignored(world.now),
        }
        for word, health in moved.items():
            assert health.version == world.health.version + 1, world.trail
            after = world._replace(health=health, events=world.events - 1, trail=(world.trail, word))
            yield self.sent(after)
            yield after  # the message was lost at once

    def restarted(self, world: World) -> Iterator[World]:
        health = world.health.restarted(world.now)
        before = verdict(world.health.state).available
        # A restart never improves availability and never loses a balance (18).
        assert verdict(health.state).available <= before, (world.trail, "restart")
        assert not verdict(health.state).available, (world.trail, "restart")
        assert health.balance is world.health.balance, (world.trail, "restart")
        assert health.error_count == world.health.error_count, (world.trail, "restart")
        if world.health.state is X:
            assert health.state is X, (world.trail, "restart")
            self.reached["restart while unavailable"] += 1
        unseen = world._replace(
            # As the actor does: its first word is a heartbeat, under the next epoch.
            health=health.ignored(world.now),
            epoch=world.epoch + 1,
            restarts=world.restarts - 1,
            trail=(world.trail, "restart"),
        )
        yield self.sent(unseen)
        watched = unseen._replace(view=world.view.vetoed(Reason.RESTARTING, "it died", world.now))
        yield self.sent(watched)._replace(trail=(world.trail, "restart, which the watcher ordered"))

    def ticked(self, world: World, *, late: bool) -> World:
        up_s = world.up_s + STEP_S
        now = Instant(START.wall_us + round(up_s * 1e6), up_s)
        due_s = up_s - GRACE_S - (0.001 if late else 0.0)
        found = look_round({"a": world.view}, now, due_s=due_s, limit_s=LIMIT_S)
        trail = (world.trail, "late tick" if late else f"tick at {up_s}")
        before, after = set(world.view.vetoes.laid), set(found.views["a"].vetoes.laid)
        view = found.views["a"]
        # Silent only past the time to live and only when the own tick was on time; then at once (19).
        assert found.on_time is not late, trail
        assert view.newest is world.view.newest, trail
        if late:
            assert after == before, trail
            assert (found.to_ask, found.to_replace) == ((), ()), trail
        else:
            quiet = up_s - world.fresh_s > LIMIT_S
            word = Reason.SILENT if world.view.newest.broker_epoch else Reason.NEVER_SEEN
            assert after == (before | {word} if quiet else before), trail
            assert found.to_replace == (("a",) if quiet else ()), trail
            assert found.to_ask == (("a",) if up_s - world.fresh_s > LIMIT_S / 2 else ()), trail
            assert not (quiet and view.reading.verdict.available), trail
            self.reached["silent"] += Reason.SILENT in after - before
            self.reached["exactly at the limit"] += up_s - world.fresh_s == LIMIT_S
        return world._replace(
            view=view,
            up_s=up_s,
            ticks=world.ticks - 1,
            fresh_s=up_s if late else world.fresh_s,
            trail=trail,
        )

    def delivered(self, world: World, message: Reading) -> World:
        old = world.view
        new = old.heard(message, world.now)
        trail = (world.trail, "hear " + message.detail)
        # A view never falls and is never ahead of the broker (13).
        assert new.order >= old.order, trail
        assert new.order <= (f"{world.epoch}", world.health.version), trail
        # The newest that was delivered, and no other, in whatever order (15); again is not twice (14).
        assert new.newest is (message if order(message) > old.order else old.newest), trail
        assert new.heard(message, world.now) is new, trail
        if order(message) <= old.order:
            assert new is old, trail
            return world
        # Only evidence restores (17): the vetoes aside, by a success later than the conviction.
        was, has = old.newest.state in AVAILABLE, new.newest.state in AVAILABLE
        assert new.newest.verdict == verdict(new.newest.state), trail
        convicted_no = world.convicted_no
        if was and not has:
            convicted_no = success_no(message)
        if not was and has:
            self.reached["restored by a success"] += 1
            assert success_no(message) > world.convicted_no, trail
        lifted = set(old.vetoes.laid) - set(new.vetoes.laid)
        if not old.reading.verdict.available and new.reading.verdict.available:
            assert lifted or not was, trail
        assert set(new.vetoes.laid) <= set(old.vetoes.laid), trail
        # What is heard ends silence, and only the next life's own word ends a restart.
        assert not set(new.vetoes.laid) & {Reason.SILENT, Reason.NEVER_SEEN, Reason.BLIND}, trail
        if Reason.RESTARTING in old.vetoes.laid:
            next_life = message.broker_epoch > old.newest.broker_epoch
            assert (Reason.RESTARTING in lifted) is next_life, trail
            self.reached["an old life's word under a restart"] += not next_life
        self.reached["silence ended"] += Reason.SILENT in lifted
        return world._replace(view=new, fresh_s=world.up_s, convicted_no=convicted_no, trail=trail)

    # What must hold in every state -------------------------------------------------------------------

    def holds(self, world: World) -> None:
        view, now, trail = world.view, world.now, world.trail
        # Ingesting what is there already changes nothing (14).
        assert view.heard(view.newest, now) is view, trail
        # Two messages on the wire end in one view, whichever comes first (15).
        if len(world.wire) == 2:
            one, two = world.wire
            this, that = view.heard(one, now).heard(two, now), view.heard(two, now).heard(one, now)
            assert this.newest is that.newest, trail
            assert set(this.vetoes.laid) == set(that.vetoes.laid), trail
            assert this.order == max(view.order, order(one), order(two)), trail
        # After any losses one heartbeat heals (16).
        beat = self.evidence(world.health.ignored(now), f"{world.epoch}")
        healed = view.heard(beat, now)
        assert healed.newest is beat, trail
        assert healed.newest.verdict == verdict(world.health.state), trail
        strongest = healed.vetoes.strongest
        assert strongest in (None, Reason.RESTARTING), trail
        if strongest is None:
            assert healed.reading.verdict == verdict(world.health.state), trail
        # Available means evidence: in every life but the first a success of this life (2, 18).
        if world.epoch > 1 and world.health.state in AVAILABLE:
            assert world.health.balance is not None, trail
            self.reached["available again in a later life"] += 1
        # A view under a veto is not available; without one it says what its evidence says.
        assert view.reading.verdict.available is (not view.vetoes.laid and view.newest.state in AVAILABLE), (
            trail
        )
        # Held out is out, and when the hold ends it is as it would have been (20).
        held = view.vetoed(Reason.HELD_OUT, "by hand", now)
        assert held.reading.verdict == Verdict(available=False, reason=Reason.HELD_OUT), trail
        assert held.released(now, Reason.HELD_OUT).reading.verdict == view.reading.verdict, trail

    # How it is done ----------------------------------------------------------------------------------

    def sent(self, world: World) -> World:
        if len(world.wire) == WIRE:
            return world
        return world._replace(wire=(*world.wire, self.evidence(world.health, f"{world.epoch}")))

    def evidence(self, health: Health, epoch: str) -> Reading:
        """What the broker says of itself; the same object for the same words."""
        balance = health.balance
        cash = None if balance is None else balance.cash(["USD"])
        key = (epoch, health.version, health.state, health.error_count, cash)
        known = self.known.get(key)
        if known is None:
            known = self.known[key] = Reading(
                broker="a",
                exchange="kraken",
                simulated=True,
                broker_epoch=epoch,
                version=health.version,
                state=health.state,
                verdict=verdict(health.state),
                detail=f"{epoch}.{health.version} {health.state.name} {health.error_count}",
                since_us=0,
                error_count=health.error_count,
                fault=None if health.fault is None else health.fault.kind,
                as_of=None if balance is None else balance.as_of,
                cash=cash,
                balance=None if balance is None else balance.holdings,
                labels={},
                valid_until_s=float("inf"),
                clock=CLOCK,
            )
        return known


def order(message: Reading) -> tuple[str, int]:
    return (message.broker_epoch, message.version)


def success_no(message: Reading) -> int:
    return 0 if message.cash is None else int(message.cash)


@pytest.mark.parametrize(
    ("events", "restarts", "ticks", "least"),
    [
        pytest.param(4, 1, 0, 40_000, id="outcomes"),
        pytest.param(3, 2, 0, 30_000, id="lives"),
        pytest.param(3, 1, 3, 80_000, id="silence"),
    ],
)
def test_every_small_world_of_a_broker_a_bad_wire_and_a_view_is_sound(
    events: int, restarts: int, ticks: int, least: int
) -> None:
    search = Search(events, restarts, ticks)
    states = search.run()
    assert states >= least, "the search has shrunk: it looked at too little to prove anything"
    wanted = {
        "an old life's word under a restart",
        "available again in a later life",
        "restart while unavailable",
        "restored by a success",
    }
    if ticks:
        wanted |= {"exactly at the limit", "silence ended", "silent"}
    often = {word for word, times in search.reached.items() if times >= 100}
    assert often == wanted, f"what is never reached is not proven: {search.reached}"
