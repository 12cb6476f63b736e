"""A coverage-guided search for a body that is neither a message nor a CodecError.

    make fuzz                                     # two minutes
    make fuzz ARGS="-max_total_time=3600"         # libFuzzer's own options

It begins with the test vectors. Half of the bodies are mutated as bytes. The others are unpacked, changed in
one place and packed again, since a change of bytes rarely leaves valid msgpack behind. What breaks is written
to a file.
"""

from __future__ import annotations

import importlib
import random
import sys
import tempfile
from pathlib import Path
from typing import Any, Final, cast

atheris: Final[Any] = importlib.import_module("atheris")  # it has no annotations
msgpack: Final[Any] = importlib.import_module("msgpack")

with atheris.instrument_imports(include=["brokerwatch"]):
    from brokerwatch.bus.reception import Receiver
    from brokerwatch.clock import ManualClock
    from brokerwatch.errors import CodecError
    from brokerwatch.messages import topics
    from brokerwatch.messages.codec import MAX_BODY_BYTES, decode, encode
    from tests.support.wire_vectors import bodies

USUAL_S: Final = "120"
TOPIC: Final = topics.state("kraken", "kraken-main")
VALUES: Final[tuple[Any, ...]] = (
    None, True, False, 0, 1, -1, 2**31, 2**53, 2**63 - 1, 2**64 - 1, -(2**63), 0.0, 1e308, float("nan"),
    float("inf"), "", "0", "1e3", "9" * 30, "9" * 31, "-0", "a" * 4_097, "\x00", "\ud7ff", [], {}, [[]],
    {"": {}}, b"", b"x",
)  # fmt: skip


def try_one(body: bytes) -> None:
    """Whatever the bytes are, they give an envelope or a CodecError, and a receiver takes or drops it."""
    clock = ManualClock()
    receiver = Receiver(clock)
    try:
        envelope = decode(body)
    except CodecError:
        return
    if len(body) > MAX_BODY_BYTES:
        raise AssertionError("a body beyond the limit was taken")
    if decode(encode(envelope)) != envelope:
        raise AssertionError("it is another message after another way over the wire")
    received = receiver.take(TOPIC, envelope)
    clock.advance(1_300.0)
    receiver.expire()
    if received is not None:
        received.reading.data()
    if any(each.reading.available for each in receiver.newest.values()):
        raise AssertionError("it is available for longer than the longest time to live")


def mutated(body: bytes, longest: int, seed: int) -> bytes:
    """Another body. libFuzzer calls this in place of its own mutation."""
    chance = random.Random(seed)
    if chance.random() < 0.5:
        return cast("bytes", atheris.Mutate(body, longest))
    try:
        found: Any = msgpack.unpackb(body, raw=False, strict_map_key=False)
        _change(found, chance)
        packed = cast("bytes", msgpack.packb(found))
    except Exception:  # noqa: BLE001 - whatever cannot be unpacked is mutated as bytes
        return cast("bytes", atheris.Mutate(body, longest))
    return packed if len(packed) <= longest else body


def _change(place: Any, chance: random.Random) -> None:
    """Change one value somewhere inside."""
    while isinstance(place, dict | list) and place:
        inner = cast("Any", place)
        key = chance.choice(list(inner)) if isinstance(place, dict) else chance.randrange(len(inner))
        deeper = inner[key]
        if isinstance(deeper, dict | list) and deeper and chance.random() < 0.8:
            place = cast("Any", deeper)
            continue
        if isinstance(place, dict) and chance.random() < 0.2:
            del inner[key]
        else:
            inner[key] = chance.choice(VALUES)
        return


def main() -> None:
    """Search until the time is over. libFuzzer ends the process; its status is 0 where it found none."""
    options = sys.argv[1:]
    if not any(each.startswith("-max_total_time") for each in options):
        options.append(f"-max_total_time={USUAL_S}")
    with tempfile.TemporaryDirectory() as corpus:
        for name, (body, _) in bodies().items():
            if len(body) <= 65_536:
                (Path(corpus) / name).write_bytes(body)
        atheris.Setup(
            [sys.argv[0], corpus, "-max_len=65536", *options],
            try_one,
            custom_mutator=mutated,
            enable_python_coverage=True,
        )
        atheris.Fuzz()


if __name__ == "__main__":
    main()
