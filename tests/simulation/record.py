"""What the record of a world keeps: the accounts of a process, their lives, and what messages promised."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from brokerwatch.actors.board import Slot
from brokerwatch.clock import LEAP_S
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.health.state_machine import Vetoes
from brokerwatch.messages import Reading, Reason

if TYPE_CHECKING:
    from tests.simulation.world import ClusterProcess, Question

LONG_AGO_S: Final = float("-inf")


@dataclass(eq=False)
class Life:
    """One actor of an account, as the record knows it."""

    name: str
    epoch: str
    cluster: ClusterProcess
    first: bool
    """Whether it may be available without a success: the very first life under `simple`."""
    began_s: float
    errors: int
    leads: tuple[float, float]
    spec: BrokerSpec
    """The configuration that it goes by."""
    looked_s: float
    """When its actor last looked at the clocks, in true time."""
    looked_up_s: float
    """The same in monotonic seconds."""
    hidden: list[tuple[float, float]] = field(default_factory=list[tuple[float, float]])
    """Seconds that passed between two looks and that no clock of its machine shows as a leap, with the moment
    of the second look, in true time."""
    longest_s: float = 0.0
    """For how long its newest success may prove it."""
    questions: int = 0
    question: Question | None = None
    success_s: float = LONG_AGO_S
    """When the newest success was asked for, in true time."""
    doubted_s: float = LONG_AGO_S
    """A success that was asked for before proves nothing."""
    locked_until_s: float = LONG_AGO_S
    """Monotonic seconds."""
    refused: bool = False
    closed: bool = False
    """Maintenance, under `guarded`."""
    tripped: bool = False
    """Whether its errors, or a refusal, made it unavailable since its newest success."""
    recovers: bool = False
    """Whether it was not available when it left the stricter rules, and has not answered since."""

    @property
    def proof_s(self) -> float:
        """When the newest proof began, in true time; long ago without one."""
        newest_s = max(self.success_s, self.began_s if self.first else LONG_AGO_S)
        return newest_s if newest_s >= self.doubted_s else LONG_AGO_S

    @property
    def guarded(self) -> bool:
        """Whether it goes by the stricter rules."""
        return self.spec.policy == "guarded"

    def hidden_since_its_look_s(self, now_s: float) -> float | None:
        """Seconds since its actor's last look that the monotonic clock missed; None: a leap shows them.

        A leap is what a lead shows that has grown. A short sleep is none. Of a pause the wall clock alone can
        tell, and it does not where it was set back since the last look.
        """
        clock = self.cluster.clock
        wall_s, asleep_s = clock.leads()
        if max(wall_s - self.leads[0], asleep_s - self.leads[1]) > LEAP_S:
            return None
        return max(0.0, now_s - self.looked_s - (clock.up_s() - self.looked_up_s))

    def hidden_s(self, now_s: float) -> float:
        """Seconds since its newest proof that passed by no clock that its actor can read."""
        shown = sum(seconds for at_s, seconds in self.hidden if at_s >= self.proof_s)
        return shown + (self.hidden_since_its_look_s(now_s) or 0.0)

    def take(self, spec: BrokerSpec, *, good: bool) -> None:
        """Go on by another configuration. `good`: it was healthy, or degraded, until now."""
        before, self.spec = self.spec, spec
        self.recovers |= before.policy == "guarded" and not self.guarded and not good
        self.longest_s = max(self.longest_s, longest_proof_s(before, self), longest_proof_s(spec, self))
        self.tripped |= self.errors >= spec.max_consecutive_errors
        self.first &= not self.guarded

    def forget(self) -> None:
        """It is another account from now on, of which nothing is known."""
        self.errors, self.success_s, self.locked_until_s = 0, LONG_AGO_S, LONG_AGO_S
        self.first = self.refused = self.closed = self.tripped = False


@dataclass(eq=False)
class Account:
    """One account in one process."""

    name: str
    life: Life | None = None
    last: Life | None = None
    """Its life when it left."""
    number: int | None = None
    """Of the last known answer."""
    as_of_s: float = LONG_AGO_S
    """When that was asked for, by the monotonic clock."""
    errors: int = 0
    order: tuple[str, int] = ("", -1)
    held: bool = False
    held_until_s: float = float("inf")
    """Monotonic seconds."""
    births_s: list[float] = field(default_factory=list[float])
    lived: bool = False
    """Whether it has had an actor in this process."""
    failed: bool = False
    replaced: bool = False
    checked: Reading | None = None
    slot: Slot | None = None
    joined: bool = False
    """Whether it came with a reload, and not with the start of the process."""
    left_s: float | None = None
    """When it left, in true time."""
    key: Mapping[str, str] = field(default_factory=dict[str, str])
    """The API key that its newest life goes by."""
    keys_given: list[bool] = field(default_factory=list[bool])
    """Of the keys that its newest life has not taken up yet, whether each is of the same account."""
    knows: bool = False
    """Whether it is recorded which answer is the last known: in this process it had an actor."""
    epochs: set[str] = field(default_factory=set[str])
    """Of its lives since it belongs to the cluster."""

    @property
    def timed(self) -> bool:
        """Whether its hold ends by itself."""
        return self.held_until_s < float("inf")

    def is_held(self, cluster: ClusterProcess) -> bool:
        """Whether a hold is in force."""
        return self.held and cluster.clock.up_s() < self.held_until_s

    def begin(self, slot: Slot, spec: BrokerSpec, *, joined: bool) -> None:
        """It belongs to a cluster from now on."""
        self.slot, self.joined, self.key, self.knows = slot, joined, spec.credentials, True
        self.left_s, self.life, self.order, self.checked = None, None, ("", -1), None
        self.lived = self.failed = self.replaced = False
        self.births_s, self.epochs, self.keys_given = [], set(), []

    def take_hold(self, vetoes: Vetoes) -> None:
        """It begins with these vetoes."""
        veto = vetoes.laid.get(Reason.HELD_OUT)
        self.held = veto is not None
        self.held_until_s = float("inf") if veto is None or veto.until is None else veto.until.up_s


@dataclass
class Promise:
    """What a message of the health topic may make a listener believe, in true time."""

    available: bool
    sent_s: float
    proven_until_s: float
    order: tuple[str, int]


def longest_proof_s(spec: BrokerSpec, life: Life) -> float:
    """For how long a success may prove an account by this configuration."""
    world = life.cluster.world
    interval_s = max(spec.poll_interval_s, world.plan.longest_wait_s, spec.fetch_deadline_s)
    wait_s = interval_s + world.exchanges[life.name].longest_wait_s
    return spec.max_consecutive_errors * wait_s + spec.fetch_deadline_s + life.cluster.heartbeat_s


def number_in(holdings: Mapping[str, Any]) -> int:
    return int(holdings["USD"].total)
