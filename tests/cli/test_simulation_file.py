"""`brokerwatch simulate --config`: several exchanges in one process, an operator, and a bot in outages.

The bot is plain ccxt, as a stranger writes it: it has never heard of brokerwatch.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import re
import signal
import time
import tomllib
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch.cli.scenario import Scene, read_scene
from brokerwatch.cli.simulation_file import read_simulations
from brokerwatch.errors import Problem
from brokerwatch.simulator import EXCHANGES, SimulatedKraken, steady_credentials
from tests.cli.test_simulate import SIMULATE, bot_of, first_object, free_port, script_of, taken_port
from tests.support.clusters import PATIENCE_S
from tests.support.command import command
from tests.support.programs import ROOT, Program
from tests.support.simulated import ccxt as async_ccxt

ccxt: Final[Any] = importlib.import_module("ccxt")

MARKET: Final = "BTC/USD"
PLACE_PATH: Final = {
    "kraken": "/0/private/AddOrder",
    "coinbase": "/api/v3/brokerage/orders",
    "okx": "/api/v5/trade/batch-orders",
}
THREE: Final = "".join(f'[exchanges.{name}]\nbalance = {{ USD = "1000", BTC = "1" }}\n' for name in EXCHANGES)


def operate(url: str, scene: str) -> Any:
    """What the operator is told."""
    with urllib.request.urlopen(f"{url}/simulated/scene", scene.encode(), timeout=20) as answer:
        return json.load(answer)


@dataclass
class Served:
    program: Program
    exchanges: dict[str, Any]
    log: Path

    def logged(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@contextmanager
def served(folder: Path, text: str) -> Generator[Served]:
    (folder / "exchanges.toml").write_text(text)
    options = ("--config", "exchanges.toml", "--log", "calls.jsonl", "--json")
    with Program(*SIMULATE, *options, cwd=folder) as program:
        told = first_object(program)["exchanges"]
        yield Served(program, {one["name"]: one for one in told}, folder / "calls.jsonl")
        assert program.stopped_by(signal.SIGINT) == 0
        assert program.errors == ""


# --- the bot of a stranger ---------------------------------------------------------------------------------


class Grid:
    """Keeps an order at each level. It looks before it places, so an answer that is lost costs nothing."""

    def __init__(self, exchange: Any) -> None:
        self.exchange = exchange
        self.levels = [("buy", 0.004, 50_000.0), ("buy", 0.004, 45_000.0), ("sell", 0.01, 70_000.0)]

    def step(self) -> bool:
        """Whether the exchange could be asked."""
        try:
            there = self.exchange.fetch_open_orders(MARKET)
            there += self.exchange.fetch_closed_orders(MARKET)
            known = {(order["side"], order["price"]) for order in there}
            for side, amount, price in self.levels:
                if (side, price) not in known:
                    self.exchange.create_order(MARKET, "limit", side, amount, price)
        except ccxt.NetworkError:
            return False
        return True


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Generator[Served]:
    with served(tmp_path_factory.mktemp("three"), THREE) as all_of_them:
        yield all_of_them


@pytest.mark.parametrize("name", EXCHANGES)
def test_orders_outlive_an_outage_and_none_is_placed_or_filled_twice(three: Served, name: str) -> None:
    told = three.exchanges[name]
    exchange = bot_of(name, told["ccxt"])
    bot, url, earlier = Grid(exchange), told["url"], len(three.logged())
    operate(url, 'balance = { USD = "1000", BTC = "1" }\nprices = { "BTC/USD" = "60000" }')
    assert bot.step()
    ids = {order["id"] for order in exchange.fetch_open_orders(MARKET)}
    assert len(ids) == 3

    operate(url, 'fault = "http_502_html"')
    operate(url, 'prices = { "BTC/USD" = "50000" }')
    assert not bot.step()
    assert not bot.step()
    operate(url, "mend = true")
    left = {order["id"] for order in exchange.fetch_open_orders(MARKET)}
    assert (len(left), left < ids) == (2, True)
    (trade,) = exchange.fetch_my_trades(MARKET)
    assert (trade["price"], trade["amount"], {trade["order"]}) == (50_000, 0.004, ids - left)

    # The next order is placed, and its answer is lost.
    bot.levels.append(("sell", 0.004, 55_000.0))
    operate(url, f'fault = "reset"\nexecuted = true\ntimes = 1\npath = "{PLACE_PATH[name]}"')
    assert not bot.step()
    assert bot.step()
    assert bot.step()
    assert len(exchange.fetch_open_orders(MARKET)) == 3

    operate(url, 'prices = { "BTC/USD" = "55000" }')
    assert bot.step()
    assert len(exchange.fetch_my_trades(MARKET)) == 2
    assert exchange.fetch_balance()["USD"]["total"] == pytest.approx(1000 - 200 + 220)
    assert exchange.fetch_balance()["BTC"]["total"] == pytest.approx(1)
    calls = [line for line in three.logged()[earlier:] if line["name"] == name]
    assert {line["exchange"] for line in calls} == {name}
    assert {line.get("fault") for line in calls} >= {None, "http_502_html", "reset"}
    assert sum("scene" in line for line in calls) == 6


def test_a_bot_that_sends_again_what_got_no_answer_is_found_out(three: Served) -> None:
    told = three.exchanges["kraken"]
    exchange = bot_of("kraken", told["ccxt"])
    before = len(exchange.fetch_open_orders("BTC/EUR"))
    operate(told["url"], f'fault = "reset"\nexecuted = true\ntimes = 1\npath = "{PLACE_PATH["kraken"]}"')
    operate(told["url"], 'balance = { EUR = "1000" }')
    for _ in range(2):
        try:
            exchange.create_order("BTC/EUR", "limit", "buy", 0.001, 40_000)
        except ccxt.NetworkError:
            continue
    assert len(exchange.fetch_open_orders("BTC/EUR")) == before + 2


def test_the_asynchronous_ccxt_needs_no_more_than_is_printed(three: Served) -> None:
    async def main(name: str) -> Any:
        exchange = getattr(async_ccxt, name)(three.exchanges[name]["ccxt"])
        exchange.timeout_on_exit = 0
        try:
            placed = await exchange.create_order("ETH/USD", "limit", "sell", 0.01, 9000)
            return placed["id"], [each["id"] for each in await exchange.fetch_open_orders("ETH/USD")]
        finally:
            await exchange.close()

    for name in EXCHANGES:
        operate(three.exchanges[name]["url"], 'balance = { ETH = "1" }')
        placed, there = asyncio.run(main(name))
        assert there == [placed]


# --- the operator ------------------------------------------------------------------------------------------


def test_a_scene_of_the_operator_with_mistakes_does_nothing_and_names_them_all(three: Served) -> None:
    url = three.exchanges["okx"]["url"]
    with pytest.raises(urllib.error.HTTPError) as refused:
        operate(url, 'after_s = 1\nfault = "empty"\nprices = { "ETH/USD" = "1", "BTC/US" = "2" }')
    with refused.value as answer:
        mistakes = json.load(answer)["mistakes"]
    assert answer.code == 400
    assert [mistake.partition(":")[0] for mistake in mistakes] == ["after_s", "fault", 'prices."BTC/US"']
    with pytest.raises(urllib.error.HTTPError), urllib.request.urlopen(f"{url}/simulated/scene", timeout=20):
        raise AssertionError("a question is no scene")
    assert bot_of("okx", three.exchanges["okx"]["ccxt"]).fetch_ticker("ETH/USD")["last"] == 3000


def test_a_scene_moves_prices_limits_the_depth_and_fills(tmp_path: Path) -> None:
    scenes, problems = script_of(
        tmp_path,
        '[[scene]]\nprices = { "BTC/USD" = "50000" }\ndepth = { "BTC/USD" = "0.5" }\n'
        '[[scene]]\nfill = true\n[[scene]]\ndepth = { "BTC/USD" = "all" }\n',
    )
    assert problems == []
    first, second, third = scenes
    assert first == Scene(
        0.0, "kraken", None, "kraken: BTC/USD costs 50000, BTC/USD has a depth of 0.5",
        prices={"BTC/USD": "50000"}, depths={"BTC/USD": "0.5"},
    )  # fmt: skip
    assert second == Scene(0.0, "kraken", None, "kraken: open orders fill", fill=True)
    assert third.depths == {"BTC/USD": None}
    kraken = SimulatedKraken()
    kraken.set_balance({"USD": ("99000", "0")})
    kraken.rest(MARKET, "buy", "0.8", "50000")
    kraken.rest(MARKET, "buy", "0.1", "40000")
    first.happen(kraken)
    assert [f"{order.filled_base:f}" for order in kraken.orders_of()] == ["0.5", "0"]
    third.happen(kraken)
    assert [order.state for order in kraken.orders_of()] == ["filled", "open"]
    second.happen(kraken)
    assert [order.state for order in kraken.orders_of()] == ["filled", "filled"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('prices = { "BTC/USDD" = "1" }', 'prices."BTC/USDD": line 1: no such market; did you mean BTC/USD?'),
        ('prices = { "BTC/USD" = "0" }', 'prices."BTC/USD": line 1: expected a price above 0'),
        ('prices = { "BTC/USD" = 5 }', 'prices."BTC/USD": line 1: expected a price above 0'),
        ("prices = 5", "prices: line 1: expected a table"),
        (
            'depth = { "BTC/USD" = "-1" }',
            'depth."BTC/USD": line 1: expected an amount of 0 or more, or "all"',
        ),
        ("fill = 1", "fill: line 1: expected true or false"),
        ("prices", "is not TOML"),
        ("", "fault: expected something to happen"),
    ],
)
def test_a_mistake_in_a_scene_is_named(text: str, said: str) -> None:
    kraken, problems = SimulatedKraken(), list[Problem]()
    assert read_scene(text, kraken, [kraken.credentials["api_key"]], problems) is None
    assert str(problems[0]).startswith(said)


# --- the file ----------------------------------------------------------------------------------------------


def read(folder: Path, text: str) -> tuple[list[Any], list[str]]:
    path, problems = folder / "exchanges.toml", list[Problem]()
    path.write_text(text)
    found = read_simulations(path, problems)
    return found, [str(problem).replace(f"{path}: ", "") for problem in problems]


def test_every_key_of_a_section_is_read(tmp_path: Path) -> None:
    (tmp_path / "story.toml").write_text('[[scene]]\nfault = "hang"\nsays = "it hangs"\n')
    port = free_port()
    given = steady_credentials("okx", "mine")
    found, problems = read(
        tmp_path,
        f"""
        [exchanges.main]
        exchange = "kraken"
        port = {port}
        accounts = 2
        fees = true
        fault = "empty_body"
        balance = {{ USD = ["7.5", "0.5"] }}
        prices = {{ "BTC/USD" = "61000" }}
        repeat = true
        [[exchanges.main.scene]]
        after_s = 1
        mend = true
        account = 2

        [exchanges.okx]
        script = "story.toml"
        [exchanges.okx.credentials]
        api_key = "{given["api_key"]}"
        secret = "{given["secret"]}"
        password = "{given["password"]}"
        """,
    )
    assert problems == []
    main, okx = found
    assert (main.name, main.exchange.ccxt_id, main.port, len(main.keys)) == ("main", "kraken", port, 2)
    assert list(main.keys) == [steady_credentials("kraken", f"{port}/{number}") for number in (1, 2)]
    assert main.exchange.charges_fees
    assert not okx.exchange.charges_fees
    assert main.exchange.price_of(MARKET) == 61_000
    scene = next(main.scenes)
    assert (scene, scene.account) == (next(main.scenes), main.keys[1]["api_key"])
    assert (okx.exchange.ccxt_id, list(okx.keys), okx.exchange.credentials) == ("okx", [given], given)
    assert [scene.says for scene in okx.scenes] == ["it hangs"]


MISTAKES: Final = """
wat = 1
[exchanges.a]
exchange = "krakken"
port = 70000
[exchanges.kraken]
port = 18123
balnce = {}
balance = { USD = "-4" }
prices = { "BTC/USDD" = "1" }
accounts = 0
fault = "wat"
fees = 1
credentials = { api_key = "x", secret = "!!" }
[[exchanges.kraken.scene]]
fault = "empty"
[exchanges.okx]
port = 18123
script = "gone.toml"
credentials = { api_key = "x" }
[exchanges.coinbase]
credentials = { api_key = "x", secret = "-----BEGIN" }
scene = 1
"""


def test_every_mistake_of_the_file_is_named_at_once_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text(MISTAKES)
    done = command("simulate", "okx", "--port", "0", "--config", "bad.toml", cwd=tmp_path)
    assert (done.status, done.out) == (2, "")
    said = [line.removeprefix("brokerwatch: ").removeprefix("bad.toml: ") for line in done.err.splitlines()]
    assert {line.partition(": ")[0] for line in said} == {
        "EXCHANGE", "--port", "wat", "exchanges.a.exchange", "exchanges.a.port",
        *(f"exchanges.kraken.{key}" for key in (
            "balnce", "balance.USD", 'prices."BTC/USDD"', "accounts", "fault", "fees", "credentials.secret",
            "scene #1.fault",
        )),
        "exchanges.okx.port", "exchanges.okx.credentials.secret", "exchanges.okx.credentials.password",
        "gone.toml", "exchanges.coinbase.credentials.secret", "exchanges.coinbase.scene",
    }  # fmt: skip
    assert all(re.search(r": line \d+: ", line) for line in said if line.startswith(("exchanges.", "wat"))), (
        said
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "exchanges: expected at least one section, such as [exchanges.kraken]"),
        ("[kraken]\nport = 1", "kraken: line 1: unknown key; known are: [exchanges.NAME]"),
        ("exchanges = 5", "exchanges: line 1: expected a table"),
        ("[exchanges]\nkraken = 5", "exchanges.kraken: line 2: expected a section"),
        ("[exchanges.main]", "exchanges.main.exchange: line 1: expected an exchange; there are: kraken, "),
        ('[exchanges."a b"]\nexchange = "okx"', 'exchanges."a b"'),
        ('[exchanges.okx]\nscript = "a"\nrepeat = true', "exchanges.okx.script: line 2: expected either a"),
        ("[exchanges.okx]\nrepeat = true", "exchanges.okx.scene: line 1: expected at least one"),
        ("[exchanges", "is not TOML"),
    ],
)
def test_a_mistake_of_the_file_is_named(text: str, said: str, tmp_path: Path) -> None:
    _, problems = read(tmp_path, text)
    assert problems[0].startswith(said)


def test_a_port_that_is_taken_is_named_and_nothing_is_left_running(tmp_path: Path) -> None:
    with taken_port() as port:
        (tmp_path / "two.toml").write_text(f"[exchanges.okx]\n[exchanges.kraken]\nport = {port}\n")
        done = command("simulate", "--config", "two.toml", cwd=tmp_path)
    assert (done.status, done.out) == (2, "")
    assert f"port {port} of 127.0.0.1 cannot be had" in done.err


def test_the_words_say_of_each_exchange_how_ccxt_comes_to_it(tmp_path: Path) -> None:
    (tmp_path / "two.toml").write_text(
        '[exchanges.one]\nexchange = "okx"\nbalance = { USDT = "1" }\n'
        '[exchanges.two]\nexchange = "okx"\nbalance = { USDT = "2" }\n'
    )
    with Program(*SIMULATE, "--config", "two.toml", cwd=tmp_path) as program:
        lines, until_s = [""], time.monotonic() + PATIENCE_S
        while "TWO_SIMULATED_API_PASSPHRASE" not in lines[-1]:
            lines.append(program.line(until_s) or "")
        shown = "\n".join(line.removeprefix("    ") for line in lines if line.startswith("    "))
        totals: list[Any] = []
        for code in re.findall(r"import ccxt.*?^}\)$", shown, re.DOTALL | re.MULTILINE):
            names: dict[str, Any] = {}
            exec(code, names)
            totals.append(names["exchange"].fetch_balance()["total"])
        assert totals == [{"USDT": 1.0}, {"USDT": 2.0}]
        assert program.stopped_by(signal.SIGTERM) == 0


def test_the_file_on_the_page_can_be_served(tmp_path: Path) -> None:
    page = (ROOT / "docs" / "simulators.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```toml title=exchanges\n(.*?)```", page, re.DOTALL)
    found, problems = read(tmp_path, text)
    assert (problems, [one.name for one in found]) == ([], list(tomllib.loads(text)["exchanges"]))
    assert all(f"| `{key}` |" in page for key in (
        "exchange", "port", "accounts", "balance", "credentials", "fees", "prices", "fault", "script",
        "repeat", "scene",
    ))  # fmt: skip
