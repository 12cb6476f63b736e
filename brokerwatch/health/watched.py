"""What is watched of an account beside its health, and is kept with it over a restart."""

from __future__ import annotations

from typing import Final

import msgspec

from brokerwatch.health.key_watch import KeyWatch
from brokerwatch.health.money_watch import MoneyWatch


class Watched(msgspec.Struct, frozen=True, kw_only=True):
    """What is known beside the health. None of it is evidence about the account."""

    key: KeyWatch = KeyWatch()
    money: MoneyWatch = MoneyWatch()


NOTHING_WATCHED: Final = Watched()
