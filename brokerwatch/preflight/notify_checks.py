"""The lines of `doctor` about messages to people. Nothing is sent."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from brokerwatch.config.notify_settings import NotifySettings
from brokerwatch.errors import ConfigError
from brokerwatch.notify.channel import channel_name
from brokerwatch.notify.sending import HOW_TO_INSTALL, Sender, check_installed
from brokerwatch.preflight.diagnosis import Line, fail, ok

SUBJECT: Final = "notify"


def notify_lines(settings: NotifySettings) -> Iterator[Line]:
    """Whether messages can be sent: that apprise is there, and that it can use each address."""
    try:
        check_installed(settings)
    except ConfigError:
        yield fail(SUBJECT, "apprise", "it is not installed", HOW_TO_INSTALL.rpartition(": ")[2])
        return
    for number, url in enumerate(settings.urls, start=1):
        name, answer = channel_name(number, url), Sender().check(url)
        if answer.final:
            yield fail(SUBJECT, name, answer.words, "correct that address")
        else:
            evidence = f"apprise knows it ({answer.service})" if answer.service else answer.words
            yield ok(SUBJECT, name, f"{evidence}; `brokerwatch notify --test` tries it")
    if settings.heartbeat_url:
        yield ok(SUBJECT, "heartbeat_url", f"it is called each {settings.heartbeat_interval_s:g} s")
