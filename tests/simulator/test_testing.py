"""`brokerwatch.testing` as another test suite uses it: files of its own, run by a pytest of its own.

The files on the page are run as they stand there.
"""

from __future__ import annotations

import importlib
import re
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch import Cluster, ClusterSettings
from brokerwatch.simulator import PortUnavailable, SimulatedCoinbase, SimulatedKraken, SimulatedOkx
from brokerwatch.simulator.ccxt_config import ccxt_config
from brokerwatch.simulator.markets import MARKETS
from brokerwatch.testing import broker_spec, simulated

ccxt: Any = importlib.import_module("ccxt")

PAGE: Final = Path(__file__).resolve().parents[2] / "docs" / "simulators.md"
PATIENCE_S: Final = 120.0


def python(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, *arguments), cwd=cwd, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )


def their_pytest(folder: Path, *arguments: str, **files: str) -> subprocess.CompletedProcess[str]:
    """Run a user's tests in a folder that knows nothing of ours; warnings are errors there as well."""
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text, encoding="utf-8")
    unused = [
        word for name in ("cacheprovider", "xdist", "hypothesispytest") for word in ("-p", f"no:{name}")
    ]
    return python("-m", "pytest", "-W", "error", *unused, "-rA", *arguments, cwd=folder)


def passed(done: subprocess.CompletedProcess[str]) -> list[str]:
    """The tests that passed; fails where one did not."""
    assert done.returncode == 0, done.stdout[-4_000:]
    return re.findall(r"^PASSED \S+?::(\w+)", done.stdout, re.MULTILINE)


def code_on_the_page() -> list[str]:
    return re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


# --- the page, as it stands --------------------------------------------------------------------------


def test_the_test_file_on_the_page_passes(tmp_path: Path) -> None:
    (tests,) = [code for code in code_on_the_page() if "pytest_plugins" in code]
    names = re.findall(r"^def (test_\w+)", tests, re.MULTILINE)
    assert len(names) == 4
    assert passed(their_pytest(tmp_path, test_bot=tests)) == names


def test_a_bot_that_believes_everything_fails_the_tests_on_the_page(tmp_path: Path) -> None:
    (tests,) = [code for code in code_on_the_page() if "pytest_plugins" in code]
    believing = tests.replace('    if not balance["total"]:', "    if not balance:")
    assert believing != tests
    done = their_pytest(tmp_path, test_bot=believing)
    assert done.returncode == 1
    assert re.findall(r"^FAILED \S+?::(\w+)", done.stdout, re.MULTILINE) == [
        "test_an_empty_answer_is_not_taken_for_an_empty_account"
    ]


def test_the_program_on_the_page_runs(tmp_path: Path) -> None:
    (program,) = [code for code in code_on_the_page() if "pytest" not in code]
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    done = python("-W", "error", "program.py", cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "100.0\n", "")


# --- fixtures ----------------------------------------------------------------------------------------

FIXTURES: Final = """
def test_all_of_them(simulated_kraken, simulated_coinbase, simulated_okx):
    them = (simulated_kraken, simulated_coinbase, simulated_okx)
    assert [one.ccxt_id for one in them] == ["kraken", "coinbase", "okx"]
    assert len({one.url for one in them}) == 3


def test_a_fault_is_set(simulated_kraken):
    simulated_kraken.set_fault("hang")
    simulated_kraken.set_balance({})


def test_the_next_one_is_new(simulated_kraken):
    import ccxt
    from brokerwatch.testing import ccxt_config
    assert ccxt.kraken(ccxt_config(simulated_kraken)).fetch_balance()["total"]["USD"] == 10_000
"""
NAMES: Final = ["test_all_of_them", "test_a_fault_is_set", "test_the_next_one_is_new"]


def test_the_fixtures_are_there_where_a_test_file_names_the_module(tmp_path: Path) -> None:
    named = 'pytest_plugins = ["brokerwatch.testing"]\n' + FIXTURES
    assert passed(their_pytest(tmp_path, test_them=named)) == NAMES


def test_a_conftest_may_import_from_the_module_and_name_it_too(tmp_path: Path) -> None:
    conftest = 'from brokerwatch.testing import ccxt_config\npytest_plugins = ["brokerwatch.testing"]\n'
    assert passed(their_pytest(tmp_path, test_them=FIXTURES, conftest=conftest)) == NAMES


def test_nothing_is_loaded_by_itself(tmp_path: Path) -> None:
    done = their_pytest(tmp_path, test_them=FIXTURES)
    assert done.returncode == 1
    assert "fixture 'simulated_kraken' not found" in done.stdout
    assert [one for one in entry_points(group="pytest11") if "brokerwatch" in one.value] == []


def test_without_pytest_all_but_the_fixtures_is_there(tmp_path: Path) -> None:
    program = (
        "import sys; sys.modules['pytest'] = None\n"
        "from brokerwatch import testing\n"
        "with testing.simulated('okx') as okx: print(okx.url.startswith('http://127.0.0.1:'))\n"
        "print(hasattr(testing, 'simulated_okx'))\n"
    )
    done = python("-W", "error", "-c", program, cwd=tmp_path)
    assert (done.stdout, done.stderr) == ("True\nFalse\n", "")


# --- the same in code --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "kind"), [("kraken", SimulatedKraken), ("coinbase", SimulatedCoinbase), ("okx", SimulatedOkx)]
)
def test_a_ccxt_that_is_told_the_configuration_reads_the_balance_and_meets_the_fault(
    name: str, kind: type
) -> None:
    with simulated(name, balance={"USD": ("1.25", "0.75")}) as exchange:
        assert type(exchange) is kind
        bot = getattr(ccxt, name)(ccxt_config(exchange))
        assert not bot.enableRateLimit  # it would wait for nothing
        assert bot.fetch_balance()["USD"] == {"free": 1.25, "used": 0.75, "total": 2.0}
        exchange.set_fault("bad_key")
        with pytest.raises(ccxt.AuthenticationError):
            bot.fetch_balance()
        exchange.mend()
        assert bot.fetch_balance()["USD"]["total"] == 2.0


def test_the_configuration_of_another_account_is_that_accounts() -> None:
    with simulated("okx") as okx:
        keys = okx.add_account(balance={"USDT": ("3", "0")})
        assert ccxt.okx(ccxt_config(okx, keys)).fetch_balance()["total"] == {"USDT": 3.0}
        assert ccxt.okx(ccxt_config(okx)).fetch_balance()["total"] != {"USDT": 3.0}


def test_what_cannot_be_simulated_is_refused_in_words() -> None:
    with pytest.raises(
        ValueError, match="no exchange 'krakken' is simulated; there are: kraken, coinbase, okx"
    ):
        simulated("krakken")
    with simulated("kraken") as kraken:
        port = int(kraken.url.rpartition(":")[2])
        with pytest.raises(PortUnavailable, match="another program"), simulated("okx", port=port):
            raise AssertionError("it is not served")


def test_a_cluster_watches_what_is_simulated_and_says_that_it_is() -> None:
    settings = ClusterSettings(health_endpoint="tcp://127.0.0.1:*", remember=False)
    with simulated("kraken", balance={"USD": ("10", "0")}) as kraken:
        specs = [
            broker_spec(kraken),
            broker_spec(kraken, "second", credentials=kraken.add_account(balance={"USD": ("20", "0")})),
        ]
        with Cluster(specs, settings) as cluster:
            assert [cluster.broker(name).get_account_balance() for name in ("kraken", "second")] == [10, 20]
            assert cluster.broker("kraken").reading().simulated
            calls = kraken.private_calls
            kraken.set_fault("empty_body")
            assert cluster.broker("kraken").get_account_balance() == 10
            assert kraken.private_calls == calls + 1


def test_the_page_names_each_market_that_is_simulated() -> None:
    page = PAGE.read_text(encoding="utf-8")
    begin = page.index("The markets are")
    named = re.findall(r"`([A-Z]+/[A-Z]+)`", page[begin : page.index("the same at each exchange", begin)])
    assert named == [market.symbol for market in MARKETS]
