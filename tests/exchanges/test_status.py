"""What an exchange says of itself: what goes on counts, what is announced is only told."""

from __future__ import annotations

from typing import Any, Final

import pytest

from brokerwatch.exchanges import kraken as kraken_adapter
from brokerwatch.exchanges import okx as okx_adapter
from brokerwatch.exchanges.envelope import UnprovenAnswer
from brokerwatch.messages.trading import Status, StatusWord

NOW_US: Final = 1_700_000_000_000_000
MINUTE_MS: Final = 60_000


def kraken(status: object = "online", **values: object) -> dict[str, Any]:
    return {"error": [], "result": {"status": status, "timestamp": "2023-07-06T18:52:00Z", **values}}


def event(
    state: object = "ongoing", begin_min: int = -5, end_min: int = 60, **values: object
) -> dict[str, Any]:
    begin_ms, end_ms = (NOW_US // 1_000 + minutes * MINUTE_MS for minutes in (begin_min, end_min))
    return {
        "title": "Spot System Upgrade",
        "state": state,
        "begin": str(begin_ms),
        "end": str(end_ms),
        "serviceType": "5",
        "env": "1",
        **values,
    }


def okx(*events: object) -> Status:
    return okx_adapter.status({"code": "0", "msg": "", "data": list(events)}, NOW_US)


@pytest.mark.parametrize("word", list(StatusWord))
def test_kraken_says_one_of_four_words(word: StatusWord) -> None:
    assert kraken_adapter.status(kraken(str(word))) == Status(word)


def test_what_kraken_announces_is_told_and_leaves_it_online() -> None:
    said = kraken_adapter.status(
        kraken(upcoming_maintenance=[{"title": "Upgrade\nof spot"}], emergency=[{"name": "Funding is slow"}])
    )
    assert said == Status(StatusWord.ONLINE, "now: Funding is slow; announced: Upgrade of spot")
    assert kraken_adapter.status(kraken(upcoming_maintenance=[], emergency=None)) == Status(StatusWord.ONLINE)
    assert kraken_adapter.status(kraken(upcoming_maintenance="soon")).word is StatusWord.ONLINE
    untitled: list[dict[str, str]] = [{}]
    assert kraken_adapter.status(kraken(upcoming_maintenance=untitled)).detail == "announced: no title"
    assert len(kraken_adapter.status(kraken(emergency=["x" * 1_000])).detail) <= 200


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "",
        [],
        {},
        {"error": []},
        {"error": ["EService:Busy"]},
        kraken("closed"),
        kraken(None),
        kraken(""),
        kraken(["online"]),
    ],
)
def test_a_word_that_nobody_knows_is_no_status(answer: object) -> None:
    with pytest.raises(UnprovenAnswer):
        kraken_adapter.status(answer)


def test_okx_without_events_is_online() -> None:
    assert okx() == Status(StatusWord.ONLINE)


def test_what_goes_on_is_maintenance_until_okx_says_that_it_is_over() -> None:
    said = okx(event())
    assert said.word is StatusWord.MAINTENANCE
    assert said.detail == "ongoing, until 2023-11-14 23:13 UTC: Spot System Upgrade"
    assert okx(event(end_min=-1)).word is StatusWord.MAINTENANCE, "it may take longer than was planned"


def test_what_is_announced_is_told_and_leaves_okx_online() -> None:
    said = okx(event("scheduled", begin_min=30))
    assert said.word is StatusWord.ONLINE
    assert said.detail == "announced, 2023-11-14 22:43 UTC to 2023-11-14 23:13 UTC: Spot System Upgrade"
    assert okx(event("scheduled", begin_min=-1)).word is StatusWord.ONLINE, (
        "it has not begun until OKX says so"
    )
    assert okx(event("scheduled", begin_min=-60, end_min=-1)) == Status(StatusWord.ONLINE), "that is over"


def test_while_only_resting_orders_are_taken_okx_is_post_only() -> None:
    assert okx(event("pre_open")).word is StatusWord.POST_ONLY
    for events in ((event("pre_open"), event()), (event(), event("pre_open"))):
        assert okx(*events).word is StatusWord.MAINTENANCE


def test_what_goes_on_is_told_before_what_is_announced() -> None:
    said = okx(event("scheduled", begin_min=30, title="Later"), event(title="Now"))
    assert said.word is StatusWord.MAINTENANCE
    assert said.detail.index("Now") < said.detail.index("Later")


@pytest.mark.parametrize(
    "values",
    [
        {"state": "completed"},
        {"state": "canceled"},
        {"env": "2"},
        *({"serviceType": number} for number in ("0", "2", "3", "4", "6", "7", "10", "11", "99")),
    ],
)
def test_what_is_over_or_concerns_no_spot_order_is_nothing_to_us(values: dict[str, Any]) -> None:
    assert okx(event(**values)) == Status(StatusWord.ONLINE)


@pytest.mark.parametrize("service", ["1", "5", "", None])
def test_the_services_that_spot_orders_need_count(service: object) -> None:
    assert okx(event(serviceType=service)).word is StatusWord.MAINTENANCE
    bare = event()
    del bare["serviceType"], bare["env"]
    assert okx(bare).word is StatusWord.MAINTENANCE


@pytest.mark.parametrize("service", ["8", "9"])
def test_maintenance_of_a_part_of_the_accounts_is_told_and_stops_nothing(service: str) -> None:
    said = okx(event(serviceType=service))
    assert said.word is StatusWord.ONLINE
    assert said.detail.startswith("for a part of the accounts or products, until")


@pytest.mark.parametrize(
    "broken",
    [
        "event",
        event("paused"),
        event(None),
        event(begin=""),
        event(end="soon"),
        event(end=None),
        event(end="9" * 20),
        event(begin="-1"),
    ],
)
def test_an_event_that_cannot_be_read_is_no_status(broken: object) -> None:
    with pytest.raises(UnprovenAnswer):
        okx(broken)


@pytest.mark.parametrize(
    "answer", [None, [], {}, {"code": "1", "msg": "", "data": []}, {"code": "0", "msg": ""}]
)
def test_what_is_no_envelope_of_okx_is_no_status(answer: object) -> None:
    with pytest.raises(UnprovenAnswer):
        okx_adapter.status(answer, NOW_US)
