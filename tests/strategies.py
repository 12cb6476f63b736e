"""What properties are drawn from: money, moments, outcomes, readings and messages, all in one place."""

from __future__ import annotations

from decimal import Decimal
from types import MappingProxyType
from typing import Final

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from brokerwatch.clock import Instant, ManualClock
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
    topics,
)
from brokerwatch.messages.balance import FRACTION_DIGITS, WHOLE_DIGITS, amount_text
from brokerwatch.messages.health import MAX_DETAIL, HoldingData

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
    return st.builds(Holding, free=amounts(), used=amounts(), total=amounts())


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
                st.builds(HoldingData, free=amount_texts(), used=amount_texts(), total=amount_texts()),
                max_size=3,
            )
        ),
        labels=draw(st.dictionaries(texts(8), texts(8), max_size=2)),
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


@st.composite
def envelopes(draw: DrawFn) -> Envelope:
    """One message of any of the five types."""
    kind = draw(st.sampled_from(MessageType))
    if kind is MessageType.ROSTER:
        data: ReadingData | RosterData = RosterData(
            readings=tuple(draw(st.lists(reading_datas(), max_size=2)))
        )
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
