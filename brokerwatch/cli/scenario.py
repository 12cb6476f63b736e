"""Stories that happen to simulated exchanges: scenes one after the other, in code or from a TOML file.

The demo tells one of its own, and `brokerwatch simulate --script` one from a file. Reading a
script notes every mistake in it and not only the first.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol, cast

from brokerwatch.config.toml_lines import TomlLines, key_path
from brokerwatch.config.toml_table import TomlTable, typed
from brokerwatch.errors import Problem
from brokerwatch.simulator import FAULTS, BalanceSpec, SimulatedExchange
from brokerwatch.simulator.account import checked_balance
from brokerwatch.simulator.routes import find_route

MEND: Final = ""
"""In place of a fault: end those that are set."""

_CURRENCY: Final = re.compile(r"[A-Z0-9]+(\.[A-Z0-9]+)?")
_OF_A_FAULT: Final = ("times", "path", "public", "executed", "retry_after_s")
_KEYS: Final = "after_s, fault, mend, times, account, path, public, executed, retry_after_s, balance, says"


@dataclass(frozen=True, slots=True)
class Scene:
    """One thing that happens: how long after the scene before, to whom, and what."""

    after_s: float
    exchange: str
    """The ccxt id."""
    fault: str | None
    """A fault of the simulator; empty mends; None leaves the faults as they are."""
    says: str
    times: int | None = None
    """For how many answers; None: until it is mended."""
    account: str | None = None
    """The API key of the account that it happens to. None: a fault or a mending happens to all of them,
    and a balance is that of the first."""
    path: str | None = None
    """The only path that meets the fault; None: all of them."""
    public: bool = False
    """Public calls meet the fault too."""
    executed: bool = False
    """The exchange does what was asked, and only its answer meets the fault."""
    retry_after_s: float | None = None
    """When the answer says to come back, in seconds."""
    balance: BalanceSpec | None = None
    """What is in the account from now on; None: as before."""

    def happen(self, exchange: SimulatedExchange) -> None:
        """Let it happen, now."""
        if self.balance is not None:
            exchange.set_balance(self.balance, account=self.account)
        if self.fault == MEND:
            exchange.mend(account=self.account)
        elif self.fault is not None:
            exchange.set_fault(
                self.fault,
                self.times,
                account=self.account,
                path=self.path,
                public=self.public,
                executed=self.executed,
                retry_after_s=self.retry_after_s,
            )


class Ended(Protocol):
    """Says when to stop: an event of `threading`, or the stop signals."""

    def wait(self, timeout: float | None = None, /) -> bool:
        """Wait so many seconds at most. Whether it is the end."""
        ...


def tell_story(
    scenes: Iterable[Scene],
    exchanges: Mapping[str, SimulatedExchange],
    ended: Ended,
    tell: Callable[[str], None],
) -> None:
    """Play the scenes at their time, each with its sentence, until the last one or until `ended`."""
    for scene in scenes:
        if ended.wait(scene.after_s):
            return
        scene.happen(exchanges[scene.exchange])
        tell(scene.says)


def fault_mistake(name: str) -> str:
    """What to say of the name of a fault; empty when there is such a fault."""
    if name in FAULTS:
        return ""
    near = difflib.get_close_matches(name.lower(), FAULTS, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}? " if near else ""
    return f"no fault is called {name!r}; {hint}`brokerwatch simulate --faults` lists them all"


def balance_mistake(balance: BalanceSpec) -> str:
    """What to say of a balance; empty when an account can have it."""
    for currency in balance:
        if not _CURRENCY.fullmatch(currency):
            return f"expected a currency as ccxt writes it, such as USD, not {currency!r}"
    try:
        checked_balance(balance)
    except ValueError as error:
        return str(error)
    for currency, amounts in balance.items():
        for amount in amounts:
            if Decimal(amount) < 0:  # a spot account owes nothing
                return f"{currency}: expected an amount of 0 or more, not {amount}"
    return ""


def read_script(
    path: Path, exchange: SimulatedExchange, accounts: Sequence[str], problems: list[Problem]
) -> Iterator[Scene]:
    """The scenes of a TOML file for one exchange with these API keys; endless where it says `repeat`.

    Mistakes go on `problems`, and then the scenes are not to be played.
    """
    where = str(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        content, lines = tomllib.loads(text), TomlLines(text)
    except OSError as error:
        problems.append(Problem(where, "", f"cannot be read: {error.strerror}"))
        return iter(())
    except (ValueError, RecursionError) as error:  # also numbers and nesting beyond what Python reads
        problems.append(Problem(where, "", f"is not TOML: {error}"))
        return iter(())
    top = TomlTable(where, "", content, problems, lines)
    repeat = top.switch("repeat", default=False)
    tables = top.take("scene")
    top.end("repeat and [[scene]]", ("repeat", "scene"))
    listed = cast("list[object]", tables) if isinstance(tables, list) else []
    if not listed or not all(isinstance(one, dict) for one in listed):
        top.wrong("scene", "expected at least one [[scene]] table")
        return iter(())
    scenes = [
        _scene(TomlTable(where, f"scene #{number}", said, problems, lines), said.keys(), exchange, accounts)
        for number, said in enumerate(cast("list[dict[str, Any]]", listed), 1)
    ]
    if repeat and not any(scene.after_s for scene in scenes):
        top.wrong("repeat", "expected an after_s above 0 in one of the scenes, or it would never rest")
    return itertools.cycle(scenes) if repeat else iter(scenes)


def _scene(
    table: TomlTable, given: Collection[str], exchange: SimulatedExchange, accounts: Sequence[str]
) -> Scene:
    after_s = _seconds(table, "after_s", table.number("after_s", 0.0))
    mend = table.switch("mend", default=False)
    fault = table.text("fault", MEND) if "fault" in given else None
    if fault and (mistake := fault_mistake(fault)):
        table.wrong("fault", mistake)
    if mend and fault:
        table.wrong("mend", "expected either a fault or mend = true, and there are both")
    if not fault and (alone := [key for key in _OF_A_FAULT if key in given]):
        table.wrong(alone[0], "expected a fault beside it")
    retry_after_s = table.limit("retry_after_s")
    account = table.whole("account", 1) if "account" in given else None
    if account is not None and not 1 <= account <= len(accounts):
        table.wrong("account", f"expected 1 to {len(accounts)}: so many accounts there are (--accounts)")
        account = None
    balance = _balance(table) if "balance" in given else None
    if fault is None and not mend and balance is None:
        table.wrong("fault", "expected something to happen: a fault, mend = true, or a balance")
    happens = MEND if mend else fault
    scene = Scene(
        after_s,
        exchange.ccxt_id,
        happens,
        table.text("says", "") or _sentence(exchange.ccxt_id, happens, balance),
        times=_times(table) if "times" in given else None,
        account=None if account is None else accounts[account - 1],
        path=_path(table, exchange) if "path" in given else None,
        public=table.switch("public", default=False),
        executed=table.switch("executed", default=False),
        retry_after_s=None if retry_after_s is None else _seconds(table, "retry_after_s", retry_after_s),
        balance=balance,
    )
    table.end(_KEYS)
    return scene


def _seconds(table: TomlTable, key: str, number: float) -> float:
    if math.isfinite(number) and number >= 0:
        return number
    table.wrong(key, f"expected a number of seconds, 0 or more, not {number:g}")
    return 0.0


def _times(table: TomlTable) -> int:
    times = table.whole("times", 1)
    if times < 1:
        table.wrong("times", f"expected 1 or more answers, not {times}; left out, it is until it is mended")
    return times


def _path(table: TomlTable, exchange: SimulatedExchange) -> str:
    path = table.text("path", "")
    routes = {**exchange.public_routes, **exchange.private_routes}
    if not any(find_route(routes, method, path) for method in ("GET", "POST")) and path not in {
        pattern for _, pattern in routes
    }:
        known = ", ".join(sorted({pattern for _, pattern in routes}))
        table.wrong("path", f"the simulated {exchange.ccxt_id} has no {path!r}; it has: {known}")
    return path


def _balance(table: TomlTable) -> BalanceSpec:
    balance: dict[str, tuple[str, str]] = {}
    for currency, amounts in table.table("balance").items():
        match amounts:
            case str(free):
                balance[currency] = (free, "0")
            case [str(free), str(held)]:
                balance[currency] = (free, held)
            case _:
                wanted = 'expected the free and the held amount as texts, such as ["100.00", "0"]'
                table.wrong(key_path("balance", currency), f"{wanted}, not {typed(cast('object', amounts))}")
    for currency, stated in balance.items():
        if mistake := balance_mistake({currency: stated}):
            table.wrong(key_path("balance", currency), mistake.removeprefix(f"{currency}: "))
    return balance


def _sentence(exchange: str, fault: str | None, balance: BalanceSpec | None) -> str:
    met = "" if fault is None else "mended" if fault == MEND else f"{fault}: {FAULTS.get(fault, '')}"
    return f"{exchange}: {', '.join(filter(None, (met, '' if balance is None else 'another balance')))}"
