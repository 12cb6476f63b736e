"""The [notify] table: where addresses come from, and that no mistake shows one."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from brokerwatch.config.cluster_settings import ClusterSettings, cluster_mistakes
from brokerwatch.config.notify_settings import KEYS, NotifySettings, notify_mistakes
from brokerwatch.config.single_tables import load_notify
from brokerwatch.errors import ConfigError
from tests.support.configurations import ENVIRONMENT, SMALLEST, Loader, Mistakes

TOKEN: Final = "tgram://123456789:AAbbCCddEEffGG/42"
HOOK: Final = "jsons://hooks.example.com/T0123/s3cr3tPath"


def test_addresses_come_from_the_table_a_file_and_a_variable_and_each_counts_once(
    loaded: Loader, tmp_path: Path
) -> None:
    (tmp_path / "notify.urls").write_text(f"# the desk\n{HOOK}\n\n{TOKEN}\n")
    (tmp_path / "notify.urls").chmod(0o600)
    (tmp_path / "ping").write_text("https://ping.example.com/uuid\n")
    (tmp_path / "ping").chmod(0o600)
    notify = loaded(
        f'{SMALLEST}[notify]\nurls = ["{TOKEN}"]\nurls_file = "notify.urls"\nurls_env = "URLS"\n'
        'heartbeat_url_file = "ping"\nheartbeat_interval_s = 30\nflapping_outages = 5\n',
        {**ENVIRONMENT, "URLS": "mailtos://me:pw@example.com  json://127.0.0.1/x"},
    ).cluster.notify
    assert notify.urls == (TOKEN, HOOK, "mailtos://me:pw@example.com", "json://127.0.0.1/x")
    assert notify.heartbeat_url == "https://ping.example.com/uuid"
    assert (notify.heartbeat_interval_s, notify.flapping_outages) == (30.0, 5)


def test_without_the_table_no_message_is_sent(loaded: Loader) -> None:
    assert not loaded(SMALLEST).cluster.notify


def test_no_settings_show_an_address() -> None:
    settings = ClusterSettings(notify=NotifySettings(urls=(TOKEN,), heartbeat_url=HOOK))
    assert "AAbb" not in repr(settings)
    assert "s3cr3t" not in repr(settings)


@pytest.mark.parametrize(
    ("line", "key", "expected"),
    [
        (f'urls = ["{TOKEN}", "AAbbCCddEEffGG"]', "urls", "number 2 of the list (not shown)"),
        ('urls = "json://AAbbCCddEEffGG"', "urls", "a list of texts (not shown)"),
        ("urls = [1]", "urls", "a list of texts (not shown)"),
        (f'urls_file = "{TOKEN}"', "urls_file", "the name of a file"),
        ('urls_file = "AAbbCCddEEffGG0123456789"', "urls_file", "readable file at (not shown"),
        ('urls_file = "missing"', "urls_file", "missing: No such file or directory"),
        (f'urls_env = "{TOKEN}"', "urls_env", "the name of a variable"),
        ('urls_env = "NOT_SET"', "urls_env", "NOT_SET, which is not set"),
        ('heartbeat_url = "AAbbCCddEEffGG"', "heartbeat_url", "begins with https://"),
        ("heartbeat_url = 5", "heartbeat_url", "expected text (not shown)"),
        ("heartbeat_interval_s = 0", "heartbeat_interval_s", "from 1 to 86400 seconds"),
        ("heartbeat_interval_s = nan", "heartbeat_interval_s", "from 1 to 86400 seconds"),
        ("flapping_outages = 1", "flapping_outages", "from 2 to 1000"),
        ("flapping_outages = 2.5", "flapping_outages", "a whole number"),
        ("flapping_window_s = inf", "flapping_window_s", "and an end"),
        ("digest_interval_s = -1", "digest_interval_s", "above 0"),
        ('url = "x"', "url", "did you mean urls?"),
        ("heartbeat_urls = 3", "heartbeat_urls", "did you mean heartbeat_url?"),
    ],
)
def test_each_mistake_names_its_key_and_never_an_address(
    mistakes: Mistakes, line: str, key: str, expected: str
) -> None:
    [problem] = mistakes(f"{SMALLEST}[notify]\n{line}\n")
    assert problem.key == f"notify.{key}"
    assert expected in problem.expected
    assert "AAbb" not in str(problem)


def test_every_mistake_of_the_table_is_named_at_once(mistakes: Mistakes) -> None:
    found = mistakes(
        f'{SMALLEST}[notify]\nurls = ["x"]\nheartbeat_url = "y"\ndigest_interval_s = 0\nhello = 1\n'
    )
    assert {problem.key for problem in found} == {
        *("notify.urls", "notify.heartbeat_url", "notify.digest_interval_s", "notify.hello")
    }


def test_a_file_that_others_may_write_is_refused(mistakes: Mistakes, tmp_path: Path) -> None:
    (tmp_path / "notify.urls").write_text(TOKEN)
    (tmp_path / "notify.urls").chmod(0o666)
    [problem] = mistakes(f'{SMALLEST}[notify]\nurls_file = "notify.urls"\n')
    assert "chmod 600" in problem.expected


def test_a_secret_of_systemd_is_found(loaded: Loader, tmp_path: Path) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "urls").write_text(TOKEN)
    (credentials / "urls").chmod(0o600)
    environment = {**ENVIRONMENT, "CREDENTIALS_DIRECTORY": str(credentials)}
    assert loaded(f'{SMALLEST}[notify]\nurls_file = "urls"\n', environment).cluster.notify.urls == (TOKEN,)


def test_a_watcher_from_outside_needs_no_credentials_of_the_accounts(tmp_path: Path) -> None:
    path = tmp_path / "brokerwatch.toml"
    path.write_text(f'version = 1\n[notify]\nurls = ["{TOKEN}"]\n[brokers.k]\nexchange = "kraken"\n')
    assert load_notify(path, environment={}).urls == (TOKEN,)
    path.write_text(f'version = 1\n[notify]\nurls = ["{TOKEN}"]\nurl = 1\n')
    with pytest.raises(ConfigError, match="did you mean urls"):
        load_notify(path, environment={})


def test_settings_made_in_python_are_checked_too() -> None:
    assert not notify_mistakes(NotifySettings(urls=[TOKEN]))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    wrong = NotifySettings(urls=("x",), heartbeat_url="ftp://x", heartbeat_interval_s=0, flapping_outages=1)
    keys = {key for key, _ in cluster_mistakes(ClusterSettings(notify=wrong))}
    assert keys == {
        *("notify.urls", "notify.heartbeat_url", "notify.heartbeat_interval_s", "notify.flapping_outages")
    }
    [(key, expected)] = notify_mistakes(NotifySettings(urls="json://x"))  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert (key, expected) == ("urls", "expected a list of texts, not str")


def test_the_page_of_the_configuration_names_every_key() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "notify.md").read_text(encoding="utf-8")
    assert [key for key in KEYS if f"`{key}`" not in text] == []
