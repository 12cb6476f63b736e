"""What `brokerwatch doctor` makes of what it saw: one line for each thing, and what to do about it.

A line is ok only if what it says was seen. What could not be looked at because of something else is a
skip, and names it; what cannot be known at all is a warning. No line holds a secret.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

from brokerwatch.config.balance_params import shown
from brokerwatch.config.broker_spec import BrokerSpec, Origin
from brokerwatch.errors import Problem
from brokerwatch.exchanges.order_traits import Shortcoming
from brokerwatch.health.plain_words import plain_detail
from brokerwatch.messages import Fault, FaultKind
from brokerwatch.messages.trading import Status, StatusWord
from brokerwatch.preflight.policy_words import policy_words
from brokerwatch.verification.account_findings import SKEW_FAILS_MS, SKEW_WARNS_MS

LEAST_ROOM_BYTES: Final = 100 * 1_000_000
"""A disk with less is soon full."""
FILES_A_BROKER: Final = 4
FILES_BESIDE: Final = 256
"""Connections, locks and files that a cluster may have open at once: so many for each account, and these."""
ARROW: Final = " -> "


class LineOutcome(StrEnum):
    """How one look ended."""

    OK = "ok"
    WARN = "warn"
    """It works, and an operator should know something."""
    FAIL = "fail"
    """It would not work."""
    SKIP = "skip"
    """Not looked at, because of something that another line tells."""


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at."""

    outcome: LineOutcome
    subject: str
    """What it is about: `broker NAME`, `exchange ID`, `store`, …"""
    check: str
    """What was looked at there."""
    evidence: str
    advice: str = ""
    """What to do; empty where all is well."""


def ok(subject: str, check: str, evidence: str) -> Line:
    """As it should be."""
    return Line(LineOutcome.OK, subject, check, evidence)


def warn(subject: str, check: str, evidence: str, advice: str) -> Line:
    """It works, with a remark."""
    return Line(LineOutcome.WARN, subject, check, evidence, advice)


def fail(subject: str, check: str, evidence: str, advice: str) -> Line:
    """It would not work."""
    return Line(LineOutcome.FAIL, subject, check, evidence, advice)


def skip(subject: str, check: str, because: str, advice: str) -> Line:
    """Not looked at."""
    return Line(LineOutcome.SKIP, subject, check, f"not looked at: {because}", advice)


# --- how it is written ----------------------------------------------------------------------------


def written(line: Line, width: int) -> str:
    """The line for people; `width` is that of the widest subject."""
    word = "FAIL" if line.outcome is LineOutcome.FAIL else str(line.outcome)
    text = f"{word:<4}  {line.subject:<{width}}  {line.check}: {plain_detail(line.evidence)}"
    return _plain(text + (f"{ARROW}{line.advice}" if line.advice else ""), keeps_spaces=True)


def written_json(line: Line) -> str:
    """The line as a JSON object."""
    return json.dumps({key: _plain(str(value)) for key, value in asdict(line).items()}, ensure_ascii=False)


def count(lines: Iterable[Line]) -> str:
    """The last line: how many ended how."""
    counts = Counter(line.outcome for line in lines)
    warnings, failures = counts[LineOutcome.WARN], counts[LineOutcome.FAIL]
    skipped = f", {counts[LineOutcome.SKIP]} skipped" if counts[LineOutcome.SKIP] else ""
    return (
        f"{counts[LineOutcome.OK]} ok, {warnings} warning{'' if warnings == 1 else 's'}, "
        f"{failures} failure{'' if failures == 1 else 's'}{skipped}"
    )


def _plain(text: str, *, keeps_spaces: bool = False) -> str:
    """One line of printable characters, whatever was quoted in it."""
    shown = "".join(char if char.isprintable() else " " for char in text)
    return shown.rstrip() if keeps_spaces else " ".join(shown.split())


# --- the configuration ----------------------------------------------------------------------------

_MENDING: Final = (
    ("which is not set", "set it where the cluster is started"),
    ("chmod 600", "chmod 600 it"),
    ("expected a readable file", "put the secret there, readable for this user, or name another file"),
    ("which is empty", "write the secret into it"),
    ("PEM private key", "put the whole key there"),
    ("ccxt knows no exchange", "write the id that ccxt has for it"),
)
"""What to do about a problem, by a word of its sentence."""


def problem(found: Problem) -> Line:
    """A problem of the configuration."""
    advice = next(
        (todo for word, todo in _MENDING if word in found.expected),
        f"correct it in {found.where or 'the configuration'}",
    )
    line = f"line {found.line}: " if found.line else ""
    evidence = line + found.expected.removesuffix(f"; {advice}")
    return fail("configuration", found.key or "file", evidence, advice)


# --- a broker -------------------------------------------------------------------------------------


def credentials(spec: BrokerSpec, unsigned: str | None) -> Line:
    """Whether the keys are there and whole. `unsigned`: why no request can be signed with them; None: not
    tried."""
    subject = f"broker {spec.name}"
    given = _from_where(spec.credentials, spec.origins)
    if not given:
        return ok(subject, "keys present", f"{spec.exchange} needs none")
    if unsigned:
        return fail(
            subject,
            "keys present",
            f"{given}, and no request can be signed: {unsigned}",
            "put the whole secret there",
        )
    statement = "; a request can be signed with them" if unsigned is not None else ""
    which = f"; the account read with {shown(spec.balance_params)}" if spec.balance_params else ""
    return ok(subject, "keys present", f"{given}{statement}{which}")


def _from_where(names: Iterable[str], origins: Mapping[str, Origin]) -> str:
    """`api_key from $A, secret from $B`; names of one place together."""
    places: dict[str, list[str]] = {}
    for name in names:
        places.setdefault(str(origins[name]) if name in origins else "a program", []).append(name)
    return ", ".join(f"{' and '.join(given)} from {place}" for place, given in places.items())


def key_file(spec: BrokerSpec, path: str, remark: str, *, unusable: bool) -> Line:
    """Who else may read a key file; `remark` as of `credentials.secret_file_remark`."""
    subject, check = f"broker {spec.name}", "key file"
    if not remark:
        return ok(subject, check, f"{path} is for its owner alone")
    evidence, _, todo = remark.partition("; ")
    return (fail if unusable else warn)(subject, check, f"{path} {evidence}", todo or "chmod 600 it")


def key_use(spec: BrokerSpec, shared_with: str, used_by: str, own_cluster: str) -> Line:
    """Who else uses the key: a broker of this configuration that stands before it, a process of this machine.

    `own_cluster` is the process that runs this configuration's cluster, in words; empty: none does.
    """
    subject, check = f"broker {spec.name}", "key used by"
    if shared_with:
        return warn(
            subject, check, f"{shared_with} here too: one account, and one lane",
            "leave one of them out, or give each a key of its own",
        )  # fmt: skip
    if used_by and used_by == own_cluster:
        return ok(subject, check, f"the running cluster of this configuration ({used_by})")
    if used_by:
        return warn(
            subject, check, f"{used_by} on this machine, so nonces and rate limits will collide",
            "stop that one, or give each a key of its own",
        )  # fmt: skip
    return ok(subject, check, "no other process on this machine")


def trading(spec: BrokerSpec, *, verified: bool, shortcomings: Sequence[Shortcoming] = ()) -> Line:
    """Whether orders may be placed. `verified`: entries need a report of `brokerwatch verify`.

    `shortcomings`: what cannot be done with orders at the exchange.
    """
    subject, check = f"broker {spec.name}", "trading"
    if not spec.trading:
        return ok(subject, check, "off: orders are refused")
    lacking = "; ".join(each.text for each in shortcomings)
    if any(each.forbids for each in shortcomings):
        return fail(subject, check, f"on, and {lacking}", "set trading = false, or mend what it says")
    policy = policy_words(spec)
    remarks = [(lacking, "place orders there as this says")] if lacking else []
    if spec.slowest_poll_s == float("inf") and spec.max_proof_age_s is None:
        remarks.append(
            (
                "the account is not polled: it stays available with no answer behind it",
                "set poll_interval_s, or max_proof_age_s",
            )
        )
    remarks.append((policy.text, policy.advice))
    evidence = f"on; {'; '.join(remark for remark, _ in remarks)}"
    if advice := "; ".join(todo for _, todo in remarks if todo):
        return warn(subject, check, evidence, advice)
    gate = "; entries need a passing `brokerwatch verify`" if verified else ""
    return ok(subject, check, f"{evidence}{gate}")


# --- this machine ---------------------------------------------------------------------------------


def room(where: str, free_bytes: int) -> Line:
    """Whether the disk of the state folder has room."""
    evidence = f"{free_bytes / 1_000_000:,.0f} MB are free on the disk of {where}"
    if free_bytes < LEAST_ROOM_BYTES:
        return warn("state folder", "room", evidence, "make room, or set another `state` under [cluster]")
    return ok("state folder", "room", evidence)


def open_files(soft: int | None, brokers: int) -> Line:
    """Whether a cluster may open what it needs; `soft` is the limit, None: there is none."""
    needed = FILES_A_BROKER * brokers + FILES_BESIDE
    if soft is not None and soft < needed:
        return warn(
            "open files", "limit", f"{soft}, and {brokers} brokers may need {needed}",
            f"raise it: ulimit -n {needed}, or LimitNOFILE={needed} in the systemd unit",
        )  # fmt: skip
    return ok("open files", "limit", "none" if soft is None else f"{soft}, and {needed} are enough")


# --- an exchange ----------------------------------------------------------------------------------

_ASK_AGAIN: Final = "wait, and look again"
_REACHING: Final[Mapping[FaultKind, str]] = {
    FaultKind.NETWORK: "check this machine's network, name server and firewall; is the exchange up?",
    FaultKind.EXCHANGE_DOWN: "look at the exchange's status page; if it is well, something stands in between",
    FaultKind.BLOCKED: "the exchange or its firewall does not serve this address: use one that it serves",
    FaultKind.BAD_RESPONSE: "look for a proxy or a login page that answers in its place",
    FaultKind.CLIENT_BUG: "check certificates, proxies and the broker's [ccxt] options",
    FaultKind.RATE_LIMITED: _ASK_AGAIN,
    FaultKind.MAINTENANCE: _ASK_AGAIN,
}
_HEARD: Final = frozenset(
    (
        FaultKind.MAINTENANCE,
        FaultKind.RATE_LIMITED,
        FaultKind.NONCE_CLOCK,
        FaultKind.AUTH,
        FaultKind.PERMISSION,
    )
)
"""Faults that are an answer of the exchange itself: it was reached."""


@dataclass(frozen=True, slots=True)
class ExchangeFacts:
    """What one exchange answered to public questions. A fault in place of an answer; None: it has no such."""

    name: str
    """The ccxt id, and the address where it is not the exchange's own."""
    skew_ms: float | Fault | None
    """How far its clock is ahead of ours at the least; see `findings.skew_ms`."""
    took_ms: float
    """How long that question took."""
    status: Status | Fault | None
    markets: int | Fault | None = None
    """How many markets it lists; asked where it has no clock and no word about itself."""
    unused_proxies: tuple[str, ...] = ()
    """The variables that name a proxy which the account is not configured to take."""


def exchange(facts: ExchangeFacts) -> tuple[Line, ...]:
    """Whether it can be reached, whether the clocks agree, and what it says of itself."""
    subject = f"exchange {facts.name}"
    answers = [facts.skew_ms, facts.status, facts.markets]
    faults = [answer for answer in answers if isinstance(answer, Fault)]
    answered = any(answer is not None and not isinstance(answer, Fault) for answer in answers)
    if not answered and not any(fault.kind in _HEARD for fault in faults):
        fault = faults[0] if faults else Fault(FaultKind.NETWORK, "it was not asked")
        because, first = "it was not reached", "mend that first"
        advice = _REACHING.get(fault.kind, _ASK_AGAIN)
        if facts.unused_proxies and fault.kind is FaultKind.NETWORK:
            variables = " and ".join(facts.unused_proxies)
            advice = f"the proxy of {variables} is not taken: set aiohttp_trust_env under [ccxt]; or {advice}"
        return (
            fail(subject, "reachable", f"{fault.kind}: {fault.detail}", advice),
            skip(subject, "clock", because, first),
            skip(subject, "status", because, first),
        )
    return (
        _reached(subject, facts, faults, answered=answered),
        _clock(subject, facts),
        _status(subject, facts),
    )


def _reached(subject: str, facts: ExchangeFacts, faults: list[Fault], *, answered: bool) -> Line:
    limited = [fault for fault in faults if fault.kind is FaultKind.RATE_LIMITED]
    if limited and not answered:
        return warn(subject, "reachable", f"{limited[0].kind}: {limited[0].detail}", _ASK_AGAIN)
    if isinstance(facts.skew_ms, float):
        return ok(subject, "reachable", f"answered in {facts.took_ms:.0f} ms")
    if isinstance(facts.markets, int):
        return ok(subject, "reachable", f"it lists {facts.markets} markets")
    return ok(subject, "reachable", "it answers")


def _clock(subject: str, facts: ExchangeFacts) -> Line:
    skew = facts.skew_ms
    if skew is None:
        return warn(
            subject, "clock", "it has none that can be asked, so this machine's is not compared",
            "see that NTP sets this machine's clock",
        )  # fmt: skip
    if isinstance(skew, Fault):
        if skew.kind in (FaultKind.MAINTENANCE, FaultKind.RATE_LIMITED):
            return skip(subject, "clock", f"{skew.kind}", _ASK_AGAIN)
        return fail(
            subject,
            "clock",
            f"not answered: {skew.kind}: {skew.detail}",
            _REACHING.get(skew.kind, _ASK_AGAIN),
        )
    side = "ahead of" if skew < 0 else "behind"
    evidence = f"this machine's is {abs(skew) / 1_000:.1f} s {side} the exchange's"
    if not abs(skew) <= SKEW_FAILS_MS:  # what is no number is not in order
        return fail(subject, "clock", evidence, "let NTP set this machine's clock")
    if abs(skew) > SKEW_WARNS_MS:
        return warn(subject, "clock", evidence, "let NTP set this machine's clock")
    if facts.took_ms > SKEW_FAILS_MS:
        return warn(
            subject, "clock", f"the answer took {facts.took_ms / 1_000:.1f} s, which hides what is less",
            "look again when the exchange is quicker",
        )  # fmt: skip
    return ok(subject, "clock", f"no difference to be seen, by a question that took {facts.took_ms:.0f} ms")


def _status(subject: str, facts: ExchangeFacts) -> Line:
    status = facts.status
    if isinstance(facts.skew_ms, Fault) and facts.skew_ms.kind is FaultKind.MAINTENANCE and not _word(status):
        status = facts.skew_ms
    if status is None:
        return ok(subject, "status", "it has no word about itself that can be asked")
    if isinstance(status, Fault):
        if status.kind is FaultKind.RATE_LIMITED:
            return skip(subject, "status", f"{status.kind}", _ASK_AGAIN)
        return warn(
            subject, "status", f"{status.kind}: {status.detail}", _REACHING.get(status.kind, _ASK_AGAIN)
        )
    statement = f"{status.word}: {status.detail}" if status.detail else str(status.word)
    if status.word is not StatusWord.ONLINE:
        return warn(subject, "status", f"it says of itself: {statement}", "wait until it is over")
    if status.detail:
        return warn(subject, "status", f"it says of itself: {statement}", "be ready for that")
    return ok(subject, "status", "it says of itself that it is online")


def _word(status: Status | Fault | None) -> bool:
    """Whether the exchange says of itself that it is not online."""
    return isinstance(status, Status) and status.word is not StatusWord.ONLINE
