"""`brokerwatch verify` and verify_kraken_end_to_end.py as an operator meets them.

Most run in this process and without the pause before the last look; terminals, pipes, signals and the pause
itself have a process of their own.
"""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import pytest

from brokerwatch.cli.main import verify_kraken_alone
from brokerwatch.cli.verification import SETTLE_S
from brokerwatch.cluster.broker import Broker, requests_of
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.config.loader import load_cluster
from brokerwatch.errors import VerificationRequired
from brokerwatch.orders.gate import FOLDER_NAME
from brokerwatch.simulator import SimulatedCoinbase, SimulatedExchange, SimulatedKraken, SimulatedOkx, serve
from brokerwatch.storage.state_folder import stored_keys
from brokerwatch.verification.report import Report, decoded, schema
from tests.support.clusters import PATIENCE_S, until
from tests.support.command import Done, command, environment_of
from tests.support.programs import BROKERWATCH, ROOT, STOP_S, drawn_on, run_program

jsonschema: Any = importlib.import_module("jsonschema")  # it has no annotations

VERIFY_KRAKEN: Final = (sys.executable, str(ROOT / "verify_kraken_end_to_end.py"))
MASTER_REPORT: Final = "kraken_e2e_verification_report.json"


@pytest.fixture
def kraken() -> Iterator[SimulatedKraken]:
    exchange = SimulatedKraken()
    with serve(exchange):
        yield exchange


def configured(folder: Path, exchange: SimulatedExchange, more: str = "", cluster: str = "") -> Path:
    """A configuration of one account there, named main, with its keys in files."""
    lines = ["version = 1", "[cluster]", 'health_endpoint = "tcp://127.0.0.1:*"', 'state = "state"', cluster]
    lines += [
        "[brokers.main]",
        f'exchange = "{exchange.ccxt_id}"',
        "trading = true",
        'policy = "guarded"',
        more,
    ]
    for name, value in exchange.credentials.items():
        secret = folder / f"{name}.secret"
        secret.touch(mode=0o600)
        secret.write_text(value, encoding="utf-8")
        lines.append(f'{name}_file = "{secret.name}"')
    urls = ", ".join(f'{name} = "{exchange.url}"' for name in exchange.url_names)
    lines += ["[brokers.main.ccxt]", f"urls = {{ api = {{ {urls} }} }}"]
    path = folder / "brokerwatch.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def verify(folder: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> Done:
    """Run it there; what holds for every run."""
    done = command("verify", *arguments, cwd=folder, environment=environment)
    assert "Traceback" not in done.err + done.out
    return done


def look_again(broker: Broker) -> bool:
    """Have it look whether there is a newer report; not yet true."""
    requests_of(broker).account().entry.look_up_verification()
    return False


def written(path: Path) -> Report:
    text = path.read_bytes()
    jsonschema.validate(json.loads(text), schema())
    return decoded(text)


def kept(folder: Path) -> list[Path]:
    return [*(folder / "state" / FOLDER_NAME).glob("*")]


# --- a run ---------------------------------------------------------------------------------------------


def test_a_verification_lets_entries_of_a_running_cluster_through(
    tmp_path: Path, kraken: SimulatedKraken
) -> None:
    config = configured(tmp_path, kraken, cluster="require_verification_max_age_s = 3600")
    with Cluster.from_config(config) as cluster:
        broker = cluster.broker("main")
        broker.get_account_balance()
        with pytest.raises(VerificationRequired):
            broker.place_market_order("BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False)
        done = verify(tmp_path, "main", "--json", "report.json")
        assert done.status == 0, done.out
        assert f"while process {os.getpid()}, the cluster of this account, uses the key too" in done.out
        until(lambda: not requests_of(broker).account().entry.unverified or look_again(broker))
        broker.place_market_order("BTC/USD", "buy", quote_amount=Decimal(50), validate_only=False)
    assert kraken.placed_orders == 1
    report = written(tmp_path / "report.json")
    assert (report.broker, report.exchange, report.elsewhere) == ("main", "kraken", True)
    assert set(report.versions) == {"brokerwatch", "ccxt", "python", "platform"}
    [path] = kept(tmp_path)
    assert path.read_bytes() == (tmp_path / "report.json").read_bytes()
    for secret in kraken.credentials.values():
        assert secret not in done.out + done.err + path.read_text()


def test_a_healthy_account_is_status_0(tmp_path: Path, kraken: SimulatedKraken) -> None:
    configured(tmp_path, kraken)
    done = verify(tmp_path, "main")
    assert done.status == 0, done.out
    assert "110 of 110 points, PASSED" in done.out


def test_what_could_not_be_checked_is_status_3(tmp_path: Path) -> None:
    okx = SimulatedOkx()
    with serve(okx):
        done = verify(tmp_path, "main", "--config", str(configured(tmp_path, okx)))
    assert (done.status, okx.placed_orders) == (3, 0)
    assert "100 of 110 points, PASSED WITH REMARKS (2 skipped)" in done.out


def test_a_failure_is_status_1_and_is_said_last(tmp_path: Path, kraken: SimulatedKraken) -> None:
    configured(tmp_path, kraken)
    kraken.set_permissions({"query", "trade", "withdraw"})
    done = verify(tmp_path, "main")
    assert done.status == 1
    lines = done.out.splitlines()
    assert any(line.startswith("FAIL  0/4  safety.withdraw ") for line in lines)
    said = next(number for number, line in enumerate(lines) if "FAILED (1 failed)" in line)
    assert lines[said + 1].startswith("FAIL  safety.withdraw: the key CAN WITHDRAW")


def test_each_check_is_a_line_in_a_pipe_without_colour(tmp_path: Path, kraken: SimulatedKraken) -> None:
    configured(tmp_path, kraken)
    done = verify(tmp_path, "main", environment={"NO_COLOR": "", "COLUMNS": "20"})
    assert "\x1b" not in done.out + done.err
    assert len([line for line in done.out.splitlines() if line.startswith("pass  ")]) == 30


def test_the_report_on_standard_output_stands_alone(tmp_path: Path, kraken: SimulatedKraken) -> None:
    configured(tmp_path, kraken)
    done = verify(tmp_path, "main", "--json", "-")
    assert decoded(done.out.encode()).points == 110
    assert "110 of 110 points" in done.err


def test_a_reader_who_has_enough_changes_no_status(tmp_path: Path, kraken: SimulatedKraken) -> None:
    configured(tmp_path, kraken)
    kraken.set_permissions({"query", "trade", "withdraw"})
    command = f"{sys.executable} -m brokerwatch verify main | head -1; echo status ${{PIPESTATUS[0]}}"
    done = run_program("bash", "-c", command, cwd=tmp_path)
    assert done.out.startswith("pass  3/3  credentials.present")
    assert done.out.endswith("status 1\n"), "what was not read counts all the same"
    assert "Traceback" not in done.err
    assert "BrokenPipe" not in done.err


def in_a_terminal(folder: Path, columns: int, **environment: str) -> tuple[int, str]:
    """Run it in a terminal of this width: status, and all that was drawn."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 60, columns, 0, 0))
    with subprocess.Popen(
        (*BROKERWATCH, "verify", "main"),
        cwd=folder,
        env={**environment_of({}), "TERM": "xterm", **environment},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=subprocess.PIPE,
    ) as process:
        os.close(theirs)
        drawn = drawn_on(ours)
        return process.wait(PATIENCE_S), drawn


@pytest.mark.parametrize("columns", [40, 72, 160])
def test_a_terminal_has_a_progress_display_and_then_a_table(
    tmp_path: Path, kraken: SimulatedKraken, columns: int
) -> None:
    configured(tmp_path, kraken)
    kraken.set_permissions({"query", "trade", "withdraw"})
    status, drawn = in_a_terminal(tmp_path, columns)
    assert status == 1
    assert "/30" in drawn
    for word in ("Credentials", "Safety", "FAIL", "0/4"):
        assert word in drawn
    # NO_COLOR is set: what is drawn is moved, and nothing is coloured.
    assert "\x1b[31m" not in drawn
    assert "\x1b[1;31m" not in drawn


def test_a_terminal_that_is_not_utf_8_is_no_hindrance(tmp_path: Path, kraken: SimulatedKraken) -> None:
    configured(tmp_path, kraken)
    status, drawn = in_a_terminal(tmp_path, 100, PYTHONIOENCODING="ascii", PYTHONUTF8="0")
    assert status == 0, drawn
    assert "Safety" in drawn


# --- what cannot be run --------------------------------------------------------------------------------


def test_an_unknown_broker_is_status_2_and_the_known_ones_are_named(
    tmp_path: Path, kraken: SimulatedKraken
) -> None:
    configured(tmp_path, kraken)
    done = verify(tmp_path, "mian")
    assert done.status == 2
    assert "there is no broker 'mian'; there are: main" in done.err
    assert kraken.private_calls == 0


def test_missing_credentials_are_status_2(tmp_path: Path, kraken: SimulatedKraken) -> None:
    configured(tmp_path, kraken)
    (tmp_path / "secret.secret").unlink()
    done = verify(tmp_path, "main")
    assert done.status == 2
    assert "secret_file" in done.err
    assert not kept(tmp_path)


def test_another_account_that_is_configured_wrongly_is_no_hindrance(
    tmp_path: Path, kraken: SimulatedKraken
) -> None:
    config = configured(tmp_path, kraken)
    config.write_text(config.read_text() + '\n[brokers.other]\nexchange = "nyse"\n', encoding="utf-8")
    assert verify(tmp_path, "main").status == 0
    assert verify(tmp_path, "other").status == 2


def test_no_configuration_is_status_2(tmp_path: Path) -> None:
    done = verify(tmp_path, "main")
    assert done.status == 2
    assert "no configuration" in done.err


@pytest.mark.parametrize("path", ["no/such/folder.json", "/proc/report.json"])
def test_a_report_that_would_have_nowhere_to_go_is_said_before_anything_is_asked(
    tmp_path: Path, kraken: SimulatedKraken, path: str
) -> None:
    configured(tmp_path, kraken)
    done = verify(tmp_path, "main", "--json", path)
    assert done.status == 2
    assert kraken.private_calls == 0


def test_standard_output_that_is_full_is_said_and_is_no_pass(tmp_path: Path, kraken: SimulatedKraken) -> None:
    configured(tmp_path, kraken)
    command = f"{sys.executable} -m brokerwatch verify main --json - > /dev/full"
    done = run_program("sh", "-c", command, cwd=tmp_path)
    assert done.status == 2
    assert "standard output cannot be written: No space left on device" in done.err
    assert "Traceback" not in done.err


def test_standard_output_that_is_closed_changes_no_status(tmp_path: Path, kraken: SimulatedKraken) -> None:
    configured(tmp_path, kraken)
    command = f"{sys.executable} -m brokerwatch verify main --json report.json >&-"
    done = run_program("sh", "-c", command, cwd=tmp_path)
    assert "Traceback" not in done.err
    assert done.status == 0
    assert written(tmp_path / "report.json").points == 110


def test_a_report_that_cannot_be_kept_for_the_gate_is_a_remark(
    tmp_path: Path, kraken: SimulatedKraken
) -> None:
    configured(tmp_path, kraken)
    (tmp_path / "state").write_text("a file where the folder should be", encoding="utf-8")
    done = verify(tmp_path, "main")
    assert done.status == 3
    assert "the report cannot be kept for the gate" in done.err


def test_a_full_disk_is_said_and_is_no_pass(tmp_path: Path, kraken: SimulatedKraken) -> None:
    configured(tmp_path, kraken)
    done = verify(tmp_path, "main", "--json", "/dev/full")
    assert done.status == 2
    assert "/dev/full cannot be written: No space left on device" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_it_at_once_and_leaves_no_report(
    tmp_path: Path, kraken: SimulatedKraken, number: signal.Signals
) -> None:
    configured(tmp_path, kraken, more="fetch_deadline_s = 60")
    kraken.set_fault("hang")
    with subprocess.Popen(
        (*BROKERWATCH, "verify", "main", "--json", "report.json"),
        cwd=tmp_path,
        env=environment_of({}),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        until(lambda: kraken.private_calls)
        process.send_signal(number)
        _, errors = process.communicate(timeout=STOP_S)
    assert process.returncode == 2
    assert b"stopped before the end; there is no report" in errors
    assert b"Traceback" not in errors
    assert not (tmp_path / "report.json").exists()
    assert not kept(tmp_path)


# --- beside a cluster, and the second of its kind ------------------------------------------------------


def test_another_program_on_the_same_key_is_a_remark(
    tmp_path: Path, kraken: SimulatedKraken, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configured(tmp_path, kraken, more="poll_interval_s = 3600")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "xdg"))
    with Cluster.from_config(config) as cluster:
        cluster.broker("main").get_account_balance()
        config.write_text(config.read_text().replace('state = "state"', 'state = "elsewhere"'))
        done = verify(tmp_path, "main")
    assert done.status == 3, done.out
    assert f"process {os.getpid()} uses the same key now" in done.out


def test_numbers_that_a_cluster_before_used_up_are_skipped_only_when_that_is_needed(
    tmp_path: Path, kraken: SimulatedKraken
) -> None:
    config = configured(tmp_path, kraken)
    with Cluster.from_config(config) as cluster:
        cluster.broker("main").get_account_balance()
    reserved = max(key.nonce_ceiling for key in stored_keys(load_cluster(config)).values())
    assert reserved > time.time() * 1_000
    assert verify(tmp_path, "main").status == 0
    assert kraken.last_nonce() < reserved  # so a cluster that runs is not overtaken
    kraken.use_nonce(reserved)  # a cluster was killed and started again within the minute
    assert verify(tmp_path, "main").status == 0
    assert kraken.last_nonce() > reserved


# --- the master account, and the demo ------------------------------------------------------------------


def master(exchange: SimulatedExchange) -> dict[str, str]:
    return {
        "KRAKEN_MASTER_API_KEY": exchange.credentials["api_key"],
        "KRAKEN_MASTER_API_SECRET": exchange.credentials["secret"],
    }


def test_the_master_account_is_verified_by_the_keys_in_the_environment(
    tmp_path: Path, kraken: SimulatedKraken
) -> None:
    environment = {**master(kraken), "XDG_STATE_HOME": str(tmp_path / "xdg")}
    done = command("--url", kraken.url, cwd=tmp_path, environment=environment, entry=verify_kraken_alone)
    assert done.status == 0, done.out + done.err
    assert "kraken-master at kraken: 110 of 110 points, PASSED; policy guarded" in done.out
    report = written(tmp_path / MASTER_REPORT)
    assert report.points == 110
    for secret in kraken.credentials.values():
        assert secret not in (tmp_path / MASTER_REPORT).read_text() + done.out + done.err


@pytest.mark.parametrize("missing", ["KRAKEN_MASTER_API_KEY", "KRAKEN_MASTER_API_SECRET"])
def test_without_its_keys_nothing_is_run(tmp_path: Path, kraken: SimulatedKraken, missing: str) -> None:
    environment = {name: value for name, value in master(kraken).items() if name != missing}
    done = command("--url", kraken.url, cwd=tmp_path, environment=environment, entry=verify_kraken_alone)
    assert done.status == 2
    assert missing in done.err
    assert not (tmp_path / MASTER_REPORT).exists()
    assert kraken.private_calls == 0


@pytest.mark.parametrize(("exchange", "status"), [("kraken", 0), ("coinbase", 0), ("okx", 3)])
def test_the_demo_shows_what_a_verification_looks_like(tmp_path: Path, exchange: str, status: int) -> None:
    done = verify(tmp_path, exchange, "--demo", environment={"XDG_STATE_HOME": str(tmp_path / "xdg")})
    assert done.status == status, done.out
    assert not (tmp_path / "xdg" / "brokerwatch" / "main").exists()


def test_a_verification_waits_before_its_last_look(tmp_path: Path) -> None:
    began_s = time.monotonic()
    done = run_program(*BROKERWATCH, "verify", "kraken", "--demo", cwd=tmp_path)
    assert done.status == 0, done.out
    assert time.monotonic() - began_s > SETTLE_S


def test_the_master_account_is_verified_by_a_program_of_its_own(tmp_path: Path) -> None:
    done = run_program(*VERIFY_KRAKEN, "--help", cwd=tmp_path)
    assert done.status == 0
    assert "KRAKEN_MASTER_API_KEY" in done.out


def test_the_help_says_how_many_points_there_are(tmp_path: Path) -> None:
    done = verify(tmp_path, "--help")
    assert "30 checks, 110 points" in " ".join(done.out.split())


def test_coinbase_keys_in_one_json_file_are_verified(tmp_path: Path) -> None:
    coinbase = SimulatedCoinbase()
    with serve(coinbase):
        config = configured(tmp_path, coinbase)
        downloaded: dict[str, Any] = {
            "name": coinbase.credentials["api_key"],
            "privateKey": coinbase.credentials["secret"],
        }
        (tmp_path / "secret.secret").write_text(json.dumps(downloaded), encoding="utf-8")
        text = config.read_text().replace('api_key_file = "api_key.secret"\n', "")
        config.write_text(text, encoding="utf-8")
        done = verify(tmp_path, "main")
    assert done.status == 0, done.out
    assert coinbase.credentials["secret"].splitlines()[1] not in done.out


def test_options_of_a_real_account_are_refused_beside_the_demo(tmp_path: Path) -> None:
    done = verify(tmp_path, "kraken", "--demo", "--config", "b.toml")
    assert done.status == 2
    assert done.err.startswith("brokerwatch: --config: expected without --demo")
    done = command("--demo", "--url", "http://127.0.0.1:9", cwd=tmp_path, entry=verify_kraken_alone)
    assert done.status == 2
    assert "--url: expected without --demo" in done.err
