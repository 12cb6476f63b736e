"""What HTTP is served from: the readings that are heard, and what an operator may say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from brokerwatch.bus.listener import Listener
from brokerwatch.bus.reception import ReceivedReading
from brokerwatch.clock import Clock
from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.storage.claims import PoolView
from brokerwatch.tally import Tally
from brokerwatch.web.chronicle import Chronicle
from brokerwatch.web.past import Transitions


class Operate(Protocol):
    """Hands an operator's command to the cluster and returns its words. It may wait for some seconds.

    Raises ControlError.
    """

    def __call__(self, verb: str, broker: str, why: str, until_us: int | None) -> str:
        """`hold` or `release` this broker."""
        ...


def nothing_wrong() -> str:
    """The fault of a watcher that has none."""
    return ""


def yes() -> bool:
    """A cluster of this process can always be told something."""
    return True


@dataclass(frozen=True, slots=True)
class View:
    """The sources of everything that is served."""

    settings: HttpSettings
    listener: Listener
    clock: Clock
    operate: Operate | None = None
    """None: no command can be given."""
    reachable: Callable[[], bool] = yes
    """Whether the cluster can be told anything just now."""
    fault: Callable[[], str] = nothing_wrong
    """What is wrong with the watcher itself; empty where nothing is. Exchanges are none of it."""
    chronicle: Chronicle | None = None
    """What was heard before now; None: nothing is written down."""
    transitions: Transitions | None = None
    """The history in the cluster's own store; None: it cannot be read from here."""
    pool: Callable[[], PoolView] | None = None
    """Asks the database what the pool has; it may wait, and raises StoreError. None: there is no pool."""
    tally: Tally | None = None
    """What the cluster's parts counted; None where the cluster is in another process."""

    def heard(self) -> tuple[ReceivedReading, ...]:
        """The newest reading of each account with the newest stamp behind it, in the order of their names.

        Readings of several endpoints or clusters under one name are merged, as the listener merges them.
        """
        found = map(self.listener.received, sorted(self.listener.readings()))
        return tuple(each for each in found if each is not None)

    def of(self, broker: str) -> ReceivedReading | None:
        """The newest reading of one account; None: there is no account of this name."""
        return self.listener.received(broker)

    @property
    def operable(self) -> bool:
        """Whether a reader with the token can hold and release accounts."""
        return bool(self.settings.token) and self.operate is not None and self.reachable()

    def heard_ms(self) -> int | None:
        """How long ago anything was heard; None: never."""
        since_s = self.listener.heard_ago_s()
        return None if since_s is None else round(since_s * 1_000)
