"""Messages about warnings that are no outage: of an API key, and of money that went. Pure.

A warning stands in the reading, with the moment at which it began. The two identify it: it is said once, also
over a restart. A silence mutes it; it is said when the silence ends, if it still stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

from brokerwatch.clock import Instant, local_text
from brokerwatch.log import escaped
from brokerwatch.messages import Reading
from brokerwatch.messages.key import KeyWarning
from brokerwatch.messages.money import MoneyAlarm
from brokerwatch.notify.notices import Kind, Notice, Severity
from brokerwatch.notify.outages import Looked
from brokerwatch.notify.silences import Silence, muted

_ABOUT_KEY: Final[Mapping[KeyWarning, tuple[Severity, str, str]]] = MappingProxyType(
    {
        KeyWarning.CAN_WITHDRAW: (
            Severity.CRITICAL,
            "can withdraw money",
            "If you did not allow that, delete the key at the exchange now.",
        ),
        KeyWarning.ADDRESS_NOT_LISTED: (
            Severity.CRITICAL,
            "is bound to addresses, and ours is not among them",
            "Add our address to the list of the key at the exchange.",
        ),
        KeyWarning.RIGHT_LOST: (
            Severity.WARNING,
            "has lost a right",
            "If that is as it should be: brokerwatch reset {broker}",
        ),
        KeyWarning.ENDED: (
            Severity.CRITICAL,
            "has ended",
            "Make another key, and use that one.",
        ),
        KeyWarning.ENDS_IN_1_DAY: (Severity.WARNING, "ends within a day", "Make another key."),
        KeyWarning.ENDS_IN_7_DAYS: (Severity.WARNING, "ends within 7 days", "Make another key."),
        KeyWarning.ENDS_IN_14_DAYS: (Severity.INFO, "ends within 14 days", "Make another key."),
        KeyWarning.OTHER: (Severity.WARNING, "has a warning that this version does not know", ""),
    }
)


_ABOUT_MONEY: Final[Mapping[MoneyAlarm, tuple[Severity, str]]] = MappingProxyType(
    {
        MoneyAlarm.UNEXPLAINED: (Severity.CRITICAL, "went, and nothing accounts for it"),
        MoneyAlarm.BELOW_FLOOR: (Severity.CRITICAL, "is below its floor"),
        MoneyAlarm.LOSS_RATE: (Severity.CRITICAL, "goes faster than is allowed"),
        MoneyAlarm.OTHER: (Severity.WARNING, "has an alarm that this version does not know"),
    }
)


@dataclass(frozen=True, slots=True)
class Warned:
    """One warning that stands."""

    key: str
    """Identifies it for ever."""
    subject: str
    severity: Severity
    title: str
    body: str


def standing(reading: Reading, *, with_amounts: bool = True) -> Iterator[Warned]:
    """The warnings that stand in a reading. Without `with_amounts` no text of an exchange is in them."""
    for each in () if reading.key is None else reading.key.warnings:
        severity, title, helps = _ABOUT_KEY[each.word]
        subject = f"{reading.broker} key {each.word}"
        lines = (
            f"The API key of {reading.broker} at {reading.exchange} {title}.",
            f"Since {local_text(each.since_us, shows_zone=True)}.",
            escaped(each.detail) if with_amounts else "",
            helps.format(broker=reading.broker),
            "It is no outage: the account is watched as before.",
        )
        yield Warned(
            f"{subject}/{each.since_us}",
            subject,
            severity,
            f"{reading.broker}: its API key {title}",
            "\n".join(filter(None, lines)),
        )
    for alarm in reading.money:
        severity, title = _ABOUT_MONEY[alarm.word]
        subject = f"{reading.broker} money {alarm.word} {alarm.currency}"
        about = (
            f"At {reading.exchange}: {alarm.currency} {title}.",
            f"Since {local_text(alarm.since_us, shows_zone=True)}.",
            escaped(alarm.detail) if with_amounts else "",
            f"Look at the account at the exchange. If you know of it: brokerwatch reset {reading.broker}",
        )
        yield Warned(
            f"{subject}/{alarm.since_us}",
            subject,
            severity,
            f"{reading.broker}: {alarm.currency} {title}",
            "\n".join(filter(None, about)),
        )


def with_warnings(
    found: Looked,
    readings: Iterable[Reading],
    now: Instant,
    silences: Iterable[Silence] = (),
    *,
    with_amounts: bool = True,
) -> Looked:
    """What a look has found, with a notice for each warning that was not said yet."""
    quiet, told, notices = tuple(silences), list[str](), list[Notice]()
    said, heard = frozenset(found.outages.warned), set[str]()
    for reading in readings:
        if not reading.broker_epoch:
            continue  # nothing was heard of it yet, as after a start
        heard.add(reading.broker)
        mute = muted(quiet, reading.broker, reading.exchange, now.wall_us)
        for each in standing(reading, with_amounts=with_amounts):
            if each.key not in said and mute:
                continue
            told.append(each.key)
            if each.key not in said:
                notices.append(
                    Notice(
                        key=each.key,
                        subject=each.subject,
                        kind=Kind.WARNING,
                        severity=each.severity,
                        title=each.title,
                        body=each.body,
                        at_us=now.wall_us,
                    )
                )
        if reading.key is None:
            # Nothing is known of its key, as after a start: what was said before is not said again.
            told += [key for key in said if key.startswith(f"{reading.broker} key ")]
    told += [key for key in said if key.partition(" ")[0] not in heard]
    outages = replace(found.outages, warned=tuple(sorted(set(told))))
    return replace(found, outages=outages, notices=(*found.notices, *notices))
