"""What properties are drawn from: money, moments, outcomes, readings and messages, all in one place."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from decimal import Decimal
from types import MappingProxyType
from typing import Final, Literal

import msgspec
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from brokerwatch.clock import Instant, ManualClock
from brokerwatch.config.policy import GUARDED, SIMPLE, Rules
from brokerwatch.health.state_machine import Health
from brokerwatch.messages import (
    Balance,
    Envelope,
    Fault,
    FaultKind,
    HealthState,
    Holding,
    MessageType,
    Reading,
    ReadingData,
    Reason,
    RosterData,
    Stamp,
    Verdict,
    Wallet,
    topics,
)
from brokerwatch.messages.balance import FRACTION_DIGITS, WHOLE_DIGITS, amount_text
from brokerwatch.messages.commands import CommandData, CommandDoneData, SupervisorAliveData
from brokerwatch.messages.envelope import AnyData
from brokerwatch.messages.health import MAX_DETAIL
from brokerwatch.messages.key import KeyData, KeyWarning, KeyWarningData
from brokerwatch.messages.wire import HoldingData

LARGEST_INT: Final = 2**63 - 1
"""What msgpack carries in any language, signed."""
EDGE_STEPS_S: Final = (0.0, 0.000_001, 0.5, 1.0, 2.0, 4.999_999, 5.0, 5.000_001, 60.0, 3_600.0)
"""Steps of time that lie on the boundaries that the product knows, and beside them."""


def examples(few: int) -> int:
    """So many examples in the profile of every day, and as many times more as another profile asks."""
    return max(1, few * settings().max_examples // 100)


def texts(max_size: int) -> SearchStrategy[str]:
    """Text that UTF-8 can carry."""
    return st.text(st.characters(codec="utf-8"), max_size=max_size)


def names() -> SearchStrategy[str]:
    """Names of brokers, exchanges and clusters."""
    return st.from_regex(r"[a-z0-9][a-z0-9_-]{0,47}", fullmatch=True)


def currencies() -> SearchStrategy[str]:
    """Currency codes, some of them cash."""
    return st.sampled_from(("USD", "USDC", "USDT", "EUR", "BTC")) | st.from_regex(
        r"[A-Z0-9]{1,12}", fullmatch=True
    )


@st.composite
def amounts(draw: DrawFn) -> Decimal:
    """Every amount that the wire can carry: up to 30 digits before the point and 18 after it."""
    places = draw(st.integers(0, FRACTION_DIGITS))
    largest = 10 ** (WHOLE_DIGITS + places) - 1
    # Small ones too: integers() alone seldom draws what accounts hold.
    number = draw(st.integers(-largest, largest) | st.integers(0, 10**6) | st.just(largest) | st.just(0))
    digits = tuple(int(digit) for digit in str(abs(number)))
    return Decimal((1 if number < 0 else 0, digits, -places))


def holdings() -> SearchStrategy[Holding]:
    """One currency; the three amounts need not add up, as with some exchanges they do not."""
    part, known = st.just(Decimal(0)) | amounts(), amounts() | st.none()
    since = st.none() | st.integers(0, 2**53)
    return st.builds(
        Holding, free=known, used=known, total=amounts(), staked=part, earning=part, unstated_since_us=since
    )


def instants() -> SearchStrategy[Instant]:
    """Any moment; the two readings have nothing to do with one another."""
    return st.builds(
        Instant,
        wall_us=st.integers(0, 2**53),
        up_s=st.floats(0.0, 1e9, allow_nan=False),
    )


def balances(as_of: SearchStrategy[Instant] | None = None) -> SearchStrategy[Balance]:
    """What an account held; often nothing, which is a real balance."""
    return st.builds(
        Balance,
        holdings=st.dictionaries(currencies(), holdings(), max_size=4),
        as_of=instants() if as_of is None else as_of,
    )


def faults() -> SearchStrategy[Fault]:
    """Every kind of failure, with words that are sometimes too long."""
    return st.builds(Fault, kind=st.sampled_from(FaultKind), detail=texts(MAX_DETAIL + 20))


def outcomes() -> SearchStrategy[Balance | Fault | None]:
    """How a fetch ends: a balance, a fault, or None for what is no outcome at all."""
    return balances() | faults() | st.none()


def steps_s() -> SearchStrategy[float]:
    """Time that passes, with a liking for boundaries."""
    return st.sampled_from(EDGE_STEPS_S) | st.floats(0.0, 100.0, allow_nan=False)


def wall_jumps_s() -> SearchStrategy[float]:
    """Steps of the wall clock, of any size and either sign."""
    return st.sampled_from((-1e9, -3_600.0, -1.0, -0.001, 0.001, 1.0, 3_600.0, 1e9)) | st.floats(-1e9, 1e9)


@st.composite
def epochs(draw: DrawFn) -> str:
    """Incarnations; they compare as text."""
    start_us = draw(st.integers(1, 3) | st.integers(1, 10**16 - 1))
    return f"{start_us:016d}-{draw(st.integers(0, 2**32 - 1)):08x}"


@st.composite
def verdicts(draw: DrawFn) -> Verdict:
    """Any answer with any reason: a receiver must not rely on the sender's being sensible."""
    return Verdict(available=draw(st.booleans()), reason=draw(st.sampled_from(Reason)))


@st.composite
def readings(draw: DrawFn, *, broker: str | None = None, clock: ManualClock | None = None) -> Reading:
    """Any reading, whether a broker of ours would say it or not."""
    return Reading(
        broker=draw(names()) if broker is None else broker,
        exchange=draw(st.sampled_from(("kraken", "coinbase", "okx", "custom"))),
        simulated=draw(st.booleans()),
        broker_epoch=draw(epochs() | st.just("")),
        version=draw(st.integers(0, 4) | st.integers(0, LARGEST_INT)),
        state=draw(st.sampled_from(HealthState)),
        verdict=draw(verdicts()),
        detail=draw(texts(MAX_DETAIL)),
        since_us=draw(st.integers(0, 2**53)),
        error_count=draw(st.integers(0, 12)),
        fault=draw(st.none() | st.sampled_from(FaultKind)),
        as_of=draw(st.none() | instants()),
        cash=draw(st.none() | amounts()),
        balance=draw(
            st.none()
            | st.dictionaries(currencies(), holdings(), max_size=3).map(lambda held: MappingProxyType(held))
        ),
        labels=draw(st.dictionaries(texts(8), texts(8), max_size=2)),
        valid_until_s=draw(st.floats(0.0, 1e9, allow_nan=False)),
        clock=ManualClock() if clock is None else clock,
        max_age_s=draw(st.none() | st.floats(0.0, 1e9, allow_nan=False)),
        key=draw(st.none() | keys()),
    )


def amount_texts() -> SearchStrategy[str]:
    """Amounts as the wire writes them."""
    return amounts().map(amount_text)


@st.composite
def reading_datas(draw: DrawFn) -> ReadingData:
    """Any reading as it stands on the wire, in any combination that the classes allow."""
    state = draw(st.sampled_from(HealthState))
    return ReadingData(
        broker=draw(names()),
        exchange=draw(names()),
        simulated=draw(st.booleans()),
        broker_epoch=draw(epochs() | st.just("")),
        version=draw(st.integers(0, LARGEST_INT)),
        state=state,
        status=state.name.lower(),
        available=draw(st.booleans()),
        reason=draw(st.sampled_from(Reason)),
        detail=draw(texts(MAX_DETAIL)),
        since_us=draw(st.integers(-LARGEST_INT, LARGEST_INT)),
        error_count=draw(st.integers(0, LARGEST_INT)),
        fault=draw(st.none() | st.sampled_from(FaultKind)),
        as_of_us=draw(st.none() | st.integers(-LARGEST_INT, LARGEST_INT)),
        age_ms=draw(st.none() | st.integers(0, LARGEST_INT)),
        stale=draw(st.booleans()),
        cash=draw(st.none() | amount_texts()),
        balance=draw(
            st.none()
            | st.dictionaries(
                currencies(),
                st.builds(
                    HoldingData,
                    free=amount_texts(),
                    used=amount_texts(),
                    total=amount_texts(),
                    staked=st.just("0") | amount_texts(),
                    earning=st.just("0") | amount_texts(),
                ),
                max_size=3,
            )
        ),
        labels=draw(st.dictionaries(texts(8), texts(8), max_size=2)),
        max_age_ms=draw(st.none() | st.integers(0, LARGEST_INT)),
        key=draw(st.none() | keys()),
    )


def keys() -> SearchStrategy[KeyData]:
    """Anything that can be said of a key."""
    moments = st.integers(-LARGEST_INT, LARGEST_INT)
    warnings = st.builds(
        KeyWarningData, word=st.sampled_from(KeyWarning), since_us=moments, detail=texts(MAX_DETAIL)
    )
    may = st.none() | st.booleans()
    return st.builds(
        KeyData,
        checked_us=moments,
        read=may,
        trade=may,
        withdraw=may,
        expires_us=st.none() | moments,
        never_ends=st.booleans(),
        address_bound=may,
        warnings=st.lists(warnings, max_size=2).map(tuple),
    )


@st.composite
def stamps(draw: DrawFn) -> Stamp:
    """What surrounds a message."""
    return Stamp(
        src=draw(st.sampled_from(("supervisor/main", "broker/kraken/a"))),
        epoch=draw(epochs()),
        seq=draw(st.integers(1, 5) | st.integers(1, LARGEST_INT)),
        ts_us=draw(st.integers(-LARGEST_INT, LARGEST_INT)),
        up_us=draw(st.integers(0, LARGEST_INT)),
        ttl_ms=draw(st.integers(0, LARGEST_INT)),
    )


def command_ids() -> SearchStrategy[str]:
    """Ids of commands."""
    return st.text("0123456789abcdef", min_size=32, max_size=32)


@st.composite
def envelopes(draw: DrawFn) -> Envelope:
    """One message of any type."""
    kind = draw(st.sampled_from(MessageType))
    data: AnyData
    if kind is MessageType.COMMAND:
        data = CommandData(
            id=draw(command_ids()),
            verb=draw(names()),
            exchange=draw(names()),
            broker=draw(names()),
            by=draw(st.text(min_size=1, max_size=128)),
            why=draw(st.text(max_size=160)),
            until_us=draw(st.none() | st.integers(0, LARGEST_INT)),
        )
    elif kind is MessageType.COMMAND_DONE:
        data = CommandDoneData(
            id=draw(command_ids()),
            exchange=draw(names()),
            broker=draw(names()),
            refused=draw(st.booleans()),
            said=draw(st.text(max_size=1_000)),
        )
    elif kind is MessageType.SUPERVISOR_ALIVE:
        data = SupervisorAliveData(brokers=draw(st.integers(0, LARGEST_INT)))
    elif kind is MessageType.ROSTER:
        data = RosterData(readings=tuple(draw(st.lists(reading_datas(), max_size=2))))
    else:
        data = draw(reading_datas())
    return Envelope(type=kind, stamp=draw(stamps()), data=data)


def topics_of(exchange: str, broker: str) -> tuple[str, ...]:
    """Every topic that is about this one broker."""
    return tuple(
        build(exchange, broker) for build in (topics.state, topics.balance, topics.error, topics.alive)
    )


def all_topics() -> SearchStrategy[str]:
    """Any topic that we publish on."""
    return st.just(topics.ROSTER) | st.builds(topics_of, names(), names()).flatmap(st.sampled_from)


# Histories of one broker ----------------------------------------------------------------------------

What = Literal["success", "fault", "neutral", "restart", "locked", "woken", "reset"]
THE_START: Final = Instant(wall_us=1_800_000_000_000_000, up_s=1_000.0)


@dataclass(frozen=True)
class Step:
    """One thing that happens to a broker, so long after the one before it."""

    what: What
    after_s: float = 0.0
    balance: Balance | None = None
    """Of a success; its `as_of` is set when it happens."""
    age_s: float = 0.0
    """How long before it was answered the balance was asked for."""
    fault: Fault | None = None
    for_s: float = 0.0
    """How long a lockout lasts that another broker on the same key was told."""


def fold(health: Health, step: Step, now: Instant) -> Health:
    """The product's health after one step."""
    if step.balance is not None:
        return health.seen(seen_at(step.balance, now, step.age_s), now)
    if step.fault is not None:
        return health.failed(step.fault, now)
    if step.what == "locked":
        return health.locked(moved(now, step.for_s), "on the same key", now)
    if step.what == "restart":
        return health.restarted(now)
    if step.what == "woken":
        return health.woken(now)
    return health.reset(now) if step.what == "reset" else health.ignored(now)


def moved(moment: Instant, seconds: float) -> Instant:
    """So long after a moment."""
    return Instant(moment.wall_us + round(seconds * 1_000_000), moment.up_s + seconds)


def seen_at(balance: Balance, now: Instant, age_s: float = 0.0) -> Balance:
    """The balance as it was asked for that long before now."""
    return msgspec.structs.replace(balance, as_of=moved(now, -age_s))


def moments(steps: list[Step], start: Instant = THE_START) -> Iterator[tuple[Step, Instant]]:
    """Each step with the moment in which it happens."""
    for step in steps:
        start = moved(start, step.after_s)
        yield step, start


def wallets() -> SearchStrategy[Wallet]:
    """A funding account: read, known from before and in trouble, or never read."""
    held = st.dictionaries(currencies(), holdings(), max_size=2)
    return st.builds(Wallet, holdings=held, as_of=instants()) | st.builds(
        Wallet, holdings=st.none() | held, as_of=st.none(), trouble=texts(20)
    )


SMALL_BALANCES: Final = (
    *(
        Balance(
            holdings={"USD": Holding(free=Decimal(free), used=Decimal(0), total=Decimal(free))},
            as_of=THE_START,
        )
        for free in ("0", "1.10", "1.1")
    ),
    Balance(holdings={}, as_of=THE_START),
    Balance(holdings={}, as_of=THE_START, stated=False),
)
"""Money, two numbers that are equal and not the same, a real zero, an empty account, an unstated one."""


@st.composite
def ways(draw: DrawFn) -> list[Step]:
    """A few steps of one kind: histories are made of runs, and only runs reach a threshold."""
    after_s = draw(st.sampled_from((0.0, 0.5, 1.0, 60.0, 900.0)))
    what = draw(
        st.sampled_from(
            (
                *("success", "success", "fault", "fault", "outage", "closed"),
                *("neutral", "restart", "locked", "woken", "reset"),
            )
        )
    )
    times = draw(st.integers(1, 4))
    down = Step("fault", after_s, fault=Fault(FaultKind.NETWORK, "no route"))
    up = Step("success", after_s, balance=SMALL_BALANCES[1])
    if what == "outage":
        return [*[down] * 5, *[up] * (times // 2)]
    if what == "closed":
        closed = Step("fault", after_s, fault=Fault(FaultKind.MAINTENANCE, "back at noon"))
        return [*[up, down, down][: times - 1], closed]
    if what == "success":
        balance = draw(st.sampled_from(SMALL_BALANCES))
        age_s = draw(st.sampled_from((0.0, 0.0, 0.25, 120.0)))
        return [Step("success", after_s, balance=balance, age_s=age_s)] * times
    if what == "fault":
        fault = Fault(
            draw(st.sampled_from(FaultKind)),
            draw(st.sampled_from(("", "no route"))),
            draw(st.sampled_from((0.0, 0.0, 30.0))),
            draw(st.sampled_from((0.0, 0.0, 0.0, 900.0, 60.0))),
        )
        return [Step("fault", after_s, fault=fault)] * times
    if what == "locked":
        return [Step("locked", after_s, for_s=draw(st.sampled_from((1.0, 60.0, 900.0))))]
    plain: dict[str, What] = {"neutral": "neutral", "restart": "restart", "woken": "woken", "reset": "reset"}
    return [Step(plain[what], after_s)] * min(times, 2)


def histories(most: int = 12) -> SearchStrategy[list[Step]]:
    """What befalls a broker over some lives."""
    return st.lists(ways(), min_size=most // 3, max_size=most).map(
        lambda parts: [step for part in parts for step in part]
    )


@st.composite
def own_rules(draw: DrawFn) -> Rules:
    """Each rule switched by itself, with small numbers."""
    window = draw(st.sampled_from((0, 0, 4, 6, 20)))
    return Rules(
        start_unknown=draw(st.booleans()),
        final_auth=draw(st.booleans()),
        auth_probes_s=draw(st.sampled_from(((), (1.0,), (1.0, 60.0, 900.0)))),
        maintenance_state=draw(st.booleans()),
        window_fetches=window,
        window_minimum=draw(st.sampled_from((1, 2, 4))),
        window_share=draw(st.sampled_from((0.25, 0.5, 1.0))),
        successes_to_recover=draw(st.sampled_from((1, 1, 2, 3))),
        confirm_after_s=draw(st.sampled_from(((), (0.25, 0.5)))),
        backoff_s=draw(st.sampled_from((None, (1.0, 60.0)))),
    )


def rules() -> SearchStrategy[Rules]:
    """The two policies, and rules of a user's own."""
    return st.just(SIMPLE) | st.just(GUARDED) | own_rules()
