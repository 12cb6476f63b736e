"""Test vectors of the protocol: bytes, and what must come out of them. They stand in docs/wire/vectors.

    python -m tests.support.wire_vectors

writes them anew, which is a change of the protocol.
"""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import msgpack
import msgspec

from brokerwatch.bus.reception import Receiver
from brokerwatch.clock import ManualClock
from brokerwatch.errors import CodecError
from brokerwatch.messages import Envelope, MessageType, topics
from brokerwatch.messages.codec import MAX_BODY_BYTES, decode, encode, words
from tests.support.wire_examples import NOW, example, reading, stamp

FOLDER: Final = Path(__file__).resolve().parents[2] / "docs" / "wire" / "vectors"
_msgpack: Final[Any] = msgpack  # it has no annotations
TOPIC: Final = topics.state("kraken", "kraken-main")
LATER: Final = "1800000000000001-0000abcd"
FAR: Final = "9999999999999999-0000abcd"


def hex_lines(body: bytes) -> str:
    """Bytes as text, in lines of 96 digits."""
    text = body.hex()
    return "".join(text[start : start + 96] + "\n" for start in range(0, len(text), 96))


def plain(kind: MessageType = MessageType.READING) -> dict[str, Any]:
    """The maps and texts of an example, to be changed."""
    found: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(words(example(kind))))
    return found


def _with(path: str, value: object) -> bytes:
    """A reading in which one value is another one."""
    message = plain()
    *way, last = path.split(".")
    place = message
    for name in way:
        place = place[name]
    place[last] = value
    return cast("bytes", _msgpack.packb(message))


def _without(path: str) -> bytes:
    message = plain()
    *way, last = path.split(".")
    place = message
    for name in way:
        place = place[name]
    del place[last]
    return cast("bytes", _msgpack.packb(message))


def bodies() -> dict[str, tuple[bytes, str]]:
    """Each body by its name, and what it shows."""
    good = encode(example(MessageType.READING))
    return {
        **{str(kind): (encode(example(kind)), f"a {kind} as it is sent") for kind in MessageType},
        "unknown_key": (_with("data.later", 1), "a key of a later version is passed over"),
        "unknown_reason": (
            _with("data.reason", "a_later_word"),
            "a word of a later version reads as `other`",
        ),
        "unknown_state": (_with("data.state", 99), "a number of a later version reads as 0, unknown"),
        "unknown_fault": (_with("data.fault", "a_later_word"), "a word of a later version reads as `other`"),
        "not_a_map": (cast("bytes", _msgpack.packb([1])), "the body is one map"),
        "cut": (good[:-1], "the body is cut"),
        "trailing": (good + b"\xc0", "something follows the map"),
        "empty": (b"", "there is no body"),
        "version_2": (_with("v", 2), "another major version is passed over"),
        "version_text": (_with("v", "1"), "a text is no number"),
        "version_true": (_with("v", True), "true is no number"),
        "version_float": (_with("v", 1.0), "1.0 is no whole number"),
        "unknown_type": (_with("type", "order"), "another type is passed over"),
        "no_src": (_without("src"), "a key of the envelope is missing"),
        "no_available": (_without("data.available"), "a key of the reading is missing"),
        "seq_0": (_with("seq", 0), "numbers begin with 1"),
        "negative_ttl": (_with("ttl_ms", -1), "a time to live is not negative"),
        "epoch_text": (_with("epoch", "soon"), "an epoch has 16 digits, a dash and 8 hexadecimal digits"),
        "available_1": (_with("data.available", 1), "1 is not true"),
        "cash_float": (_with("data.cash", 1234.56), "an amount is a text and never a float"),
        "cash_exponent": (_with("data.cash", "1e3"), "an amount has no exponent"),
        "cash_nan": (_with("data.cash", "NaN"), "an amount is a number"),
        "cash_comma": (_with("data.cash", "1,5"), "an amount has a point"),
        "broker_capitals": (_with("data.broker", "Kraken"), "a name has small letters"),
        "binary": (_with("data.detail", b"x"), "there are no binary values"),
        "too_long": (b"\xc1" * (MAX_BODY_BYTES + 1), "a body is 1 MiB at most"),
    }


def index() -> list[dict[str, Any]]:
    """What must come out of each body: the map as JSON, or null where it is passed over."""
    found: list[dict[str, Any]] = []
    for name, (body, shows) in bodies().items():
        became: Any = None
        with suppress(CodecError):
            became = json.loads(json.dumps(words(decode(body))))
        entry = {"name": name, "shows": shows, "accepted": became is not None, "becomes": became}
        if name == "too_long":  # its file would be as long
            entry["bytes"] = len(body)
        else:
            entry["file"] = f"{name}.hex"
        found.append(entry)
    return found


class Story:
    """Messages as they arrive at one receiver, and what it believes after each."""

    def __init__(self, name: str, shows: str) -> None:
        self._clock = ManualClock(wall_us=NOW.wall_us + 60_000_000)
        self._receiver = Receiver(self._clock)
        self._began_s = self._clock.up_s()
        self._steps: list[dict[str, Any]] = []
        self.told = {
            "name": name,
            "shows": shows,
            "starts_us": self._clock.now().wall_us,
            "steps": self._steps,
        }

    def hears(self, at_ms: int, **changes: Any) -> Story:
        """A reading arrives: `up_ms` on its sender's clock, with these values in its stamp."""
        self._until(at_ms)
        up_ms = changes.pop("up_ms", at_ms)
        data = reading(version=len(self._steps) + 1, detail="").data()
        data = msgspec.structs.replace(data, proof_ms=changes.pop("proof_ms", None))
        sent = Envelope(
            type=MessageType.READING, stamp=stamp(up_us=5_000_000 + up_ms * 1_000, **changes), data=data
        )
        body = encode(sent)
        taken = self._receiver.take(TOPIC, decode(body)) is not None
        self._receiver.expire()
        self._note(at_ms, topic=TOPIC, body=body.hex(), taken=taken)
        return self

    def wakes(self, at_ms: int) -> Story:
        """It read nothing since the step before, and reads now what has come."""
        self._receiver.turn()
        self._until(at_ms)
        self._receiver.turn()
        self._note(at_ms, held_up=True)
        return self

    def waits(self, at_ms: int) -> Story:
        """Nothing arrives until then."""
        self._until(at_ms)
        self._note(at_ms)
        return self

    def _until(self, at_ms: int) -> None:
        self._clock.advance(self._began_s + at_ms / 1_000 - self._clock.up_s())
        self._receiver.expire()

    def _note(self, at_ms: int, **what: Any) -> None:
        believed = {
            received.reading.broker: {
                "available": received.reading.available,
                "reason": str(received.reading.reason),
                "version": received.reading.version,
            }
            for received in self._receiver.newest.values()
        }
        self._steps.append({"at_ms": at_ms, **what, "believed": believed, "lost": self._receiver.lost})


def paused() -> Story:
    """Messages of a sender whose clock has lost ten seconds, one every seven seconds."""
    story = Story(
        "paused", "ten messages over a minute that came equally late show how the clocks differ by now"
    )
    story.hears(0)
    for number in range(11):
        at_ms = 10_000 + 7_000 * number
        story.hears(at_ms, seq=2 + number, up_ms=at_ms - 10_000)
    return story


def made_up_clock() -> Story:
    """One message of a high number and much later, and then the true ones, one every seven seconds."""
    story = Story(
        "made_up_clock", "a number and a clock that are far too high hide later messages for a minute or so"
    )
    story.hears(0).hears(1_000, seq=2**40, up_ms=10**12)
    for number in range(11):
        story.hears(7_000 * (number + 1), seq=2 + number)
    return story


def stories() -> list[dict[str, Any]]:
    """What a receiver must believe, message by message."""
    return [
        each.told
        for each in (
            Story("expiry", "a reading that is not renewed within its time to live is not available")
            .hears(0)
            .waits(4_990)
            .waits(5_010),
            Story("renewal", "each message counts from its own arrival")
            .hears(0)
            .hears(4_000, seq=2)
            .waits(8_000),
            Story("loss", "a gap in the numbers is a loss, and the next message mends it")
            .hears(0)
            .hears(1_000, seq=5),
            Story("repeated", "a message whose number is not above the last one is passed over")
            .hears(0, seq=3, up_ms=1_000)
            .hears(1_000, seq=3, up_ms=1_000)
            .hears(2_000, seq=2, up_ms=500),
            Story("made_up", "a number that is far too high does not make later messages old")
            .hears(0, seq=2**40)
            .hears(1_000, seq=5)
            .hears(2_000, seq=6),
            Story(
                "restart", "a later epoch begins anew, and the earlier one is passed over while it is fresh"
            )
            .hears(0, seq=9)
            .hears(1_000, epoch=LATER, seq=1, up_ms=0)
            .hears(2_000, seq=10),
            Story("farewell", "a time to live of 0 ends the validity at once")
            .hears(0)
            .hears(1_000, seq=2, ttl_ms=0),
            Story("after_farewell", "after it nothing older follows, and any other epoch does")
            .hears(0, epoch=LATER)
            .hears(1_000, epoch=LATER, seq=3, ttl_ms=0)
            .hears(1_100, epoch=LATER, seq=2, up_ms=900)
            .hears(1_200),
            Story(
                "clock_set_back",
                "an earlier epoch is believed when nothing of the later one is valid any more",
            )
            .hears(0, epoch=LATER)
            .hears(4_990)
            .hears(5_010),
            Story(
                "proof",
                "without a new success an account is unproven when `proof_ms` has passed since it was sent",
            )
            .hears(0, proof_ms=3_000)
            .waits(2_990)
            .waits(3_010)
            .hears(4_000, seq=2, up_ms=3_500, proof_ms=1_000)
            .waits(4_490)
            .waits(4_510),
            Story(
                "held_up",
                "what waited for a receiver that was held up is no news, though its epoch is new",
            )
            .hears(0)
            .wakes(60_000)
            .hears(60_001, epoch=LATER, seq=1, up_ms=0)
            .hears(60_002, epoch=LATER, seq=2, up_ms=1_000)
            .waits(61_001)
            .hears(61_002, epoch=LATER, seq=3, up_ms=3_000)
            .waits(65_900),
            Story("held_up_a_little", "a message of a new epoch is as old as the receiver was held up")
            .hears(0)
            .wakes(3_000)
            .hears(3_001, epoch=LATER, seq=1, up_ms=0)
            .waits(4_990)
            .waits(5_010),
            paused(),
            made_up_clock(),
            Story("late", "the time that a message was under way shortens its validity")
            .hears(0)
            .hears(4_000, seq=2, up_ms=1_000)
            .waits(6_010),
            Story("far_epoch", "an epoch that begins more than 400 days ahead is not believed")
            .hears(0, epoch=FAR)
            .hears(1_000),
            Story("long_ttl", "no message is valid for longer than 1,201 s, whatever it claims")
            .hears(0, ttl_ms=2**53)
            .waits(1_200_000)
            .waits(1_202_000),
        )
    ]


def files() -> dict[str, bytes]:
    """Each file of the vectors by its name."""
    made = {
        f"{name}.hex": hex_lines(body).encode() for name, (body, _) in bodies().items() if name != "too_long"
    }
    for name, what in (("bodies.json", index()), ("stories.json", stories())):
        made[name] = json.dumps(what, indent=1, ensure_ascii=False).encode() + b"\n"
    return made


if __name__ == "__main__":
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in files().items():
        (FOLDER / name).write_bytes(text)
