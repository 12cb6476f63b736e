"""A broker's health as text, and back: what outlives the process.

What is read back folds on exactly as what was written: writing is a copy, and the restart that follows
is an event of its own. Inside one machine's boot and across it the two clocks mean different
things, so moments are carried over: what had passed by the monotonic clock when it was written, and
the wall clock's difference since. A wall clock that was set back makes nothing younger than it was.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from brokerwatch.clock import Instant
from brokerwatch.health import OWN_VETOES, Health, Veto, Vetoes
from brokerwatch.messages import Balance, Fault, FaultKind, HealthState, Reason, Wallet
from brokerwatch.policy import SIMPLE, Rules

FORM: Final = 1
"""The number of this form; another one is not read."""


_Count = Annotated[int, Meta(ge=0)]


class _Document(msgspec.Struct, frozen=True, kw_only=True):
    form: int
    written: Instant
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


def written(health: Health, now: Instant) -> str:
    """The health as JSON. Rules and threshold are the configuration's and are not in it."""
    document = _Document(
        form=FORM,
        written=now,
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
    )
    return msgspec.json.encode(document, enc_hook=_plain).decode()


def read(text: str, *, threshold: int, rules: Rules = SIMPLE) -> tuple[Health, Instant]:
    """What was written, and when. Raises ValueError for anything that `written` did not write."""
    try:
        found = msgspec.json.decode(text, type=_Document)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise ValueError(f"not a health of ours: {error}") from error
    if found.form != FORM:
        raise ValueError(f"written in form {found.form}; this version reads {FORM}")
    if not OWN_VETOES.issuperset(found.vetoes):
        # Nobody would ever lift it.
        raise ValueError(f"not a health of ours: no broker lays {', '.join(sorted(found.vetoes))} on itself")
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
        vetoes=Vetoes(laid=MappingProxyType(dict(found.vetoes)), lifted_us=found.lifted_us),
    )
    return health, found.written


def carried_over(health: Health, written_at: Instant, now: Instant) -> Health:
    """The same health in another process: every moment in that one's monotonic seconds.

    Ages go on from what they were when it was written, and never get smaller.
    """
    gone_s = max(0.0, (now.wall_us - written_at.wall_us) / 1_000_000)

    def moved(moment: Instant) -> Instant:
        return Instant(moment.wall_us, now.up_s - gone_s - (written_at.up_s - moment.up_s))

    def veto(laid: Veto) -> Veto:
        return Veto(moved(laid.since), laid.detail, None if laid.until is None else moved(laid.until))

    def wallet(known: Wallet) -> Wallet:
        as_of = None if known.as_of is None else moved(known.as_of)
        return msgspec.structs.replace(known, as_of=as_of)

    balance = health.balance
    if balance is not None:
        wallets = {name: wallet(known) for name, known in balance.wallets.items()}
        balance = msgspec.structs.replace(balance, as_of=moved(balance.as_of), wallets=wallets)
    laid = MappingProxyType({reason: veto(found) for reason, found in health.vetoes.laid.items()})
    return replace(
        health,
        since=moved(health.since),
        balance=balance,
        vetoes=Vetoes(laid=laid, lifted_us=health.vetoes.lifted_us),
    )


def _plain(value: object) -> object:
    if isinstance(value, MappingProxyType):
        return dict(value)  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType] - encoded by msgspec in turn
    raise NotImplementedError(f"cannot be written: {type(value).__name__}")
