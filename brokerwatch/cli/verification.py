"""What `brokerwatch verify` and verify_kraken_end_to_end.py do: which account, and what is shown.

The verification runs on a thread of its own, so that Ctrl-C works while an exchange does not answer. The
report is kept in the state folder of the configured cluster, where the gate reads it (orders/gate.py). It
is also written to the file that the command names.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import threading
from collections.abc import Callable, Generator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from brokerwatch.cli import exits
from brokerwatch.cli.config_lookup import config_path
from brokerwatch.cli.output import LOOK_UP_S, STDOUT
from brokerwatch.cli.output import LineWriter as Out
from brokerwatch.cli.scorecard import LineScorecard, Scorecard, Terminal
from brokerwatch.cli.signals import Stop, stop_signals
from brokerwatch.config.broker_spec import BrokerSpec, Origin
from brokerwatch.config.cluster_settings import ClusterSettings, is_in_a_file
from brokerwatch.config.loader import load, load_cluster
from brokerwatch.config.pool_settings import lease_of
from brokerwatch.errors import ConfigError, KeyInUse, Problem, ReaderGone, StoreError
from brokerwatch.gateway.catalogue import Catalogue, lane_name
from brokerwatch.log import logger
from brokerwatch.orders.gate import keep
from brokerwatch.pool.visit import OWNER, Visit
from brokerwatch.preflight.verify import Stopped, Verification
from brokerwatch.storage.atomic import write_whole
from brokerwatch.storage.claims import PoolStore
from brokerwatch.storage.records import KeyState
from brokerwatch.storage.state_folder import folder_of, running, stored_keys
from brokerwatch.verification.report import Report, encoded

_log: Final = logger(__name__)

MASTER: Final = MappingProxyType({"api_key": "KRAKEN_MASTER_API_KEY", "secret": "KRAKEN_MASTER_API_SECRET"})
"""The variables that hold the keys of Kraken's master account."""
MASTER_NAME: Final = "kraken-master"
SETTLE_S: Final = 3.0
"""So long after the last check it is looked once more whether the dry runs placed nothing."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What is verified, and for which cluster."""

    spec: BrokerSpec
    cluster: ClusterSettings
    kept: bool = True
    """Whether the report is kept for the gate."""


def of_config(broker: str, config: Path | None, environment: Mapping[str, str] = os.environ) -> Subject:
    """The account of that name in a configuration. Raises ConfigError."""
    path = config_path(config)
    settings = load(path, Catalogue(), environment=environment, keep_going=True)
    found = next((spec for spec in settings.brokers if spec.name == broker), None)
    if found is not None:
        return Subject(found, settings.cluster)
    if broker in settings.broken:
        raise ConfigError((Problem(str(path), f"brokers.{broker}", settings.broken[broker][1]),))
    names = ", ".join(sorted((*(spec.name for spec in settings.brokers), *settings.broken)))
    raise ConfigError((Problem(str(path), "", f"there is no broker {broker!r}; there are: {names}"),))


def of_master(config: Path | None, url: str | None, environment: Mapping[str, str] = os.environ) -> Subject:
    """Kraken's master account, by the keys in the environment. Raises ConfigError.

    `config` says for which cluster the report is kept; `url` is another address than Kraken's own.
    """
    missing = [name for name in MASTER.values() if not environment.get(name, "").strip()]
    if missing:
        raise ConfigError(
            tuple(
                Problem("", name, "is not set: expected the credential of Kraken's master account in it")
                for name in missing
            )
        )
    spec = BrokerSpec(
        MASTER_NAME,
        exchange="kraken",
        credentials=MappingProxyType(
            {name: environment[variable].strip() for name, variable in MASTER.items()}
        ),
        origins=MappingProxyType({name: Origin("variable", variable) for name, variable in MASTER.items()}),
        ccxt=MappingProxyType({} if url is None else {"urls": {"api": {"public": url, "private": url}}}),
        trading=True,
        policy="guarded",
    )
    return Subject(spec, ClusterSettings() if config is None else load_cluster(config))


@contextmanager
def of_demo(exchange: str) -> Generator[Subject]:
    """A simulated account that is well, to see what a verification looks like. Raises ConfigError."""
    from brokerwatch.simulator import EXCHANGES, serve

    if exchange not in EXCHANGES:
        expected = f"no exchange {exchange!r} is simulated; there are: {', '.join(EXCHANGES)}"
        raise ConfigError((Problem("", "--demo", expected),))
    simulated = EXCHANGES[exchange]()
    with serve(simulated), _folder_of_demo() as folder:
        lines = [
            "version = 1",
            "[cluster]",
            'state = "state"',
            f"[brokers.{exchange}]",
            f'exchange = "{exchange}"',
            "trading = true",
            'policy = "guarded"',
        ]
        for name, value in simulated.credentials.items():
            secret = Path(folder) / f"{name}.secret"
            secret.touch(mode=0o600)
            secret.write_text(value, encoding="utf-8")
            lines.append(f'{name}_file = "{secret.name}"')
        urls = ", ".join(f'{name} = "{simulated.url}"' for name in simulated.url_names)
        lines += [f"[brokers.{exchange}.ccxt]", f"urls = {{ api = {{ {urls} }} }}"]
        config = Path(folder) / "brokerwatch.toml"
        config.touch(mode=0o600)  # under a umask of 002 a group could write it, and then it would be refused
        config.write_text("\n".join(lines), encoding="utf-8")
        found = of_config(exchange, config, {})
        yield Subject(found.spec, found.cluster, kept=False)


@contextmanager
def _folder_of_demo() -> Generator[str]:
    try:
        made = tempfile.TemporaryDirectory(prefix="brokerwatch-")
    except OSError as error:
        expected = f"expected a folder for temporary files, such as $TMPDIR: {error.strerror}"
        raise ConfigError((Problem("", "--demo", expected),)) from error
    with made as folder:
        yield folder


def run(subject: Subject, json_file: Path | None, *, settle_s: float = SETTLE_S) -> int:
    """Verify it, show it, keep the report. The exit status. Raises ConfigError."""
    if json_file is not None:
        _can_be_written(json_file)
    logging.getLogger("brokerwatch").propagate = False  # a flip that is provoked is no news
    to_stdout = json_file == Path("-")
    with stop_signals() as stopped, ExitStack() as stack:
        visit = _visit(subject)
        if visit is not None:
            stack.enter_context(visit)
        card = _scorecard(stack, stopped, aside=to_stdout)
        report = _verified(subject, card, stopped, settle_s, visit)
        if report is None:
            sys.stderr.write("brokerwatch: stopped before the end; there is no report\n")
            return exits.INTERRUPTED
        card.show(report)
    status = report.exit_status
    if subject.kept:
        try:
            keep(folder_of(subject.cluster), report)
        except OSError as error:
            sys.stderr.write(f"brokerwatch: the report cannot be kept for the gate: {error}\n")
            status = status or exits.WARNINGS
    if json_file is None:
        return status
    try:
        if to_stdout:
            with os.fdopen(os.dup(STDOUT), "wb") as out:
                out.write(encoded(report))
        else:
            _write(json_file, encoded(report))
            sys.stderr.write(f"brokerwatch: report written to {json_file}\n")
    except OSError as error:
        where = "standard output" if to_stdout else json_file
        sys.stderr.write(f"brokerwatch: {where} cannot be written: {error.strerror}\n")
        return exits.INTERRUPTED
    return status


def _scorecard(stack: ExitStack, stopped: Stop, *, aside: bool) -> Scorecard:
    """How it is shown: on standard output, or on standard error where that has the report."""
    stream = sys.stderr if aside else sys.stdout
    if stream is not None and stream.isatty():
        reconfigure: object = getattr(stream, "reconfigure", None)
        if callable(reconfigure):
            reconfigure(errors="replace")  # a terminal that is not UTF-8 has neither spinner nor dash
        card: Scorecard = Terminal(stream)
    elif aside:
        card = LineScorecard(lambda line: print(line, file=sys.stderr))  # noqa: T201 - that is what it is for
    else:
        card = LineScorecard(_patient(stack.enter_context(Out(stopped.is_set)).emit))
    return stack.enter_context(card)


def _patient(emit: Callable[[str], None]) -> Callable[[str], None]:
    """The same, and nothing where the reader has gone: the verification goes on, and its status counts."""

    def emit_if_read(line: str) -> None:
        with suppress(ReaderGone):
            emit(line)

    return emit_if_read


def _visit(subject: Subject) -> Visit | None:
    """The claim on the API key, which a verification needs as a node does; None: there is no pool."""
    pool = subject.cluster.pool
    if pool is None or is_in_a_file(subject.cluster) or not subject.kept:
        return None
    store = PoolStore(subject.cluster.store, pool.name or OWNER)
    return Visit(store, lane_name(subject.spec), subject.spec.name, lease_of(pool, (subject.spec,)))


def _verified(
    subject: Subject, card: Scorecard, stopped: Stop, settle_s: float, visit: Visit | None
) -> Report | None:
    """The report; None when it was stopped. Raises KeyInUse, and whatever the verification raises."""
    verification = Verification(
        subject.spec,
        card,
        known=_known(subject.cluster),
        own_cluster=running(subject.cluster),
        settle_s=settle_s,
    )
    ended: list[Report | BaseException] = []

    def work() -> None:
        try:
            ended.append(verification.run())
        except BaseException as error:  # noqa: BLE001 - raised again on the main thread
            ended.append(error)

    worker = threading.Thread(target=work, name="brokerwatch-verification", daemon=True)
    worker.start()
    while worker.is_alive() and not stopped.is_set():
        worker.join(LOOK_UP_S)
        if visit is not None and (why := visit.lost):
            verification.stop()
            raise KeyInUse(f"{subject.spec.name}: stopped before the end: {why}; there is no report")
    if stopped.is_set() and not ended:
        verification.stop()
        return None
    (outcome,) = ended
    if isinstance(outcome, Stopped):
        return None
    if isinstance(outcome, BaseException):
        raise outcome
    return outcome


def _known(cluster: ClusterSettings) -> dict[str, KeyState]:
    """What that cluster has stored of API keys."""
    try:
        return stored_keys(cluster)
    except StoreError as error:
        _log.warning("what is stored of API keys cannot be read: %s", error)
        return {}


def _can_be_written(path: Path) -> None:
    """Raise ConfigError for a report that would have nowhere to go: before minutes are spent on it."""
    if path == Path("-"):
        return
    try:
        if path.exists() and not path.is_file():
            path.open("ab").close()  # a device or a pipe; a folder raises
        else:
            tempfile.TemporaryFile(dir=path.absolute().parent).close()
    except OSError as error:
        raise ConfigError((Problem("", "--json", f"{path} cannot be written: {error.strerror}"),)) from error


def _write(path: Path, text: bytes) -> None:
    """Write a file whole or not at all; what is no ordinary file is written as it is."""
    if path.exists() and not path.is_file():
        path.write_bytes(text)
        return
    write_whole(path, text, mode=0o644)
