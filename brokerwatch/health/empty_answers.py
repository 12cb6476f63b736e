"""How often an exchange has to answer "nothing here" before an empty balance is believed."""

from __future__ import annotations

from typing import Final

from brokerwatch.messages import Balance

EMPTY_READS: Final = 3
"""So many empty answers in a row prove that an account that held something is empty now …"""
EMPTY_OVER_S: Final = 30.0
"""… if at least so many seconds lie between the first and the last: a broken cache gives equal answers
quickly."""
UNSTATED_READS: Final = 2
"""So many answers that name no account, over the same time, prove an account that was never funded."""


class EmptyAnswers:
    """Decides when an answer without any currency is believed. Pure but for its own count; one per account.

    An account that held something and answers without any currency is rarely empty. Far more often the answer
    is broken inside a sound envelope. (A stated zero is different: it names its currency.) So an empty answer
    after a balance is no proof until it is steady. Some accounts that were never funded get an answer with
    "no error" and no account at all. It is believed only if the account never held anything, and only when it
    comes again.
    """

    def __init__(self) -> None:
        self._since_s = 0.0
        self._reads = 0

    def doubt(self, balance: Balance, last: Balance | None, *, funded: bool) -> str:
        """Count an answer. Returns why it is not believed yet; empty when it is.

        `last` is the last known balance. `funded` says whether any balance ever held anything.
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
        """A fetch failed: the answers before it do not count with those after it."""
        self._reads = 0
