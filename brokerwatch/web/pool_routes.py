"""The route `/v1/pool`: which nodes a pool has, and which of them has which account."""

from __future__ import annotations

import asyncio
from typing import Annotated, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from brokerwatch.storage.claims import PoolView
from brokerwatch.web.view import View

KEEP_S: Final = 1.0
"""Many readers cost one question to the database a second."""


class PoolNodeAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One live node."""

    node: str
    capacity: float
    """Its weight."""
    labels: dict[str, str]
    egress: str
    """The address that exchanges see; empty: it is not known."""
    since_us: int
    """Wall clock of the node, µs: when its process started."""
    keys: Annotated[int, Meta(ge=0)]
    """How many API keys it has."""


class ClaimAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """One API key of the pool."""

    accounts: tuple[str, ...]
    """The names of the accounts behind it."""
    node: str
    """The node that has it, or had it last."""
    epoch: int
    """It rises with each owner."""
    held: bool
    """Whether the claim is not over."""
    left_ms: int
    """For how long it lasts, unless it is renewed; 0 or less: it is over for so long."""


class PoolAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """A pool at one moment, by its database."""

    pool: str
    """Its name; empty: there is no pool here, or its database cannot be read from here."""
    nodes: tuple[PoolNodeAnswer, ...]
    claims: tuple[ClaimAnswer, ...]


_NO_POOL: Final = msgspec.json.encode(PoolAnswer(pool="", nodes=(), claims=()))


class PoolRoutes:
    """The route over one view. Used on the server's loop."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._lock = asyncio.Lock()
        """One question at a time."""
        self._kept: tuple[float, bytes] = (float("-inf"), b"")

    def routes(self) -> list[web.RouteDef]:
        """What is added to the application."""
        return [web.get("/v1/pool", self._pool)]

    async def _pool(self, _request: web.Request) -> web.StreamResponse:
        look = self._view.pool
        if look is None:
            return web.Response(body=_NO_POOL, content_type="application/json")
        async with self._lock:
            made_s, body = self._kept
            if self._view.clock.up_s() - made_s >= KEEP_S:
                # Where the database does not answer this raises, and the reader is told so.
                body = msgspec.json.encode(_answer(await asyncio.to_thread(look)))
                self._kept = self._view.clock.up_s(), body
        return web.Response(body=body, content_type="application/json")


def _answer(view: PoolView) -> PoolAnswer:
    held = [row.owner for row in view.claims if row.is_held]
    return PoolAnswer(
        pool=view.pool,
        nodes=tuple(
            PoolNodeAnswer(
                node=node.name,
                capacity=node.capacity,
                labels=dict(node.labels),
                egress=node.egress,
                since_us=node.since_us,
                keys=held.count(node.owner),
            )
            for node in view.nodes
        ),
        claims=tuple(
            ClaimAnswer(
                accounts=row.accounts,
                node=row.node,
                epoch=row.epoch,
                held=row.is_held,
                left_ms=round(row.left_s * 1_000),
            )
            for row in view.claims
        ),
    )
