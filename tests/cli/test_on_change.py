"""A command for each change: what it is given, and that one that hangs is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from brokerwatch.cli.on_change import command_words, run_on_change
from brokerwatch.config.broker_spec import BrokerSpec
from tests.support.clusters import Till, cluster_of


def test_a_command_is_split_as_a_shell_would_split_it() -> None:
    assert command_words("./tell 'the desk' --now") == ["./tell", "the desk", "--now"]
    with pytest.raises(ValueError, match="No closing quotation"):
        command_words("./tell 'the desk")


def test_a_command_that_hangs_is_killed(capsys: pytest.CaptureFixture[str]) -> None:
    spec = BrokerSpec("till-1", fetch=Till(), poll_interval_s=float("inf"))
    with cluster_of(spec) as cluster, cluster.listener() as listener:
        assert run_on_change(listener, ["sleep", "600"], lambda: False, 1, limit_s=0.2) == 1
    assert "till-1: sleep was killed after 0.2 s" in capsys.readouterr().err


def test_each_change_is_one_run_and_a_poll_that_finds_the_same_is_none(tmp_path: Path) -> None:
    till = Till()
    spec = BrokerSpec("till-1", fetch=till, poll_interval_s=float("inf"))
    kept = tmp_path / "kept"
    with cluster_of(spec) as cluster:
        cluster.broker("till-1").get_account_balance()
        with cluster.listener() as listener:
            words = ["sh", "-c", f'grep -o \'"cash": "[^"]*"\' >> {kept}']
            assert run_on_change(listener, words, lambda: False, 1) == 1
            cluster.broker("till-1").get_account_balance()
            till.balance = {"USD": "7.5"}
            cluster.broker("till-1").get_account_balance()
            assert run_on_change(listener, words, lambda: "7.5" in kept.read_text(), None) > 0
    assert kept.read_text().splitlines()[0] == '"cash": "100.00"'
    assert kept.read_text().splitlines()[-1] == '"cash": "7.5"'
