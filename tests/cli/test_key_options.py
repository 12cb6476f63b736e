"""Which keys a command listens with: those of its options, else the configuration's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from brokerwatch import Cluster
from brokerwatch.config.broker_spec import BrokerSpec
from tests.support.clusters import ONLY_WHEN_ASKED, Till, cluster_of
from tests.support.command import command
from tests.support.keys import Keys


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    keys = Keys(tmp_path)
    for name in ("bot", "unlisted"):
        keys.make(name)
    keys.let_in(keys.subscribers, "bot")
    return keys


@pytest.fixture
def cluster(keys: Keys) -> Iterator[Cluster]:
    spec = BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED)
    with cluster_of(spec, curve=keys.settings) as cluster:
        cluster.broker("a").get_account_balance()
        yield cluster


def test_a_command_hears_an_encrypted_cluster_with_a_listed_key_and_the_clusters_own(
    keys: Keys, cluster: Cluster, tmp_path: Path
) -> None:
    endpoint, own = cluster.health_endpoint, keys.own.public
    options = ("--server-key", own, "--key-file", "bot.key")
    assert command("status", endpoint, *options, cwd=tmp_path).status == 0
    done = command("listen", endpoint, "--json", "--count", "1", *options, cwd=tmp_path)
    assert '"broker":"a"' in done.out.replace(" ", "")
    for arguments in ((), ("--server-key", own, "--key-file", "unlisted.key")):
        assert command("status", endpoint, "--timeout", "0.3", *arguments, cwd=tmp_path).status == 4
    (tmp_path / "own.pub").write_text(f"own {own}\n")
    (tmp_path / "own.pub").chmod(0o644)
    from_file = ("--server-key", "own.pub", "--key-file", "bot.key")
    assert command("status", endpoint, *from_file, cwd=tmp_path).status == 0
    (tmp_path / "brokerwatch.toml").write_text(
        f'version = 1\n[cluster]\nhealth_endpoint = "{endpoint}"\n[curve]\nkey_file = "own.key"\n'
    )
    assert command("status", cwd=tmp_path).status == 0
    assert command("status", endpoint, cwd=tmp_path).status == 0


def test_options_that_do_not_fit_are_said(keys: Keys, tmp_path: Path) -> None:
    del keys
    for arguments, words in (
        (("status", "tcp://127.0.0.1:1", "--server-key", "x"), "key_file"),
        (("status", "tcp://127.0.0.1:1", "--key-file", "bot.key"), "server_key"),
        (("status", "tcp://10.0.0.1:1"), "server_key and key_file"),
        (
            ("listen", *(f"tcp://127.0.0.1:{n}" for n in (1, 2, 3)), *("--server-key", "x") * 2),
            "one for each",
        ),
    ):
        done = command(*arguments, cwd=tmp_path)
        assert done.status == 2, arguments
        assert words in done.err, done.err
    for name in ("top", "serve", "notify", "listen", "status"):
        assert "--server-key" in command(name, "--help", cwd=tmp_path).out
