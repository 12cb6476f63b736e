"""`serve`: the page and the API in a process of their own, beside a cluster."""

from __future__ import annotations

import re
import signal
from pathlib import Path

from brokerwatch.config.broker_spec import BrokerSpec
from tests.support.clusters import ONLY_WHEN_ASKED, Till, cluster_of, until
from tests.support.command import command
from tests.support.programs import BROKERWATCH, Program
from tests.support.served import AUTHORIZED, TOKEN, asked


def test_a_cluster_is_served_from_outside_and_told_what_an_operator_says(tmp_path: Path) -> None:
    state = tmp_path / "state"
    token = tmp_path / "token"
    token.write_text(TOKEN)
    token.chmod(0o600)
    spec = BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED)
    with cluster_of(spec, state=state) as cluster:
        options = ("--connect", cluster.health_endpoint, "--listen", "127.0.0.1:0")
        more = ("--token-file", str(token), "--cluster-state", str(state))
        with Program(*BROKERWATCH, "serve", *options, *more, cwd=tmp_path) as program:
            until(lambda: "Ctrl-C ends" in program.errors)
            found = re.search(r"http://127\.0\.0\.1:\d+", program.errors)
            assert found is not None
            url = found[0]
            until(lambda: asked(url, "/readyz").status == 200)
            held = asked(url, "/v1/brokers/a/hold", method="POST", headers=AUTHORIZED, body={"why": "audit"})
            assert held.status == 200
            until(lambda: asked(url, "/v1/brokers/a", headers=AUTHORIZED).json["reason"] == "held_out")
            cluster.stop()
            until(lambda: not asked(url, "/v1/brokers", headers=AUTHORIZED).json["operable"])
            assert asked(url, "/healthz").status == 200, "it must not be restarted for a cluster that is down"
            assert asked(url, "/v1/brokers/a", headers=AUTHORIZED).status == 503
            assert program.stopped_by(signal.SIGINT) == 0


def test_what_it_heard_outlives_it_in_a_folder_of_its_own(tmp_path: Path) -> None:
    def known(before: set[int]) -> set[int]:
        with Program(*BROKERWATCH, "serve", *options, cwd=tmp_path) as program:
            until(lambda: "Ctrl-C ends" in program.errors)
            found = re.search(r"http://127\.0\.0\.1:\d+", program.errors)
            assert found is not None
            until(lambda: spans_at(found[0]) - before)
            spans = spans_at(found[0])
            assert program.stopped_by(signal.SIGTERM) == 0
            return spans

    def spans_at(url: str) -> set[int]:
        brokers = asked(url, "/v1/timeline?broker=a").json["brokers"]
        return {span["from_us"] for each in brokers for span in each["spans"]}

    with cluster_of(BrokerSpec("a", fetch=Till(), poll_interval_s=ONLY_WHEN_ASKED)) as cluster:
        options = ("--connect", cluster.health_endpoint, "--listen", "127.0.0.1:0", "--state", "heard")
        first = known(set())
        assert known(first) > first


def test_options_that_cannot_be_are_named_all_at_once(tmp_path: Path) -> None:
    done = command("serve", "--listen", "0.0.0.0:1", "--connect", "tcp://127.0.0.1:1", cwd=tmp_path)
    assert done.status == 2
    assert "token_file" in done.err
    assert "tls_certificate" in done.err
    done = command("serve", "--token-file", "none", "--connect", "tcp://127.0.0.1:1", cwd=tmp_path)
    assert done.status == 2
    assert "--token-file" in done.err
