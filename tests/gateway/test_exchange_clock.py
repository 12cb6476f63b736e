"""The clock of an exchange is measured in the background, and an order waits for it once at the most."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from brokerwatch.clock import ManualClock
from brokerwatch.errors import CouldNotAsk
from brokerwatch.exchanges.okx import ORDER_DEADLINE
from brokerwatch.gateway import exchange_clock
from brokerwatch.gateway.exchange_clock import AGAIN_S, RETRY_S, ExchangeClock


class Exchange:
    """Answers with the time of a manual clock, unless it hangs or fails."""

    def __init__(self) -> None:
        self.clock, self.asked, self.hangs, self.fails = ManualClock(), 0, False, False

    async def __call__(self) -> int:
        self.asked += 1
        if self.hangs:
            await asyncio.get_running_loop().create_future()
        if self.fails:
            raise CouldNotAsk("down")
        return self.clock.now().wall_us // 1_000

    def measured_by(self) -> ExchangeClock:
        return ExchangeClock(self, self.clock, ORDER_DEADLINE)


def run(main: Callable[[Exchange], Awaitable[None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(30):
            await main(Exchange())

    asyncio.run(within())


def test_an_order_waits_for_the_first_measurement_and_has_a_deadline_by_it() -> None:
    async def main(exchange: Exchange) -> None:
        known = exchange.measured_by()
        assert known.deadline(3.0) is None
        await known.ready()
        found = known.deadline(3.0)
        assert found is not None
        assert found.at_us >= exchange.clock.now().wall_us + 3_000_000
        await known.ready()
        assert exchange.asked == 1

    run(main)


def test_it_is_measured_again_only_when_the_last_measurement_is_old() -> None:
    async def main(exchange: Exchange) -> None:
        known = exchange.measured_by()
        await known.ready()
        exchange.clock.advance(AGAIN_S - 1)
        known.refresh()
        await asyncio.sleep(0)
        assert exchange.asked == 1
        exchange.clock.advance(1)
        known.refresh()
        known.refresh()
        await asyncio.sleep(0)
        assert exchange.asked == 2

    run(main)


def test_a_question_that_fails_is_asked_again_later_and_gives_no_deadline() -> None:
    async def main(exchange: Exchange) -> None:
        exchange.fails = True
        known = exchange.measured_by()
        await known.ready()
        await known.ready()
        assert (exchange.asked, known.deadline(3.0)) == (1, None)
        exchange.fails = False
        exchange.clock.advance(RETRY_S)
        known.refresh()
        await asyncio.sleep(0.01)
        assert known.deadline(3.0) is not None

    run(main)


def test_orders_do_not_wait_one_after_the_other_for_an_exchange_that_hangs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(exchange_clock, "READY_S", 0.01)

    async def main(exchange: Exchange) -> None:
        exchange.hangs = True
        known = exchange.measured_by()
        await known.ready()
        next_order = asyncio.create_task(known.ready())
        await asyncio.sleep(0)
        assert next_order.done()

    run(main)


def test_where_no_order_has_a_deadline_nothing_is_asked() -> None:
    async def main(exchange: Exchange) -> None:
        known = ExchangeClock(exchange, exchange.clock, None)
        await known.ready()
        assert (exchange.asked, known.deadline(3.0)) == (0, None)

    run(main)
