"""How often an exchange has to answer "nothing here" before an empty balance is believed."""

from __future__ import annotations

from typing import Final

from brokerwatch.messages import Balance

EMPTY_READS: Final = 3
"""So many agreeing answers make an account that held something believably empty …"""


EMPTY_OVER_S: Final = 30.0
"""… if they came over at least so long: the same broken cache gives two quick ones alike."""


UNSTATED_READS: Final = 2
"""So many answers without any account make an account that was never funded, over the same time."""


class EmptyAnswers:
    """Whether an answer without any currency is to be believed.

    An account that held something and now answers with nothing at all was hardly ever emptied to the
    last trace; it is far more often a broken answer in a whole envelope. (A stated zero is another matter:
    it names its currency.) So nothing after something is no proof, until it is steady. And an answer
    that says "no error" and states no account at all is what some never funded accounts get: it is
    believed only where nothing was ever there, and when it comes again.
    """

    def __init__(self) -> None:
        self._since_s = 0.0
        self._reads = 0

    def doubt(self, balance: Balance, last: Balance | None, *, funded: bool) -> str:
        """Take note of an answer, and say why it is not to be believed yet; empty when it is.

        `last` is the last known; `funded`, whether any balance ever held anything.
        """
        emptied = last is not None and bool(last.holdings)
        if balance.holdings or (balance.stated and not emptied):
            self.interrupted()
            return ""
        if not balance.stated and funded:
            self.interrupted()
            return "no error and no result, from an account that held something before"
        asked_s = balance.as_of.up_s
        self._since_s = asked_s if self._reads == 0 else self._since_s
        self._reads += 1
        needed = EMPTY_READS if balance.stated else UNSTATED_READS
        if self._reads >= needed and asked_s - self._since_s >= EMPTY_OVER_S:
            return ""
        found = (
            "no currency at all, and there were some before" if balance.stated else "no error and no result"
        )
        return f"{found}; believed after {needed} such answers over {EMPTY_OVER_S:g} s"

    def interrupted(self) -> None:
        """A fetch failed: answers on both sides of it do not agree."""
        self._reads = 0
