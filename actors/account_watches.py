"""What a broker's actor watches beside the health of its account: what is stated of its API key.

The rules are in `brokerwatch.health.key_watch`. This is their driver: it logs a warning once, when it begins,
writes it into the history, and says when the reading is to be published again. The health does not change.
"""

from __future__ import annotations

from typing import Final

from brokerwatch.actors.board import Slot
from brokerwatch.clock import Instant
from brokerwatch.health.key_watch import KeyWatch, ended, news
from brokerwatch.health.outcome import FetchOutcome
from brokerwatch.health.watched import NOTHING_WATCHED, Watched
from brokerwatch.log import about, logger
from brokerwatch.messages import Balance, Fault
from brokerwatch.messages.key import KeyStatement
from brokerwatch.storage.journal import Journal

_log: Final = logger(__name__)


class AccountWatches:
    """What is watched of one account. It outlives the actors of the account; one of them uses it at a time.

    Each method returns whether the reading has changed.
    """

    def __init__(self, name: str, slot: Slot, journal: Journal, known: Watched = NOTHING_WATCHED) -> None:
        self._name = name
        self._slot = slot
        self._journal = journal
        self.watched = known
        """What is known now."""

    def recalled(self, known: Watched) -> bool:
        """What was watched before the restart could be read only now."""
        if self.watched != NOTHING_WATCHED:
            return False  # it was stated again meanwhile
        self.watched = known
        return known != NOTHING_WATCHED

    def key_stated(self, said: KeyStatement, egress_address: str, now: Instant) -> bool:
        """The exchange has stated something about the key."""
        return self._take(self.watched.key.stated(said, now.wall_us, egress_address), now)

    def met(self, outcome: FetchOutcome, now: Instant) -> bool:
        """A fetch of the balance has ended: the exchange may have refused our address."""
        key = self.watched.key
        match outcome:
            case Balance():
                return self._take(key.answered(now.wall_us), now)
            case Fault(refuses_address=True):
                return self._take(key.refused(outcome.detail, now.wall_us), now)
            case _:
                return False

    def look(self, now: Instant) -> bool:
        """Time has passed: the end of the key may be near."""
        return self._take(self.watched.key.at(now.wall_us), now)

    def rekeyed(self) -> None:
        """Another key is used from now on, of which nothing is stated yet."""
        self.watched = Watched()

    def reset(self, now: Instant) -> bool:
        """An operator says that the key is as it should be."""
        return self._take(self.watched.key.acknowledged(), now)

    def _take(self, key: KeyWatch, now: Instant) -> bool:
        before = self.watched.key
        if key is before:
            return False
        self.watched = Watched(key=key)
        reading = self._slot.reading
        begun = {each.word for each in news(before, key)}
        for each in key.warnings:
            if each.word in begun:
                said = about(self._name, warning=str(each.word), detail=each.detail)
                _log.warning("%s: its API key: %s", self._name, each.detail, extra=said)
                self._journal.warned("key", "", str(each.word), reading, each.detail, now)
        for each in ended(before, key):
            if each.word not in begun:
                self._journal.warned("key", str(each.word), "", reading, "", now)
        return True
