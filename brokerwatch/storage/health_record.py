"""A broker's health as text, and back: what outlives the process.

What is read back folds on exactly as what was written: writing is a copy, and the restart that follows
is an event of its own. The two clocks mean different things in another process, so moments are carried
over: what had passed by the monotonic clock when it was written, and what has passed since. That
is the wall clock's difference, or within one boot of the machine the monotonic clock's where it is
longer: a wall clock that was set back makes nothing younger, and no balance comes from the future.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from brokerwatch.clock import Instant
from brokerwatch.config.policy import SIMPLE, Rules
from brokerwatch.health.state_machine import BARS, Health, Veto, Vetoes
from brokerwatch.health.stated import NO_DOUBTS, Absence, Doubts
from brokerwatch.health.watched import NOTHING_WATCHED, Watched
from brokerwatch.messages import Balance, Fault, FaultKind, HealthState, Reason, Wallet

FORM: Final = 1
"""The number of this form; another one is not read."""
LARGEST_US: Final = 4_102_444_800_000_000
"""The end of 2099. A moment beyond it, or a count as large, was written by no broker."""
LONGEST_UP_S: Final = 10_000_000_000.0
"""Three hundred years of monotonic seconds."""
LONGEST_VETO_S: Final = 3_600.0
"""No lockout lasts longer: one that is said to was met by a clock that jumped."""


_Count = Annotated[int, Meta(ge=0)]
_NOTHING: Final = msgspec.Raw(b"null")


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    form: int
    written: Instant
    boot: str
    """Which boot of which machine it was written in; empty when it is not known."""
    state: HealthState
    since: Instant
    error_count: _Count
    fault: Fault | None
    balance: Balance | None
    version: _Count
    successes: _Count
    recent: tuple[FaultKind | None, ...]
    funded: bool
    vetoes: Mapping[Reason, Veto]
    lifted_us: int
    doubts: Doubts = NO_DOUBTS
    """An older version wrote none."""
    refusals: _Count = 0
    probe_at: Instant | None = None


class _WholeDocument(_Document, frozen=True, kw_only=True):
    """A document with what is watched beside the health, where that is anything."""

    watched: msgspec.Raw = _NOTHING
    """A `Watched`. It is read apart, so that what a later version writes there costs no balance."""


@dataclass(frozen=True, slots=True)
class Written:
    """A health that was read back, and when and where it was written."""

    health: Health
    at: Instant
    boot: str
    watched: Watched = NOTHING_WATCHED


def written(health: Health, now: Instant, boot: str = "", watched: Watched = NOTHING_WATCHED) -> str:
    """The health as JSON, with what is watched beside it.

    Rules and threshold are the configuration's and are not in it.
    """
    document = _Document(
        form=FORM,
        written=now,
        boot=boot,
        state=health.state,
        since=health.since,
        error_count=health.error_count,
        fault=health.fault,
        balance=health.balance,
        version=health.version,
        successes=health.successes,
        recent=health.recent,
        funded=health.funded,
        vetoes=health.vetoes.laid,
        lifted_us=health.vetoes.lifted_us,
        doubts=health.doubts,
        refusals=health.refusals,
        probe_at=health.probe_at,
    )
    if watched != NOTHING_WATCHED:
        beside = msgspec.Raw(msgspec.json.encode(watched, enc_hook=_plain))
        document = _WholeDocument(**msgspec.structs.asdict(document), watched=beside)
    return msgspec.json.encode(document, enc_hook=_plain).decode()


def read(text: str, *, threshold: int, rules: Rules = SIMPLE) -> Written:
    """What was written. Raises ValueError for anything that `written` did not write."""
    try:
        found = msgspec.json.decode(text, type=_WholeDocument)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not a health of ours: {error}") from error
    if found.form != FORM:
        raise ValueError(f"written in form {found.form}; this version reads {FORM}")
    if not BARS.issuperset(found.vetoes):
        # Nothing would ever lift it.
        raise ValueError(f"not a health of ours: no broker lays {', '.join(sorted(found.vetoes))} on itself")
    if not _plausible(found):
        raise ValueError("not a health of ours: a moment or a count in it cannot be")
    health = Health(
        state=found.state,
        since=found.since,
        threshold=threshold,
        rules=rules,
        error_count=found.error_count,
        fault=found.fault,
        balance=found.balance,
        version=found.version,
        successes=found.successes,
        recent=found.recent,
        funded=found.funded,
        refusals=found.refusals,
        probe_at=found.probe_at,
        vetoes=Vetoes(laid=MappingProxyType(dict(found.vetoes)), lifted_us=found.lifted_us),
        doubts=Doubts(
            missing=MappingProxyType(dict(found.doubts.missing)),
            empty=found.doubts.empty,
            taken=MappingProxyType(dict(found.doubts.taken)),
        ),
    )
    return Written(health, found.written, found.boot, _watched(found.watched))


def _watched(stored: msgspec.Raw) -> Watched:
    """What was watched; nothing, where this version cannot read it."""
    try:
        return msgspec.json.decode(stored, type=Watched | None) or NOTHING_WATCHED
    except (msgspec.MsgspecError, RecursionError):
        return NOTHING_WATCHED


def _plausible(found: _Document) -> bool:
    """Whether every moment and count is one that a clock and a broker can have."""
    moments = [found.written, found.since, *([] if found.probe_at is None else [found.probe_at])]
    for veto in found.vetoes.values():
        moments += [veto.since] if veto.until is None else [veto.since, veto.until]
    if found.balance is not None:
        wallets = found.balance.wallets.values()
        moments += [found.balance.as_of, *(known.as_of for known in wallets if known.as_of is not None)]
    absences = [*found.doubts.missing.values(), *([found.doubts.empty] if found.doubts.empty else [])]
    for absence in absences:
        moments += [absence.since, absence.first, absence.newest]
    moments += [fills.at for fills in found.doubts.taken.values()]
    counts = (
        *(found.error_count, found.version, found.successes, found.lifted_us, found.refusals),
        *(absence.reads for absence in absences),
    )
    return all(0 <= count < LARGEST_US for count in counts) and all(
        abs(moment.wall_us) < LARGEST_US and abs(moment.up_s) < LONGEST_UP_S for moment in moments
    )


def carried_over(stored: Written, now: Instant, boot: str = "") -> Health:
    """The same health in another process: every moment in that one's monotonic seconds.

    `boot` is the boot that this process runs in. Ages go on from what they were when it was written,
    and never get smaller.
    """
    health, written_at = stored.health, stored.at
    gone_s = max(0.0, (now.wall_us - written_at.wall_us) / 1_000_000)
    if boot and boot == stored.boot:
        gone_s = max(gone_s, now.up_s - written_at.up_s)

    def moved(moment: Instant) -> Instant:
        return Instant(moment.wall_us, now.up_s - gone_s - (written_at.up_s - moment.up_s))

    def observed(moment: Instant) -> Instant:
        # Nothing was read in the future: it would be newer than every answer that is still to come.
        then = moved(moment)
        return Instant(min(then.wall_us, now.wall_us), min(then.up_s, now.up_s))

    def awaited(moment: Instant | None) -> Instant | None:
        if moment is None:
            return None
        latest = Instant(now.wall_us + round(LONGEST_VETO_S * 1_000_000), now.up_s + LONGEST_VETO_S)
        then = moved(moment)
        return latest if then.up_s > latest.up_s else then

    def veto(laid: Veto) -> Veto:
        return Veto(moved(laid.since), laid.detail, awaited(laid.until))

    def wallet(known: Wallet) -> Wallet:
        as_of = None if known.as_of is None else observed(known.as_of)
        return msgspec.structs.replace(known, as_of=as_of)

    balance = health.balance
    if balance is not None:
        wallets = {name: wallet(known) for name, known in balance.wallets.items()}
        balance = msgspec.structs.replace(balance, as_of=observed(balance.as_of), wallets=wallets)
    # A wall clock that jumped must not make answers steady: only what the monotonic clock knows counts.
    counted_s = now.up_s - written_at.up_s if boot and boot == stored.boot else 0.0

    def counted(moment: Instant) -> Instant:
        then_s = now.up_s - max(0.0, counted_s) - (written_at.up_s - moment.up_s)
        return Instant(moment.wall_us, min(then_s, now.up_s))

    def absence(found: Absence) -> Absence:
        return Absence(counted(found.since), counted(found.first), counted(found.newest), found.reads)

    doubts = Doubts(
        missing=MappingProxyType({code: absence(found) for code, found in health.doubts.missing.items()}),
        empty=None if health.doubts.empty is None else absence(health.doubts.empty),
        taken=MappingProxyType(
            {code: replace(fills, at=counted(fills.at)) for code, fills in health.doubts.taken.items()}
        ),
    )
    laid = MappingProxyType({reason: veto(found) for reason, found in health.vetoes.laid.items()})
    return replace(
        health,
        since=moved(health.since),
        balance=balance,
        probe_at=awaited(health.probe_at),
        vetoes=Vetoes(laid=laid, lifted_us=health.vetoes.lifted_us),
        doubts=doubts,
    )


def _plain(value: object) -> object:
    if isinstance(value, MappingProxyType):
        return dict(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - encoded by msgspec in turn
    raise NotImplementedError(f"cannot be written: {type(value).__name__}")
