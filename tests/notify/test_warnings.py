"""Messages about warnings: each once, also over a restart, and a silence puts them off."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

import pytest

from brokerwatch.clock import Instant
from brokerwatch.config.notify_settings import NotifySettings
from brokerwatch.messages import Reading
from brokerwatch.messages.key import KeyData, KeyWarning, KeyWarningData
from brokerwatch.notify.notices import Kind, Severity
from brokerwatch.notify.outage_state import Outages
from brokerwatch.notify.outages import Looked
from brokerwatch.notify.silences import Silence
from brokerwatch.notify.warnings import standing, with_warnings
from brokerwatch.simulator import SimulatedKraken, serve
from tests.support.clusters import cluster_of, simulated_spec, until
from tests.support.receivers import web_receiver
from tests.support.wire_examples import reading

NOW: Final = Instant(1_800_000_000_000_000, 1_000.0)
DAY_S: Final = 86_400.0


def warned(*words: KeyWarning, since_us: int = 5, detail: str = "it may withdraw") -> Reading:
    warnings = tuple(KeyWarningData(word=word, since_us=since_us, detail=detail) for word in words)
    return reading(broker="k", key=KeyData(checked_us=1, warnings=warnings))


def look(before: Outages, *readings: Reading, silences: tuple[Silence, ...] = ()) -> Looked:
    return with_warnings(Looked(before, (), {}), readings, NOW, silences)


def test_a_warning_is_said_once_as_long_as_it_stands_and_again_when_it_begins_anew() -> None:
    first = look(Outages(), warned(KeyWarning.CAN_WITHDRAW))
    [notice] = first.notices
    assert (notice.kind, notice.severity) == (Kind.WARNING, Severity.CRITICAL)
    assert "k: its API key can withdraw money" in notice.title
    assert "it may withdraw" in notice.body
    assert not look(first.outages, warned(KeyWarning.CAN_WITHDRAW)).notices
    assert not look(first.outages.stored(), warned(KeyWarning.CAN_WITHDRAW)).notices, "over a restart"
    unknown = look(first.outages, reading(broker="k", key=None))
    assert not look(unknown.outages, warned(KeyWarning.CAN_WITHDRAW)).notices, "nothing was known meanwhile"
    away = look(first.outages, reading(broker="other"))
    assert not look(away.outages, warned(KeyWarning.CAN_WITHDRAW)).notices
    over = look(first.outages, warned())
    assert not over.outages.warned
    assert look(over.outages, warned(KeyWarning.CAN_WITHDRAW, since_us=9)).notices


def test_a_silence_puts_a_warning_off_and_does_not_lose_it() -> None:
    until_us = NOW.wall_us + 1
    silence = Silence(name="s", why="w", by="u", since_us=0, until_us=until_us, brokers=("k",))
    muted = look(Outages(), warned(KeyWarning.ENDS_IN_7_DAYS), silences=(silence,))
    assert not muted.notices
    assert [each.severity for each in look(muted.outages, warned(KeyWarning.ENDS_IN_7_DAYS)).notices] == [
        Severity.WARNING
    ]


@pytest.mark.parametrize("word", KeyWarning)
def test_every_warning_has_words_and_without_amounts_none_of_an_exchange(word: KeyWarning) -> None:
    [found] = standing(warned(word, detail="SAID BY THE EXCHANGE"), with_amounts=False)
    assert found.title
    assert "SAID BY THE EXCHANGE" not in found.body
    assert "{" not in found.body


def test_the_end_of_a_key_reaches_a_webhook_once_also_over_a_restart(tmp_path: Path) -> None:
    exchange = SimulatedKraken()
    exchange.key_ends_s = time.time() + 6 * DAY_S
    with serve(exchange), web_receiver() as received:
        spec = simulated_spec(exchange, "k", key_watch_interval_s=0.1, poll_interval_s=0.2)
        notify = NotifySettings(urls=(received.url(),))
        with cluster_of(spec, state=tmp_path, notify=notify):
            [said] = received.has(1)
            assert "ends within 7 days" in said["title"]
        before = exchange.calls_to("/0/private/GetApiKeyInfo")
        with cluster_of(spec, state=tmp_path, notify=notify):
            until(lambda: exchange.calls_to("/0/private/GetApiKeyInfo") > before + 2)
            exchange.set_permissions({"query", "trade", "withdraw"})
            assert "can withdraw money" in received.has(2)[1]["title"]
