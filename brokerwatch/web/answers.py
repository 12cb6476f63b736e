"""What the API answers: readings as JSON, with the reason in words and a reason for what is unknown.

Pure: readings go in, and values of msgspec classes come out. `brokerwatch.web.openapi` describes these
classes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from brokerwatch.bus.reception import ReceivedReading
from brokerwatch.health.plain_words import plain_detail
from brokerwatch.health.reading import comparison_key
from brokerwatch.health.reason_words import meaning, what_helps
from brokerwatch.health.uptime import Kind, kind
from brokerwatch.messages import Holding, Reading, ReadingData, Stamp
from brokerwatch.messages.balance import amount_text


class HoldingAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What an account holds of one currency; amounts as text."""

    free: str | None
    """What can be spent now; null when it is unknown."""
    used: str | None
    """What orders and other obligations hold; null when it is unknown."""
    total: str | None
    """The whole; null when it is unknown."""
    staked: str
    earning: str
    unknown: str | None
    """Why a part is null; null where none is."""
    in_doubt_since_us: int | None
    """Wall clock, µs: since when the exchange leaves this currency out; null: it states it."""
    pushed_us: int | None
    """Wall clock, µs: when the exchange pushed this amount, which no read has confirmed; null: a read did."""


class BrokerAnswer(ReadingData, frozen=True, kw_only=True, omit_defaults=False):
    """One account: its reading, as the wire has it, and what a reader needs beside it."""

    # The wire marks an amount as unknown, for receivers that know no null; HTTP has no such receivers.
    balance: dict[str, HoldingAnswer] | None  # type: ignore[assignment] # pyright: ignore[reportIncompatibleVariableOverride]
    """Currency to holding; null when unknown."""
    kind: Kind
    """What it counts as in a timeline."""
    meaning: str
    """The reason in words, as the end of a sentence about the account."""
    helps: str
    """What helps; empty where nothing is needed."""
    unknown: str | None
    """Why `cash` is null; null where it is not."""
    source: str
    """The cluster that says so."""
    epoch: str
    """The life of that cluster's supervisor."""
    said_us: int
    """Wall clock, µs: when the cluster said so."""
    valid_ms: Annotated[int, Meta(ge=0)]
    """For how long this stays true unless it is renewed; 0: it has expired."""


class BrokersAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """All accounts."""

    now_us: int
    """Wall clock of the server, µs."""
    heard_ms: Annotated[int, Meta(ge=0)] | None
    """How long ago the cluster was heard; null: never."""
    complete: bool
    """Whether every account that the cluster names has been heard."""
    operable: bool
    """Whether accounts can be held and released from here."""
    brokers: tuple[BrokerAnswer, ...]


class ProblemAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """Why a request was not carried out."""

    error: str
    """What is wrong, and what to do."""


class DoneAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What an operator's command did."""

    said: str
    """The cluster's own words."""


class ProbeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The state of the watcher itself. It names no account."""

    ok: bool
    why: str = ""
    """What is wrong; empty where nothing is."""


class HoldRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An operator's hold."""

    why: Annotated[str, Meta(min_length=1, max_length=160)]
    """The reason; it is shown wherever the hold is."""
    until_us: Annotated[int, Meta(ge=0)] | None = None
    """Wall clock, µs: when it ends by itself; null: when it is released."""


class LoginRequest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A reader shows the token once, and has a cookie from then on."""

    token: Annotated[str, Meta(max_length=512)]


_OWN: Final = frozenset({"balance", "detail"})
"""The fields that people and browsers are given in another form than the wire has them."""


def answer(reading: Reading, stamp: Stamp, now_s: float) -> BrokerAnswer:
    """One account as the API states it.

    Args:
        reading: the newest reading.
        stamp: of the message that brought it.
        now_s: the monotonic second of now.
    """
    data = reading.data()
    left_s = min(reading.valid_until_s, reading.proven_until_s) - now_s
    return BrokerAnswer(
        **{name: getattr(data, name) for name in ReadingData.__struct_fields__ if name not in _OWN},
        detail=plain_detail(data.detail),
        balance=None if reading.balance is None else _holdings(reading.balance),
        kind=kind(reading.available, reading.reason),
        meaning=meaning(reading.reason),
        helps="" if reading.available else what_helps(reading.reason, reading.broker),
        unknown=unknown(reading),
        source=stamp.src,
        epoch=stamp.epoch,
        said_us=stamp.ts_us,
        valid_ms=max(0, round(left_s * 1_000)),
    )


def unknown(reading: Reading) -> str | None:
    """Why the cash of an account is not known; None where it is."""
    if reading.cash is not None:
        return None
    if reading.as_of is None:
        return "no balance was ever read"
    return "the exchange does not state it, or the cluster does not publish amounts"


def _holdings(balance: Mapping[str, Holding]) -> dict[str, HoldingAnswer]:
    return {code: _holding(holding) for code, holding in balance.items()}


def _holding(holding: Holding) -> HoldingAnswer:
    parts = {name: _text(getattr(holding, name)) for name in ("free", "used", "total")}
    missing = [name for name, part in parts.items() if part is None]
    return HoldingAnswer(
        **parts,
        staked=amount_text(holding.staked),
        earning=amount_text(holding.earning),
        unknown=f"the exchange does not state what is {' and '.join(missing)}" if missing else None,
        in_doubt_since_us=holding.unstated_since_us,
        pushed_us=holding.pushed_us,
    )


def _text(amount: Decimal | None) -> str | None:
    return None if amount is None else amount_text(amount)


def tag(heard: Iterable[ReceivedReading]) -> str:
    """The entity tag of these readings. It changes when anything but an age does."""
    digest = hashlib.blake2b(digest_size=12)
    for each in heard:
        reading = each.reading
        now = (
            each.stamp.src,
            reading.broker,
            reading.detail,
            reading.available,
            reading.reason,
            reading.stale,
        )
        digest.update(repr((now, comparison_key(reading), sorted(reading.labels.items()))).encode())
    return f'"{digest.hexdigest()}"'
