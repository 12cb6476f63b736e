"""What `doctor` says of the supervisors of a node: whether they run, and let it in."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from brokerwatch.cluster.standalone import StandaloneSupervisor
from brokerwatch.config.broker_spec import BrokerSpec
from brokerwatch.config.cluster_settings import ClusterSettings, Settings
from brokerwatch.config.curve_settings import CurveSettings
from brokerwatch.config.supervisor_settings import SupervisorSettings
from brokerwatch.preflight.supervisor_checks import supervisor_lines
from tests.support.clusters import PATIENCE_S
from tests.support.keys import Keys

SHORT_S: Final = 0.5
"""Where nothing is to come."""


def places(folder: Path) -> tuple[str, str]:
    return f"ipc://{folder}/brokers", f"ipc://{folder}/health"


def supervised(folder: Path, curve: CurveSettings | None = None) -> StandaloneSupervisor:
    brokers, health = places(folder)
    cluster = ClusterSettings(
        health_endpoint=health, broker_endpoint=brokers, heartbeat_s=0.2, remember=False, curve=curve
    )
    return StandaloneSupervisor(Settings(cluster, (BrokerSpec("a", exchange="custom"),)))


def test_a_supervisor_that_runs_is_heard_and_takes_reports_and_one_that_does_not_is_named(
    tmp_path: Path,
) -> None:
    node = ClusterSettings(supervisors=(SupervisorSettings(*places(tmp_path)),))
    with supervised(tmp_path):
        lines = list(supervisor_lines(node, PATIENCE_S))
        assert [(line.subject, line.check, line.outcome) for line in lines] == [
            ("supervisor 1", "heard", "ok"),
            ("supervisor 1", "reports", "ok"),
        ]
    heard, reports = supervisor_lines(node, SHORT_S)
    assert (heard.outcome, reports.outcome) == ("warn", "warn")
    assert "nothing is heard at ipc://" in heard.evidence
    assert "start `brokerwatch supervise` there" in reports.advice


def test_a_key_that_is_on_one_list_alone_is_said_for_the_other(tmp_path: Path) -> None:
    keys = Keys(tmp_path / "keys")
    keys.make("node-a")
    keys.let_in(keys.subscribers, "node-a")
    supervisor = SupervisorSettings(*places(tmp_path), keys.own.public)
    node = ClusterSettings(curve=CurveSettings(keys.file("node-a")), supervisors=(supervisor,))
    with supervised(tmp_path, keys.settings):
        heard, reports = supervisor_lines(node, 8.0)
    assert (heard.outcome, reports.outcome) == ("ok", "warn")
    assert "`brokerwatch keys allow` node-a there with --broker" in reports.advice
