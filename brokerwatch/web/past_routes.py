"""The routes to the time before now: `/v1/timeline` and `/v1/history`.

Both read the disk, so they do it on a thread of their own. Fifty readers of one window cost one reading of
it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Final

import msgspec
from aiohttp import web

from brokerwatch.health.timeline import Span
from brokerwatch.health.uptime import AnswerTimes
from brokerwatch.messages import topics
from brokerwatch.storage.chronicle import DAY_US, CashSample
from brokerwatch.web.past import (
    MOST_LINES,
    USUAL_LINES,
    WINDOWS,
    HistoryAnswer,
    TimelinesAnswer,
    heard_transitions,
    history,
    moment_us,
    timeline,
)
from brokerwatch.web.view import View

HEARD_US: Final = 30 * DAY_US
"""How far a history of what was heard goes back, where no moment is named."""


class PastRoutes:
    """The routes over one view. Used on the server's loop."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._lock = asyncio.Lock()
        """One reading of the disk at a time."""
        self._kept: dict[str, tuple[float, frozenset[str], bytes]] = {}
        """Window to when its answer was made, whose amounts were published then, and the answer."""

    def routes(self) -> list[web.RouteDef]:
        """What is added to the application."""
        return [web.get("/v1/timeline", self._timeline), web.get("/v1/history", self._history)]

    async def _timeline(self, request: web.Request) -> web.StreamResponse:
        name, broker = request.query.get("window", "24h"), self._broker(request)
        if name not in WINDOWS:
            raise web.HTTPBadRequest(reason=f"window: expected one of {', '.join(WINDOWS)}")
        async with self._lock:
            now_s = self._view.clock.up_s()
            # What is not published any more is in no answer that was kept, either.
            open_now = frozenset(each.reading.broker for each in self._view.heard() if each.reading.cash_unit)
            made_s, were_open, body = self._kept.get(name, (float("-inf"), open_now, b""))
            is_kept = now_s - made_s < WINDOWS[name].keep_s and were_open <= open_now
            if broker is not None or not is_kept:
                body = msgspec.json.encode(await asyncio.to_thread(self._timelines, name, broker))
                if broker is None:
                    self._kept[name] = (now_s, open_now, body)
        return web.Response(body=body, content_type="application/json")

    async def _history(self, request: web.Request) -> web.StreamResponse:
        broker, now_us = self._broker(request), self._view.clock.now().wall_us
        try:
            since_us = moment_us(request.query["since"], now_us) if "since" in request.query else None
            limit = int(request.query.get("limit", USUAL_LINES))
        except ValueError as error:
            why = str(error) if "since:" in str(error) else ""
            raise web.HTTPBadRequest(reason=why or f"limit: expected a number up to {MOST_LINES}") from None
        if not 1 <= limit <= MOST_LINES:
            raise web.HTTPBadRequest(reason=f"limit: expected a number from 1 to {MOST_LINES}")
        async with self._lock:
            found = await asyncio.to_thread(self._lines, broker, since_us, limit)
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    def _broker(self, request: web.Request) -> str | None:
        """The account that a request names; None: all of them."""
        broker = request.query.get("broker")
        if broker is not None and not topics.is_name(broker):
            raise web.HTTPBadRequest(reason="broker: expected the name of an account")
        return broker

    def _timelines(self, name: str, broker: str | None) -> TimelinesAnswer:
        view, window = self._view, WINDOWS[name]
        now_us = view.clock.now().wall_us
        from_us = now_us - window.length_us
        newest = {each.reading.broker: each for each in view.heard()}
        wanted = tuple(newest) if broker is None else (broker,)
        spans: Mapping[str, list[Span]] = {}
        samples: Mapping[str, list[CashSample]] = {}
        answers: Mapping[str, AnswerTimes] = {}
        if view.chronicle is not None:
            # An outage that ended in the window may have begun long before it.
            spans = view.chronicle.spans(from_us - window.length_us, now_us)
            samples = view.chronicle.cash(from_us)
            answers = view.chronicle.answers(from_us, window.counted_us)
        return TimelinesAnswer(
            window=name,
            from_us=from_us,
            until_us=now_us,
            cells=window.cells,
            brokers=tuple(
                timeline(
                    each,
                    window,
                    now_us,
                    spans.get(each, ()),
                    samples.get(each, ()),
                    answers.get(each),
                    newest.get(each),
                    with_spans=broker is not None,
                )
                for each in wanted
                if each in newest or each in spans
            ),
        )

    def _lines(self, broker: str | None, since_us: int | None, limit: int) -> HistoryAnswer:
        view = self._view
        if view.transitions is not None:
            return history(view.transitions(broker, since_us, limit + 1), limit)
        if view.chronicle is None:
            return HistoryAnswer(lines=(), more=False)
        now_us = view.clock.now().wall_us
        since_us = now_us - HEARD_US if since_us is None else since_us
        spans = view.chronicle.spans(since_us, now_us)
        return history(heard_transitions(spans, broker, since_us, limit + 1), limit)
