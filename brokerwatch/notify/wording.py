"""The words of messages to people: what, since when, why, and what helps. Pure.

A message says in its title what cannot be used, and in its body the rest, one fact a line. Amounts have their
unit and their age.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from functools import reduce
from types import MappingProxyType
from typing import Final

from brokerwatch.clock import Instant, local_text
from brokerwatch.health.plain_words import rounded
from brokerwatch.log import escaped
from brokerwatch.messages import FaultKind, Reason
from brokerwatch.money import EXACT
from brokerwatch.notify.notices import Severity
from brokerwatch.notify.observations import Observation

MAX_DETAIL: Final = 200
MAX_NAMES: Final = 20
"""So many accounts are named; of more the number is said."""

MOST_TOGETHER: Final = 40
"""So many messages are listed in one."""

NEEDS_A_PERSON: Final = frozenset({Reason.AUTH, Reason.FAILED, Reason.CONFIG})
"""The reasons that no time ends."""

_WHY: Final[Mapping[Reason, str]] = MappingProxyType(
    {
        Reason.ERRORS: "too many errors in a row",
        Reason.NEVER_SEEN: "it has not answered since the start",
        Reason.SILENT: "the part of brokerwatch that watches it is silent",
        Reason.RESTARTING: "the part of brokerwatch that watches it is started again",
        Reason.FAILED: "the part of brokerwatch that watches it has failed for good",
        Reason.HELD_OUT: "an operator holds it out",
        Reason.LOCKED_OUT: "the exchange has locked the API key out",
        Reason.AUTH: "the exchange refuses the API key",
        Reason.MAINTENANCE: "the exchange is in maintenance",
        Reason.RECOVERING: "it has answered, and has to prove itself again",
        Reason.BLIND: "brokerwatch hears none of its own parts",
        Reason.LOCAL_NETWORK: "no exchange can be reached: our own line",
        Reason.SHUTDOWN: "the cluster was stopped",
        Reason.NOTHING_HEARD: "nothing is heard from the cluster",
        Reason.CONFIG: "its configuration cannot be used",
        Reason.UNPROVEN: "its newest success is too old to prove anything",
        Reason.LOOP: "the event loop that asks the exchange hangs",
        Reason.CLAIM: "this node does not hold the pool's claim of its key",
        Reason.OTHER: "for a reason that this version does not know",
    }
)
_FAULT: Final[Mapping[FaultKind, str]] = MappingProxyType(
    {
        FaultKind.NETWORK: "the exchange cannot be reached",
        FaultKind.EXCHANGE_DOWN: "the exchange fails",
        FaultKind.MAINTENANCE: "the exchange is in maintenance",
        FaultKind.RATE_LIMITED: "the exchange refuses more requests",
        FaultKind.AUTH: "the exchange refuses the API key",
        FaultKind.PERMISSION: "the API key may not do this",
        FaultKind.NONCE_CLOCK: "the exchange objects to the time or the nonce",
        FaultKind.BAD_RESPONSE: "the answers prove no balance",
        FaultKind.CLIENT_BUG: "the request itself is wrong",
        FaultKind.BLOCKED: "the exchange blocks this address",
    }
)
_HELPS: Final[Mapping[Reason, str]] = MappingProxyType(
    {
        Reason.ERRORS: "it is asked again by itself; look at the exchange's status page if it lasts",
        Reason.NEVER_SEEN: "brokerwatch doctor says what is wrong",
        Reason.SILENT: "it is started again by itself",
        Reason.RESTARTING: "it is started again by itself",
        Reason.FAILED: "mend the cause, then: brokerwatch reset {broker}",
        Reason.LOCKED_OUT: "it ends by itself; look for another program that uses the same key",
        Reason.AUTH: "check the key at the exchange, then: brokerwatch reset {broker}",
        Reason.MAINTENANCE: "it is asked again by itself",
        Reason.RECOVERING: "it is asked again by itself",
        Reason.BLIND: "if it stays so, start brokerwatch again",
        Reason.NOTHING_HEARD: "look whether the cluster runs, and whether it can be reached",
        Reason.SHUTDOWN: "start it again: brokerwatch run",
        Reason.CONFIG: "brokerwatch doctor says what is wrong",
        Reason.UNPROVEN: "it is asked again by itself",
        Reason.LOOP: "another event loop takes its place by itself",
        Reason.CLAIM: "another node takes it over; if none does, look whether the pool's database answers",
    }
)
_FAULT_HELPS: Final[Mapping[FaultKind, str]] = MappingProxyType(
    {
        FaultKind.AUTH: "check the key at the exchange",
        FaultKind.PERMISSION: "give the key the right to read balances at the exchange",
        FaultKind.NONCE_CLOCK: "check this machine's clock, and that no other program uses the same key",
        FaultKind.RATE_LIMITED: "look for another program that uses the same key or address",
        FaultKind.BLOCKED: "check from which address and country the exchange is asked",
    }
)


def span(seconds: float) -> str:
    """A duration for people: `12 s`, `5 min`, `3 h 20 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 100:
        return f"{whole} s"
    if whole < 6_000:
        return f"{round(whole / 60)} min"
    hours, minutes = divmod(round(whole / 60), 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def when(wall_us: int) -> str:
    """A moment for people, by the clock of this machine, with its zone."""
    return local_text(wall_us, shows_zone=True)


def names(brokers: Iterable[str]) -> str:
    """The accounts by name; of many the first ones and how many more there are."""
    listed = list(brokers)
    shown = ", ".join(listed[:MAX_NAMES])
    return shown if len(listed) <= MAX_NAMES else f"{shown} and {len(listed) - MAX_NAMES} more"


def why(seen: Observation) -> str:
    """Why an account is not available, in words."""
    if seen.of_orders:
        return f"the exchange takes no market orders ({escaped(seen.trade_reason)})"
    if seen.reason in (Reason.ERRORS, Reason.UNPROVEN, Reason.NEVER_SEEN) and seen.fault is not None:
        return (
            f"{_FAULT.get(seen.fault, 'the newest fetch failed')} ({seen.fault}, {seen.error_count} in a row)"
        )
    return f"{_WHY.get(seen.reason, str(seen.reason))} ({seen.reason})"


def helps(seen: Observation) -> str:
    """What helps, in words; empty where nothing is known to."""
    if seen.of_orders:
        return "orders are possible again when the exchange says so, or when one is accepted"
    if seen.reason is Reason.ERRORS and seen.fault is not None and seen.fault in _FAULT_HELPS:
        return _FAULT_HELPS[seen.fault]
    return _HELPS.get(seen.reason, "").format(broker=seen.broker)


def severity_of(out: Observation, everything: Mapping[str, Observation]) -> Severity:
    """How urgent the outage of one account is: by what cannot be traded."""
    others = (seen.can_trade for seen in everything.values() if seen.broker != out.broker)
    needs_a_person = out.reason in NEEDS_A_PERSON or out.fault in (FaultKind.AUTH, FaultKind.PERMISSION)
    if not any(others) or (needs_a_person and not out.of_orders):
        return Severity.CRITICAL
    return Severity.WARNING


def money(seen: Observation, now: Instant) -> str:
    """The cash of an account as last known, with unit and age; empty where it is not known."""
    if not seen.cash or seen.as_of is None:
        return ""
    age_s = now.up_s - seen.as_of.up_s
    return f"{f'{seen.cash} {seen.cash_unit}'.strip()}, as of {span(age_s)} before this message"


def out_of_reach(everything: Mapping[str, Observation], now: Instant) -> str:
    """How much cash of all lies where nothing can be traded, by unit, as last known; empty where it is not
    known."""
    known = [each for each in everything.values() if each.amount is not None and each.as_of is not None]
    parts: list[str] = []
    for unit in sorted({each.cash_unit for each in known}):
        of_unit = [each for each in known if each.cash_unit == unit]
        every = _sum(of_unit)
        out = _sum(each for each in of_unit if not each.can_trade)
        if out:
            parts.append(f"{rounded(out)} of {rounded(every)} {unit}".rstrip())
    if not parts:
        return ""
    oldest_s = max(now.up_s - each.as_of.up_s for each in known if each.as_of is not None)
    return f"Cash that cannot be traded: {', '.join(parts)}, as last known up to {span(oldest_s)} ago."


def _sum(accounts: Iterable[Observation]) -> Decimal:
    return reduce(EXACT.add, (each.amount for each in accounts if each.amount is not None), Decimal(0))


def named(seen: Observation) -> str:
    """The account, its exchange, and whether that is a simulator."""
    return f"{seen.broker} ({seen.exchange}{', simulated' if seen.simulated else ''})"


def outage_text(
    out: Observation, since: Instant, everything: Mapping[str, Observation], now: Instant
) -> tuple[str, str]:
    """The title and the body of the message about an outage."""
    verb = "takes no market orders" if out.of_orders else "is not available"
    title = f"{out.broker} {verb}: {_short(out)}"
    lasted = span(now.up_s - since.up_s)
    lines = [
        f"What: {named(out)} {verb}.",
        f"Since: {when(since.wall_us)}, {lasted} before this message.",
        f"Why: {why(out)}.",
        _detail(out),
        _listed("Helps", helps(out)),
        _listed("Last known cash there", money(out, now)),
        *_tradable(everything),
        out_of_reach(everything, now),
    ]
    return title, "\n".join(line for line in lines if line)


def recovery_text(back: Observation, since: Instant, ended: Instant, now: Instant) -> tuple[str, str]:
    """The title and the body of the message about the end of an outage."""
    lasted = span(ended.up_s - since.up_s)
    verb = "takes orders again" if back.of_orders else "is available again"
    lines = [
        f"What: {named(back)} {verb}.",
        f"It was not from {when(since.wall_us)} to {when(ended.wall_us)}, {lasted}.",
        _listed("Cash there", money(back, now)),
    ]
    return f"{back.broker} {verb} after {lasted}", "\n".join(line for line in lines if line)


def flapping_text(
    seen: Observation, outages: int, since: Instant, digest_s: float, window_s: float, now: Instant
) -> tuple[str, str]:
    """The title and the body of the message that an account flaps."""
    lines = [
        f"What: {named(seen)} was out {outages} times in {span(now.up_s - since.up_s)}, "
        f"since {when(since.wall_us)}.",
        f"Now: {state(seen)}.",
        _detail(seen),
        f"From now on there are no single messages about it: one digest each {span(digest_s)} while it goes "
        f"on, and one message when nothing has changed for {span(window_s)}.",
    ]
    return f"{seen.subject} flaps: out {outages} times in {span(now.up_s - since.up_s)}", _joined(lines)


def digest_text(
    seen: Observation, outages: int, all_outages: int, down_s: float, since: Instant
) -> tuple[str, str]:
    """The title and the body of a digest of an account that flaps."""
    lines = [
        f"What: {named(seen)} was out {outages} more times since the last message about it.",
        f"In all: {all_outages} outages since {when(since.wall_us)}, {span(down_s)} not available.",
        f"Now: {state(seen)}.",
        _detail(seen),
    ]
    return f"{seen.subject} still flaps: {outages} more outages", _joined(lines)


def steady_text(
    seen: Observation, outages: int, down_s: float, since: Instant, changed: Instant, now: Instant
) -> tuple[str, str]:
    """The title and the body of the message that an account flaps no more."""
    lines = [
        f"What: {named(seen)} has not changed for {span(now.up_s - changed.up_s)}.",
        f"Now: {state(seen)}, since {when(changed.wall_us)}.",
        f"In all: {outages} outages since {when(since.wall_us)}, {span(down_s)} not available.",
        _detail(seen) if not seen.ok else "",
    ]
    return f"{seen.subject} flaps no more: {'available' if seen.ok else _verb(seen)}", _joined(lines)


def line_text(since: Instant, ended: Instant, behind: Iterable[str]) -> tuple[str, str]:
    """The title and the body of the message that our own line was down."""
    lasted, listed = span(ended.up_s - since.up_s), sorted(behind)
    lines = [
        "What: this machine could reach no exchange. Its own line was down, not the exchanges.",
        f"From {when(since.wall_us)} to {when(ended.wall_us)}, {lasted}.",
        f"Behind it: {names(listed)}. There is no message about each." if listed else "",
        "Helps: check the line, the router and the name servers of this machine.",
    ]
    return f"our own line was down for {lasted}", _joined(lines)


def own_text(reason: Reason, since: Instant, behind: Iterable[str], now: Instant) -> tuple[str, str]:
    """The title and the body of a message about the watcher itself."""
    words, listed = _WHY[reason], sorted(behind)
    lines = [
        f"What: {words}. None of its accounts is watched.",
        f"Since: {when(since.wall_us)}, {span(now.up_s - since.up_s)} before this message.",
        f"Accounts: {names(listed)}." if listed else "",
        _listed("Helps", _HELPS.get(reason, "")),
    ]
    return words, _joined(lines)


def own_over_text(reason: Reason, since: Instant, now: Instant) -> tuple[str, str]:
    """The title and the body of the message that the watcher watches again."""
    lasted = span(now.up_s - since.up_s)
    lines = [
        "What: the accounts are watched again.",
        f"Before that: {_WHY[reason]}, from {when(since.wall_us)} to {when(now.wall_us)}, {lasted}.",
    ]
    return f"the accounts are watched again after {lasted}", _joined(lines)


def together_text(messages: Iterable[tuple[int, Severity, str]]) -> tuple[str, str]:
    """The title and the body of many messages that are sent as one.

    Args:
        messages: when each was made (wall clock, µs), its severity and its title.
    """
    listed = list(messages)
    shown = [f"{when(at_us)} {severity}: {title}" for at_us, severity, title in listed[:MOST_TOGETHER]]
    more = f"and {len(listed) - MOST_TOGETHER} more" if len(listed) > MOST_TOGETHER else ""
    lines = [*shown, more, "Helps: brokerwatch status shows how each account is now."]
    return f"{len(listed)} messages at once: {listed[0][2]}, …", _joined(lines)


def state(seen: Observation) -> str:
    """How an account is, in a few words."""
    return "available" if seen.ok else f"{_verb(seen)}, {why(seen)}"


def _verb(seen: Observation) -> str:
    return "no market orders" if seen.of_orders else "not available"


def _short(seen: Observation) -> str:
    if seen.of_orders:
        return escaped(seen.trade_reason)
    if seen.reason is Reason.ERRORS and seen.fault is not None:
        return f"{seen.reason}, {seen.fault}"
    return str(seen.reason)


def _detail(seen: Observation) -> str:
    words = " ".join(seen.detail.split())
    return _listed("Details", words if len(words) <= MAX_DETAIL else f"{words[: MAX_DETAIL - 1]}…")


def _listed(what: str, words: str) -> str:
    return f"{what}: {escaped(words.rstrip('.'))}." if words else ""


def _joined(lines: Iterable[str]) -> str:
    return "\n".join(line for line in lines if line)


def _tradable(everything: Mapping[str, Observation]) -> list[str]:
    can = sorted(seen.broker for seen in everything.values() if seen.can_trade)
    cannot = sorted(seen.broker for seen in everything.values() if not seen.can_trade)
    return [
        f"Cannot be traded: {names(cannot)}." if cannot else "",
        f"Can be traded: {names(can) or 'nothing'}.",
    ]
