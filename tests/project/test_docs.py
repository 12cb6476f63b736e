"""The code on the pages, run as it stands there, and the programs in examples/.

The convention of a page: its blocks of Python run in order, in one program, in a folder with the page's own
brokerwatch.toml, whose exchanges are simulated ones. A block of text right after a block of Python is what
that prints; … stands for what differs from time to time, and a line with nothing else for any lines.
Only two things are changed: the exchanges' addresses are added to the configuration, and the health
endpoint, which another program may have, is one that is free.
"""

from __future__ import annotations

import ast
import importlib
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Callable, Generator, Iterator, Mapping
from configparser import ConfigParser
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from brokerwatch.cluster.cluster import Cluster
from brokerwatch.messages import Reason
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, serve
from brokerwatch.verification.checklist import CHECKLIST, MAXIMUM
from tests.support.clusters import cluster_of, simulated_spec, until

ROOT: Final = Path(__file__).resolve().parents[2]
ENDPOINT: Final = "tcp://127.0.0.1:5571"
PATIENCE_S: Final = 120.0
BALANCE: Final = {"USD": ("300", "0"), "BTC": ("0.5", "0.1")}
RICH: Final = {"USD": ("10000", "0"), "BTC": ("0.5", "0.1")}
Exchanges = Mapping[str, SimulatedExchange]


@pytest.fixture
def exchanges() -> Iterator[Exchanges]:
    """What stands behind the names in the configurations."""
    found = {"kraken-main": SimulatedKraken(), "coinbase-main": SimulatedCoinbase()}
    found["kraken-main"].set_balance(BALANCE)
    found["coinbase-main"].set_balance(RICH)
    with serve(*found.values()):
        yield found


def page(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def configure(folder: Path, toml: str, exchanges: Exchanges) -> dict[str, str]:
    """Write a page's configuration for these exchanges; the environment in which it is read."""
    environment = dict(os.environ)
    lines = [toml.replace(ENDPOINT, "tcp://127.0.0.1:*")]
    if "[cluster]" not in toml:
        lines.append('[cluster]\nhealth_endpoint = "tcp://127.0.0.1:*"\n')
    for name in tomllib.loads(toml)["brokers"]:
        exchange = exchanges[name]
        lines.append(f"[brokers.{name}.ccxt.urls.api]")
        lines += [f'{key} = "{exchange.url}"' for key in exchange.url_names]
        for key, value in exchange.credentials.items():
            words = {"api_key": "API_KEY", "secret": "API_SECRET"}[key]
            environment[f"{name.upper().replace('-', '_')}_{words}"] = value
    (folder / "brokerwatch.toml").write_text("\n".join(lines), encoding="utf-8")
    return environment


class Program:
    """A Python program that runs, line by line."""

    def __init__(self, *arguments: str, folder: Path, environment: Mapping[str, str]) -> None:
        self.lines: list[str] = []
        self._process = subprocess.Popen(
            (sys.executable, *arguments),
            cwd=folder,
            env={**environment, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._watchdog = threading.Timer(PATIENCE_S, self._process.kill)
        self._watchdog.start()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self.end()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            self.lines.extend(iter(lines.readline, ""))

    def says(self, words: str, after: int = 0) -> int:
        """Wait for a line with these words; the number of the line after it."""

        def found() -> bool:
            return any(words in line for line in self.lines[after:]) or self._process.poll() is not None

        until(found, PATIENCE_S)
        self._reader.join(0 if self._process.poll() is None else PATIENCE_S)
        for number, line in enumerate(self.lines[after:], after):
            if words in line:
                return number + 1
        raise AssertionError(f"it never said {words!r}:\n{self.text}")

    def interrupt(self) -> None:
        self._process.send_signal(signal.SIGINT)

    def end(self) -> int:
        """Its exit status, once it has ended."""
        status = self._process.wait(PATIENCE_S)
        self._watchdog.cancel()
        self._watchdog.join()
        self._reader.join(PATIENCE_S)
        return status

    @property
    def text(self) -> str:
        return "".join(self.lines)


MARK: Final = "--- block of line"


def program_of(text: str, *, without: str = "") -> tuple[str, dict[int, str]]:
    """A page's Python as one program, and what its blocks print, each by the number of its first line.

    Each line stands where it does on the page, so that a traceback names the page's. `without` is a block to
    be left out.
    """
    program: list[str] = []
    expected: dict[int, str] = {}
    language, block = "", 0
    body: list[str] = []
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.fullmatch(r"```(\w*)", line)
        if fence is None:
            program.append(line if language == "python" else "")
            body.append(line)
            continue
        opens = not language
        if language == "python" and "\n".join(body) == without.rstrip("\n"):
            program[-len(body) :] = [""] * len(body)
            program[-len(body) - 1] = ""
            block = 0
        if language == "text" and block:
            expected[block] = "\n".join(body)
        if opens and fence[1] == "text" and any(body):
            block = 0  # words stand between the code and it, so it is not what the code prints
        language, body = (fence[1] if opens else ""), []
        if opens and language == "python":
            block = number
        program.append(f"print('{MARK}', {number})" if opens and language == "python" else "")
    return "\n".join(program) + "\n", expected


def printed(text: str) -> dict[int, str]:
    """What each block has printed, by the number of its first line."""
    parts = re.split(rf"^{MARK} (\d+)\n", text, flags=re.MULTILINE)
    return {int(number): words.rstrip("\n") for number, words in zip(parts[1::2], parts[2::2], strict=True)}


def matches(expected: str, found: str) -> bool:
    lines = (
        r"(?:[^\n]*\n)*?" if line == "…" else re.escape(line).replace("…", r"[^\n]*") + r"\n"
        for line in expected.splitlines()
    )
    return re.fullmatch("".join(lines), found + "\n") is not None


@contextmanager
def running(
    name: str, folder: Path, environment: Mapping[str, str], endpoint: str = ENDPOINT, **values: str
) -> Generator[tuple[Program, dict[int, str]]]:
    program, expected = program_of(page(name).replace(ENDPOINT, endpoint), **values)
    path = folder / f"{Path(name).stem}.py"
    path.write_text(program, encoding="utf-8")
    with Program("-W", "error", str(path), folder=folder, environment=environment) as started:
        yield started, expected


def check(program: Program, expected: Mapping[int, str]) -> None:
    """It ended well, and each block has printed what the page says."""
    assert program.end() == 0, program.text
    found = printed(program.text)
    assert expected.keys() <= found.keys(), program.text
    for number, words in expected.items():
        assert matches(words, found[number]), f"line {number}\n{words}\nbut it printed\n{found[number]}"


# --- the pages ---------------------------------------------------------------------------------------


def test_the_code_in_the_readme_runs_and_prints_what_it_says(tmp_path: Path, exchanges: Exchanges) -> None:
    (toml,) = blocks(page("docs/running.md"), "toml")  # the configuration that the README links to
    with running("README.md", tmp_path, configure(tmp_path, toml, exchanges)) as (program, expected):
        check(program, expected)
    assert len(expected) == len(blocks(page("README.md"), "python"))
    assert "300 USD to trade with" in program.text
    assert "ccxt: {} guard: {'USD': 250.0}" in program.text


def test_the_readme_is_short() -> None:
    assert len(page("README.md").split()) <= 600


def test_the_code_on_the_page_for_embedding_runs_and_prints_what_it_says(
    tmp_path: Path, exchanges: Exchanges
) -> None:
    (toml,) = blocks(page("docs/embed.md"), "toml")
    environment = configure(tmp_path, toml, exchanges)
    bot = page("examples/embed.py")
    with running("docs/embed.md", tmp_path, environment, without=bot) as (program, expected):
        check(program, expected)
    assert len(expected) == len(blocks(page("docs/embed.md"), "python")) - 1, (
        "all but the bot, which has a test"
    )
    assert [order.side for order in exchanges["kraken-main"].orders_of()] == ["buy", "sell"]
    assert exchanges["coinbase-main"].placed_orders == 0


def test_the_code_on_the_page_for_frameworks_runs_without_a_key_and_prints_what_it_says(
    tmp_path: Path,
) -> None:
    with running("docs/framework.md", tmp_path, os.environ) as (program, expected):
        check(program, expected)
    assert len(expected) == len(blocks(page("docs/framework.md"), "python"))


def test_the_code_on_the_page_for_listening_hears_a_cluster_in_another_process(
    tmp_path: Path, exchanges: Exchanges
) -> None:
    kraken = exchanges["kraken-main"]
    kraken.set_balance(RICH)
    with publishing(exchanges) as cluster:
        endpoint = cluster.health_endpoint
        with running("docs/listen.md", tmp_path, os.environ, endpoint) as (program, expected):
            program.says("listening")
            kraken.set_fault("exchange_down")
            for _ in range(3):
                cluster.broker("kraken-main").get_account_balance()
            check(program, expected)
    assert len(expected) == len(blocks(page("docs/listen.md"), "python"))


@contextmanager
def publishing(exchanges: Exchanges) -> Generator[Cluster]:
    """A cluster on these exchanges, all of which have answered."""
    with cluster_of(*(simulated_spec(exchange, name) for name, exchange in exchanges.items())) as cluster:
        for name in exchanges:
            cluster.broker(name).get_account_balance()
        yield cluster


def test_a_page_that_says_something_else_than_its_code_prints_is_found_out() -> None:
    text = "```python\nprint('a', 1)\n```\n\n```text\na …\n```\n"
    assert program_of(text) == (f"print('{MARK}', 1)\nprint('a', 1)\n\n\n\n\n\n", {1: "a …"})
    assert matches("a …\n…\nb", "a 1\n2\n3\nb")
    assert not matches("a …\nb", "a 1\n2\nb")
    assert not matches("a", "")
    assert program_of(text.replace("\n\n", "\nwords\n"))[1] == {}


# --- the bot -----------------------------------------------------------------------------------------


def test_the_bot_on_the_page_is_the_one_in_examples() -> None:
    assert page("examples/embed.py") == blocks(page("docs/embed.md"), "python")[0]


def prices(step: int) -> list[tuple[int, str, str, str, str, str]]:
    """Candles of the minutes around now that rise, or fall, by so much."""
    minute_s = int(time.time()) // 60 * 60
    rows = ((minute_s + 60 * number, str(60_000 + step * number)) for number in range(-20, 20))
    return [(start_s, price, price, price, price, "1") for start_s, price in rows]


@pytest.fixture
def bot(tmp_path: Path, exchanges: Exchanges) -> Callable[..., Program]:
    """Starts the bot on these exchanges, beside the configuration of its page."""
    (toml,) = blocks(page("docs/embed.md"), "toml")
    environment = configure(tmp_path, toml, exchanges)
    for exchange in exchanges.values():
        exchange.set_balance({"USD": ("10000", "0")})
        exchange.set_candles("BTC/USD", prices(step=1))
    environment["PAUSE_S"] = "0.2"

    def start(**values: str) -> Program:
        path = str(ROOT / "examples" / "embed.py")
        return Program("-W", "error", path, folder=tmp_path, environment={**environment, **values})

    return start


def test_the_bot_says_what_its_page_shows_while_an_exchange_is_down_and_comes_back(
    bot: Callable[..., Program], exchanges: Exchanges
) -> None:
    shown = blocks(page("docs/embed.md"), "text")[0].splitlines()
    buys, no_prices, out, elsewhere, back, again = (line.partition(" ")[2].rstrip("…") for line in shown)
    kraken = exchanges["kraken-main"]
    with bot() as program:
        line = program.says(buys)
        kraken.set_fault("http_502_html", public=True)
        for words in (no_prices, out, elsewhere):
            line = program.says(words, line)
        kraken.mend()
        for words in (back, again):
            line = program.says(words, line)
        program.interrupt()
        assert program.end() == 0, program.text
    assert "kraken" in buys
    assert "coinbase" in elsewhere
    assert again == buys
    assert "Traceback" not in program.text
    assert [exchange.placed_orders for exchange in exchanges.values()] == [0, 0]


def test_the_bot_says_why_it_does_nothing(bot: Callable[..., Program], exchanges: Exchanges) -> None:
    kraken, coinbase = exchanges["kraken-main"], exchanges["coinbase-main"]
    kraken.set_candles("BTC/USD", prices(step=-1))
    coinbase.set_candles("BTC/USD", [(row[0] - 36_000, *row[1:]) for row in prices(step=1)])
    with bot(LIVE="yes") as program:
        line = program.says("kraken-main: nothing was bought: the advice is to sell")
        program.says("coinbase-main: fewer than two prices")
        program.says("coinbase-main: nothing was bought: the advice is to wait")
        kraken.set_candles("BTC/USD", prices(step=1))
        line = program.says("kraken-main: buy for 50: accepted", line)
        program.says("kraken-main: nothing was sold: the advice is to buy", line)
        program.interrupt()
        assert program.end() == 0, program.text


def test_the_bot_buys_once_and_sells_once_when_the_answer_to_its_sale_is_lost_in_an_outage(
    bot: Callable[..., Program], exchanges: Exchanges
) -> None:
    kraken = exchanges["kraken-main"]
    # Else the bot would rightly buy there when it has sold here, or where that one is read first.
    exchanges["coinbase-main"].set_candles("BTC/USD", prices(step=-1))
    with bot(LIVE="yes") as program:
        line = program.says("kraken-main: buy for 50: accepted")
        # Until the balance was read again after the order, no coin is known that could be sold.
        looked = kraken.calls_to("/0/public/OHLC")
        until(lambda: kraken.calls_to("/0/public/OHLC") >= looked + 5)
        kraken.set_fault("http_502_html", public=True, executed=True)
        line = program.says("it is not known whether it was taken", line)
        kraken.set_candles("BTC/USD", prices(step=-1))
        kraken.mend()
        program.says("kraken-main: nothing to sell", line)
        program.interrupt()
        assert program.end() == 0, program.text
    assert [order.side for order in kraken.orders_of()] == ["buy", "sell"]
    assert exchanges["coinbase-main"].placed_orders == 0


def test_the_bot_does_not_buy_again_when_the_answer_to_its_order_is_lost(
    bot: Callable[..., Program], exchanges: Exchanges
) -> None:
    kraken = exchanges["kraken-main"]
    # Else the bot would rightly buy there when it has sold here, or where that one is read first.
    exchanges["coinbase-main"].set_candles("BTC/USD", prices(step=-1))
    kraken.set_fault("reset", path="/0/private/AddOrder", executed=True)
    for path in ("/0/private/OpenOrders", "/0/private/ClosedOrders"):
        kraken.set_fault("http_502_html", path=path)
    with bot(LIVE="yes") as program:
        line = program.says("it is not known whether it was taken")
        kraken.mend()
        looked = kraken.calls_to("/0/public/OHLC")
        until(lambda: kraken.calls_to("/0/public/OHLC") >= looked + 5)
        assert [order.side for order in kraken.orders_of()] == ["buy"]
        kraken.set_candles("BTC/USD", prices(step=-1))
        program.says("kraken-main: sell", line)
        program.interrupt()
        assert program.end() == 0, program.text
    assert [order.side for order in kraken.orders_of()] == ["buy", "sell"]
    assert exchanges["coinbase-main"].placed_orders == 0


# --- the thousand accounts ---------------------------------------------------------------------------


def test_many_accounts_are_watched_in_one_process_until_they_are_interrupted(tmp_path: Path) -> None:
    path = str(ROOT / "examples" / "thousand_accounts.py")
    with Program("-W", "error", path, "--accounts", "7", folder=tmp_path, environment=os.environ) as program:
        program.says("7 of 7 available")
        program.interrupt()
        assert program.end() == 0, program.text
    assert re.search(r"^7 of 7 available · [0-9.]+ polls/s · [0-9]+ MB · [0-9]+ threads$", program.text, re.M)


def test_the_page_about_verifying_names_every_check_with_its_points() -> None:
    text = page("docs/verify.md")
    rows = re.findall(r"^\| `([a-z_.]+)` \| (\d+) \| (.*?) \| ", text, re.MULTILINE)
    assert rows == [(check.name, str(check.points), check.title) for check in CHECKLIST]
    assert f"That is {MAXIMUM} points." in text
    assert f"{len(CHECKLIST)} checks, {MAXIMUM} points" in page("docs/running.md")


def test_the_page_about_the_architecture_puts_each_package_on_its_level() -> None:
    config = ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    layers = config["importlinter:contract:layers"]["layers"].split("\n")[1:]
    levels = {
        name.strip(): level for level, line in enumerate(reversed(layers), 1) for name in line.split("|")
    }
    rows = re.findall(
        r"^\| (\d+) \| (.*?) \| .*? \| (.*?) \| .*? \|$", page("docs/architecture.md"), re.MULTILINE
    )
    shown = {name: int(level) for level, names, _ in rows for name in re.findall(r"`(\w+)/?`", names)}
    assert shown == levels
    for level, names, imports in rows:
        for name in re.findall(r"`(\w+)`", imports):
            assert {**levels, "simulator": 0}[name] < int(level), f"{names} imports {name}"


PAGES: Final = (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
NOT_OURS: Final = {"brokerwatch/exchanges/bybit.py", "messages.py", "embed.py"}
"""The example of a file that a contributor writes, a file that a trader's program has, and one of a demo."""
PACKAGES: Final = (
    *sorted(
        path.parent for path in (ROOT / "brokerwatch").glob("*/__init__.py") if not path.parent.is_symlink()
    ),
    ROOT / "actors",
    ROOT / "messages",
)


def is_a_file(name: str) -> bool:
    """Whether a page or a tour may name this file: by its path, from the top or from the package."""
    bases = (ROOT, ROOT / "brokerwatch")
    if "/" in name:
        return any((base / name).is_file() for base in bases)
    return any(any(base.rglob(name)) for base in (*bases, ROOT / "tests"))


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.name)
def test_each_file_that_a_page_names_is_there(path: Path) -> None:
    named = set(re.findall(r"`([\w/.-]+\.py)`", path.read_text(encoding="utf-8")))
    assert sorted(name for name in named - NOT_OURS if not is_a_file(name)) == []


@pytest.mark.parametrize("name", ["run_cluster.py", "verify_kraken_end_to_end.py"])
def test_each_file_of_a_tour_is_there(name: str) -> None:
    tour = ast.get_docstring(ast.parse(page(name))) or ""
    named = {found for found in re.findall(r"[\w/]+\.py", tour) if found != name}
    assert len(named) >= 5
    assert sorted(found for found in named if not is_a_file(found)) == []


def docstring(package: Path) -> str:
    return ast.get_docstring(ast.parse((package / "__init__.py").read_text(encoding="utf-8"))) or ""


def is_there(package: Path, name: str, last: str) -> bool:
    """Whether the package has a module or a name of a module; a bare name may be of the `last` module."""
    module, _, attribute = name.partition(".")
    if "*" in name:
        return any(package.glob(f"{name}.py"))
    if (package / f"{module}.py").is_file():
        whole = importlib.import_module(f"brokerwatch.{package.name}.{module}")
        return not attribute or hasattr(whole, attribute)
    return (
        not attribute
        and bool(last)
        and hasattr(importlib.import_module(f"brokerwatch.{package.name}.{last}"), name)
    )


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_the_public_face_of_a_package_is_there(package: Path) -> None:
    face = re.search(r"^Public face:(.*?)(?=^May import|\Z)", docstring(package), re.DOTALL | re.MULTILINE)
    if package.name in ("messages", "simulator"):
        assert face is None, "these two list their names in __all__"
        return
    assert face is not None
    last, missing = "", list[str]()
    for name in re.findall(r"`([\w.*]+)`", face[1]):
        missing += [] if is_there(package, name, last) else [name]
        last = name.partition(".")[0] if "." in name else last
    assert missing == []


def imported_packages(package: Path) -> set[str]:
    """The other packages that a package imports, at any depth of its code."""
    found: set[str] = set()
    for path in package.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("brokerwatch"):
                first = (node.module or "").split(".")[1:2]
                found |= set(first or [alias.name for alias in node.names])
    return {name for name in found if (ROOT / "brokerwatch" / name).is_dir()} - {package.name}


def test_the_page_about_the_architecture_says_what_each_package_imports() -> None:
    rows = re.findall(
        r"^\| (?:\d+|apart) \| `(\w+)/?` \| .*? \| (.*?) \| .*? \|$",
        page("docs/architecture.md"),
        re.MULTILINE,
    )
    assert {name: sorted(re.findall(r"`(\w+)`", imports)) for name, imports in rows} == {
        package.name: sorted(imported_packages(package)) for package in PACKAGES
    }


@pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)
def test_a_package_imports_no_other_than_its_docstring_says(package: Path) -> None:
    allowed = re.search(r"^May import:(.*)", docstring(package), re.DOTALL | re.MULTILINE)
    if allowed is None:
        assert imported_packages(package) == set(), "its docstring does not say what it may import"
    elif not re.match(r" every", allowed[1]):
        assert imported_packages(package) <= set(re.findall(r"`(\w+)`", allowed[1]))


def test_the_runbook_has_a_paragraph_for_each_reason() -> None:
    headings = re.findall(r"^### `(\w+)`$", page("docs/operate.md"), re.MULTILINE)
    assert sorted(headings) == sorted(reason for reason in Reason if reason is not Reason.OK)
