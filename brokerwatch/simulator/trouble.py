"""The faults that a test has set on an exchange: which calls meet them, how often, and whether they act."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from brokerwatch.simulator.connections import Broken
from brokerwatch.simulator.faults import HEALTHY, Answer


@dataclass(frozen=True, slots=True)
class Trouble:
    """What one call meets: a fault by its name, or an answer by its bytes, or neither."""

    fault: str = HEALTHY
    answer: Answer | Broken | None = None
    # None: no word about when to come back.
    retry_after_s: float | None = None
    retry_after_as_date: bool = False
    # The call is carried out, and only its answer is lost. Otherwise it changes nothing.
    executed: bool = False
    # The call is carried out only when `deliver_late` is called, and has no answer before.
    late: bool = False


NO_TROUBLE = Trouble()


@dataclass(frozen=True, slots=True)
class Scope:
    """Which calls meet a trouble. None is all of them."""

    account: str | None = None
    path: str | None = None
    page: int | None = None

    def covers(self, key: str | None, paths: Collection[str], page: int) -> bool:
        """Whether a call meets it: `paths` are its own and the one in the table of routes."""
        return (
            self.account in (None, key)
            and (self.path is None or self.path in paths)
            and self.page in (None, page)
        )

    @property
    def narrowness(self) -> tuple[bool, bool, bool]:
        """Compares greater the more a scope says; the account counts most."""
        return (self.account is not None, self.path is not None, self.page is not None)


@dataclass(slots=True)
class Setting:
    """A trouble that a test has set, and the number of calls that will still meet it."""

    trouble: Trouble
    calls_left: int | None
    public: bool

    def take(self) -> Trouble:
        """The trouble of one call; none once it is used up."""
        if self.calls_left is None:
            return self.trouble
        if self.calls_left == 0:
            return NO_TROUBLE
        self.calls_left -= 1
        return self.trouble
