"""Stories that happen to simulated exchanges: scenes one after the other, in code or from a TOML file.

The demo tells one of its own, `brokerwatch simulate` one from a file, and an operator adds a scene while it
serves. Reading notes every mistake and not only the first.
"""

from __future__ import annotations

import difflib
import itertools
import math
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Any, Final, Protocol, cast

from brokerwatch.config.toml_lines import TomlLines, key_path
from brokerwatch.config.toml_table import TomlTable, typed
from brokerwatch.errors import Problem
from brokerwatch.simulator import FAULTS, BalanceSpec, SimulatedExchange
from brokerwatch.simulator.account import checked_balance
from brokerwatch.simulator.markets import BY_SYMBOL
from brokerwatch.simulator.routes import find_route
from brokerwatch.simulator.trading import positive_amount

MEND: Final = ""
"""In place of a fault: end those that are set."""

_CURRENCY: Final = re.compile(r"[A-Z0-9]+(\.[A-Z0-9]+)?")
_OF_A_FAULT: Final = ("times", "path", "public", "executed", "retry_after_s")
_KEYS: Final = (
    "after_s, fault, mend, times, account, path, public, executed, retry_after_s, balance, prices, depth, "
    "fill, says"
)
_ALL: Final = "all"
"""As a depth: limit orders fill whole."""


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
    prices: Mapping[str, str] = field(default_factory=dict[str, str])
    """What markets cost from now on; limit orders that a price reaches fill."""
    depths: Mapping[str, str | None] = field(default_factory=dict[str, str | None])
    """How much limit orders fill at each price, in the base currency; None: all of it."""
    fill: bool = False
    """Every open order of every account fills."""

    def happen(self, exchange: SimulatedExchange) -> None:
        """Let it happen, now."""
        for symbol, depth in self.depths.items():
            exchange.set_depth(symbol, depth)
        for symbol, price in self.prices.items():
            exchange.set_price(symbol, price)
        if self.fill:
            exchange.fill_open_orders()
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
    repeat, tables = top.switch("repeat", default=False), top.take("scene")
    top.end("repeat and [[scene]]", ("repeat", "scene"))
    return scenes_of(top, tables, exchange, accounts, repeat=repeat)


def scenes_of(
    top: TomlTable, tables: object, exchange: SimulatedExchange, accounts: Sequence[str], *, repeat: bool
) -> Iterator[Scene]:
    """The scenes of a table, of which `tables` was taken as its `[[scene]]`."""
    prefix = f"{top.path}." if top.path else ""
    listed = cast("list[object]", tables) if isinstance(tables, list) else []
    if not listed or not all(isinstance(one, dict) for one in listed):
        top.wrong("scene", "expected at least one [[scene]] table")
        return iter(())
    scenes = [
        _scene(
            TomlTable(top.where, f"{prefix}scene #{number}", said, top.problems, top.lines),
            said.keys(),
            exchange,
            accounts,
        )
        for number, said in enumerate(cast("list[dict[str, Any]]", listed), 1)
    ]
    if repeat and not any(scene.after_s for scene in scenes):
        top.wrong("repeat", "expected an after_s above 0 in one of the scenes, or it would never rest")
    return itertools.cycle(scenes) if repeat else iter(scenes)


def read_scene(
    text: str, exchange: SimulatedExchange, accounts: Sequence[str], problems: list[Problem]
) -> Scene | None:
    """The scene that an operator sends: the keys of one `[[scene]]`. None, and mistakes on `problems`."""
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        problems.append(Problem("", "", f"is not TOML: {error}"))
        return None
    if "after_s" in content:
        problems.append(Problem("", "after_s", "expected none: what an operator sends happens at once"))
    scene = _scene(TomlTable("", "", content, problems, TomlLines(text)), content.keys(), exchange, accounts)
    return None if problems else scene


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
    balance = take_balance(table) if "balance" in given else None
    prices = take_prices(table, "prices")
    depths = {
        symbol: None if depth == _ALL else depth
        for symbol, depth in _by_market(
            table, "depth", f'an amount of 0 or more, or "{_ALL}"', _is_depth
        ).items()
    }
    fill = table.switch("fill", default=False)
    if fault is None and not mend and balance is None and not (prices or depths or fill):
        other = "or prices, a depth or fill = true"
        table.wrong("fault", f"expected something to happen: a fault, mend = true, or a balance; {other}")
    happens = MEND if mend else fault
    also = [
        *["another balance"] * (balance is not None),
        *(f"{symbol} costs {price}" for symbol, price in prices.items()),
        *(f"{symbol} has a depth of {_ALL if depth is None else depth}" for symbol, depth in depths.items()),
        *["open orders fill"] * fill,
    ]
    scene = Scene(
        after_s,
        exchange.ccxt_id,
        happens,
        table.text("says", "") or _sentence(exchange.ccxt_id, happens, also),
        times=_times(table) if "times" in given else None,
        account=None if account is None else accounts[account - 1],
        path=_path(table, exchange) if "path" in given else None,
        public=table.switch("public", default=False),
        executed=table.switch("executed", default=False),
        retry_after_s=None if retry_after_s is None else _seconds(table, "retry_after_s", retry_after_s),
        balance=balance,
        prices=prices,
        depths=depths,
        fill=fill,
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


def take_balance(table: TomlTable) -> BalanceSpec:
    """The table `balance` of a table: currency to free and held."""
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


def take_prices(table: TomlTable, key: str) -> dict[str, str]:
    """A table of a table: market to price."""
    return _by_market(table, key, "a price above 0", lambda text: positive_amount(text) is not None)


def _is_depth(text: str) -> bool:
    return text in ("0", _ALL) or positive_amount(text) is not None


def _by_market(table: TomlTable, key: str, wanted: str, good: Callable[[str], bool]) -> dict[str, str]:
    """A table of a table: market to a text that is `good`. Only what is right is in the answer."""
    found: dict[str, str] = {}
    for symbol, value in table.table(key).items():
        if symbol not in BY_SYMBOL:
            near = difflib.get_close_matches(symbol.upper(), BY_SYMBOL, n=1)
            hint = f"did you mean {near[0]}? " if near else ""
            table.wrong(key_path(key, symbol), f"no such market; {hint}there are: {', '.join(BY_SYMBOL)}")
        elif not isinstance(value, str) or not good(value):
            said = repr(value) if isinstance(value, str) else typed(value)
            table.wrong(key_path(key, symbol), f'expected {wanted}, as a text such as "0.5", not {said}')
        else:
            found[symbol] = value
    return found


def _sentence(exchange: str, fault: str | None, also: Sequence[str]) -> str:
    met = "" if fault is None else "mended" if fault == MEND else f"{fault}: {FAULTS.get(fault, '')}"
    return f"{exchange}: {', '.join(filter(None, (met, *also)))}"
