"""What a node and a supervisor read of a configuration, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import pytest

from brokerwatch.bus.curve import made_pair
from brokerwatch.config.cluster_settings import Settings
from brokerwatch.config.curve_keys import pair_text
from brokerwatch.config.loader import load_supervised
from brokerwatch.config.node_settings import NodeChoice, load_node
from brokerwatch.config.supervisor_settings import SupervisorSettings
from brokerwatch.errors import ConfigError
from tests.support.configurations import Known

HEAD: Final = """version = 1
[cluster]
name = "desk"
health_endpoint = "tcp://127.0.0.1:5571"
broker_endpoint = "tcp://127.0.0.1:5572"
"""
ACCOUNTS: Final = """[brokers.kraken-main]
exchange = "kraken"
api_key_env = "K_API_KEY"
secret_env = "K_API_SECRET"
[brokers.okx-main]
exchange = "okx"
api_key_env = "NOT_ON_THIS_HOST"
secret_env = "NOT_ON_THIS_HOST"
password_env = "NOT_ON_THIS_HOST"
"""
OUTLETS: Final = '[http]\nlisten = "127.0.0.1:8080"\n[notify]\nurls_env = "MESSAGES"\n'
KRAKEN: Final[Mapping[str, str]] = MappingProxyType(
    {"K_API_KEY": "k", "K_API_SECRET": "c2VjcmV0", "MESSAGES": "json://127.0.0.1:9"}
)
MAIN: Final = ("kraken-main",)


class Files:
    """Writes a text to a file, and reads it as a node or a supervisor does."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "desk.toml"

    def node(self, text: str, *only: str, name: str = "a") -> Settings:
        self.path.write_text(text)
        self.path.chmod(0o600)
        return load_node(self.path, Known(), NodeChoice(name, only), environment=KRAKEN)

    def supervised(self, text: str) -> Settings:
        self.path.write_text(text)
        self.path.chmod(0o600)
        return load_supervised(self.path, environment={})

    def wrong(self, text: str, *only: str, name: str = "a") -> str:
        with pytest.raises(ConfigError) as raised:
            self.node(text, *only, name=name)
        return str(raised.value).replace(str(self.path), "desk.toml")

    def wrongly_supervised(self, text: str) -> str:
        with pytest.raises(ConfigError) as raised:
            self.supervised(text)
        return str(raised.value).replace(str(self.path), "desk.toml")


@pytest.fixture
def files(tmp_path: Path) -> Files:
    return Files(tmp_path)


# --- a node -----------------------------------------------------------------------------------------


def test_a_node_needs_the_credentials_of_its_own_accounts_alone(files: Files) -> None:
    found = files.node(HEAD + ACCOUNTS, *MAIN)
    assert [spec.name for spec in found.brokers] == ["kraken-main"]
    assert "okx-main" in files.wrong(HEAD + ACCOUNTS)


def test_without_supervisors_the_one_of_the_same_file_is_meant(files: Files) -> None:
    found = files.node(HEAD + ACCOUNTS, *MAIN).cluster
    assert found.supervisors == (SupervisorSettings("tcp://127.0.0.1:5572", "tcp://127.0.0.1:5571"),)
    assert {found.health_endpoint, found.broker_endpoint} == {"inproc://health", "inproc://brokers"}


def test_with_encryption_the_supervisor_of_the_same_file_has_the_same_key(
    files: Files, tmp_path: Path
) -> None:
    pair = made_pair("desk")
    (tmp_path / "desk.key").write_text(pair_text(pair))
    (tmp_path / "desk.key").chmod(0o600)
    text = HEAD.replace("127.0.0.1:5571", "0.0.0.0:5571").replace("127.0.0.1:5572", "0.0.0.0:5572")
    found = files.node(text + '[curve]\nkey_file = "desk.key"\n' + ACCOUNTS, *MAIN).cluster
    own = SupervisorSettings("tcp://127.0.0.1:5572", "tcp://127.0.0.1:5571", pair.public)
    assert found.supervisors == (own,)


def test_the_supervisors_of_a_file_count_before_its_own_endpoints(files: Files) -> None:
    one = '[[supervisors]]\nbroker_endpoint = "ipc:///run/b{0}"\nhealth_endpoint = "ipc:///run/h{0}"\n'
    found = files.node(HEAD + ACCOUNTS + one.format(1) + one.format(2), *MAIN).cluster
    assert found.supervisors == tuple(
        SupervisorSettings(f"ipc:///run/b{number}", f"ipc:///run/h{number}") for number in (1, 2)
    )


def test_each_name_has_a_state_of_its_own_and_page_and_messages_are_the_supervisors(files: Files) -> None:
    first, second = (files.node(HEAD + ACCOUNTS + OUTLETS, *MAIN, name=name).cluster for name in "ab")
    assert (first.name, second.name) == ("desk-a", "desk-b")
    assert first.http is None
    assert not first.notify
    named = HEAD + 'state = "remembered"\n' + ACCOUNTS
    states = [files.node(named, *MAIN, name=name).cluster.state for name in "ab"]
    assert states == [str(files.path.parent / "remembered" / name) for name in "ab"]


def test_an_account_that_is_not_there_is_named_with_those_that_are(files: Files) -> None:
    assert files.wrong(HEAD + ACCOUNTS, "kraken-mian") == (
        "desk.toml: there is no broker named 'kraken-mian' here; there are: kraken-main, okx-main"
    )


@pytest.mark.parametrize("name", ["A", "", "a/b", "..", "x" * 60, "a b"])
def test_a_name_of_a_node_that_cannot_be_is_refused(files: Files, name: str) -> None:
    assert files.wrong(HEAD + ACCOUNTS, *MAIN, name=name).startswith("--name: expected")


def test_a_node_that_could_reach_no_supervisor_says_what_is_missing(files: Files) -> None:
    found = files.wrong('version = 1\n[cluster]\nname = "desk"\n' + ACCOUNTS, *MAIN)
    assert found.startswith("desk.toml: cluster.broker_endpoint: expected where the supervisor is")
    assert "[[supervisors]]" in found


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        (
            "[[supervisors]]\n",
            "desk.toml: supervisors #1.broker_endpoint: line 15: expected the broker_endpoint",
        ),
        (
            '[[supervisors]]\nbroker_endpoint = "tcp://10.0.0.5:5572"\nhealth_endpoint = "ipc:///h"\n',
            "desk.toml: supervisors #1.broker_endpoint: line 16: ",
        ),
        (
            '[[supervisors]]\nbroker_endpoint = "tcp://127.0.0.1:*"\nhealth_endpoint = "ipc:///h"\n',
            "desk.toml: supervisors #1.broker_endpoint: line 16: expected the port that the supervisor has",
        ),
        (
            '[[supervisors]]\nbroker_endpoint = "inproc://b"\nhealth_endpoint = "ipc:///h"\n',
            "desk.toml: supervisors #1.broker_endpoint: line 16: expected tcp:// or ipc://",
        ),
        (
            '[[supervisors]]\nbroker_endpoint = "ipc:///b"\nhealth_endpoint = "ipc:///h"\nport = 3\n',
            "desk.toml: supervisors #1.port: line 18: ",
        ),
        (
            '[[supervisors]]\nbroker_endpoint = "ipc:///b"\nhealth_endpoint = "ipc:///h"\n'
            'server_key = "desk.pub"\n',
            "desk.toml: supervisors #1.server_key: line 18: ",
        ),
        (
            '[[supervisors]]\nbroker_endpoint = "ipc:///b"\nhealth_endpoint = "ipc:///h"\n'
            '[[supervisors]]\nbroker_endpoint = "ipc:///b"\nhealth_endpoint = 7\n',
            "desk.toml: supervisors #2.health_endpoint: line 20: ",
        ),
    ],
    ids=["nothing", "beyond loopback", "any port", "inproc", "unknown key", "no such key file", "a number"],
)
def test_a_mistake_about_a_supervisor_is_named_with_its_line(files: Files, table: str, expected: str) -> None:
    found = files.wrong(HEAD + ACCOUNTS + table, *MAIN).splitlines()
    assert [line for line in found if line.startswith(expected)]
    keys = [line.split(": ")[1] for line in found if "own key pair beside it" not in line]
    assert len(keys) == len(set(keys)), "nothing is said twice"


# --- a supervisor alone -----------------------------------------------------------------------------


def test_a_supervisor_reads_names_and_exchanges_and_needs_no_credentials(files: Files) -> None:
    found = files.supervised(HEAD + ACCOUNTS)
    assert [(spec.name, spec.exchange) for spec in found.brokers] == [
        ("kraken-main", "kraken"),
        ("okx-main", "okx"),
    ]
    assert all(not spec.credentials for spec in found.brokers)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (HEAD, "desk.toml: brokers: expected a [brokers.NAME] table for each account that a node reports"),
        (HEAD + '[brokers.Main]\nexchange = "okx"\n', "desk.toml: brokers.Main: line 6: expected a name"),
        (HEAD + "brokers = 3\n", "desk.toml: cluster.brokers: line 6: "),
        (HEAD + "[brokers]\na = 3\n", "desk.toml: brokers.a: line 7: expected a table, not "),
        (HEAD + "[brokers.a]\nexchange = 3\n", "desk.toml: brokers.a.exchange: line 7: expected"),
        (HEAD + "[brokres.a]\n" + ACCOUNTS, "desk.toml: brokres: line 6: "),
        (HEAD.replace("version = 1\n", "") + ACCOUNTS, "desk.toml: version: expected version = 1"),
    ],
    ids=["none", "name", "elsewhere", "no table", "exchange", "unknown table", "version"],
)
def test_a_mistake_in_the_file_of_a_supervisor_is_named(files: Files, text: str, expected: str) -> None:
    assert expected in files.wrongly_supervised(text)
