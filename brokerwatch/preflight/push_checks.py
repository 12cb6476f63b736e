"""What an account with `push = true` needs, as far as it is known without asking its exchange."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.exchanges.registry import FAMILIES
from brokerwatch.exchanges.streams import STREAMS
from brokerwatch.gateway.pro_stream import NO_STREAM, has_stream
from brokerwatch.gateway.stream import DIRECT, NO_ADDRESS, PROXIES
from brokerwatch.preflight.diagnosis import Line, fail, ok, warn

CHECK: Final = "push"
OFF: Final = "or set push = false"


def push_lines(spec: BrokerSpec) -> Iterator[Line]:
    """What is to be said of the stream of one account; nothing where it has none."""
    if not spec.push:
        return
    subject = f"broker {spec.name}"
    addresses: Any = spec.ccxt.get("urls") or {}
    proxied = any(value for name, value in spec.ccxt.items() if "proxy" in name.lower())
    fold = STREAMS.get(FAMILIES.get(spec.exchange, ""))
    if proxied and not any(spec.ccxt.get(name) for name in PROXIES):
        yield fail(subject, CHECK, DIRECT, f"write wssProxy under ccxt, {OFF}")
    elif addresses and "ws" not in (addresses.get("api") or {}):
        yield fail(subject, CHECK, NO_ADDRESS, f"write the address under ccxt.urls.api.ws, {OFF}")
    elif fold is None and not asyncio.run(has_stream(spec.exchange)):
        yield fail(subject, CHECK, NO_STREAM, "set push = false")
    elif fold is None or not fold.sets:
        yield ok(subject, CHECK, "on: a change asks for a read, and polls are as often as ever")
    elif fold.ticket is not None:
        needs = f"on: the key needs the right {fold.ticket.right!r}, which is not known without asking"
        yield warn(subject, CHECK, needs, f"`brokerwatch verify {spec.name}` asks whether it has it")
    else:
        yield ok(subject, CHECK, "on: amounts are shown as they are pushed, and confirmed by reads")
