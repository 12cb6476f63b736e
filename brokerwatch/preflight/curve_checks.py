"""What `brokerwatch doctor` says of [curve]: whether its key pair can be used, and what is let in."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from brokerwatch.bus.curve import pair_mistake
from brokerwatch.config.curve_keys import read_list, read_pair
from brokerwatch.config.curve_settings import CurveSettings
from brokerwatch.preflight.diagnosis import Line, fail, ok, warn

SUBJECT: Final = "curve"


def curve_lines(curve: CurveSettings | None, *, reports: bool = False) -> Iterator[Line]:
    """The lines about [curve]; none without it. Its files were read with the configuration.

    `reports`: whether this process reports to supervisors elsewhere, which let others in for it.
    """
    if curve is None:
        return
    try:
        pair, lists = read_pair(curve.key_file), {"subscribers": curve.subscribers, "brokers": curve.brokers}
        listed = {name: len(read_list(path)[0]) for name, path in lists.items() if path}
    except ValueError as error:  # they have changed since
        yield fail(SUBJECT, "keys", str(error), "put the files of [curve] back")
        return
    if mistake := pair_mistake(pair):
        yield fail(
            SUBJECT, "keys", mistake, "copy the key pair again, or make another: brokerwatch keys make"
        )
    elif not any(listed.values()) and reports:
        words = f"the key pair {pair.name} can be used with its supervisors; no other key is let in here"
        yield ok(SUBJECT, "keys", words)
    elif not any(listed.values()):
        yield warn(
            SUBJECT,
            "keys",
            f"no key but the cluster's own ({pair.name}) is let in",
            "let one in with `brokerwatch keys allow`",
        )
    else:
        counts = ", ".join(f"{name}: {count}" for name, count in listed.items())
        yield ok(SUBJECT, "keys", f"the key pair {pair.name} can be used; keys that are let in: {counts}")
