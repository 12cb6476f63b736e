"""Moments as an operator writes them: every form, and one kind of error for everything else."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from brokerwatch.cli.time_arguments import FORMS, moment

HERE: Final = timezone(timedelta(hours=2))
NOW: Final = datetime(2026, 11, 22, 14, 30, 15, 250_000, tzinfo=HERE)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0s", 0), ("1s", 1), ("30m", 1_800), ("2h", 7_200), ("3d", 259_200), ("1w", 604_800)],
)
def test_a_span_counts_forwards_or_backwards_from_now(text: str, seconds: int) -> None:
    assert moment(text, NOW, ahead=True) == NOW + timedelta(seconds=seconds)
    assert moment(text, NOW, ahead=False) == NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("text", "ahead", "day", "hour", "minute"),
    [
        ("18:00", True, 22, 18, 0),
        ("18:00", False, 21, 18, 0),
        ("09:05", True, 23, 9, 5),
        ("09:05", False, 22, 9, 5),
        ("14:30", True, 23, 14, 30),
        ("14:30", False, 22, 14, 30),
        ("00:00", True, 23, 0, 0),
        ("23:59", False, 21, 23, 59),
    ],
)
def test_an_hour_is_the_next_or_the_last_of_its_kind(
    text: str, ahead: bool, day: int, hour: int, minute: int
) -> None:
    # Without a zone: which offset holds on that day the caller's system knows.
    assert moment(text, NOW, ahead=ahead) == datetime(2026, 11, day, hour, minute)  # noqa: DTZ001 - as above


def test_the_very_hour_is_over_and_not_ahead() -> None:
    on_the_hour = NOW.replace(second=0, microsecond=0)
    assert moment("14:30", on_the_hour, ahead=False) == on_the_hour.replace(tzinfo=None)
    tomorrow = on_the_hour.replace(tzinfo=None) + timedelta(days=1)
    assert moment("14:30", on_the_hour, ahead=True) == tomorrow


def test_a_date_means_its_midnight_on_the_wall_and_keeps_a_zone_of_its_own() -> None:
    for ahead in (True, False):
        assert moment("2026-11-23", NOW, ahead=ahead).isoformat() == "2026-11-23T00:00:00"
        assert moment("2026-11-23T18:00", NOW, ahead=ahead).isoformat() == "2026-11-23T18:00:00"
        found = moment("2026-11-23T18:00Z", NOW, ahead=ahead)
        assert (found, found.utcoffset()) == (datetime(2026, 11, 23, 18, tzinfo=UTC), timedelta(0))


NO_MOMENTS: Final = (
    *("", " ", "soon", "m", "30", "-5m", "+5m", "5 m", "5M", "1.5h", "30min", "1234567s", "٣m", "30m\n"),
    *("24:00", "29:59", "18:60", "8:00", "18:00:00x", "18", "2026-13-01", "2026-02-30", "22.11.2026"),
    *("999999w", "2026-11-22T18:00ZZ", "\ud800", "18:00\n"),
)


@pytest.mark.parametrize("text", NO_MOMENTS, ids=repr)
@pytest.mark.parametrize("ahead", [True, False])
def test_anything_else_is_an_error_that_names_the_forms(text: str, ahead: bool) -> None:
    with pytest.raises(ValueError, match="expected a moment such as") as error:
        moment(text, NOW, ahead=ahead)
    assert FORMS in str(error.value)
    assert repr(text) in str(error.value)


FIRST: Final = datetime(1, 1, 1, tzinfo=UTC)
LAST: Final = datetime(9999, 12, 31, 23, 59, tzinfo=UTC)


@pytest.mark.parametrize(("now", "ahead"), [(LAST, True), (FIRST, False)])
def test_beyond_the_end_of_all_calendars_lies_no_moment(now: datetime, ahead: bool) -> None:
    for text in ("1w", "00:00" if ahead else "23:59"):
        with pytest.raises(ValueError, match="expected a moment such as"):
            moment(text, now, ahead=ahead)


@given(
    text=st.text(st.sampled_from("0123456789smhdw:-TZ+. "), max_size=12) | st.text(max_size=8),
    ahead=st.booleans(),
)
def test_any_text_is_a_moment_or_a_value_error(text: str, ahead: bool) -> None:
    try:
        found = moment(text, NOW, ahead=ahead)
    except ValueError:
        return
    assert isinstance(found, datetime)
    if text[-1] in "smhdw":
        assert (found >= NOW) is ahead or found == NOW


def test_every_form_that_is_named_in_the_error_is_one() -> None:
    assert FORMS == "30m, 2h, 3d, 18:00, 2026-11-22 or 2026-11-22T18:00Z"
    for form in FORMS.replace(" or ", ", ").split(", "):
        moment(form, NOW, ahead=True)
