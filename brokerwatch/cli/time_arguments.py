"""Moments as an operator writes them: `30m`, `2h`, `18:00`, `2026-11-22`, `2026-11-22T18:00Z`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

FORMS: Final = "30m, 2h, 3d, 18:00, 2026-11-22 or 2026-11-22T18:00Z"
_SPAN: Final = re.compile(r"([0-9]{1,6})([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_HOUR: Final = re.compile(r"([0-2][0-9]):([0-5][0-9])")


def moment(text: str, now: datetime, *, ahead: bool) -> datetime:
    """The moment that `text` means. Raises ValueError, which names the forms.

    A span counts from `now`, forwards when `ahead` and else backwards; an hour is the next or the last
    of its kind. `now` is local and has its zone. What is written without a zone is given back without one:
    it is the wall clock's, and which offset holds on that day the caller's system knows.
    """
    direction = 1 if ahead else -1
    span = _SPAN.fullmatch(text)
    hour = _HOUR.fullmatch(text)
    try:
        if span is not None:
            return now + direction * timedelta(seconds=int(span[1]) * _SECONDS[span[2]])
        if hour is not None:
            now = now.replace(tzinfo=None)
            found = now.replace(hour=int(hour[1]), minute=int(hour[2]), second=0, microsecond=0)
            if (found <= now) if ahead else (found > now):
                found += direction * timedelta(days=1)
            return found
        return datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        raise ValueError(f"expected a moment such as {FORMS}, not {text!r}") from None
