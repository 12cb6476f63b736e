"""Which accounts a simulated cluster has, and how its operator changes that.

`SimulatedMembers` carries a change out by the code of the product (`Members._carry_out`). What is left out is
what stands between an actor and its exchange, and the waiting: a world has no thread that could wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, Final, cast

from brokerwatch.actors.broker_context import BrokerContext
from brokerwatch.cluster.lives import Lives
from brokerwatch.cluster.members import Members
from brokerwatch.cluster.wiring import Wired, watches_of
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, Settings
from brokerwatch.config.policy import GUARDED
from brokerwatch.config.reload_plan import Plan as Changes
from brokerwatch.config.reload_plan import plan as changes_between
from brokerwatch.messages import Balance, next_epoch
from brokerwatch.tally import Tally
from tests.support.clusters import Till

if TYPE_CHECKING:
    from tests.simulation.memory import Memory
    from tests.simulation.world import ClusterProcess

RULES: Final = replace(GUARDED, backoff_s=(1.0, 4.0), auth_probes_s=(1.0, 4.0))
SOURCE: Final = Till()
"""It is never asked: the exchange of the world is."""


@dataclass(frozen=True, slots=True)
class Configured:
    """What the configuration of a world says of an account."""

    poll_s: float
    deadline_s: float
    threshold: int
    guarded: bool
    key: int = 0
    """The number of its API key."""
    same_account: bool = False
    """Whether its keys are said to be of one account."""

    def spec(self, name: str) -> BrokerSpec:
        """As the product has it."""
        rules: dict[str, Any] = (
            {"policy": "guarded", "rules": RULES} if self.guarded else {"policy": "simple"}
        )
        return BrokerSpec(
            name,
            fetch=SOURCE,
            poll_interval_s=self.poll_s,
            fetch_deadline_s=self.deadline_s,
            max_consecutive_errors=self.threshold,
            credentials={"api_key": f"key-{self.key}"},
            same_account=self.same_account,
            **rules,
        )


def _never(*_: object) -> None:
    """No ledger is read here."""


class SimulatedLives(Lives):
    """The lives of a cluster, with epochs from the seed."""

    chance: Any

    def _next_epoch(self, predecessor: str) -> str:
        return next_epoch(self._clock.now().wall_us, predecessor, f"{self.chance.getrandbits(32):08x}")


class SimulatedMembers(Members):
    """The members of one process. `of` is the process whose members they are."""

    def __init__(self, of: ClusterProcess, specs: Mapping[str, BrokerSpec], memory: Memory) -> None:
        settings = ClusterSettings(heartbeat_s=of.heartbeat_s, remember=False)
        oracle, state = of.world.oracle, cast("Any", memory)
        super().__init__(specs.values(), {}, settings, state, of.clock, oracle.changed)
        self.of = of
        self.memory = memory
        lives = SimulatedLives(self.specs, self.board, memory.journal, settings, of.clock, of.heartbeat_s)
        lives.chance = of.world.scheduler.random
        self.lives = lives
        self.running = True

    def wire(self) -> None:
        """Put the exchanges of the world behind the actors."""
        self.parts = cast(
            "Any",
            SimpleNamespace(
                board=self.board,
                state=self.memory,
                tally=Tally(),
                alarms=self.of.alarms,
                ask_ledger=_never,
                hold=self._hold,
            ),
        )
        self.wired = Wired(contexts={name: self._context(spec) for name, spec in self.specs.items()})

    def carry_out(self, wanted: Mapping[str, BrokerSpec]) -> tuple[Changes, list[Future[None]]]:
        """Have these accounts from now on. Returns what has changed, and what is done when all know of it."""
        settings = Settings(self.settings, tuple(wanted.values()), {})
        changes = changes_between(self.configured, settings)
        if changes.refused:
            raise AssertionError(f"no world is changed so: {changes.refused}")
        return changes, self._carry_out(changes, settings, {})[0]

    def rekey(self, spec: BrokerSpec, found: Balance | None) -> Future[Any]:
        """Have an account asked with another API key, as `KeyChanges` does once that was verified."""
        self.specs = {**self.specs, spec.name: spec}
        return self.lives.rekey(spec, found, same_account=spec.same_account)

    def forget_handles(self, name: str) -> None:
        """No part of the program holds a handle of this account any more, which left."""
        cast("Any", self.board)._former.pop(name, None)

    def _rewire(self, planned: Changes, accesses: Mapping[str, Any]) -> None:
        del accesses
        kept = {name: each for name, each in self.wired.contexts.items() if name not in planned.removed}
        added = {spec.name: self._context(spec) for spec in planned.added}
        self.wired = Wired(contexts={**kept, **added})

    def follow_all(self) -> None:
        """No part looks at exchanges, keys or loops here."""

    def _context(self, spec: BrokerSpec) -> BrokerContext:
        return BrokerContext(
            source=self.of.world.exchanges[spec.name],
            slot=self.board.slot(spec.name),
            alarms=self.of.alarms,
            clock=self.of.clock,
            heartbeat_s=self.of.heartbeat_s,
            journal=self.memory.journal,
            uniform=self.of.world.scheduler.random.uniform,
            watches=watches_of(spec, self.parts),
        )
