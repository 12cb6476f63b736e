"""A real Prometheus scrapes a cluster: what it shows of an outage, alerts, and what the dashboard asks."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch.config.http_settings import HttpSettings
from brokerwatch.simulator import SimulatedKraken, serve
from brokerwatch.web.metric_table import METRICS, Kind
from tests.support.clusters import simulated_spec, until
from tests.support.desks import rich
from tests.support.prometheus import Prometheus, program, promtool
from tests.support.served import TOKEN, asked, served

ROOT: Final = Path(__file__).resolve().parents[2]
DEPLOY: Final = ROOT / "deploy" / "prometheus"
DASHBOARD: Final = ROOT / "deploy" / "grafana" / "brokerwatch.json"
LATER: Final = {
    "brokerwatch_key_expires_timestamp_seconds",
    "brokerwatch_stream_state",
    "brokerwatch_stream_events_total",
}
"""What is asked for and an exchange may not state, or an account has only with `push`."""


def configuration(url: str, more: str) -> str:
    """The configuration in deploy/, quick, for this server, of which it says `more`."""
    text = (DEPLOY / "prometheus.yml").read_text(encoding="utf-8")
    assert text.count("127.0.0.1:5572") == 1
    text = text.replace("127.0.0.1:5572", url.removeprefix("http://")).replace("15s", "1s")
    text = text.replace("alerts.yml", str(DEPLOY / "alerts.yml"))
    return text.replace("    static_configs:", f"{more}    static_configs:", 1)


def panels(dashboard: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


def expressions(dashboard: Mapping[str, Any]) -> list[str]:
    """Every expression that the dashboard asks, with its variables filled in as Grafana does for "All"."""
    found = [target["expr"] for panel in panels(dashboard) for target in panel.get("targets", [])]
    for variable in dashboard["templating"]["list"]:
        if variable["type"] == "query":
            query = re.fullmatch(r"label_values\((.*), \w+\)", variable["definition"])
            assert query is not None
            found.append(query[1])
    for name, value in {
        "$__rate_interval": "1m",
        **{f"${variable['name']}": ".*" for variable in dashboard["templating"]["list"]},
    }.items():
        found = [expression.replace(name, value) for expression in found]
    assert not any("$" in expression for expression in found)
    return found


def names_in(text: str) -> set[str]:
    """The metrics that an expression names; those of a histogram without the end that Prometheus adds."""
    histograms = {row.name for row in METRICS if row.kind is Kind.HISTOGRAM}
    found: set[str] = set()
    for name in re.findall(r"\bbrokerwatch_\w+", text):
        stem = re.sub(r"_(bucket|sum|count)$", "", name)
        found.add(stem if stem in histograms else name)
    return found


def test_prometheus_sees_an_outage_and_a_balance_that_is_no_longer_fresh(tmp_path: Path) -> None:
    kraken = rich(SimulatedKraken())
    kraken.key_ends_s = time.time() + 90 * 86_400.0
    with serve(kraken):
        chosen: dict[str, Any] = {"trading": True, "policy": "simple", "key_watch_interval_s": 0.5}
        spec = simulated_spec(kraken, "kraken-main", poll_interval_s=0.2, **chosen)
        http = HttpSettings(listen="127.0.0.1:0", token=TOKEN)
        with served(spec, http=http) as cluster:
            broker = cluster.broker("kraken-main")
            (tmp_path / "token").write_text(TOKEN, encoding="utf-8")
            token = f"    authorization:\n      credentials_file: {tmp_path / 'token'}\n"
            config = configuration(cluster.http_url, token)
            with Prometheus(tmp_path, config) as prometheus:
                # Meanwhile: Prometheus begins to scrape 5 s after its start.
                broker.get_account_balance()
                broker.place_market_order("BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False)
                until(lambda: prometheus.value("brokerwatch_available") == 1)
                until(lambda: prometheus.value("up") == 1)
                until(lambda: prometheus.value('brokerwatch_balance{currency="ETH"}') == 2)
                until(lambda: prometheus.value("brokerwatch_key_expires_timestamp_seconds") is not None)
                until(lambda: prometheus.value('brokerwatch_orders_total{end="filled"}') == 1)
                until(lambda: (prometheus.value("brokerwatch_fetch_duration_seconds_count") or 0) > 3)
                kraken.set_fault("exchange_down")
                until(lambda: prometheus.value("brokerwatch_available") == 0)
                out = 'brokerwatch_reason{reason="errors"}'
                until(lambda: prometheus.value(out) == 1)
                until(lambda: prometheus.value("brokerwatch_cash") is None)
                assert prometheus.query("brokerwatch_balance") == []
                # Each of these is 1 at every moment, whatever was scraped between two questions.
                until(lambda: prometheus.value("sum(brokerwatch_state)") == 1)
                until(lambda: prometheus.value("sum(brokerwatch_reason)") == 1)
                age = "time() - brokerwatch_balance_as_of_timestamp_seconds"
                until(lambda: 0 <= (prometheus.value(age) or -1) < 3_600)
                until(lambda: (prometheus.value('brokerwatch_faults_total{kind="exchange_down"}') or 0) >= 3)
                check_alerts(prometheus)
                check_dashboard(prometheus)
                metadata = prometheus.api('targets/metadata?match_target={job="brokerwatch"}')
                known = {each["metric"]: (each["type"], each["help"]) for each in metadata}
                assert known["brokerwatch_available"] == (
                    "gauge",
                    "1 when the account can be trusted right now, else 0.",
                )


def check_alerts(prometheus: Prometheus) -> None:
    """Every rule was evaluated, and the account that is out waits for its time."""

    def rules() -> dict[str, Any]:
        (group,) = prometheus.api("rules?type=alert")["groups"]
        return {rule["name"]: rule for rule in group["rules"]}

    until(lambda: all(rule["health"] == "ok" for rule in rules().values()))
    until(lambda: rules()["BrokerwatchAccountOut"]["state"] in ("pending", "firing"))
    # Pending for a moment where one scrape took too long; none of them fires.
    quiet = ("BrokerwatchWatcherGone", "BrokerwatchOwnLineDown", "BrokerwatchKeyRefused")
    until(lambda: {rules()[name]["state"] for name in quiet} == {"inactive"})


def check_dashboard(prometheus: Prometheus) -> None:
    """Each expression can be asked, and each metric in it is there."""
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    there = set(prometheus.api("label/__name__/values"))
    histograms = {row.name for row in METRICS if row.kind is Kind.HISTOGRAM}
    for expression in expressions(dashboard):
        prometheus.query(expression)
        for name in names_in(expression) - LATER:
            assert (f"{name}_bucket" if name in histograms else name) in there, expression


def test_the_dashboard_shows_every_metric_and_takes_its_data_source_from_a_variable() -> None:
    dashboard = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    variables = {each["name"]: each for each in dashboard["templating"]["list"]}
    assert variables["datasource"]["type"] == "datasource"
    assert variables["datasource"]["query"] == "prometheus"
    source = {"type": "prometheus", "uid": "${datasource}"}
    shown: set[str] = set()
    ids = [panel["id"] for panel in panels(dashboard)]
    assert len(ids) == len(set(ids))
    for panel in panels(dashboard):
        assert panel["title"]
        if panel["type"] != "row":
            assert panel["datasource"] == source
            assert panel["description"]
            assert all(target["datasource"] == source for target in panel["targets"])
    for expression in expressions(dashboard):
        shown |= names_in(expression)
    assert shown == {row.name for row in METRICS}


def test_no_two_panels_of_the_dashboard_lie_on_each_other() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in panels(json.loads(DASHBOARD.read_text(encoding="utf-8"))):
        place = panel["gridPos"]
        cells = {
            (place["x"] + across, place["y"] + down)
            for across in range(place["w"])
            for down in range(place["h"])
        }
        assert place["x"] + place["w"] <= 24
        assert not cells & taken
        taken |= cells


def test_promtool_is_content_with_the_configuration_the_alerts_and_their_tests() -> None:
    promtool("check", "config", DEPLOY / "prometheus.yml")
    assert "SUCCESS" in promtool("check", "rules", DEPLOY / "alerts.yml")
    assert "SUCCESS" in promtool("test", "rules", DEPLOY / "alerts_test.yml")


def test_each_alert_is_on_metrics_that_exist_and_stands_on_its_page_with_its_severity() -> None:
    text = (DEPLOY / "alerts.yml").read_text(encoding="utf-8")
    assert names_in(text) - LATER <= {row.name for row in METRICS}
    alerts = re.findall(r"- alert: (\w+).*?severity: (\w+)", text, re.DOTALL)
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| `(Brokerwatch\w+)` \| (\w+) \| ", page, re.MULTILINE) == alerts
    tested = (DEPLOY / "alerts_test.yml").read_text(encoding="utf-8")
    for name, _ in alerts:
        cases = re.findall(rf"alertname: {name}\n( +exp_alerts:)?", tested)
        assert any(cases), f"{name} is never seen to fire"
        assert not all(cases), f"{name} is never seen to be quiet"


def test_promtool_finds_nothing_unusual_about_the_names_and_units_of_a_scrape() -> None:
    kraken = rich(SimulatedKraken())
    with serve(kraken), served(simulated_spec(kraken, "kraken-main", trading=True)) as cluster:
        cluster.broker("kraken-main").get_account_balance()
        body = asked(cluster.http_url, "/metrics").body
    assert b"brokerwatch_orders_total" in body
    assert promtool("check", "metrics", reads=body) == ""


def test_where_prometheus_has_to_be_installed_its_absence_is_a_failure(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for required, outcome in (("1", pytest.fail.Exception), ("", pytest.skip.Exception)):
        monkeypatch.setenv("BROKERWATCH_REQUIRE_PROMETHEUS", required)
        with pytest.raises(outcome, match="NOT scraped"):
            program("prometheus")
