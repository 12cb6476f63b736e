"""The process that sends: what is certain and what is not, and that nothing of an address is shown."""

from __future__ import annotations

import socket
import threading
from pathlib import Path
from typing import Final

import pytest

from brokerwatch.config.notify_settings import NotifySettings
from brokerwatch.errors import ConfigError
from brokerwatch.notify import sending
from brokerwatch.notify.deliveries import Outcome
from brokerwatch.notify.notices import Kind, Notice, Severity
from brokerwatch.notify.sending import Answer, Sender, check_installed, without_address
from tests.support.clusters import until
from tests.support.receivers import mail_receiver, web_receiver

NOTICE: Final = Notice(
    key="k/1/outage",
    subject="k",
    kind=Kind.OUTAGE,
    severity=Severity.CRITICAL,
    title="k is not available: errors, network",
    body="What: k (kraken) is not available.\nWhy: the exchange cannot be reached.",
    at_us=0,
)


def test_a_web_server_gets_the_message_as_it_is() -> None:
    with web_receiver() as web:
        assert Sender().send(web.url(), NOTICE).outcome is Outcome.SENT
    [message] = web.bodies
    assert message["title"] == "[critical] k is not available: errors, network"
    assert (message["message"], message["type"]) == (NOTICE.body, "failure")


@pytest.mark.parametrize(
    ("status", "outcome"),
    [
        *((401, "failed"), (500, "failed"), (504, "unknown")),
        *((301, "failed"), (302, "unknown"), (303, "unknown")),
    ],
)
def test_an_answer_says_for_certain_what_became_of_it(status: int, outcome: str) -> None:
    with web_receiver() as web:
        web.answers = [status]
        answer = Sender().send(web.url(), NOTICE)
    assert (answer.outcome, answer.words, answer.final) == (outcome, f"HTTP status {status}", False)
    assert web.got == [], "a message that is sent elsewhere arrives nowhere by GET"


def test_an_answer_without_an_end_is_known_by_its_status() -> None:
    with web_receiver() as web:
        web.is_endless, web.answers = True, [200, 500]
        outcomes = [Sender().send(web.url(), NOTICE).outcome for _ in range(2)]
    assert outcomes == [Outcome.SENT, Outcome.FAILED]


def test_an_answer_that_does_not_come_leaves_it_open() -> None:
    with web_receiver() as web:
        web.hold = threading.Event()
        answer = Sender().send(web.url(rto="2"), NOTICE)
        assert (answer.outcome, answer.words) == (Outcome.UNKNOWN, "no answer came")
        until(lambda: len(web.bodies) == 1)
        # The process is ended, and not the service's time-out. A busy machine may not even have started it,
        # or ended it between its connection and what it would have sent.
        limit_s, late = 1.0, Answer(Outcome.FAILED)
        while late.outcome is Outcome.FAILED or len(web.bodies) == 1:
            assert late.outcome is not Outcome.FAILED or len(web.bodies) == 1
            late, limit_s = Sender(limit_s=limit_s).send(web.url(), NOTICE), 2 * limit_s
    assert (late.outcome, late.words) == (Outcome.UNKNOWN, "it took too long")


def test_a_connection_that_is_refused_has_sent_nothing() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and it does not listen
        answer = Sender().send(f"json://127.0.0.1:{taken.getsockname()[1]}/s3cr3tPath", NOTICE)
    assert answer.outcome is Outcome.FAILED
    assert "s3cr3t" not in answer.words


def test_a_process_that_is_ended_before_it_connects_has_sent_nothing() -> None:
    assert Sender(limit_s=0.01).send("json://127.0.0.1:1/x", NOTICE).outcome is Outcome.FAILED
    stopped = Sender()
    stopped.stop()
    assert stopped.send("json://127.0.0.1:1/x", NOTICE).outcome is Outcome.FAILED


def test_a_mail_server_gets_a_mail() -> None:
    with mail_receiver() as mail:
        url = f"mailto://127.0.0.1:{mail.port}?from=watch@example.com&to=desk@example.com"
        assert Sender().send(url, NOTICE).outcome is Outcome.SENT
        mail.answers = [451]
        refused = Sender().send(url, NOTICE)
        mail.hold = threading.Event()
        silent = Sender().send(f"{url}&cto=3&rto=3", NOTICE)
    assert (refused.outcome, refused.words) == (Outcome.FAILED, "SMTP status 451")
    assert silent.outcome is Outcome.UNKNOWN
    [first, _] = mail.bodies
    assert first["to"] == ("<desk@example.com>",)
    assert "Subject: [critical] k is not available: errors, network" in str(first["text"])


def test_an_address_with_several_receivers_of_which_one_has_it_is_not_sent_to_again() -> None:
    with mail_receiver() as mail:
        mail.answers = [250, 451]
        url = f"mailto://127.0.0.1:{mail.port}?from=watch@example.com&to=a@example.com,b@example.com"
        assert Sender().send(url, NOTICE).outcome is Outcome.UNKNOWN


def test_an_address_that_apprise_does_not_know_is_a_mistake() -> None:
    answer = Sender().check("http://127.0.0.1/plain")
    assert (answer.outcome, answer.final) == (Outcome.FAILED, True)
    assert "a plain webhook is json://HOST/PATH" in answer.words
    assert Sender().check("tgram://123456789:abcdefghijklmnopqrstuvwxyz123456789/42").service == "Telegram"


def test_the_switch_is_called_with_a_body_and_needs_no_apprise() -> None:
    with web_receiver() as web:
        assert Sender().call(web.url("http"), '{"accounts": 2}', 5.0).outcome is Outcome.SENT
        web.answers = [500]
        assert Sender().call(web.url("http"), "{}", 5.0).words == "HTTP status 500"
    assert web.bodies == [{"accounts": 2}]


def test_the_process_sees_none_of_our_environment_but_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    program = tmp_path / "show.py"
    program.write_text(
        "import json, os; print(json.dumps({'outcome': 'sent', 'words': ' '.join(os.environ)}))\n"
    )
    monkeypatch.setattr(sending, "PROGRAM", program)
    monkeypatch.setenv("KRAKEN_MAIN_API_SECRET", "made up")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3128")
    seen = Sender().send("json://127.0.0.1/x", NOTICE).words.split()
    assert "HTTPS_PROXY" in seen
    assert not [name for name in seen if "KRAKEN" in name]


def test_nothing_of_an_address_stays_in_a_text() -> None:
    url = "tgram://123456789:AAbbCCddEE/42?rto=5"
    text = f"{url} failed: token 123456789:AAbbCCddEE of chat 42 refused"
    assert "AAbb" not in without_address(text, url)
    assert "pa%24%24word" not in without_address("at pa%24%24word", "mailtos://me:pa$$word@example.com")


def test_what_is_missing_is_said_with_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "find_spec", {"apprise": None}.get)
    with pytest.raises(
        ConfigError, match=r"notify.urls: .*: pip install apprise \(it is the extra `notify`\)"
    ):
        check_installed(NotifySettings(urls=("json://127.0.0.1/x",)))
    check_installed(NotifySettings(heartbeat_url="https://example.com/ping"))
