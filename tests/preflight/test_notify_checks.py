"""The lines of `doctor` about messages to people."""

from __future__ import annotations

import pytest

from brokerwatch.config.notify_settings import NotifySettings
from brokerwatch.notify import sending
from brokerwatch.preflight.notify_checks import notify_lines


def test_each_address_is_looked_at_and_none_is_shown() -> None:
    settings = NotifySettings(
        urls=("json://127.0.0.1:1/AAbbCCdd", "tgrm://123456789:AAbbCCdd/42"),
        heartbeat_url="https://ping.example.com/AAbbCCdd",
    )
    first, second, third = notify_lines(settings)
    assert (first.outcome, first.check) == ("ok", "channel 1 (json)")
    assert (second.outcome, second.check) == ("fail", "channel 2 (tgrm)")
    assert (third.outcome, third.evidence) == ("ok", "it is called each 60 s")
    assert "AAbb" not in repr((first, second, third))


def test_nothing_is_said_where_no_messages_are_configured() -> None:
    assert list(notify_lines(NotifySettings())) == []


def test_a_missing_apprise_is_one_line_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sending, "find_spec", {"apprise": None}.get)
    [line] = notify_lines(NotifySettings(urls=("json://127.0.0.1/x", "json://127.0.0.1/y")))
    assert (line.outcome, line.advice) == ("fail", "pip install apprise (it is the extra `notify`)")
