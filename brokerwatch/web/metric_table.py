"""Every metric by name, with its kind, its labels and its meaning. `docs/metrics.md` shows this table.

Names follow Prometheus' conventions: base units, `_total` for what only grows, `_timestamp_seconds` for a
moment. A label takes words from a closed list, names that the operator chose, or currencies, whose number is
bounded.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


class Kind(StrEnum):
    """The kind of a metric, as Prometheus names it."""

    GAUGE = "gauge"
    COUNTER = "counter"
    HISTOGRAM = "histogram"
    INFO = "info"


class Origin(StrEnum):
    """Where a metric is known."""

    WIRE = "everywhere"
    """The health topic states it, so that also `serve --connect` shows it."""
    PROCESS = "cluster"
    """Only the cluster's own process knows it."""


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric."""

    name: str
    """As it is queried; of a histogram without `_bucket`."""
    kind: Kind
    says: str
    """In plain words."""
    labels: tuple[str, ...] = ()
    """Beside `broker` and `exchange`."""
    origin: Origin = Origin.WIRE
    by_account: bool = True
    """Whether it is of one account, and so has the labels `broker` and `exchange`."""

    @property
    def all_labels(self) -> tuple[str, ...]:
        """Every label."""
        return ("broker", "exchange", *self.labels) if self.by_account else self.labels

    @property
    def unit(self) -> str:
        """The unit that the name ends with; empty where it has none."""
        return next((unit for unit in ("seconds", "ratio") if self.name.endswith(f"_{unit}")), "")


def _own(name: str, kind: Kind, says: str, *labels: str) -> MetricRow:
    return MetricRow(name, kind, says, labels, Origin.PROCESS)


BUILD: Final = MetricRow(
    "brokerwatch_build_info", Kind.INFO, "The version of brokerwatch.", ("version",), by_account=False
)
ACCOUNTS: Final = MetricRow(
    "brokerwatch_accounts", Kind.GAUGE, "How many accounts were heard of.", by_account=False
)
HEARD: Final = MetricRow(
    "brokerwatch_heard_timestamp_seconds",
    Kind.GAUGE,
    "When a message of the cluster arrived last. Missing before the first one.",
    by_account=False,
)
LOST: Final = MetricRow(
    "brokerwatch_messages_lost_total",
    Kind.COUNTER,
    "Messages of the health topic that did not arrive at this server.",
    by_account=False,
)
HEALED: Final = MetricRow(
    "brokerwatch_messages_healed_total",
    Kind.COUNTER,
    "Lost messages that a later one has made up for: each carries the whole state.",
    by_account=False,
)
UNDECODABLE: Final = MetricRow(
    "brokerwatch_messages_undecodable_total",
    Kind.COUNTER,
    "Messages on the health topic that are none of brokerwatch's.",
    by_account=False,
)

ACCOUNT: Final = MetricRow(
    "brokerwatch_account_info",
    Kind.INFO,
    "One account: whether its exchange is a simulator, and the unit of its cash.",
    ("simulated", "unit"),
)
AVAILABLE: Final = MetricRow(
    "brokerwatch_available", Kind.GAUGE, "1 when the account can be trusted right now, else 0."
)
STATE: Final = MetricRow(
    "brokerwatch_state",
    Kind.GAUGE,
    "1 for the state of the account by its own evidence, 0 for each other state.",
    ("state",),
)
REASON: Final = MetricRow(
    "brokerwatch_reason",
    Kind.GAUGE,
    "1 for the reason why the account is or is not available, 0 for each other reason.",
    ("reason",),
)
SINCE: Final = MetricRow(
    "brokerwatch_verdict_since_timestamp_seconds",
    Kind.GAUGE,
    "When the account became available, or not available for this reason.",
)
ERRORS: Final = MetricRow(
    "brokerwatch_consecutive_errors", Kind.GAUGE, "How many fetches of the account failed in a row."
)
AS_OF: Final = MetricRow(
    "brokerwatch_balance_as_of_timestamp_seconds",
    Kind.GAUGE,
    "When the last known balance was asked for. It stays when the balance is stale. Missing without one.",
)
STALE: Final = MetricRow(
    "brokerwatch_balance_stale",
    Kind.GAUGE,
    "1 when the last known balance is not the newest truth, or there is none, else 0.",
)
CASH: Final = MetricRow(
    "brokerwatch_cash",
    Kind.GAUGE,
    "The free amount of all cash currencies, in `unit`. Missing when it is stale, unknown or not published.",
    ("unit",),
)
BALANCE: Final = MetricRow(
    "brokerwatch_balance",
    Kind.GAUGE,
    "The whole amount of a currency. Missing when it is stale, in doubt, unknown or not published.",
    ("currency",),
)
FREE: Final = MetricRow(
    "brokerwatch_balance_free",
    Kind.GAUGE,
    "The amount of a currency that can be spent. Missing when it is stale, in doubt, unknown or not "
    "published.",
    ("currency",),
)
DOUBT: Final = MetricRow(
    "brokerwatch_currencies_in_doubt",
    Kind.GAUGE,
    "Currencies that the newest answers leave out although the account held some.",
)
LEFT_OUT: Final = MetricRow(
    "brokerwatch_currencies_left_out",
    Kind.GAUGE,
    "Currencies of the account that are not shown here because there are too many.",
)
CLOSED: Final = MetricRow(
    "brokerwatch_closed_markets",
    Kind.GAUGE,
    "Markets in which the exchange refuses orders of this account alone.",
)
KEY_CHECKED: Final = MetricRow(
    "brokerwatch_key_checked_timestamp_seconds",
    Kind.GAUGE,
    "When the exchange last stated what the API key may do. Missing where it was never stated.",
)
KEY_EXPIRES: Final = MetricRow(
    "brokerwatch_key_expires_timestamp_seconds",
    Kind.GAUGE,
    "When the API key ends. Missing where it has no end, and where that is not stated.",
)
KEY_RIGHT: Final = MetricRow(
    "brokerwatch_key_right",
    Kind.GAUGE,
    "1 when the API key has the right `read`, `trade` or `withdraw`, else 0. Missing where it is not stated.",
    ("right",),
)
KEY_WARNING: Final = MetricRow(
    "brokerwatch_key_warning",
    Kind.GAUGE,
    "1 for each warning about the API key that stands, 0 for each other one. Missing where nothing is known.",
    ("warning",),
)
MONEY_ALARMS: Final = MetricRow(
    "brokerwatch_money_alarms",
    Kind.GAUGE,
    "How many alarms of the money watch stand, of each kind.",
    ("alarm",),
)

STREAM: Final = MetricRow(
    "brokerwatch_stream_state",
    Kind.GAUGE,
    "1 for the state of the exchange's private stream, 0 for each other one. Missing where there is none.",
    ("state",),
)

FAULTS: Final = _own(
    "brokerwatch_faults_total",
    Kind.COUNTER,
    "Fetches of the account that failed, by the kind of fault.",
    "kind",
)
NOT_MADE: Final = _own(
    "brokerwatch_fetches_not_made_total",
    Kind.COUNTER,
    "Fetches that were not made after all, mostly because no turn came in time. They are no faults.",
)
PUSHES: Final = _own(
    "brokerwatch_stream_events_total",
    Kind.COUNTER,
    "What the private stream did: `connected`, `lost`, `refused`, `amounts` that it stated, `reads` that "
    "followed, and `struck`, how often it was wrong.",
    "event",
)
FETCHES: Final = _own(
    "brokerwatch_fetch_duration_seconds",
    Kind.HISTOGRAM,
    "How long the exchange took over a fetch, whatever its end, without the wait for a turn.",
)
WAITS: Final = _own(
    "brokerwatch_lane_wait_seconds",
    Kind.HISTOGRAM,
    "How long a private call waited for its turn in the lane of its API key, and for the budget.",
)
REQUESTS: Final = _own(
    "brokerwatch_requests_total",
    Kind.COUNTER,
    "Private requests that were counted against the budget of the API key.",
)
PER_SECOND: Final = _own(
    "brokerwatch_request_budget_per_second", Kind.GAUGE, "Requests a second that the budget allows for ever."
)
BURST: Final = _own(
    "brokerwatch_request_budget_burst", Kind.GAUGE, "Requests that the budget allows at once."
)
USED: Final = _own(
    "brokerwatch_request_budget_used_ratio",
    Kind.GAUGE,
    "Which part of the burst is used now. Orders wait for no budget, so that it can be above 1.",
)
SENT: Final = _own(
    "brokerwatch_orders_sent_total", Kind.COUNTER, "Orders that were sent. One that is repeated counts once."
)
ENDED: Final = _own(
    "brokerwatch_orders_total", Kind.COUNTER, "Orders that came to an end, by their end.", "end"
)
UNKNOWN: Final = _own(
    "brokerwatch_orders_unknown", Kind.GAUGE, "Orders whose outcome is not known now. They hold up entries."
)

METRICS: Final = (
    BUILD, ACCOUNTS, HEARD, LOST, HEALED, UNDECODABLE,
    ACCOUNT, AVAILABLE, STATE, REASON, SINCE, ERRORS,
    AS_OF, STALE, CASH, BALANCE, FREE, DOUBT, LEFT_OUT, CLOSED,
    KEY_CHECKED, KEY_EXPIRES, KEY_RIGHT, KEY_WARNING, MONEY_ALARMS, STREAM,
    FAULTS, NOT_MADE, PUSHES, FETCHES, WAITS, REQUESTS, PER_SECOND, BURST, USED, SENT, ENDED, UNKNOWN,
)  # fmt: skip
"""All of them, in the order in which they are shown."""


def page_table() -> str:
    """The table of `docs/metrics.md`."""
    lines = ["| metric | kind | labels | known | meaning |", "|---|---|---|---|---|"]
    for row in METRICS:
        labels = ", ".join(f"`{label}`" for label in row.all_labels) or "–"
        lines.append(f"| `{row.name}` | {row.kind} | {labels} | {row.origin} | {row.says} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(page_table())
