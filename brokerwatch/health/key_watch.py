"""What is known of one API key, and what an operator has to be told of it: a pure fold of statements.

The exchange states what a key may do, until when and from where. A warning begins when a statement, a refusal
or the time gives cause for it, and ends when the cause does. It is news once: the moment at which it began is
stored with it, so that a restart repeats nothing.

What is not stated changes nothing: a warning neither begins nor ends by silence. Nothing here is evidence
about the account.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from typing import Final

import msgspec

from brokerwatch.clock import utc_text
from brokerwatch.messages.key import KeyData, KeyStatement, KeyWarning, KeyWarningData

DAY_US: Final = 86_400_000_000
SAME_END_US: Final = 3_600_000_000
"""Ends that differ by less are one and the same: some exchanges count them from now."""

ENDS: Final[tuple[tuple[KeyWarning, int], ...]] = (
    (KeyWarning.ENDED, 0),
    (KeyWarning.ENDS_IN_1_DAY, 1),
    (KeyWarning.ENDS_IN_7_DAYS, 7),
    (KeyWarning.ENDS_IN_14_DAYS, 14),
)
"""So many days before its end a key gets this warning, in place of the one before; the most urgent first."""

_OF_THE_END: Final = tuple(word for word, _ in ENDS)

ORDER: Final = (
    KeyWarning.CAN_WITHDRAW,
    KeyWarning.ADDRESS_NOT_LISTED,
    KeyWarning.RIGHT_LOST,
    *_OF_THE_END,
)
"""The most urgent first."""


class KeyWatch(msgspec.Struct, frozen=True, kw_only=True):
    """What is known of one key. Each method gives the state that follows. `now_us`: the wall clock, µs."""

    fingerprint: str = ""
    """Which key; empty: nothing was stated yet, of any."""
    statement: KeyStatement | None = None
    """The newest one, with what it left out taken from those before it."""
    checked_us: int = 0
    """When that was."""
    had: tuple[str, ...] = ()
    """The rights that it was ever stated to have, without those that let money out."""
    refusal: str = ""
    """The exchange's own words that it refuses our address; empty: it does not."""
    warned_end_us: int | None = None
    """The end that a warning is about; None: there is no such warning."""
    warnings: tuple[KeyWarningData, ...] = ()

    def stated(self, said: KeyStatement, now_us: int, egress_address: str = "") -> KeyWatch:
        """The exchange has stated this. Another key than before begins anew.

        Args:
            said: what it stated.
            now_us: the wall clock, in µs.
            egress_address: the address that our calls leave from; empty: it is not known.
        """
        if said.fingerprint != self.fingerprint:
            return KeyWatch(fingerprint=said.fingerprint)._stated(said, now_us, egress_address)
        return self._stated(said, now_us, egress_address)

    def _stated(self, said: KeyStatement, now_us: int, egress_address: str) -> KeyWatch:
        before = self.statement
        whole = said if before is None else _completed(said, before)
        had = tuple(sorted({*self.had, *(said.rights or ())}))
        # The question itself came from our address and was answered.
        after = msgspec.structs.replace(
            self, statement=whole, checked_us=now_us, had=had, refusal=""
        )._judged(before, now_us, egress_address)
        return after.at(now_us)

    def _judged(self, before: KeyStatement | None, now_us: int, egress_address: str) -> KeyWatch:
        """The warnings that a new statement begins and ends."""
        whole = self.statement
        assert whole is not None  # noqa: S101 - it was just set
        watch = self
        if whole.withdraw is not None:
            gained = before is not None and before.withdraw is False
            words = "it has gained the right to withdraw" if gained else "it may withdraw"
            watch = watch._with(KeyWarning.CAN_WITHDRAW, words if whole.withdraw else "", now_us)
        if whole.rights is not None:
            lost = sorted(set(self.had) - set(whole.rights))
            words = f"it has lost the right {', '.join(lost)}" if lost else ""
            watch = watch._with(KeyWarning.RIGHT_LOST, words, now_us)
        left_out = bool(egress_address) and is_left_out(egress_address, whole.addresses)
        words = f"our address {egress_address} is not in its list of addresses" if left_out else ""
        return watch._with(KeyWarning.ADDRESS_NOT_LISTED, words, now_us)

    def refused(self, words: str, now_us: int) -> KeyWatch:
        """An ordinary call was refused by the exchange because of the address that it came from."""
        if self.refusal:
            return self
        known = msgspec.structs.replace(self, refusal=words)
        return known._with(
            KeyWarning.ADDRESS_NOT_LISTED, f"the exchange refuses our address: {words}", now_us
        )

    def answered(self, now_us: int) -> KeyWatch:
        """A private call was answered, so the exchange does not refuse our address."""
        if not self.refusal:
            return self
        return msgspec.structs.replace(self, refusal="")._with(KeyWarning.ADDRESS_NOT_LISTED, "", now_us)

    def acknowledged(self) -> KeyWatch:
        """An operator says that the key is as it should be: the rights that it lost are not missed."""
        rights = () if self.statement is None else self.statement.rights or ()
        kept = tuple(each for each in self.warnings if each.word is not KeyWarning.RIGHT_LOST)
        return msgspec.structs.replace(self, had=tuple(sorted(rights)), warnings=kept)

    def at(self, now_us: int) -> KeyWatch:
        """The same at a later moment: the end of the key may be near.

        A wall clock that is set back ends no warning about the same end.
        """
        ends_us = None if self.statement is None else self.statement.expires_us
        word = None if ends_us is None else word_of_end(ends_us, now_us)
        known = next((each for each in self.warnings if each.word in _OF_THE_END), None)
        if known is None and word is None:
            return self
        stands = known is not None and self._is_warned_of(ends_us)
        if known is not None and stands and (word is None or _urgency(word) >= _urgency(known.word)):
            return self
        watch = self if known is None else self._with(known.word, "", now_us)
        if word is None or ends_us is None:
            return msgspec.structs.replace(watch, warned_end_us=None)
        tense = "ended" if word is KeyWarning.ENDED else "ends"
        return msgspec.structs.replace(
            watch._with(word, f"it {tense} at {utc_text(ends_us)}", now_us), warned_end_us=ends_us
        )

    def _is_warned_of(self, ends_us: int | None) -> bool:
        warned_us = self.warned_end_us
        return warned_us is not None and ends_us is not None and abs(ends_us - warned_us) < SAME_END_US

    def _with(self, word: KeyWarning, detail: str, now_us: int) -> KeyWatch:
        """This warning stands with this detail; an empty one ends it. One that stands keeps its beginning."""
        known = next((each for each in self.warnings if each.word is word), None)
        if (known is None and not detail) or (known is not None and known.detail == detail):
            return self
        others = [each for each in self.warnings if each.word is not word]
        if detail:
            since_us = now_us if known is None else known.since_us
            others.append(KeyWarningData(word=word, since_us=since_us, detail=detail))
        others.sort(key=lambda each: _urgency(each.word))
        return msgspec.structs.replace(self, warnings=tuple(others))

    @property
    def data(self) -> KeyData | None:
        """What a reading says of it; None: nothing is known."""
        said = self.statement
        if said is None and not self.warnings:
            return None
        if said is None:
            return KeyData(checked_us=self.checked_us, warnings=self.warnings)
        bound = said.address_bound if said.addresses is None else bool(said.addresses)
        return KeyData(
            checked_us=self.checked_us,
            read=said.read,
            trade=said.trade,
            withdraw=said.withdraw,
            expires_us=said.expires_us,
            never_ends=said.never_ends,
            address_bound=bound,
            warnings=self.warnings,
        )


def news(before: KeyWatch, after: KeyWatch) -> Iterator[KeyWarningData]:
    """The warnings that have begun, each once."""
    known = {(each.word, each.since_us) for each in before.warnings}
    return (each for each in after.warnings if (each.word, each.since_us) not in known)


def ended(before: KeyWatch, after: KeyWatch) -> Iterator[KeyWarningData]:
    """The warnings that have ended."""
    return news(after, before)


def word_of_end(ends_us: int, now_us: int) -> KeyWarning | None:
    """The warning about an end so near; None: it is far."""
    left_us = ends_us - now_us
    return next((word for word, days in ENDS if left_us <= days * DAY_US), None)


def is_left_out(address: str, listed: tuple[str, ...] | None) -> bool:
    """Whether a list of addresses certainly has ours not. An entry that cannot be read may be ours."""
    if not listed:
        return False
    ours = ip_address(address)
    for entry in listed:
        try:
            first, dash, last = (part.strip() for part in entry.partition("-"))
            if dash:
                low, high = ip_address(first), ip_address(last)
                if low.version != ours.version or high.version != ours.version:
                    continue
                if int(low) <= int(ours) <= int(high):
                    return False
            elif ours in ip_network(entry.strip(), strict=False):
                return False
        except ValueError:
            return False
    return True


def _completed(said: KeyStatement, before: KeyStatement) -> KeyStatement:
    """A statement, with what it leaves out as it was stated before."""
    left_out = {
        name: getattr(before, name)
        for name in ("read", "trade", "withdraw", "rights", "addresses", "address_bound")
        if getattr(said, name) is None
    }
    if said.expires_us is None and not said.never_ends:
        left_out |= {"expires_us": before.expires_us, "never_ends": before.never_ends}
    return msgspec.structs.replace(said, **left_out)


def _urgency(word: KeyWarning) -> int:
    return ORDER.index(word) if word in ORDER else len(ORDER)
