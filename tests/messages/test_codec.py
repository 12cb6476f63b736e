"""The bytes on the wire: golden, bounded, and refused when they are anything else."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, cast

import msgpack
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from brokerwatch.clock import ManualClock
from brokerwatch.errors import CodecError
from brokerwatch.messages import (
    Envelope,
    FaultKind,
    HealthState,
    MessageType,
    Reading,
    ReadingData,
    Reason,
    RosterData,
    Stamp,
    next_epoch,
    topics,
)
from brokerwatch.messages.balance import MAX_CURRENCIES
from brokerwatch.messages.codec import DATA, MAX_BODY_BYTES, decode, encode, words
from brokerwatch.messages.health import MAX_DETAIL
from brokerwatch.messages.lazy_holdings import LazyHoldings
from brokerwatch.messages.wire import HoldingData
from tests.support import strategies as our
from tests.support.wire_examples import LONGEST, NOW, example, reading, stamp

_msgpack: Final[Any] = msgpack  # it has no annotations
GOLDEN: Final = Path(__file__).parents[2] / "docs" / "wire" / "vectors"
"""One file a type, among others; `tests.support.wire_vectors` writes them."""


# Topics ---------------------------------------------------------------------------------------------


@given(one=st.tuples(our.names(), our.names()), other=st.tuples(our.names(), our.names()))
def test_no_topic_of_a_broker_is_a_prefix_of_another_brokers(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    for mine in our.topics_of(*one):
        for theirs in (*our.topics_of(*other), topics.ROSTER):
            if one != other or theirs == topics.ROSTER:
                assert not theirs.startswith(mine)
                assert not mine.startswith(topics.ROSTER)


@given(topic=our.all_topics())
def test_every_topic_ends_in_a_slash_and_has_plain_segments(topic: str) -> None:
    assert topic.endswith("/")
    assert len(topic.encode("ascii")) <= 128
    assert all(topics.is_name(segment) for segment in topic[:-1].split("/"))


def test_the_topics_are_those_of_the_protocol() -> None:
    assert topics.ROSTER == "health/1/all/"
    assert our.topics_of("okx", "main") == (
        "health/1/state/okx/main/",
        "broker/1/okx/main/balance/",
        "broker/1/okx/main/error/",
        "broker/1/okx/main/alive/",
    )
    assert topics.state("okx", "main").startswith(topics.ALL_STATES)
    assert topics.alive("okx", "main").startswith(topics.ALL_BROKERS)
    assert not topics.state("okx", "mainx").startswith(topics.state("okx", "main"))


@pytest.mark.parametrize("name", ["a", "0", "kraken-main_2", "a" * 48])
def test_a_name_may_stand_in_a_topic(name: str) -> None:
    assert topics.is_name(name)


@pytest.mark.parametrize("name", ["", "A", "a" * 49, "-a", "_a", "a/b", "a b", "a\n", "ä", "a.b", "*"])
def test_what_cannot_stand_in_a_topic_is_no_name(name: str) -> None:
    assert not topics.is_name(name)


# Epochs ---------------------------------------------------------------------------------------------


@given(start_us=st.integers(1, 10**15), predecessor=our.epochs())
def test_the_next_epoch_is_later_whatever_the_wall_clock_says(start_us: int, predecessor: str) -> None:
    if int(predecessor[:16]) < 10**16 - 1:
        epoch = next_epoch(start_us, predecessor, "00000000")
        assert epoch[:16] > predecessor[:16]
        assert epoch > predecessor
        assert int(epoch[:16]) >= start_us


def test_the_first_epoch_is_the_hour_and_the_entropy() -> None:
    assert next_epoch(NOW.wall_us, "", "0000abcd") == "1800000000000000-0000abcd"
    assert next_epoch(5, "1800000000000000-ffffffff", "00000000") == "1800000000000001-00000000"


def plain(kind: MessageType = MessageType.READING) -> dict[str, Any]:
    """The maps and texts of an example, to be spoilt."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(words(example(kind))))
    return found


def pack(message: object) -> bytes:
    return cast("bytes", _msgpack.packb(message))


@pytest.mark.parametrize("kind", MessageType)
def test_the_bytes_of_a_message_are_those_that_were_released(kind: MessageType) -> None:
    body = bytes.fromhex((GOLDEN / f"{kind.value}.hex").read_text(encoding="ascii"))
    assert encode(example(kind)) == body
    assert decode(body) == example(kind)


@given(message=our.envelopes())
def test_a_message_survives_the_wire(message: Envelope) -> None:
    assert decode(encode(message)) == message


def refuse(body: bytes) -> None:
    with pytest.raises(CodecError):
        decode(body)


def check(body: bytes) -> bool:
    """Whether it is a message; and nothing but a CodecError comes out when it is none."""
    try:
        message = decode(body)
    except CodecError:
        return False
    assert decode(encode(message)) == message
    return True


@settings(max_examples=our.examples(300))
@given(body=st.binary(max_size=60))
def test_random_bytes_are_no_message(body: bytes) -> None:
    assert not check(body)


@settings(max_examples=our.examples(150))
@given(
    value=st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**64 - 1)
        | st.floats()
        | st.text(st.characters(codec="utf-8"), max_size=5)
        | st.binary(max_size=3),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(st.sampled_from(("v", "type", "data", "seq")), inner, max_size=4)
        ),
        max_leaves=8,
    )
)
def test_well_formed_msgpack_of_another_shape_is_no_message(value: object) -> None:
    assert not check(pack(value))


@pytest.mark.parametrize("kind", MessageType)
def test_a_message_with_any_one_byte_changed_is_a_message_or_an_error(kind: MessageType) -> None:
    body = encode(example(kind))
    still = 0
    for place, byte in enumerate(body):
        for other in {byte ^ 0x01, byte ^ 0x80, 0x00, 0x90, 0xC0, 0xC1, 0xCB, 0xDB, 0xDD, 0xDF, 0xFF} - {
            byte
        }:
            still += check(body[:place] + bytes((other,)) + body[place + 1 :])
    assert still, "some changes only change a letter of the detail"


@pytest.mark.parametrize("kind", list(MessageType))
def test_the_short_way_and_the_long_one_through_the_decoder_come_to_the_same(
    kind: MessageType, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = encode(example(kind))
    spoilt = [body]
    for at in range(len(body)):
        spoilt += [body[:at] + bytes([byte]) + body[at + 1 :] for byte in {0, 0xA1, 0xC4, body[at] ^ 1}]
    short = [_outcome(one) for one in spoilt]
    monkeypatch.setattr("brokerwatch.messages.codec._reading", _nothing_known)
    assert short == [_outcome(one) for one in spoilt]
    assert short[0] == example(kind)


def _nothing_known(body: bytes) -> None:
    del body


def _outcome(body: bytes) -> Envelope | None:
    try:
        return decode(body)
    except CodecError:
        return None


@pytest.mark.parametrize("kind", list(MessageType))
def test_a_message_that_was_cut_off_or_goes_on_is_refused(kind: MessageType) -> None:
    body = encode(example(kind))
    for length in range(len(body)):
        refuse(body[:length])
    refuse(body + b"\x00")
    refuse(body + body)


def hostile() -> Iterator[tuple[str, bytes]]:
    """Bytes that promise more than they hold, or nest deeper than anybody reads."""
    for code, word in ((0xDC, "array 16"), (0xDE, "map 16"), (0xDA, "text 16"), (0xC5, "bin 16")):
        yield word, bytes((code,)) + struct.pack(">H", 0xFFFF)
    for code, word in ((0xDD, "array 32"), (0xDF, "map 32"), (0xDB, "text 32"), (0xC6, "bin 32")):
        yield word, bytes((code,)) + struct.pack(">I", 0xFFFF_FFFF)
    yield "ext 32", b"\xc9" + struct.pack(">I", 0xFFFF_FFFF) + b"\x01"
    yield "timestamp", b"\xd6\xff\x00\x00\x00\x00"
    yield "a short timestamp", b"\xc7\x00\xff"
    yield "the code that is never used", b"\xc1"
    for depth in (500, 1_000, 100_000):
        yield f"{depth} arrays", b"\x91" * depth + b"\xc0"
        yield f"{depth} maps", b"\x81\xa1a" * depth + b"\xc0"
    yield "half a million empty maps", b"\xdd" + struct.pack(">I", 500_000) + b"\x80" * 500_000
    yield "text that is no UTF-8", b"\x81\xa1v\xa2\xff\xfe"
    yield "a key that is a number", b"\x81\x01\x01"
    yield "nothing", b""
    yield "too large", b"\xc0" * (MAX_BODY_BYTES + 1)


@pytest.mark.parametrize(("word", "body"), list(hostile()), ids=[word for word, _ in hostile()])
def test_a_hostile_body_is_refused(word: str, body: bytes) -> None:
    refuse(body)
    # And in place of a value in a message of ours. Where it is not looked at, moderate nesting is no harm.
    whole = pack({**plain(), "extra": 0})
    assert check(whole)
    if 0 < len(body) < MAX_BODY_BYTES:
        assert check(whole[:-1] + body) is (word in {"500 arrays", "500 maps", "1000 arrays", "1000 maps"})


@pytest.mark.parametrize("version", [0, 2, -1, 1.0, True, "1", None, [1], {"v": 1}, 2**63])
def test_another_protocol_version_is_refused(version: object) -> None:
    refuse(pack({**plain(), "v": version}))


@pytest.mark.parametrize("kind", ["", "Reading", "READING", "unknown", "__class__", 1, None, ["reading"]])
def test_an_unknown_type_is_refused(kind: object) -> None:
    refuse(pack({**plain(), "type": kind}))


ENVELOPE_KEYS: Final = ("v", "type", "src", "epoch", "seq", "ts_us", "up_us", "ttl_ms", "data")
READING_KEYS: Final = (
    *("broker", "exchange", "simulated", "broker_epoch", "version", "state", "status", "available", "reason"),
    *(
        "detail",
        "since_us",
        "error_count",
        "fault",
        "as_of_us",
        "age_ms",
        "stale",
        "cash",
        "balance",
        "labels",
    ),
)
OPTIONAL_KEYS: Final = ("max_age_ms", "staked", "earning")
"""They came later, and a receiver must do without them."""


@pytest.mark.parametrize("key", ENVELOPE_KEYS)
def test_a_key_that_is_missing_from_the_envelope_is_an_error(key: str) -> None:
    message = plain()
    del message[key]
    refuse(pack(message))


@pytest.mark.parametrize("key", READING_KEYS)
def test_a_key_that_is_missing_from_the_data_is_an_error(key: str) -> None:
    message = plain()
    del message["data"][key]
    refuse(pack(message))
    roster = plain(MessageType.ROSTER)
    del roster["data"]["readings"][1][key]
    refuse(pack(roster))


@settings(max_examples=our.examples(40))
@given(
    key=our.texts(12).filter(lambda key: key not in ENVELOPE_KEYS + READING_KEYS + OPTIONAL_KEYS),
    value=st.none() | st.integers(0, 9) | our.texts(5) | st.lists(st.floats()),
)
def test_a_key_that_we_do_not_know_is_ignored(key: str, value: object) -> None:
    message = plain()
    message[key] = value
    message["data"][key] = value
    message["data"]["balance"]["USD"][key] = value
    assert decode(pack(message)) == example(MessageType.READING)


NOTHING: Final[list[object]] = []
WRONG_VALUES: Final[tuple[tuple[str, object], ...]] = (
    *(("seq", wrong) for wrong in (0, -1, 1.0, True, "1", None, [1])),
    *((key, wrong) for key in ("up_us", "ttl_ms") for wrong in (-1, 1.0, True, "1", None)),
    *(("ts_us", wrong) for wrong in (1.0, float("nan"), True, "1", None)),
    *(("src", wrong) for wrong in ("", "x" * 129, 1, None, b"x")),
    *(
        ("epoch", wrong)
        for wrong in ("", "1", "1800000000000000-0000ABCD", "1800000000000000-0000abcd\n", "x" * 25, 1, None)
    ),
    *(("data", wrong) for wrong in (None, NOTHING, "x", {"readings": NOTHING})),
    *(
        (f"data.{key}", wrong)
        for key in ("broker", "exchange")
        for wrong in ("", "A/b", "a\n", "a" * 49, 1, None)
    ),
    *(
        (f"data.{key}", wrong)
        for key in ("simulated", "available", "stale")
        for wrong in (0, 1, "true", None)
    ),
    *((f"data.{key}", wrong) for key in ("version", "error_count") for wrong in (-1, 1.0, True, "1", None)),
    *(("data.state", wrong) for wrong in (-1, 1.0, True, "healthy", "1", None)),
    *(("data.reason", wrong) for wrong in ("", "x" * 65, 1, None)),
    *(("data.fault", wrong) for wrong in ("", "x" * 65, 1, False)),
    *(("data.detail", wrong) for wrong in ("x" * 257, 1, None, b"")),
    *(("data.status", wrong) for wrong in ("x" * 17, 1, None)),
    *(("data.since_us", wrong) for wrong in (1.0, "1", None)),
    *(("data.as_of_us", wrong) for wrong in (1.0, "1", True)),
    *(("data.age_ms", wrong) for wrong in (-1, 1.0, "1", True)),
    *(("data.max_age_ms", wrong) for wrong in (-1, 1.0, "1", True)),
    *(
        (key, wrong)
        for key in (
            "data.cash",
            *(f"data.balance.USD.{part}" for part in ("free", "used", "total", "staked", "earning")),
        )
        for wrong in (
            *("1e5", "NaN", "Infinity", "", "+1", "1.", ".5", "1\n", "1_0", "9" * 31, "0." + "1" * 19),
            1,
            1.5,
        )
    ),
    *((f"data.balance.USD.{part}", None) for part in ("free", "staked", "earning")),
    *(
        ("data.balance", wrong)
        for wrong in (NOTHING, "x", {"USD": None}, {"USD": "1"}, {"USD": {"free": "1"}})
    ),
    *(("data.labels", wrong) for wrong in (None, NOTHING, {"a": 1}, {"a": None}, {"a": "x" * 5_000})),
)


@pytest.mark.parametrize(("path", "wrong"), WRONG_VALUES)
def test_a_value_of_the_wrong_type_or_out_of_its_range_is_an_error(path: str, wrong: object) -> None:
    message = plain()
    assert check(pack(message))
    *way, last = path.split(".")
    inner = message
    for part in way:
        inner = inner[part]
    inner[last] = wrong
    refuse(pack(message))


def test_the_data_must_be_that_of_the_type() -> None:
    refuse(pack({**plain(), "type": "roster"}))
    refuse(pack({**plain(MessageType.ROSTER), "type": "reading"}))


@pytest.mark.parametrize("wrong", [b"x", _msgpack.ExtType(5, b"x"), _msgpack.Timestamp(1, 0)])
def test_bin_and_ext_types_are_refused_even_where_nobody_looks(wrong: object) -> None:
    refuse(pack({**plain(), "extra": wrong}))


def test_a_message_that_no_receiver_would_take_is_not_sent() -> None:
    huge = msgspec.structs.replace(reading().data(), labels={f"{n}": "x" * 4_000 for n in range(300)})
    with pytest.raises(CodecError, match="receivers accept 1,048,576"):
        encode(Envelope(type=MessageType.READING, stamp=stamp(), data=huge))


# Words of a later version -----------------------------------------------------------------------------

LATER: Final[dict[str, Any]] = {
    "reason": "solar_storm",
    "fault": "eclipse",
    "state": 6,
    "status": "eclipsed",
    "a_new_key": {"x": 1},
    "capabilities": {"read": {"state": "dimmed", "reason": "eclipse", "since_us": 1}},
}
"""What a publisher of a later version may say of an account."""


@pytest.mark.parametrize("said", [*([word] for word in LATER), list(LATER)], ids="+".join)
@pytest.mark.parametrize("available", [True, False])
@pytest.mark.parametrize("kind", [kind for kind in MessageType if DATA[kind] in (ReadingData, RosterData)])
def test_a_word_of_a_later_version_loses_no_message(
    kind: MessageType, available: bool, said: list[str]
) -> None:
    message = _msgpack.unpackb(encode(example(kind)))
    shown = message["data"]["readings"][0] if kind is MessageType.ROSTER else message["data"]
    shown.update({word: LATER[word] for word in said}, available=available)
    data = decode(_msgpack.packb(message)).data
    if isinstance(data, RosterData):
        assert [one.broker for one in data.readings] == ["kraken-main", "okx-2"]
        data = data.readings[0]
    assert isinstance(data, ReadingData)
    assert (data.broker, data.available, data.cash) == ("kraken-main", available, "1234.56")
    assert (data.reason is Reason.OTHER) == ("reason" in said)
    assert (data.fault is FaultKind.OTHER) == ("fault" in said)
    assert (data.state is HealthState.UNKNOWN) == ("state" in said)


class FirstReading(msgspec.Struct):
    """A reading as a listener of the first version reads it: those keys, and no other list of words."""

    broker: str
    exchange: str
    simulated: bool
    broker_epoch: str
    version: int
    state: int
    status: str
    available: bool
    reason: str
    detail: str
    since_us: int
    error_count: int
    fault: str | None
    as_of_us: int | None
    age_ms: int | None
    stale: bool
    cash: str | None
    balance: dict[str, dict[str, str]] | None
    labels: dict[str, str]


@given(said=our.envelopes().filter(lambda said: DATA[said.type] in (ReadingData, RosterData)))
def test_an_old_listener_reads_what_this_version_says(said: Envelope) -> None:
    data = _msgpack.unpackb(encode(said))["data"]
    for shown in data["readings"] if said.type is MessageType.ROSTER else [data]:
        old = msgspec.convert(shown, FirstReading)
        assert old.available is shown["available"]
        assert old.cash == shown["cash"]


# The largest things that we send --------------------------------------------------------------------


def test_the_largest_account_fits_into_a_message() -> None:
    number = f"-{LONGEST}"
    held = HoldingData(free=number, used=number, total=number)
    balance = {f"{n:020d}": held for n in range(MAX_CURRENCIES)}
    data = msgspec.structs.replace(
        reading().data(), balance=balance, cash=LONGEST, detail="\N{MONEY BAG}" * MAX_DETAIL
    )
    message = Envelope(type=MessageType.READING, stamp=stamp(), data=data)
    assert decode(encode(message)) == message


def test_a_roster_of_five_hundred_brokers_fits_into_a_message() -> None:
    one = msgspec.structs.replace(
        reading().data(with_balance=False),
        broker="b" * 48,
        exchange="e" * 48,
        detail="é" * MAX_DETAIL,
        cash=LONGEST,
        labels={"desk": "l" * 100},
    )
    message = Envelope(type=MessageType.ROSTER, stamp=stamp(), data=RosterData(readings=(one,) * 500))
    assert decode(encode(message)) == message


def test_what_came_in_is_passed_on_as_it_came_and_is_the_same_money() -> None:
    data = decode(encode(example(MessageType.READING))).data
    assert isinstance(data, ReadingData)
    assert data.balance is not None
    heard = Reading.received(data, clock=ManualClock(), sent_up_s=1.0, valid_until_s=9.0)
    assert heard.data().balance == data.balance
    assert heard.balance is not None
    assert isinstance(heard.balance, LazyHoldings)
    same = {code: heard.balance[code] for code in heard.balance}
    assert all(isinstance(held.free, Decimal) for held in same.values())
    shown: object = heard.balance
    assert shown == same
    assert repr(heard.balance) == repr(same)
    zeros = {
        code: msgspec.structs.replace(held, free=held.free + ("0" if "." in held.free else ".0"))
        for code, held in data.balance.items()
    }
    assert LazyHoldings(zeros) == heard.balance, "more zeros are the same amount"
    code = next(iter(data.balance))
    other = {**data.balance, code: msgspec.structs.replace(data.balance[code], used="7")}
    assert LazyHoldings(other) != heard.balance
    with pytest.raises(KeyError):
        heard.balance["XYZ"]


# The schema -----------------------------------------------------------------------------------------


def properties(of: type[msgspec.Struct], *optional: str) -> dict[str, Any]:
    """What the exported schema says of each key; every key is required but the optional ones."""
    schema = msgspec.json.schema(of)
    found = schema["$defs"][of.__name__]
    assert [*found["required"], *optional] == list(found["properties"])
    keys: dict[str, Any] = found["properties"]
    return keys


LATER_KEYS: Final = (
    *("max_age_ms", "overtaken", "cash_unit", "cash_parts", "proof_ms", "capabilities", "closed_markets"),
    "unread",
    "answer_ms",
    "outcome_ms",
    "key",
    "money",
    "stream",
    "vouched_ms",
)
"""Keys of a reading that the first version did not have."""


def test_the_exported_schema_has_the_keys_of_the_protocol_and_no_others() -> None:
    assert tuple(properties(ReadingData, *LATER_KEYS)) == (*READING_KEYS, *LATER_KEYS)
    assert ("v", "type", *properties(Stamp), "data") == ENVELOPE_KEYS
    assert tuple(properties(RosterData, "part", "parts", "shard", "shards")) == (
        *("readings", "part", "parts"),
        *("shard", "shards"),
    )
    assert tuple(words(example(MessageType.ROSTER))["data"]) == ("readings",), "a roster in one part"
    parts = ("free", "used", "total")
    added = (
        *("staked", "earning", "free_unknown", "used_unknown", "unstated_since_us", "total_unknown"),
        "pushed_us",
    )
    assert tuple(properties(HoldingData, *added)) == parts + added
    for kind in MessageType:
        assert tuple(words(example(kind))) == ENVELOPE_KEYS
    assert tuple(words(example(MessageType.READING))["data"]) == READING_KEYS


def test_the_exported_schema_has_the_types_of_the_protocol() -> None:
    def kind(rule: dict[str, Any]) -> set[str]:
        if "$ref" in rule:
            return {str(rule["$ref"]).rpartition("/")[2]}
        parts = rule.get("anyOf", [rule])
        return {name for part in parts for name in (kind(part) if "$ref" in part else {str(part["type"])})}

    assert {key: kind(rule) for key, rule in properties(ReadingData, *LATER_KEYS).items()} == {
        "broker": {"string"},
        "exchange": {"string"},
        "simulated": {"boolean"},
        "broker_epoch": {"string"},
        "version": {"integer"},
        "state": {"HealthState"},
        "status": {"string"},
        "available": {"boolean"},
        "reason": {"Reason"},
        "detail": {"string"},
        "since_us": {"integer"},
        "error_count": {"integer"},
        "fault": {"FaultKind", "null"},
        "as_of_us": {"integer", "null"},
        "age_ms": {"integer", "null"},
        "stale": {"boolean"},
        "cash": {"string", "null"},
        "balance": {"object", "null"},
        "labels": {"object"},
        "max_age_ms": {"integer", "null"},
        "overtaken": {"boolean"},
        "cash_unit": {"string"},
        "cash_parts": {"object"},
        "proof_ms": {"integer", "null"},
        "capabilities": {"object"},
        "closed_markets": {"object"},
        "unread": {"array"},
        "answer_ms": {"integer", "null"},
        "outcome_ms": {"integer", "null"},
        "key": {"KeyData", "null"},
        "money": {"array"},
        "stream": {"StreamData", "null"},
        "vouched_ms": {"integer", "null"},
    }
