"""A message to try the channels with."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from brokerwatch.clock import Instant
from brokerwatch.config.notify_settings import NotifySettings
from brokerwatch.notify.channel import channel_name
from brokerwatch.notify.notices import Kind, Notice, Severity
from brokerwatch.notify.sending import Answer, Sender, check_installed


def tried(settings: NotifySettings, where: str, now: Instant) -> Iterator[tuple[str, Answer]]:
    """Send a test message over every channel at once, and give what became of each, in their order.

    Args:
        settings: the channels.
        where: what sends it, in words.
        now: the moment.

    Raises:
        ConfigError: apprise is not installed.
    """
    check_installed(settings)
    notice = Notice(
        key="test",
        subject="test",
        kind=Kind.TEST,
        severity=Severity.INFO,
        title="test message of brokerwatch",
        body=f"This is a test of {where}. Messages about outages come over this channel. Nothing is wrong.",
        at_us=now.wall_us,
    )
    with ThreadPoolExecutor(max(1, len(settings.urls)), "brokerwatch-test-message") as pool:
        answers = [pool.submit(Sender().send, url, notice) for url in settings.urls]
        for number, (url, answer) in enumerate(zip(settings.urls, answers, strict=True), start=1):
            yield channel_name(number, url), answer.result()
