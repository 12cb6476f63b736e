"""`notify`, `silence` and `listen --on-change`: what they say, and what they leave behind."""

from __future__ import annotations

import contextlib
import json
import signal
import threading
from pathlib import Path

import pytest

from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.errors import BalanceUnknown
from brokerwatch.notify.silence_file import SilenceFile
from tests.support.clusters import Till, cluster_of, until
from tests.support.command import command
from tests.support.programs import BROKERWATCH, Program
from tests.support.receivers import mail_receiver, web_receiver


def one_account() -> BrokerSpec:
    return BrokerSpec("till-1", fetch=Till(), poll_interval_s=float("inf"))


def configured(folder: Path, notify: str) -> Path:
    path = folder / "brokerwatch.toml"
    path.write_text(f'version = 1\n[cluster]\nstate = "state"\n[notify]\n{notify}\n', encoding="utf-8")
    return path


def test_a_test_message_goes_over_every_channel(tmp_path: Path) -> None:
    with web_receiver() as web, mail_receiver() as mail:
        mail_url = f"mailto://127.0.0.1:{mail.port}?from=watch@example.com&to=desk@example.com"
        configured(tmp_path, f'urls = ["{web.url()}", "{mail_url}"]\nheartbeat_url = "{web.url("http")}"')
        done = command("notify", "--test", cwd=tmp_path)
    assert (done.status, done.err) == (0, "")
    assert done.out.splitlines() == [
        "channel 1 (json): sent",
        "channel 2 (mailto): sent",
        "heartbeat_url: not called, because a call says that all is watched",
    ]
    [message] = web.bodies
    assert (message["title"], message["type"]) == ("[info] test message of brokerwatch", "info")
    [letter] = mail.bodies
    assert "Nothing is wrong." in str(letter["text"])


def test_a_test_message_says_which_channel_did_not_take_it_and_shows_no_address(tmp_path: Path) -> None:
    with web_receiver() as web:
        web.answers = [401]
        urls = [
            web.url(path="s3cr3tPathOfAHook"),
            "tgrm://123456789:AAbbCCdd/42",
            "json://127.0.0.1:1/AAbbCCdd",
        ]
        configured(tmp_path, f"urls = {urls}")
        done = command("notify", "--test", cwd=tmp_path)
    assert done.status == 1
    first, second, third = done.out.splitlines()
    assert first == "channel 1 (json): not sent: HTTP status 401"
    assert second.startswith("channel 2 (tgrm): not sent: apprise cannot use this address")
    assert third.startswith("channel 3 (json): not sent: ")
    assert not [secret for secret in ("s3cr3t", "AAbb") if secret in done.out + done.err]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "either --test or --connect"),
        (("--test", "--connect", "tcp://127.0.0.1:5571"), "either --test or --connect"),
        (("--connect", "tcp://127.0.0.1:5571"), "expected --state FOLDER"),
        (("--connect", "tcp://127.0.0.1:5571", "--state", "s"), "neither urls nor heartbeat_url"),
        (("--test",), "[notify] has no urls"),
    ],
)
def test_what_is_missing_is_said(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    configured(tmp_path, "")
    done = command("notify", *arguments, cwd=tmp_path)
    assert done.status == 2
    assert words in done.err


def test_a_silence_is_made_shown_and_ended(tmp_path: Path) -> None:
    configured(tmp_path, "")
    made = command(
        *("silence", "add", "works", "--why", "works on the line", "--until", "2h"),
        *("--broker", "kraken-main", "--exchange", "okx"),
        cwd=tmp_path,
    )
    assert (made.status, made.err) == (0, "")
    assert made.out.startswith("no messages about kraken-main, okx until ")
    shown = command("silence", "list", cwd=tmp_path)
    assert shown.status == 0
    assert "works            kraken-main, okx until " in shown.out
    assert shown.out.rstrip().endswith(": works on the line")
    [entry] = command("silence", "list", "--json", cwd=tmp_path).out.splitlines()
    found = json.loads(entry)
    assert (found["name"], found["brokers"], found["exchanges"]) == ("works", ["kraken-main"], ["okx"])
    assert (found["until_us"] - found["since_us"]) / 3.6e9 == pytest.approx(2, abs=0.1)
    assert [each.name for each in SilenceFile(tmp_path / "state").read()] == ["works"]
    assert command("silence", "end", "works", cwd=tmp_path).out == (
        "messages about kraken-main, okx are sent again\n"
    )
    assert command("silence", "list", cwd=tmp_path).status == 1


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("add", "works", "--why", " ", "--until", "2h"), 2, "needs a reason"),
        (("add", "Works!", "--why", "x", "--until", "2h"), 2, "the name: expected up to 48"),
        (("add", "maintenance-kraken", "--why", "x", "--until", "2h"), 2, "not maintenance-"),
        (("add", "works", "--why", "x", "--until", "2020-01-01"), 2, "that moment is over"),
        (("add", "works", "--why", "x", "--until", "52w"), 2, "after 90 days"),
        (("add", "works", "--why", "x", "--until", "soon"), 2, "expected a moment such as"),
        (("add", "works", "--why", "x" * 161, "--until", "2h"), 2, "up to 160 characters"),
        (("end", "works"), 1, "no silence named 'works'; there are: none"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, arguments: tuple[str, ...], status: int, words: str) -> None:
    configured(tmp_path, "")
    done = command("silence", *arguments, cwd=tmp_path)
    assert done.status == status
    assert words in done.err


def test_a_command_runs_for_each_change_with_the_reading_on_its_standard_input(tmp_path: Path) -> None:
    script = tmp_path / "keep.sh"
    script.write_text("#!/bin/sh\ncat >> kept.json\n")
    script.chmod(0o700)
    with cluster_of(one_account()) as cluster:
        done = command(
            *("listen", cluster.health_endpoint, "--on-change", f"{script}", "--count", "1"), cwd=tmp_path
        )
    assert (done.status, done.out, done.err) == (0, "", "")
    found = json.loads((tmp_path / "kept.json").read_text())
    assert (found["broker"], found["available"]) == ("till-1", True)
    assert found["src"] == "supervisor/main"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("false", "till-1: false ended with status 1"),
        ("/no/such/program", "till-1: /no/such/program cannot be run: No such file or directory"),
    ],
)
def test_a_command_that_fails_is_said_and_the_listening_goes_on(
    tmp_path: Path, words: str, said: str
) -> None:
    with cluster_of(one_account()) as cluster:
        done = command("listen", cluster.health_endpoint, "--on-change", words, "--count", "1", cwd=tmp_path)
    assert done.status == 0
    assert said in done.err


def test_an_empty_command_is_refused(tmp_path: Path) -> None:
    done = command("listen", "tcp://127.0.0.1:5571", "--on-change", " ", cwd=tmp_path)
    assert (done.status, "expected a command" in done.err) == (2, True)


def test_a_watcher_from_outside_that_is_killed_while_it_sends_repeats_nothing(tmp_path: Path) -> None:
    till = Till()
    spec = BrokerSpec("till-1", fetch=till, poll_interval_s=float("inf"))
    with web_receiver() as web, cluster_of(spec) as cluster:
        configured(tmp_path, f'urls = ["{web.url(rto="60")}"]')
        words = (*BROKERWATCH, "notify", "--connect", cluster.health_endpoint, "--state", "its-own")
        web.hold = threading.Event()
        with Program(*words, cwd=tmp_path) as killed:
            till.failure = ValueError("stuck")
            for _ in range(3):
                with contextlib.suppress(BalanceUnknown):
                    cluster.broker("till-1").get_account_balance()
            web.has(1)  # it was sent, and the answer does not come
            killed.send(signal.SIGKILL)
            killed.end()
        web.hold.set()
        with Program(*words, cwd=tmp_path) as again:
            until(lambda: "it is not known whether this was sent before the restart" in again.errors)
            till.failure = None
            cluster.broker("till-1").get_account_balance()
            web.has(2)
            assert again.stopped_by(signal.SIGTERM) == 0
    assert [title.partition(" ")[0] for title in web.titles] == ["[critical]", "[recovery]"]
