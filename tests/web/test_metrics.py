"""What a scrape shows and does not show: over real HTTP, from a cluster of this process and from outside."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import msgspec
import prometheus_client
import pytest
from prometheus_client import parser, samples

from brokerwatch.bus.listener import Listener
from brokerwatch.bus.publisher import Publisher
from brokerwatch.bus.sockets import Bus
from brokerwatch.clock import ManualClock, SystemClock
from brokerwatch.cluster import key_changes, rotation
from brokerwatch.cluster.broker import requests_of
from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.errors import OrderRefused, OrderStateUnknown
from brokerwatch.messages import Envelope, FaultKind, HealthState, MessageType, Reason, Verdict, topics
from brokerwatch.messages.codec import encode
from brokerwatch.messages.key import KeyData, KeyWarning, KeyWarningData
from brokerwatch.messages.wire import HoldingData
from brokerwatch.simulator import SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from brokerwatch.tally import ORDER_ENDS, Tally
from brokerwatch.web.metric_table import METRICS, Kind, Origin, page_table
from brokerwatch.web.metrics import LEAST_CURRENCIES, LONGEST_KEPT_S, MOST_CURRENCIES, Metrics
from brokerwatch.web.server import HttpServer
from brokerwatch.web.view import View
from tests.support.clusters import Till, simulated_spec, until
from tests.support.desks import KINDS, LOOKUP_PATHS, ORDER_PATHS, SYMBOLS, rich
from tests.support.served import AUTHORIZED, TOKEN, asked, served
from tests.support.wire_examples import holding, reading, stamp
from tests.web.test_routes import out, spec_of

openmetrics: Any = importlib.import_module("prometheus_client.openmetrics.parser")  # partly annotated
DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
OPEN: Final = HttpSettings(listen="127.0.0.1:0")


class Scrape:
    """The samples of one scrape."""

    def __init__(self, body: bytes) -> None:
        self.text = body.decode()
        self.families = list(parser.text_string_to_metric_families(self.text))
        self.samples = [sample for family in self.families for sample in family.samples]

    def of(self, name: str, **labels: str) -> list[samples.Sample]:
        """The samples of this name that have these labels."""
        return [each for each in self.samples if each.name == name and labels.items() <= each.labels.items()]

    def value(self, name: str, **labels: str) -> float | None:
        """The value of one sample; None: there is none."""
        found = self.of(name, **labels)
        assert len(found) <= 1, found
        return found[0].value if found else None

    def ones(self, name: str, label: str, **labels: str) -> list[str]:
        """The words of a one-hot metric that are 1; every other is 0."""
        found = self.of(name, **labels)
        assert {each.value for each in found} <= {0.0, 1.0}
        return [each.labels[label] for each in found if each.value]

    def counted(self, name: str, label: str, **labels: str) -> dict[str, float]:
        """The counts by a label, without those that are zero."""
        return {each.labels[label]: each.value for each in self.of(name, **labels) if each.value}


def scrape(url: str, **more: Any) -> Scrape:
    """The metrics, once they are made anew."""
    answered = asked(url, "/metrics", **more)
    assert answered.status == 200
    assert answered.headers["Content-Type"].startswith("text/plain; version=0.0.4")
    return Scrape(answered.body)


def scraped(url: str, wanted: Callable[[Scrape], object]) -> Scrape:
    """The first scrape that is as wanted."""
    found: list[Scrape] = []

    def look() -> object:
        found[:] = [scrape(url)]
        return wanted(found[0])

    until(look)
    return found[0]


@contextmanager
def heard(
    *readings: Any, lost: int = 0, tally: Tally | None = None
) -> Generator[tuple[str, Callable[..., None]]]:
    """A server beside a publisher that sends these readings, and a function that sends more."""
    bus = Bus()
    publisher = Publisher(bus, "tcp://127.0.0.1:*", "publisher", bind=True)
    publisher.start()
    seq = 0

    def send(one: Any, skip: int = 0, ttl_ms: int = 60_000) -> None:
        nonlocal seq
        seq += 1 + skip
        envelope = Envelope(
            type=MessageType.READING, stamp=stamp(seq=seq, up_us=seq * 1_000, ttl_ms=ttl_ms), data=one
        )
        body = encode(envelope)
        publisher.put(topics.state(one.exchange, one.broker), lambda _topic: body)

    server = None
    try:
        with Listener(publisher.bound_endpoint) as listener:
            for one in readings:
                send(one)
            until(lambda: len(listener.readings()) == len(readings))
            server = HttpServer(View(OPEN, listener, SystemClock(), tally=tally))
            server.start()
            try:
                yield server.url, send
            finally:
                assert server.stop()
    finally:
        publisher.stop(5.0)
        bus.close()


def data(**values: Any) -> Any:
    """A reading of a healthy account on the wire."""
    usual: dict[str, Any] = {
        "state": HealthState.HEALTHY,
        "verdict": Verdict(available=True, reason=Reason.OK),
        "error_count": 0,
        "fault": None,
    }
    return reading(**{**usual, **values}).data()


# --- state, balance ------------------------------------------------------------------------------------


def test_state_and_reason_are_one_hot_and_turn_with_the_account() -> None:
    till = Till()
    with served(spec_of(till), spec_of(name="b")) as cluster:
        cluster.broker("a").get_account_balance()
        url = cluster.http_url
        well = scraped(url, lambda found: found.value("brokerwatch_available", broker="a") == 1)
        assert well.ones("brokerwatch_state", "state", broker="a") == ["healthy"]
        assert well.ones("brokerwatch_reason", "reason", broker="a") == ["ok"]
        assert len(well.of("brokerwatch_state", broker="a")) == len(HealthState)
        assert len(well.of("brokerwatch_reason", broker="a")) == len(Reason)
        assert well.value("brokerwatch_accounts") == 2
        out(cluster, till)
        gone = scraped(url, lambda found: found.value("brokerwatch_available", broker="a") == 0)
        assert gone.ones("brokerwatch_state", "state", broker="a") == ["unavailable"]
        assert gone.ones("brokerwatch_reason", "reason", broker="a") == ["errors"]
        assert gone.value("brokerwatch_consecutive_errors", broker="a") == 3
        since_s = gone.value("brokerwatch_verdict_since_timestamp_seconds", broker="a")
        assert since_s is not None
        assert since_s > (well.value("brokerwatch_verdict_since_timestamp_seconds", broker="a") or 0)
        assert gone.counted("brokerwatch_faults_total", "kind", broker="a") == {"network": 3}
        kinds = {each.labels["kind"] for each in gone.of("brokerwatch_faults_total", broker="b")}
        assert kinds == set(FaultKind) - {FaultKind.OTHER}, "each kind stands there before it happens"
        assert gone.value("brokerwatch_fetch_duration_seconds_count", broker="a") == 4


def test_a_stale_balance_goes_and_the_moment_at_which_it_was_read_stays() -> None:
    till = Till({"USD": "100.50", "BTC": "0.25"})
    with served(spec_of(till)) as cluster:
        cluster.broker("a").get_account_balance()
        url = cluster.http_url
        fresh = scraped(url, lambda found: found.value("brokerwatch_cash") is not None)
        assert fresh.value("brokerwatch_cash", unit="USD") == 100.5
        assert fresh.value("brokerwatch_balance", currency="BTC") == 0.25
        assert fresh.value("brokerwatch_balance_free", currency="BTC") == 0.25
        assert fresh.value("brokerwatch_balance_stale") == 0
        as_of_s = fresh.value("brokerwatch_balance_as_of_timestamp_seconds")
        till.failure = ConnectionError("down")
        cluster.broker("a").get_account_balance()
        stale = scraped(url, lambda found: found.value("brokerwatch_balance_stale") == 1)
        assert stale.value("brokerwatch_available") == 1, "one error is not an outage yet"
        for name in ("brokerwatch_cash", "brokerwatch_balance", "brokerwatch_balance_free"):
            assert stale.of(name) == []
        assert stale.value("brokerwatch_balance_as_of_timestamp_seconds") == as_of_s
        till.failure = None
        cluster.broker("a").get_account_balance()
        again = scraped(url, lambda found: found.value("brokerwatch_cash") is not None)
        assert (again.value("brokerwatch_balance_as_of_timestamp_seconds") or 0) > (as_of_s or 0)


def test_an_account_that_was_never_read_has_no_balance_and_no_moment() -> None:
    till = Till()
    till.failure = ConnectionError("down")
    with served(spec_of(till)) as cluster:
        found = scraped(cluster.http_url, lambda found: found.of("brokerwatch_available"))
        assert found.value("brokerwatch_balance_stale") == 1
        for row in METRICS:
            if row.name.startswith(("brokerwatch_balance_as_of", "brokerwatch_cash")):
                assert found.of(row.name) == []
        assert found.of("brokerwatch_balance") == []


def test_a_currency_in_doubt_goes_by_itself_and_the_others_stay() -> None:
    till = Till({"USD": "100", "BTC": "0.25"})
    with served(spec_of(till)) as cluster:
        cluster.broker("a").get_account_balance()
        till.balance = {"USD": "100"}
        cluster.broker("a").get_account_balance()
        found = scraped(cluster.http_url, lambda found: found.value("brokerwatch_currencies_in_doubt") == 1)
        assert found.value("brokerwatch_balance", currency="USD") == 100
        assert found.of("brokerwatch_balance", currency="BTC") == []
        assert found.value("brokerwatch_balance_stale") == 0


def test_what_is_stated_of_a_key_is_shown_and_what_is_not_stated_is_missing() -> None:
    warning = KeyWarningData(word=KeyWarning.ENDS_IN_7_DAYS, since_us=1)
    key = KeyData(checked_us=5_000_000, read=True, withdraw=False, expires_us=9_000_000, warnings=(warning,))
    with heard(data(key=key)) as (url, send):
        found = scraped(url, lambda found: found.of("brokerwatch_key_warning"))
        assert found.value("brokerwatch_key_checked_timestamp_seconds") == 5
        assert found.value("brokerwatch_key_expires_timestamp_seconds") == 9
        rights = {each.labels["right"]: each.value for each in found.of("brokerwatch_key_right")}
        assert rights == {"read": 1, "withdraw": 0}
        assert found.ones("brokerwatch_key_warning", "warning") == ["ends_in_7_days"]
        send(data(key=KeyData(checked_us=6_000_000), version=8))
        found = scraped(url, lambda found: found.value("brokerwatch_key_checked_timestamp_seconds") == 6)
        assert found.of("brokerwatch_key_expires_timestamp_seconds") == []
        assert found.of("brokerwatch_key_right") == []
        assert found.ones("brokerwatch_key_warning", "warning") == []


def test_an_amount_that_is_unknown_is_not_zero() -> None:
    unknown = msgspec.structs.replace(holding("0", "5"), free=None, used=None)
    with heard(data(balance={"USD": holding("7", "7"), "BTC": unknown}, cash=None)) as (url, _):
        found = scrape(url)
        assert found.value("brokerwatch_balance", currency="BTC") == 5
        assert found.of("brokerwatch_balance_free", currency="BTC") == []
        assert found.of("brokerwatch_cash") == []


def test_amounts_stay_inside_when_they_are_not_to_be_published() -> None:
    till = Till({"USD": "31415.92", "XRP": "27182"})
    with served(spec_of(till), publish_balances=False) as cluster:
        cluster.broker("a").get_account_balance()
        found = scraped(cluster.http_url, lambda found: found.value("brokerwatch_available") == 1)
        moment = "brokerwatch_balance_as_of_timestamp_seconds"
        found = scraped(cluster.http_url, lambda found: found.value(moment))
        for words in ("31415", "27182", "XRP", "USD"):
            assert words not in found.text
        assert {name for name in (each.name for each in found.samples) if "balance" in name} == {
            moment,
            "brokerwatch_balance_stale",
        }


# --- what only the cluster knows --------------------------------------------------------------------------


@pytest.mark.parametrize("make", KINDS)
def test_requests_waits_and_orders_are_counted_as_the_exchange_saw_them(
    make: type[SimulatedExchange],
) -> None:
    exchange = rich(make())
    symbol = SYMBOLS[exchange.ccxt_id]
    with serve(exchange):
        spec = simulated_spec(
            exchange, "k", trading=True, requests_per_s=50.0, request_burst=100.0, read_funding=False
        )
        with served(spec, status_interval_s=float("inf")) as cluster:
            broker, url = cluster.broker("k"), cluster.http_url
            broker.get_account_balance()
            broker.get_account_balance()
            broker.place_market_order(symbol, "buy", quote_amount=Decimal(50), validate_only=False)
            with pytest.raises(OrderRefused):
                broker.place_market_order(symbol, "buy", quote_amount=Decimal(90_000), validate_only=False)
            name = "brokerwatch_orders_total"
            found = scraped(url, lambda found: len(found.counted(name, "end", broker="k")) == 2)
            assert found.counted(name, "end", broker="k") == {"filled": 1, "refused": 1}
            assert {each.labels["end"] for each in found.of(name)} == set(ORDER_ENDS)
            assert found.value("brokerwatch_orders_sent_total", broker="k") == 2
            assert found.value("brokerwatch_orders_unknown", broker="k") == 0
            assert found.value("brokerwatch_request_budget_per_second", broker="k") == 50
            assert found.value("brokerwatch_request_budget_burst", broker="k") == 100

            def settled() -> bool:
                seen = exchange.private_calls_of(exchange.credentials["api_key"])
                return scrape(url).value("brokerwatch_requests_total", broker="k") == seen

            until(settled)
            waits = scrape(url)
            bounds = [each.value for each in waits.of("brokerwatch_lane_wait_seconds_bucket", broker="k")]
            assert bounds == sorted(bounds)
            assert bounds[-1] == waits.value("brokerwatch_lane_wait_seconds_count", broker="k")
            assert bounds[-1] > 0


def test_an_order_whose_answer_is_lost_is_shown_as_unknown_until_it_is_known() -> None:
    exchange = rich(SimulatedKraken())
    with serve(exchange):
        spec = simulated_spec(exchange, "k", trading=True)
        with served(spec, status_interval_s=float("inf")) as cluster:
            broker, url = cluster.broker("k"), cluster.http_url
            broker.get_account_balance()
            exchange.set_fault("reset", path=ORDER_PATHS["kraken"], executed=True)
            for path in LOOKUP_PATHS["kraken"]:
                exchange.set_fault("http_502_html", path=path)
            with pytest.raises(OrderStateUnknown):
                broker.place_market_order("BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False)
            scraped(url, lambda found: found.value("brokerwatch_orders_unknown") == 1)
            exchange.mend()
            known = scraped(url, lambda found: found.value("brokerwatch_orders_unknown") == 0)
            known = scraped(url, lambda found: found.counted("brokerwatch_orders_total", "end"))
            assert known.counted("brokerwatch_orders_total", "end") == {"filled": 1}
            assert known.value("brokerwatch_orders_sent_total") == 1


def test_accounts_that_share_a_key_share_the_series_of_its_lane_and_have_their_own_faults() -> None:
    kraken = SimulatedKraken()
    with contextlib.ExitStack() as opened:
        opened.enter_context(serve(kraken))
        specs = [simulated_spec(kraken, name) for name in ("one", "two")]
        cluster = opened.enter_context(served(*specs))
        for name in ("one", "two"):
            cluster.broker(name).get_account_balance()
        found = scraped(
            cluster.http_url, lambda found: found.value("brokerwatch_requests_total", broker="one") == 2
        )
        assert found.of("brokerwatch_requests_total", broker="two") == []
        for name in ("one", "two"):
            assert found.value("brokerwatch_fetch_duration_seconds_count", broker=name) == 1
        assert found.of("brokerwatch_orders_total") == [], "trading is off"


def test_two_clusters_of_one_process_are_counted_apart_and_no_other_registry_is_touched() -> None:
    till = Till()
    with served(spec_of(till)) as one, served(spec_of()) as other:
        one.broker("a").get_account_balance()
        out(one, till)
        found = scraped(
            one.http_url, lambda found: found.counted("brokerwatch_faults_total", "kind") == {"network": 3}
        )
        assert scrape(other.http_url).counted("brokerwatch_faults_total", "kind") == {}
        assert not any(each.name.startswith(("python_", "process_")) for each in found.samples)
        others = [family.name for family in prometheus_client.REGISTRY.collect()]
        assert not any("brokerwatch" in name for name in others)


def test_what_was_counted_of_an_account_that_is_not_heard_of_is_not_shown() -> None:
    tally = Tally()
    for name in ("kraken-main", "removed"):
        tally.account(name).faults.add(FaultKind.AUTH)
        tally.key(name, name).requests.add()
    with heard(data(), tally=tally) as (url, _):
        found = scrape(url)
        for name in ("brokerwatch_faults_total", "brokerwatch_requests_total"):
            assert {each.labels["broker"] for each in found.of(name)} == {"kraken-main"}


def test_the_series_of_an_account_that_is_removed_go_and_come_with_one_that_is_added() -> None:
    kraken = rich(SimulatedKraken())
    with serve(kraken):
        spec = simulated_spec(kraken, "k", trading=True)
        with served(spec, spec_of(name="stays")) as cluster:
            url = cluster.http_url
            cluster.broker("k").get_account_balance()
            scraped(url, lambda found: found.value("brokerwatch_requests_total", broker="k") == 1)
            cluster.remove("k")
            gone = scraped(url, lambda found: not found.of("brokerwatch_available", broker="k"))
            assert {each.labels.get("broker", "stays") for each in gone.samples} == {"stays"}
            assert gone.value("brokerwatch_accounts") == 1
            cluster.add(spec)
            cluster.broker("k").get_account_balance()
            scraped(url, lambda found: (found.value("brokerwatch_requests_total", broker="k") or 0) > 0)
            scraped(url, lambda found: found.value("brokerwatch_cash", broker="k") == 20_000)


@pytest.mark.parametrize("refused", [False, True])
def test_the_series_of_a_lane_are_those_of_the_key_in_use_also_after_another_key_was_tried(
    monkeypatch: pytest.MonkeyPatch, *, refused: bool
) -> None:
    monkeypatch.setattr(key_changes, "KEYS_S", 30.0)
    monkeypatch.setattr(rotation, "CONFIRM_S", 0.1)
    okx = rich(SimulatedOkx())
    with serve(okx):
        spec = simulated_spec(okx, "k", read_funding=False, policy="simple")
        with served(spec, status_interval_s=float("inf")) as cluster:
            cluster.broker("k").get_account_balance()
            new = okx.add_key()
            if refused:
                okx.remove_key(new["api_key"])
            cluster.replace(replace(spec, credentials=MappingProxyType(dict(new))))
            used = requests_of(cluster.broker("k")).spec.credentials["api_key"]
            assert (used == new["api_key"]) is not refused
            name = "brokerwatch_requests_total"
            (before,) = scraped(cluster.http_url, lambda found: found.of(name)).of(name)
            assert 0 < before.value <= okx.private_calls_of(used), "what was counted is of that key alone"
            cluster.broker("k").get_account_balance()
            scraped(cluster.http_url, lambda found: (found.value(name) or 0) > before.value)


# --- from outside ---------------------------------------------------------------------------------------


def test_from_outside_only_what_the_wire_states_is_shown_and_silence_is_no_health() -> None:
    with heard(data()) as (url, send):
        found = scrape(url)
        shown = {family.name for family in found.families}
        for row in METRICS:
            name = row.name.removesuffix("_total")
            assert (name in shown) is (row.origin is Origin.WIRE), row.name
        assert found.value("brokerwatch_available") == 1
        assert found.value("brokerwatch_cash") == 1234.56
        send(data(version=8), ttl_ms=1)
        silent = scraped(url, lambda found: found.value("brokerwatch_available") == 0)
        assert silent.ones("brokerwatch_reason", "reason") in (["nothing_heard"], ["silent"])
        assert silent.of("brokerwatch_cash") == []
        assert silent.of("brokerwatch_balance_as_of_timestamp_seconds") != []


def test_messages_that_are_lost_are_counted_and_the_next_one_makes_up_for_them() -> None:
    with heard(data()) as (url, send):
        assert scrape(url).value("brokerwatch_messages_lost_total") == 0
        send(data(version=9, error_count=2), skip=3)
        found = scraped(url, lambda found: found.value("brokerwatch_messages_lost_total") == 3)
        assert found.value("brokerwatch_messages_healed_total") == 3
        assert found.value("brokerwatch_consecutive_errors") == 2


HOSTILE: Final = 'a"} 1\nbrokerwatch_available{broker="x"} 1\n# \\'


def test_a_hostile_currency_or_unit_makes_no_line_of_its_own() -> None:
    plain = data(balance={"USD": holding("1", "1")})
    held: dict[str, HoldingData] = plain.balance
    one = msgspec.structs.replace(plain, cash_unit=HOSTILE[:32], balance={HOSTILE: held["USD"]})
    with heard(one) as (url, _):
        found = scrape(url)
        assert [each.labels["currency"] for each in found.of("brokerwatch_balance")] == [HOSTILE]
        assert found.of("brokerwatch_cash")[0].labels["unit"] == HOSTILE[:32]
        assert found.of("brokerwatch_available", broker="x") == []
        assert all(line.startswith(("brokerwatch_", "# ")) for line in found.text.splitlines())


def test_of_thousands_of_currencies_the_cash_and_what_is_held_are_shown_and_the_rest_is_counted() -> None:
    balance = {f"C{number:04}": holding("0") for number in range(3_000)}
    balance |= {f"X{number:02}": holding("1", "1") for number in range(30)}
    balance["ZUSD"] = holding("0")
    with heard(data(balance=balance, cash_parts={"ZUSD": Decimal(1)})) as (url, _):
        found = scrape(url)
        shown = [each.labels["currency"] for each in found.of("brokerwatch_balance")]
        assert len(shown) == MOST_CURRENCIES
        assert {"ZUSD", *(f"X{number:02}" for number in range(30)), "C0000"} <= set(shown)
        assert found.value("brokerwatch_currencies_left_out") == len(balance) - MOST_CURRENCIES


def test_many_accounts_share_the_currencies_that_are_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("brokerwatch.web.metrics.ALL_CURRENCIES", 40)
    balance = {f"C{number}": holding("1", "1") for number in range(50)}
    for count, each in ((4, 10), (20, LEAST_CURRENCIES)):
        with heard(*(data(broker=f"a{number}", balance=balance) for number in range(count))) as (url, _):
            found = scrape(url)
            assert len(found.of("brokerwatch_balance")) == count * each


# --- the answer -----------------------------------------------------------------------------------------


def test_a_reader_that_asks_for_openmetrics_gets_it() -> None:
    with heard(data()) as (url, _):
        accept = {"Accept": "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5"}
        answered = asked(url, "/metrics", headers=accept)
        assert answered.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
        families = {
            family.name: family
            for family in openmetrics.text_string_to_metric_families(answered.body.decode())
        }
        assert families["brokerwatch_messages_lost"].type == "counter"
        assert families["brokerwatch_balance_as_of_timestamp_seconds"].unit == "seconds"


def test_no_metric_is_told_without_the_token() -> None:
    with served(spec_of(), http=HttpSettings(listen="127.0.0.1:0", token=TOKEN)) as cluster:
        answered = asked(cluster.http_url, "/metrics")
        assert answered.status == 401
        assert b"brokerwatch_" not in answered.body
        assert scrape(cluster.http_url, headers=AUTHORIZED).of("brokerwatch_build_info")


class Slow(ManualClock):
    """A clock on which making an answer takes half a second."""

    def up_s(self) -> float:
        self.advance(0.25)
        return super().up_s()


def test_readers_that_scrape_without_a_pause_get_the_last_answer_again_for_a_while() -> None:
    clock = Slow()
    with Listener("tcp://127.0.0.1:9") as listener:
        metrics = Metrics(View(OPEN, listener, clock))
        _, first = metrics.scrape("")
        assert metrics.scrape("")[1] is first
        _, other = metrics.scrape("application/openmetrics-text; version=1.0.0")
        assert other is not first
        assert metrics.scrape("application/openmetrics-text; version=2.0.7; escaping=dots")[1] is other
        _, second = metrics.scrape("")
        clock.advance(LONGEST_KEPT_S)
        assert metrics.scrape("")[1] is not second, "however long it takes, none is older than that"


def test_each_metric_has_its_kind_and_its_meaning_from_the_table_and_the_docs_repeat_it() -> None:
    with served(spec_of()) as cluster:
        found = scrape(cluster.http_url)
    described = {family.name: (family.type, family.documentation) for family in found.families}
    for row in METRICS:
        kind = "gauge" if row.kind is Kind.INFO else str(row.kind)
        assert described[row.name.removesuffix("_total")] == (kind, row.says)
    assert len(described) == len(METRICS)
    labels = {row.name: set(row.all_labels) for row in METRICS}
    for each in found.samples:
        name = each.name if each.name in labels else each.name.rpartition("_")[0]
        assert set(each.labels) - {"le"} == labels[name], each.name
    page = (DOCS / "metrics.md").read_text(encoding="utf-8")
    _, _, rest = page.partition("written by python -m brokerwatch.web.metric_table -->\n")
    assert rest.partition("<!-- the table ends -->")[0] == page_table(), (
        "write it again: python -m brokerwatch.web.metric_table, between the two marks"
    )
