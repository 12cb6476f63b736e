"""The ledger and its file: what was said is stored before it is sent, and a restart repeats nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Final

import pytest

from brokerwatch.clock import ManualClock, SystemClock
from brokerwatch.messages import FaultKind, Reason
from brokerwatch.notify.deliveries import Outcome
from brokerwatch.notify.ledger import Ledger
from brokerwatch.notify.notices import Kind, Notice, Severity
from brokerwatch.notify.outage_state import Outages
from brokerwatch.notify.outages import Looked
from brokerwatch.notify.record_file import RECORD_NAME, RecordFile, announced, read_record
from tests.support.watching import Watching

CHANNELS: Final = {"a": "channel 1 (json)", "b": "channel 2 (mailto)"}


def notice(key: str = "k/1/outage", subject: str = "k") -> Notice:
    return Notice(
        key=key, subject=subject, kind=Kind.OUTAGE, severity=Severity.WARNING, title=key, body="b", at_us=1
    )


def ledger(folder: Path, channels: dict[str, str] = CHANNELS) -> Ledger:
    return Ledger(RecordFile(folder / RECORD_NAME), channels, SystemClock())


def told(desk: Watching) -> Looked:
    desk.out("k")
    found = desk.look()
    return Looked(desk.outages, tuple(found), {})


def test_each_channel_gets_each_notice_once(tmp_path: Path) -> None:
    first = ledger(tmp_path)
    first.add([notice()])
    first.add([notice()])
    for channel in CHANNELS:
        [waiting] = first.next(channel)
        first.ended(channel, [waiting], Outcome.SENT)
        assert first.waiting(channel) == 0


def test_a_process_that_is_killed_while_it_sends_does_not_send_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    killed = ledger(tmp_path)
    killed.add([notice()])
    assert killed.next("a")  # and no word of its outcome
    again = ledger(tmp_path)
    assert again.waiting("a") == 0
    assert "channel 1 (json): it is not known whether this was sent before the restart" in caplog.text
    [waiting] = again.next("b")
    assert waiting.notice == notice()


def test_what_waited_waits_again_after_a_restart_and_a_channel_that_is_gone_is_forgotten(
    tmp_path: Path,
) -> None:
    before = ledger(tmp_path)
    before.add([notice()])
    before.ended("a", before.next("a"), Outcome.FAILED)
    after = ledger(tmp_path, {"b": CHANNELS["b"], "c": "channel 3 (tgram)"})
    assert (after.waiting("b"), after.waiting("c")) == (1, 0)
    assert set(read_record(tmp_path / RECORD_NAME).queues) == {"b", "c"}


def test_what_was_decided_and_what_waits_are_stored_together(tmp_path: Path) -> None:
    desk = Watching("k", "c")
    first = ledger(tmp_path)
    first.take(told(desk))
    record = read_record(tmp_path / RECORD_NAME)
    outage = record.outages.subjects["k"].outage
    assert outage is not None
    assert outage.told
    assert [each.notice.subject for each in record.queues["a"]] == ["k"]
    assert ledger(tmp_path).outages.subjects.keys() == {"k"}


def test_a_message_that_is_withdrawn_before_it_was_sent_counts_as_never_said(tmp_path: Path) -> None:
    desk = Watching("k", "c")
    book = ledger(tmp_path)
    found = told(desk)
    book.take(found)
    key = found.notices[0].key
    book.take(Looked(book.outages, (), {"k": key}))
    outage = book.outages.subjects["k"].outage
    assert outage is not None
    assert not outage.told
    assert book.waiting("a") == book.waiting("b") == 0


def test_a_message_that_one_channel_has_sent_already_stays_said(tmp_path: Path) -> None:
    desk = Watching("k", "c")
    book = ledger(tmp_path)
    found = told(desk)
    book.take(found)
    book.ended("a", book.next("a"), Outcome.SENT)
    book.take(Looked(book.outages, (), {"k": found.notices[0].key}))
    outage = book.outages.subjects["k"].outage
    assert outage is not None
    assert outage.told


def test_a_closed_ledger_lets_its_channels_go() -> None:
    book = Ledger(RecordFile(None), CHANNELS, ManualClock())
    got = list[object]()
    thread = threading.Thread(target=lambda: got.append(book.next("a")))
    thread.start()
    book.close()
    thread.join(30)
    assert got == [()]


def test_a_record_that_cannot_be_read_is_set_aside(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / RECORD_NAME
    for text in ("{", '{"version": 2}', "[]", '{"queues": 3}'):
        path.write_text(text)
        assert RecordFile(path).read().outages == Outages()
        assert not path.exists()
    assert caplog.text.count("may be said again") == 4
    assert len(list(tmp_path.glob(f"{RECORD_NAME}.corrupt-*"))) >= 1


def test_a_record_that_cannot_be_written_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = RecordFile(tmp_path / "gone" / RECORD_NAME)
    for _ in range(3):
        file.write(file.read())
    assert caplog.text.count("a restart may repeat messages") == 1


def test_the_silences_of_announced_maintenance_are_found_in_the_record(tmp_path: Path) -> None:
    desk = Watching("k", "c")
    assert announced(tmp_path) == ()
    desk.out("k", reason=Reason.MAINTENANCE, fault=FaultKind.MAINTENANCE)
    desk.look()
    ledger(tmp_path).take(Looked(desk.outages, (), {}))
    assert [each.name for each in announced(tmp_path)] == ["maintenance-kraken"]
