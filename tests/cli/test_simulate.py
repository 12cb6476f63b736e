"""The simulators as a stranger meets them: the command, its script, a port of one's own, and the page.

What a client is told to use is used: plain ccxt, as in a bot that has never heard of brokerwatch.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import pty
import re
import shlex
import signal
import socket
import sys
import threading
import time
import tomllib
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch.cli.scenario import Scene, read_script, tell_story
from brokerwatch.config.broker_spec import CCXT_NAMES
from brokerwatch.config.loader import load
from brokerwatch.errors import Problem
from brokerwatch.gateway import catalogue
from brokerwatch.gateway import gateway as gateway
from brokerwatch.simulator import (
    EXCHANGES,
    FAULTS,
    PortUnavailable,
    ServedCall,
    SimulatedExchange,
    SimulatedKraken,
    SimulatedOkx,
    serve,
    steady_credentials,
)
from brokerwatch.simulator.ccxt_config import ccxt_config
from tests.support.clusters import PATIENCE_S, until
from tests.support.command import command
from tests.support.programs import BROKERWATCH, ROOT, Program, run_program

ccxt: Any = importlib.import_module("ccxt")

PAGE: Final = ROOT / "docs" / "simulators.md"
SIMULATE: Final = (*BROKERWATCH, "simulate")


@pytest.fixture(params=EXCHANGES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def bot_of(name: str, config: Mapping[str, object]) -> Any:
    """A stranger's ccxt, told nothing but this."""
    return getattr(ccxt, name)({**config, "timeout": 20_000})


@contextmanager
def taken_port() -> Generator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def free_port() -> int:
    with taken_port() as port:
        return port


# --- a port of one's own -----------------------------------------------------------------------------


def test_an_exchange_is_served_on_the_port_that_was_asked_for_and_again_afterwards() -> None:
    kraken, port = SimulatedKraken(), free_port()
    for _ in range(2):
        with serve(kraken, ports=[port]):
            assert kraken.url == f"http://127.0.0.1:{port}"
            assert bot_of("kraken", ccxt_config(kraken)).fetch_balance()["USD"]["total"] == 10_000


def test_whoever_has_no_port_in_the_list_gets_any() -> None:
    kraken, okx, port = SimulatedKraken(), SimulatedOkx(), free_port()
    with serve(kraken, okx, ports=[port]):
        assert kraken.url.endswith(f":{port}")
        assert not okx.url.endswith((f":{port}", ":0"))


def test_a_port_that_somebody_has_is_named_and_nothing_is_left_running() -> None:
    first, second = SimulatedKraken(), SimulatedOkx()
    with (
        taken_port() as port,
        pytest.raises(PortUnavailable) as refused,
        serve(first, second, ports=[0, port]),
    ):
        raise AssertionError("it is not served")
    assert refused.value.strerror == f"port {port} of 127.0.0.1 cannot be had: another program listens there"
    assert not [thread for thread in threading.enumerate() if thread.name == "simulated-exchanges"]
    with pytest.raises(RuntimeError, match="no address"):
        _ = first.url
    with serve(first, second):
        assert first.url != second.url


@pytest.mark.parametrize(
    ("ports", "words"), [([65_536], "65536 is no port"), ([-1], "-1 is no port"), ([0, 0], "2 ports for 1")]
)
def test_what_is_no_port_is_refused_before_anything_starts(ports: list[int], words: str) -> None:
    with pytest.raises(ValueError, match=words), serve(SimulatedKraken(), ports=ports):
        raise AssertionError("it is not served")


def test_a_watcher_is_told_of_every_call_with_what_it_met() -> None:
    kraken, seen = SimulatedKraken(), list[ServedCall]()
    with serve(kraken, watcher=seen.append):
        bot = bot_of("kraken", ccxt_config(kraken))
        bot.fetch_time()
        kraken.set_fault("empty_body")
        bot.markets = {}
        bot.fetch_balance()
    assert [(one.call.path, one.trouble.fault) for one in seen] == [
        ("/0/public/Time", ""),
        ("/0/private/BalanceEx", "empty_body"),
    ]
    assert all(one.exchange is kraken for one in seen)


# --- keys that stay the same -------------------------------------------------------------------------


def test_steady_credentials_are_taken_by_their_exchange_and_go_with_their_name(name: str) -> None:
    exchange, keys = EXCHANGES[name](), steady_credentials(name, "a")
    assert keys == steady_credentials(name, "a")
    assert keys.keys() == exchange.credentials.keys()
    other = steady_credentials(name, "b")
    assert all(keys[key] != other[key] for key in keys)
    exchange.add_account(keys, {"USD": ("7", "0")})
    with serve(exchange):
        assert bot_of(name, ccxt_config(exchange, keys)).fetch_balance()["total"] == {"USD": 7.0}
        wrong = {**keys, "secret": other["secret"]}
        with pytest.raises(ccxt.ExchangeError, match=r"Invalid signature|Unauthorized|50113"):
            bot_of(name, ccxt_config(exchange, wrong)).fetch_balance()


# --- the command -------------------------------------------------------------------------------------


def first_object(program: Program) -> dict[str, Any]:
    return next(program.objects())


def test_the_json_is_all_that_a_bot_needs_and_ctrl_c_ends_with_0(name: str, tmp_path: Path) -> None:
    with Program(
        *SIMULATE, name, "--json", "--balance", "USD=12.50:0.25", "--balance", "ETH=3", cwd=tmp_path
    ) as program:
        said = first_object(program)
        assert said.keys() == {"exchange", "url", "credentials", "ccxt", "accounts"}
        assert said["exchange"] == name
        assert said["url"] in str(said["ccxt"]["urls"])
        assert said["accounts"] == [said["credentials"]]
        balance = bot_of(name, said["ccxt"]).fetch_balance()
        assert balance["USD"] == {"free": 12.5, "used": 0.25, "total": 12.75}
        assert balance["total"] == {"USD": 12.75, "ETH": 3.0}
        assert program.stopped_by(signal.SIGINT) == 0
        assert program.errors == ""


def words_of(program: Program, name: str) -> list[str]:
    """The lines up to the last one."""
    last = "_API_PASSPHRASE=" if name == "okx" else "_API_SECRET="
    lines = [""]
    until_s = time.monotonic() + PATIENCE_S
    while last not in lines[-1]:
        line = program.line(until_s)
        assert line is not None
        lines.append(line)
    return lines[1:]


def test_the_words_are_python_toml_and_a_shell_to_copy_and_all_of_them_work(
    name: str, tmp_path: Path
) -> None:
    with Program(*SIMULATE, name, "--balance", "USD=100", cwd=tmp_path) as program:
        lines = words_of(program, name)
        shown = [line.removeprefix("    ") for line in lines if line.startswith("    ")]
        toml_at = next(number for number, line in enumerate(shown) if line.startswith("[brokers."))
        shell_at = next(number for number, line in enumerate(shown) if line.startswith("export "))

        names: dict[str, Any] = {}
        exec("\n".join(shown[:toml_at]), names)
        assert names["exchange"].fetch_balance()["total"] == {"USD": 100.0}

        config = tmp_path / "brokerwatch.toml"
        config.write_text("version = 1\n" + "\n".join(shown[toml_at:shell_at]))
        exported = (shlex.split(line)[1].partition("=") for line in shown[shell_at:])
        found = load(
            config, catalogue.Catalogue(), environment={variable: value for variable, _, value in exported}
        )
        (spec,) = found.brokers
        assert str(spec.credentials["secret"]).strip() == names["exchange"].secret.strip()
        assert (
            spec.ccxt["urls"]["api"]
            == tomllib.loads(config.read_text())["brokers"][spec.name]["ccxt"]["urls"]["api"]
        )
        url = re.findall(r"http://[0-9.:]+[0-9]", lines[0])[0]
        addresses = spec.ccxt["urls"]["api"]
        assert {each for each in addresses.values() if str(each).startswith("http")} == {url}
        assert url.replace("http", "ws", 1) in str(addresses["ws"]), "its websockets are there too"
        assert program.stopped_by(signal.SIGTERM) == 0


def test_in_a_pipe_it_is_quiet_after_its_first_words(tmp_path: Path) -> None:
    script = tmp_path / "story.toml"
    script.write_text('[[scene]]\nfault = "empty_body"\nsays = "it begins"\n')
    with Program(*SIMULATE, "kraken", "--script", str(script), "--json", cwd=tmp_path) as program:
        bot = bot_of("kraken", first_object(program)["ccxt"])
        until_s = time.monotonic() + PATIENCE_S
        while bot.fetch_balance()["total"] != {}:
            assert time.monotonic() < until_s, "the scene never came"
        program.send(signal.SIGINT)
        assert list(program.objects()) == []
        assert (program.end(), program.errors) == (0, "")


def test_a_terminal_shows_each_call_and_each_scene(tmp_path: Path) -> None:
    port, script = free_port(), tmp_path / "story.toml"
    script.write_text(
        '[[scene]]\nfault = "http_502_html"\ntimes = 1\nbalance = { USD = "7" }\nsays = "it begins"\n'
    )
    ours, theirs = pty.openpty()
    shown = b""
    try:
        with Program(
            *SIMULATE, "kraken", "--port", str(port), "--script", str(script), cwd=tmp_path, output=theirs
        ) as program:
            while b"it begins" not in shown:
                shown += os.read(ours, 65_536)
            keys = steady_credentials("kraken", f"{port}/1")
            bot = bot_of(
                "kraken",
                {
                    "apiKey": keys["api_key"],
                    "secret": keys["secret"],
                    "urls": {"api": dict.fromkeys(("public", "private"), f"http://127.0.0.1:{port}")},
                },
            )
            bot.markets = {}
            with pytest.raises(ccxt.ExchangeNotAvailable):
                bot.fetch_balance()
            while b"(http_502_html)" not in shown:
                shown += os.read(ours, 65_536)
            assert re.search(rb"\d\d:\d\d:\d\d  POST /0/private/BalanceEx  502  \(http_502_html\)", shown)
            assert bot.fetch_balance()["total"] == {"USD": 7.0}
            program.send(signal.SIGINT)
            assert program.end() == 0
    finally:
        os.close(ours)
        os.close(theirs)


def test_the_keys_go_with_the_port_and_without_one_they_are_new(tmp_path: Path) -> None:
    def keys(*options: str) -> list[dict[str, str]]:
        with Program(*SIMULATE, "okx", "--json", "--accounts", "2", *options, cwd=tmp_path) as program:
            said = first_object(program)
            assert program.stopped_by(signal.SIGINT) == 0
        assert said["accounts"][0] == said["credentials"]
        assert len({one["api_key"] for one in said["accounts"]}) == 2
        accounts: list[dict[str, str]] = said["accounts"]
        return accounts

    port = str(free_port())
    assert keys("--port", port) == keys("--port", port)
    assert keys() != keys()


def test_ten_thousand_accounts_are_no_more_trouble_than_two(tmp_path: Path) -> None:
    with Program(*SIMULATE, "okx", "--json", "--accounts", "10000", cwd=tmp_path) as program:
        said = first_object(program)
        keys = [one["api_key"] for one in said["accounts"]]
        assert len(set(keys)) == len(keys) == 10_000
        last = {CCXT_NAMES.get(key, key): value for key, value in said["accounts"][-1].items()}
        assert bot_of("okx", {**said["ccxt"], **last}).fetch_balance()["total"]
    refused = command("simulate", "okx", "--accounts", "10001", cwd=tmp_path)
    assert refused.status == 2
    assert "10000" in refused.err


def test_every_fault_is_listed_with_its_sentence(tmp_path: Path) -> None:
    in_words = command("simulate", "--faults", cwd=tmp_path)
    assert [tuple(re.split(r"  +", line, maxsplit=1)) for line in in_words.out.splitlines()] == list(
        FAULTS.items()
    )
    in_json = command("simulate", "--faults", "--json", cwd=tmp_path)
    assert json.loads(in_json.out) == dict(FAULTS)
    assert (in_words.status, in_json.status) == (0, 0)


def test_it_begins_broken_where_that_is_asked_for(tmp_path: Path) -> None:
    with Program(*SIMULATE, "kraken", "--json", "--fault", "empty_body", cwd=tmp_path) as program:
        assert bot_of("kraken", first_object(program)["ccxt"]).fetch_balance()["total"] == {}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "expected an exchange; there are: kraken, coinbase, okx"),
        (("krakken",), "no exchange 'krakken' is simulated; there are: kraken, coinbase, okx"),
        (("kraken", "--fault", "emptybody"), "no fault is called 'emptybody'; did you mean empty_body"),
        (("kraken", "--balance", "100"), "expected CURRENCY=FREE or CURRENCY=FREE:HELD, not '100'"),
        (("kraken", "--balance", "USD=much"), "USD: 'much' is not a finite decimal string"),
        (("kraken", "--balance", "USD=1:nan"), "USD: 'nan' is not a finite decimal string"),
        (("kraken", "--balance", "USD=-4"), "USD: expected an amount of 0 or more, not -4"),
        (("okx", "--balance", "BTC=1:-0.5"), "BTC: expected an amount of 0 or more, not -0.5"),
        (("kraken", "--balance", "USD=1", "--balance", "USD=2"), "expected USD once, and it is there twice"),
        (("kraken", "--balance", "usd=1"), "expected a currency as ccxt writes it, such as USD, not 'usd'"),
        (("kraken", "--script", "gone.toml"), "gone.toml: cannot be read: No such file or directory"),
    ],
    ids=[
        "nothing",
        "exchange",
        "fault",
        "no balance",
        "a word",
        "not a number",
        "below zero",
        "held below zero",
        "one currency twice",
        "small letters",
        "script",
    ],
)
def test_what_cannot_be_ends_with_status_2_and_one_sentence(
    arguments: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    done = command("simulate", *arguments, cwd=tmp_path)
    assert (done.status, done.out) == (2, "")
    (line,) = done.err.splitlines()
    assert words in line


def test_a_port_that_is_taken_ends_with_status_2_and_one_sentence(tmp_path: Path) -> None:
    with taken_port() as port:
        done = command("simulate", "okx", "--port", str(port), cwd=tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.err == (
        f"brokerwatch: --port: port {port} of 127.0.0.1 cannot be had: another program listens there\n"
    )


def test_mistakes_in_the_options_and_in_the_script_are_all_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "bad.toml").write_text('[[scene]]\nfault = "wat"\n')
    done = command(
        "simulate", "okx", "--fault", "wat", "--balance", "USD=x", "--script", "bad.toml", cwd=tmp_path
    )
    assert done.status == 2
    assert len(done.err.splitlines()) == 3
    assert all(
        word in done.err for word in ("--fault: ", "--balance: ", "bad.toml: scene #1.fault: line 2: ")
    )


def test_beside_an_exchange_that_is_not_simulated_the_other_mistakes_are_named_too(tmp_path: Path) -> None:
    done = command(
        "simulate", "binance", "--fault", "wat", "--balance", "USD=-4", "--balance", "BTC=x", cwd=tmp_path
    )
    assert done.status == 2
    assert len(done.err.splitlines()) == 4
    for words in ("no exchange 'binance'", "--fault: ", "USD: expected an amount", "BTC: 'x' is not"):
        assert words in done.err


def test_the_log_has_each_call_and_each_scene_and_nothing_that_signs(tmp_path: Path) -> None:
    (tmp_path / "story.toml").write_text(
        '[[scene]]\nfault = "http_502_html"\ntimes = 1\nsays = "it begins"\n'
    )
    options = ("--json", "--script", "story.toml", "--log", "calls.jsonl")
    path = tmp_path / "calls.jsonl"
    path.write_text('{"earlier": 1}\n')
    with Program(*SIMULATE, "kraken", *options, cwd=tmp_path) as program:
        said = first_object(program)
        bot = bot_of("kraken", said["ccxt"])
        until(lambda: "it begins" in path.read_text())
        with pytest.raises(ccxt.NetworkError):
            bot.fetch_balance()
        assert bot.fetch_balance()["total"]
    earlier, scene, *calls = [json.loads(line) for line in path.read_text().splitlines()]
    assert earlier == {"earlier": 1}
    assert (scene["exchange"], scene["scene"]) == ("kraken", "it begins")
    asked = [(one["call"], one["status"], one["fault"]) for one in calls if "/private/" in one["path"]]
    assert asked[0] == ("POST", 502, "http_502_html")
    assert asked[-1] == ("POST", 200, None)
    assert said["credentials"]["api_key"] not in path.read_text()


def test_a_log_that_cannot_be_written_ends_with_status_2_and_one_sentence(tmp_path: Path) -> None:
    done = command("simulate", "okx", "--log", "gone/calls.jsonl", cwd=tmp_path)
    assert (done.status, done.out) == (2, "")
    assert done.err == "brokerwatch: --log: gone/calls.jsonl cannot be written: No such file or directory\n"


def test_each_amount_of_a_scene_that_cannot_be_is_named(tmp_path: Path) -> None:
    _, problems = script_of(tmp_path, "[[scene]]\nbalance = { USD = '-4', BTC = ['1', '-2'], ETH = 'x' }\n")
    assert len(problems) == 3


def test_the_command_line_does_not_load_the_simulators_to_explain_itself(tmp_path: Path) -> None:
    code = (
        "import sys; from brokerwatch.cli.main import app; app(['--help'], standalone_mode=False); "
        "app(['simulate', '--help'], standalone_mode=False); "
        "print(sorted({'brokerwatch.simulator', 'aiohttp', 'ccxt'} & sys.modules.keys()))"
    )
    done = run_program(sys.executable, "-c", code, cwd=tmp_path)
    assert done.status == 0
    assert done.out.splitlines()[-1] == "[]"


# --- scripts -----------------------------------------------------------------------------------------


def script_of(
    folder: Path, text: str, exchange: SimulatedExchange | None = None, *more: str
) -> tuple[Iterator[Scene], list[str]]:
    """The scenes of a script, and its mistakes without the file and the line."""
    path = folder / "story.toml"
    path.write_text(text)
    kraken = SimulatedKraken() if exchange is None else exchange
    problems: list[Problem] = []
    scenes = read_script(path, kraken, [kraken.credentials["api_key"], *more], problems)
    assert all(problem.where == str(path) for problem in problems)
    return scenes, [str(replace(problem, where="", line=0)) for problem in problems]


def test_every_key_of_a_scene_is_read(tmp_path: Path) -> None:
    kraken = SimulatedKraken()
    second = kraken.add_account()["api_key"]
    scenes, problems = script_of(
        tmp_path,
        """
        [[scene]]
        after_s = 1.5
        fault = "rate_limited"
        times = 2
        account = 2
        path = "/0/private/AddOrder"
        public = true
        executed = true
        retry_after_s = 30
        balance = { USD = ["100.00", "5"], BTC = "0.5" }
        says = "now"
        """,
        kraken,
        second,
    )
    assert problems == []
    assert list(scenes) == [
        Scene(
            1.5, "kraken", "rate_limited", "now", times=2, account=second, path="/0/private/AddOrder",
            public=True, executed=True, retry_after_s=30.0,
            balance={"USD": ("100.00", "5"), "BTC": ("0.5", "0")},
        )
    ]  # fmt: skip


def test_what_a_scene_leaves_out_it_leaves_alone_and_it_has_a_sentence(tmp_path: Path) -> None:
    scenes, problems = script_of(
        tmp_path,
        '[[scene]]\nfault = "hang"\n[[scene]]\nmend = true\n[[scene]]\nfault = ""\n'
        "[[scene]]\nbalance = {}\n[[scene]]\nmend = true\nbalance = {}\n",
    )
    assert problems == []
    assert list(scenes) == [
        Scene(0.0, "kraken", "hang", f"kraken: hang: {FAULTS['hang']}"),
        Scene(0.0, "kraken", "", "kraken: mended"),
        Scene(0.0, "kraken", "", "kraken: mended"),
        Scene(0.0, "kraken", None, "kraken: another balance", balance={}),
        Scene(0.0, "kraken", "", "kraken: mended, another balance", balance={}),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "scene: expected at least one [[scene]] table"),
        ("scene = 1", "scene: expected at least one [[scene]] table"),
        ("scene = [1]", "scene: expected at least one [[scene]] table"),
        ("scene = []", "scene: expected at least one [[scene]] table"),
        ("[scene]\nfault = 'hang'", "scene: expected at least one [[scene]] table"),
        ("[[scene]]\nmend = true\n[other]", "other: unknown key; known are: repeat and [[scene]]"),
        ("[[scene]]", "scene #1.fault: expected something to happen: a fault, mend = true, or a balance"),
        ("repeat = 1\n[[scene]]\nmend = true", "repeat: expected true or false, not a number (1)"),
        (
            "repeat = true\n[[scene]]\nmend = true",
            "repeat: expected an after_s above 0 in one of the scenes, or it would never rest",
        ),
        ("[[scene]]\nmend = true\nwat = 1", "scene #1.wat: unknown key; known are: after_s, "),
        ("[[scene]]\nmend = true\nafter_s = -1", "scene #1.after_s: expected a number of seconds, 0 or"),
        ("[[scene]]\nmend = true\nafter_s = inf", "scene #1.after_s: expected a number of seconds, 0 or"),
        ("[[scene]]\nmend = true\nafter_s = nan", "scene #1.after_s: expected a number of seconds, 0 or"),
        ("[[scene]]\nmend = true\nafter_s = '1'", "scene #1.after_s: expected a number, not text (1)"),
        ("[[scene]]\nfault = 'empty'", "scene #1.fault: no fault is called 'empty'; did you mean empty_body"),
        ("[[scene]]\nfault = 1", "scene #1.fault: expected text, not a number (1)"),
        ("[[scene]]\nfault = 'hang'\nmend = true", "scene #1.mend: expected either a fault or mend = true"),
        ("[[scene]]\nfault = 'hang'\ntimes = 0", "scene #1.times: expected 1 or more answers, not 0"),
        ("[[scene]]\nmend = true\ntimes = 1", "scene #1.times: expected a fault beside it"),
        ("[[scene]]\nmend = true\nexecuted = true", "scene #1.executed: expected a fault beside it"),
        (
            "[[scene]]\nfault = 'hang'\nretry_after_s = -1",
            "scene #1.retry_after_s: expected a number of seconds, 0 or more, not -1",
        ),
        (
            "[[scene]]\nfault = 'hang'\naccount = 2",
            "scene #1.account: expected 1 to 1: so many accounts there are (--accounts)",
        ),
        (
            "[[scene]]\nfault = 'hang'\npath = '/0/private/Balance'",
            "scene #1.path: the simulated kraken has no '/0/private/Balance'; it has: /0/private/AddOrder, ",
        ),
        ("[[scene]]\nbalance = 1", "scene #1.balance: expected a table, not a number (1)"),
        (
            "[[scene]]\nbalance = { USD = 100.5 }",
            'scene #1.balance.USD: expected the free and the held amount as texts, such as',
        ),
        (
            "[[scene]]\nbalance = { USD = '-4' }",
            "scene #1.balance.USD: expected an amount of 0 or more, not -4",
        ),
        (
            "[[scene]]\nbalance = { USD = ['1'] }",
            'scene #1.balance.USD: expected the free and the held amount as texts, such as',
        ),
        (
            "[[scene]]\nbalance = { USD = 'NaN' }",
            "scene #1.balance.USD: 'NaN' is not a finite decimal string",
        ),
        ("[[scene]]\nmend = true\n[[scene]]\nsays = 1\nmend = true", "scene #2.says: expected text, not"),
        ("[[scene", "is not TOML: "),
    ],
)  # fmt: skip
def test_a_mistake_in_a_script_is_named_with_its_scene(text: str, said: str, tmp_path: Path) -> None:
    _, problems = script_of(tmp_path, text)
    (problem,) = problems
    assert problem.startswith(said)


def test_all_mistakes_of_a_script_are_named(tmp_path: Path) -> None:
    _, problems = script_of(
        tmp_path,
        "wat = 1\n[[scene]]\nfault = 'wat'\ntimes = 0\n[[scene]]\nafter_s = -1\nmend = true\nx = 1\n",
    )
    assert [problem.partition(": ")[0] for problem in problems] == [
        "wat", "scene #1.fault", "scene #1.times", "scene #2.after_s", "scene #2.x",
    ]  # fmt: skip


def test_a_mistake_in_a_script_names_its_line_also_where_the_scenes_are_one_list(tmp_path: Path) -> None:
    path = tmp_path / "story.toml"
    path.write_text('repeat = false\nscene = [\n  { mend = true },\n  { falt = "hang", mend = true },\n]\n')
    problems: list[Problem] = []
    read_script(path, SimulatedKraken(), ["k"], problems)
    [problem] = problems
    assert (problem.key, problem.line) == ("scene #2.falt", 4)
    assert "did you mean fault?" in str(problem)


def test_a_path_with_an_id_in_it_may_be_named_whole_or_as_a_pattern(tmp_path: Path) -> None:
    coinbase = EXCHANGES["coinbase"]()
    for path in ("historical/{order_id}", "historical/abc", "batch_cancel"):
        text = f"[[scene]]\nfault = 'hang'\npath = '/api/v3/brokerage/orders/{path}'\n"
        assert script_of(tmp_path, text, coinbase)[1] == []


def test_a_script_that_repeats_has_no_end_and_another_one_has(tmp_path: Path) -> None:
    text = '[[scene]]\nafter_s = 1\nfault = "hang"\n[[scene]]\nmend = true\n'
    once, _ = script_of(tmp_path, text)
    assert [scene.fault for scene in once] == ["hang", ""]
    for_ever, _ = script_of(tmp_path, f"repeat = true\n{text}")
    assert [scene.fault for scene in itertools.islice(for_ever, 5)] == ["hang", "", "hang", "", "hang"]


def test_scenes_happen_to_their_account_and_each_is_told() -> None:
    kraken = SimulatedKraken()
    keys = [kraken.credentials, kraken.add_account()]
    second = keys[1]["api_key"]
    told: list[str] = []

    def totals() -> list[object]:
        totals: list[object] = []
        for one in keys:
            try:
                totals.append(bot_of("kraken", ccxt_config(kraken, one)).fetch_balance()["total"])
            except ccxt.BaseError as error:
                totals.append(type(error).__name__)
        return totals

    def play(*scenes: Scene) -> list[object]:
        tell_story(scenes, {"kraken": kraken}, threading.Event(), told.append)
        return totals()

    with serve(kraken):
        one, other = {"USD": ("1", "0")}, {"USD": ("2", "0")}
        rich = play(
            Scene(0, "kraken", None, "first", balance=one),
            Scene(0, "kraken", None, "second", account=second, balance=other),
        )
        assert rich == [{"USD": 1.0}, {"USD": 2.0}]
        assert play(Scene(0, "kraken", "bad_key", "third", account=second)) == [
            {"USD": 1.0},
            "AuthenticationError",
        ]
        assert play(Scene(0, "kraken", "", "fourth", account=second)) == [{"USD": 1.0}, {"USD": 2.0}]
        each = [Scene(0, "kraken", "bad_key", "", account=one["api_key"]) for one in keys]
        assert play(*each, Scene(0, "kraken", "", "", account=second)) == [
            "AuthenticationError",
            {"USD": 2.0},
        ]
        assert play(*each, Scene(0, "kraken", "", "")) == rich
        del told[4:]
        once = Scene(0, "kraken", "bad_key", "fifth", times=1)
        assert play(once) == ["AuthenticationError", {"USD": 2.0}]
        assert play(Scene(0, "kraken", "bad_key", "sixth", path="/0/private/AddOrder")) == rich
    assert told == ["first", "second", "third", "fourth", "fifth", "sixth"]


def test_an_order_can_be_carried_out_although_its_answer_is_lost() -> None:
    kraken = SimulatedKraken()
    Scene(0, "kraken", "reset", "lost", executed=True, path="/0/private/AddOrder").happen(kraken)
    with serve(kraken):
        bot = bot_of("kraken", ccxt_config(kraken))
        with pytest.raises(ccxt.NetworkError):
            bot.create_order("BTC/USD", "market", "buy", 0.001)
    (order,) = kraken.orders_of()
    assert order.base_amount == Decimal("0.001")


def test_a_scene_may_reach_public_calls_and_say_when_to_come_back() -> None:
    kraken, seen = SimulatedKraken(), list[ServedCall]()
    with serve(kraken, watcher=seen.append):
        bot = bot_of("kraken", ccxt_config(kraken))
        for public in (False, True):
            Scene(0, "kraken", "http_429", "busy", public=public, retry_after_s=30).happen(kraken)
            try:
                bot.fetch_time()
            except ccxt.RateLimitExceeded:
                assert public
    assert [(one.trouble.fault, one.trouble.retry_after_s) for one in seen] == [("", None), ("http_429", 30)]


def test_a_story_that_is_ended_lets_nothing_more_happen() -> None:
    kraken, ended, told = SimulatedKraken(), threading.Event(), list[str]()

    def tell(sentence: str) -> None:
        told.append(sentence)
        ended.set()

    scenes = [Scene(0, "kraken", "hang", "first"), Scene(0, "kraken", "", "second")]
    tell_story(scenes, {"kraken": kraken}, ended, tell)
    assert told == ["first"]


# --- the page ----------------------------------------------------------------------------------------


def test_the_table_of_faults_on_the_page_is_the_one_of_the_code() -> None:
    text = PAGE.read_text(encoding="utf-8")
    found = re.search(r"<!-- faults:.*?-->\n(.*?)\n<!-- end of the faults -->", text, re.DOTALL)
    assert found is not None
    wanted = ["| fault | what happens |", "|---|---|"]
    wanted += [f"| `{fault}` | {sentence} |" for fault, sentence in FAULTS.items()]
    assert found[1].splitlines() == wanted, "put this there:\n" + "\n".join(wanted)
    assert f"in {len(FAULTS)} ways" in text


def test_the_script_on_the_page_can_be_played(tmp_path: Path) -> None:
    (text,) = re.findall(r"```toml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    scenes, problems = script_of(tmp_path, text)
    assert problems == []
    assert [scene.fault for scene in itertools.islice(scenes, 4)] == [
        "http_502_html", "empty_body", "", "http_502_html",
    ]  # fmt: skip


def test_the_page_names_every_option_and_every_key_of_a_scene(tmp_path: Path) -> None:
    page = PAGE.read_text(encoding="utf-8")
    options = re.findall(r"(--[a-z]+)", command("simulate", "--help", cwd=tmp_path).out)
    assert [option for option in options if f"`{option}" not in page and option != "--help"] == []
    _, (problem,) = script_of(tmp_path, "[[scene]]\nmend = true\nwat = 1")
    keys = problem.partition("known are: ")[2].split(", ")
    assert [key for key in keys if f"| `{key}` |" not in page] == []
