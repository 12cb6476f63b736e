"""An exchange whose stream does what no stream should: after each step no wrong amount is without a mark.

The exchange here is none of the simulator's: it writes its own frames, and spoils them. What is in the
account at each moment is known. In fast motion, by seeds.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any, Final, cast

import pytest

from brokerwatch.exchanges.balances import FetchedBalance
from brokerwatch.exchanges.rate_limit import Budget
from brokerwatch.messages import Reading
from brokerwatch.messages.stream import StreamState
from tests.support.fast_account import FastAccount, Pipe
from tests.support.pushed_loop import PushedLoop, on_a_pushed_loop

SEEDS: Final = range(int(os.environ.get("BROKERWATCH_HOSTILE_SEEDS", "4")))
STEPS: Final = 250
CURRENCIES: Final = ("USDT", "BTC", "ETH")
WEIRD: Final[tuple[Any, ...]] = (
    None, True, [], {}, "", "NaN", "Infinity", "-1", "1e400", "0x1", "9" * 60, -5, {"a": 1}, "1,5", " 7",
)  # fmt: skip


class Script:
    """The lines of one exchange: it says what is in the account, or something else."""

    def __init__(self, chance: random.Random, truth: Callable[[], Mapping[str, Decimal]]) -> None:
        self.chance = chance
        self.truth = truth
        self.outbox: list[str] = []
        self.open = False
        self.refuses = self.lags = False
        self.number = 0
        """Of the newest frame at Kraken; OKX's time in ms."""
        self.entries = 0

    # What `Pipe` needs of a line ---------------------------------------------------------------------

    def receive(self, text: str) -> None:
        """A frame of the client's."""
        raise NotImplementedError

    # What the attack does ----------------------------------------------------------------------------

    def snapshot(self, amounts: Mapping[str, Decimal]) -> list[str]:
        """The frames that state these amounts as the whole."""
        raise NotImplementedError

    def update(self, amounts: Mapping[str, Decimal]) -> list[str]:
        """The frames that state these as changed."""
        raise NotImplementedError

    def restart(self) -> None:
        """The numbers, or the clock, of the exchange begin anew."""
        raise NotImplementedError


class Kraken(Script):
    """Kraken's lines."""

    def receive(self, text: str) -> None:
        message = json.loads(text)
        if message["method"] == "ping":
            self.outbox.append('{"method":"pong"}')
        elif self.refuses:
            self.outbox.append('{"method":"subscribe","success":false,"error":"EGeneral:Internal error"}')
        else:
            self.open = True
            answer, whole = ['{"method":"subscribe","success":true}'], self.snapshot(self.truth())
            self.outbox += whole + answer if self.chance.random() < 0.3 else answer + whole

    def _frame(self, kind: str, rows: list[dict[str, Any]]) -> str:
        self.number += 1
        return json.dumps({"channel": "balances", "type": kind, "data": rows, "sequence": self.number})

    def snapshot(self, amounts: Mapping[str, Decimal]) -> list[str]:
        rows = [
            {
                "asset": code,
                "balance": str(each),
                "wallets": [{"type": "spot", "id": "main", "balance": str(each)}],
            }
            for code, each in amounts.items()
        ]
        self.chance.shuffle(rows)
        return [self._frame("snapshot", rows)]

    def update(self, amounts: Mapping[str, Decimal]) -> list[str]:
        rows: list[dict[str, Any]] = []
        for code, each in amounts.items():
            self.entries += 1
            row = {"asset": code, "balance": str(each), "ledger_id": f"L{self.entries}", "amount": "1"}
            rows.append({**row, "wallet_type": "spot", "wallet_id": "main"})
        if self.chance.random() < 0.5:
            return [self._frame("update", rows)]
        return [self._frame("update", [row]) for row in rows]

    def restart(self) -> None:
        self.number = self.chance.randrange(3)


class Okx(Script):
    """OKX's lines."""

    def receive(self, text: str) -> None:
        if text == "ping":
            self.outbox.append("pong")
            return
        message = json.loads(text)
        if message["op"] == "login":
            self.outbox.append('{"event":"login","code":"0","msg":""}')
        elif self.refuses:
            self.outbox.append('{"event":"error","code":"60012","msg":"Illegal request"}')
        else:
            self.open = True
            self.outbox.append('{"event":"subscribe","arg":{"channel":"account"}}')
            self.outbox += self.snapshot(self.truth())

    def _frame(self, amounts: Mapping[str, Decimal], **more: Any) -> str:
        details = [
            {
                "ccy": code,
                "eq": str(each),
                "cashBal": str(each),
                "availBal": str(each),
                "availEq": "",
                "frozenBal": "0",
                "uTime": str(self.number),
            }
            for code, each in amounts.items()
        ]
        self.chance.shuffle(details)
        row = {"totalEq": "", "details": details, "uTime": str(self.number)}
        return json.dumps(
            {"arg": {"channel": "account"}, "data": [row], "curPage": 1, "lastPage": True, **more}
        )

    def snapshot(self, amounts: Mapping[str, Decimal]) -> list[str]:
        self.number += 1
        held = {code: each for code, each in amounts.items() if each}
        if self.chance.random() < 0.5 and len(held) > 1:
            pages = [{code: each} for code, each in held.items()]
            return [
                self._frame(page, eventType="snapshot", curPage=at, lastPage=at == len(pages))
                for at, page in enumerate(pages, 1)
            ]
        return [self._frame(held, eventType="snapshot")]

    def update(self, amounts: Mapping[str, Decimal]) -> list[str]:
        self.number += self.chance.randrange(3)  # of one moment, now and then
        return [self._frame(amounts, eventType="event_update")]

    def restart(self) -> None:
        self.number = max(0, self.number - self.chance.randrange(50))


SCRIPTS: Final[dict[str, type[Script]]] = {"kraken": Kraken, "okx": Okx}


class Attack(FastAccount):
    """One account at such an exchange."""

    def __init__(self, loop: PushedLoop, exchange: str, chance: random.Random) -> None:
        self.chance = chance
        self.script = SCRIPTS[exchange](chance, lambda: self.amounts)
        self.amounts: dict[str, Decimal] = {}
        self.past: list[tuple[float, dict[str, Decimal]]] = []
        self.late: list[str] = []
        self.known: set[str] = set()
        """Currencies that the account has held."""
        super().__init__(loop, exchange, budget=Budget(1_000.0, 1_000.0))

    async def _connect(self, url: str, **values: object) -> Pipe:
        pipe = await super()._connect(url, **values)
        self.script.outbox, self.script.open, self.late = [], False, []
        pipe.line = self.script  # type: ignore[assignment] # pyright: ignore[reportAttributeAccessIssue] - ours
        return pipe

    def change(self) -> dict[str, Decimal]:
        """Other amounts of one or two currencies; sometimes nothing is left of one."""
        changed: dict[str, Decimal] = {}
        for code in self.chance.sample(CURRENCIES, self.chance.choice((1, 1, 2))):
            changed[code] = Decimal(self.chance.choice((0, 1, 1, 1)) * self.chance.randint(1, 10**6)) / 100
        self.amounts = {**self.amounts, **changed}
        self.past.append((self.loop.time(), dict(self.amounts)))
        self.has({code: (f"{each:f}", "0") for code, each in self.amounts.items()})
        return changed

    def spoiled(self, frames: list[str]) -> list[str]:
        """What becomes of frames on their way."""
        chance = self.chance
        match chance.randrange(22):
            case 0:
                return []
            case 1:
                return [*frames, *frames]
            case 2:
                return frames[::-1]
            case 3:
                self.late += frames  # they come with the next ones, or after them
                return []
            case 4:
                return [frame[: chance.randrange(len(frame))] for frame in frames]
            case 5:
                return [self._retyped(frame) for frame in frames]
            case 6:
                return [chance.choice(("[]", "null", "7", '"x"', "{}", "\x00", "[" * 5_000)), *frames]
            case 7:
                return [*frames, json.dumps({"channel": "other", "arg": {"channel": "other"}, "data": [1]})]
            case 8:
                return [*frames, *self.script.snapshot(self.past[chance.randrange(len(self.past))][1])]
            case 9:
                self.script.restart()
                return [*self.script.snapshot(self.amounts), *frames]
            case 10:
                self.script.restart()
                return frames
            case 11:
                return self.script.update({f"X{number}": Decimal(number) for number in range(3_000)})
            case 12:
                lie = {chance.choice(CURRENCIES): Decimal(chance.randint(1, 10**6))}
                return [*frames, *self.script.update(lie)]
            case 13:
                return [" " * 1_000_000 + frame for frame in frames]
            case _:
                return frames

    def _retyped(self, frame: str) -> str:
        """A frame in which one value is of another type."""
        message: Any = json.loads(frame)
        at: Any = message
        while True:
            keys: list[Any] = list(at if isinstance(at, dict) else range(len(at)))  # pyright: ignore[reportUnknownArgumentType] - JSON
            key = self.chance.choice(keys)
            if at[key] and isinstance(at[key], dict | list) and self.chance.random() < 0.8:
                at = cast("Any", at[key])
                continue
            at[key] = self.chance.choice(WEIRD)
            return json.dumps(message)

    def say(self, frames: list[str]) -> None:
        """These frames come."""
        if self.pipe is not None and self.pipe.is_open and self.script.open:
            for frame in frames:
                self.pipe.put(frame)

    async def step(self) -> None:
        """One thing happens at the exchange."""
        chance = self.chance
        match chance.randrange(30):
            case 0 if self.pipe is not None:
                self.pipe.cut()
            case 1:
                self.connects = not self.connects
            case 2:
                self.script.refuses = not self.script.refuses
            case 3:
                await asyncio.sleep(chance.choice((0.3, 1.0, 4.0, 20.0, 130.0)))
            case 4:
                self.change()  # and it is not pushed
            case _:
                changed = self.change()
                late, self.late = self.late, []
                self.say([*self.spoiled(self.script.update(changed)), *late])
        await asyncio.sleep(chance.choice((0.0, 0.0, 0.001, 0.02, 0.06, 0.2, 0.3, 1.0, 3.0)))

    async def read(self, deadline_s: float) -> FetchedBalance:
        """An answer, which leaves out what is zero as often as not; or none."""
        found = await super().read(deadline_s)
        if self.chance.random() < 0.1:
            raise ConnectionResetError("by the exchange")
        left_out = self.chance.random() < 0.5
        return FetchedBalance({c: held for c, held in found.holdings.items() if held.total or not left_out})

    def hear(self, message: object, after_s: float = 0.0) -> Any:
        """After each message the reading is looked at."""
        said = super().hear(message, after_s)
        self.check(self.reading)
        return said

    def check(self, reading: Reading) -> None:
        """Raise AssertionError for an amount that is wrong and has no mark."""
        if reading.balance is None or reading.as_of is None:
            return
        asked_s = reading.as_of.up_s
        since = [amounts for at_s, amounts in self.past if at_s > asked_s]
        before = [amounts for at_s, amounts in self.past if at_s <= asked_s]
        possible = before[-1:] + since
        for code in {*CURRENCIES, *reading.balance}:
            held = reading.balance.get(code)
            total = Decimal(0) if held is None else held.total
            is_marked = held is not None and (held.pushed_us, held.unstated_since_us) != (None, None)
            true = {amounts.get(code, Decimal(0)) for amounts in possible}
            assert is_marked or total in true, (code, held, true, reading.as_of, reading.stream)


def calm(attack: Attack) -> bool:
    held = attack.reading.balance or {}
    found = {code: each.total for code, each in held.items() if each.total}
    marks = [code for code, each in held.items() if each.pushed_us is not None or each.unstated_since_us]
    return not marks and found == {code: each for code, each in attack.amounts.items() if each}


@pytest.mark.parametrize("exchange", SCRIPTS)
@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_frames_come_no_wrong_amount_is_without_a_mark(exchange: str, seed: int) -> None:
    counted: list[dict[str, int]] = []

    async def work(loop: PushedLoop) -> None:
        attack = Attack(loop, exchange, random.Random(seed))
        attack.change()
        attack.start()
        for _ in range(STEPS):
            await attack.step()
        attack.connects, attack.script.refuses = True, False
        for _ in range(400):
            if calm(attack):
                break
            await asyncio.sleep(1.0)
        counted.append(attack.tally.pushes.counts())
        assert calm(attack), (seed, attack.reading.balance, attack.amounts, attack.reading.stream)
        stream = attack.reading.stream
        assert stream is not None
        assert stream.state in StreamState
        await attack.stop()

    on_a_pushed_loop(work)
    assert counted[0]["amounts"] > 0, (seed, counted)
