"""The state folder while the cluster runs: what is removed comes back, what another process has is left."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from brokerwatch.actors import recorder
from brokerwatch.cluster.cluster import Cluster
from brokerwatch.cluster.control import SOCKET_NAME, Command, ask
from brokerwatch.errors import ConfigError, ControlError, CouldNotAsk
from brokerwatch.messages import Reason
from brokerwatch.simulator import SimulatedKraken, serve
from brokerwatch.storage.hold_file import HOLDS_NAME, HoldFile
from brokerwatch.storage.state_folder import (
    CLAIM_NAME,
    DATABASE_NAME,
    LIVED_NAME,
    loaded_store,
    running,
    store_of,
)
from tests.cluster.test_operators import own, settings_of
from tests.support.clusters import Till, cluster_of, simulated_spec, until

pytestmark = pytest.mark.usefixtures("patient_stops")

SUCCESSOR = """
import socket, sys, time
from pathlib import Path
from brokerwatch.storage.locks import Claim, claim
folder = Path(sys.argv[1])
found = claim(folder / "cluster.lock")
assert isinstance(found, Claim)
line = socket.socket(socket.AF_UNIX)
line.bind(str(folder / "control.sock"))
print("has it", flush=True)
time.sleep(600)
"""
"""Another process, which takes the folder as a cluster does."""


@pytest.fixture(autouse=True)
def short_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "LOOK_S", 0.05)


def removed(folder: Path) -> None:
    # In one step: the recorder may make it anew while it is removed file by file.
    gone = Path(tempfile.mkdtemp(dir=folder.parent)) / "gone"
    folder.rename(gone)
    shutil.rmtree(gone)


def moved(folder: Path) -> None:
    folder.rename(folder.with_name("elsewhere"))


def without(*names: str) -> Callable[[Path], None]:
    def take(folder: Path) -> None:
        for name in names:
            for file in folder.glob(f"{name}*"):
                file.unlink()

    return take


def made_anew(folder: Path) -> None:
    removed(folder)
    folder.mkdir(mode=0o700, exist_ok=True)


def is_whole(folder: Path) -> bool:
    """Whether all that a restart and an operator need is there."""
    settings = settings_of(folder)
    names = (CLAIM_NAME, LIVED_NAME, SOCKET_NAME, HOLDS_NAME, DATABASE_NAME)
    if not all((folder / name).exists() for name in names):
        return False
    found = loaded_store(store_of(settings))
    is_known = "k" in found.holds and "k" in found.healths and "k" in HoldFile(folder / HOLDS_NAME).read()
    return bool(is_known and running(settings))


@pytest.mark.parametrize(
    "lost",
    [
        removed,
        moved,
        made_anew,
        without(DATABASE_NAME, HOLDS_NAME),
        without(CLAIM_NAME),
        without(SOCKET_NAME),
        without(LIVED_NAME),
        without(HOLDS_NAME),
    ],
)
def test_what_is_removed_from_the_state_folder_comes_back_with_what_is_known(
    tmp_path: Path, lost: Callable[[Path], None]
) -> None:
    folder, till = tmp_path / "state", Till()
    with cluster_of(own("k", till), state=str(folder)) as cluster:
        cluster.broker("k").get_account_balance()
        cluster.hold("k", "must not be used")
        until(lambda: is_whole(folder))
        lost(folder)
        until(lambda: is_whole(folder))
        assert ask(folder / SOCKET_NAME, Command("hold", "k", "again")).startswith("k is held out")
    with cluster_of(own("k", till), state=str(folder)) as cluster:
        assert cluster.reading("k").reason is Reason.HELD_OUT
        assert cluster.reading("k").cash is not None


@pytest.mark.parametrize("lacks_it", ["the database", "the file"])
def test_a_hold_that_only_one_of_its_two_places_has_is_written_to_the_other_at_the_start(
    tmp_path: Path, lacks_it: str
) -> None:
    folder = tmp_path / "state"
    with cluster_of(own("k", Till()), own("l", Till()), state=str(folder)) as cluster:
        cluster.hold("k", "must not be used")
        cluster.hold("l", "nor this one")
        if lacks_it == "the database":
            cluster.release("k")
    file, stored = HoldFile(folder / HOLDS_NAME), loaded_store(store_of(settings_of(folder))).holds
    file.update({"k": replace(stored["l"], broker="k") if lacks_it == "the database" else None})
    with cluster_of(own("k", Till()), own("l", Till()), state=str(folder)) as cluster:
        assert cluster.reading("k").reason is Reason.HELD_OUT
        until(lambda: loaded_store(store_of(settings_of(folder))).holds.keys() == {"k", "l"})
        until(lambda: file.read() == loaded_store(store_of(settings_of(folder))).holds)


def test_a_release_is_written_again_too(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with cluster_of(own("k", Till()), own("l", Till()), state=str(folder)) as cluster:
        cluster.hold("k", "must not be used")
        cluster.hold("l", "nor this one")
        kept = tmp_path / "kept"
        shutil.copytree(folder, kept, ignore=shutil.ignore_patterns(SOCKET_NAME))
        cluster.release("k")
        until(lambda: put(kept, folder))  # an older copy is put back
        until(lambda: HoldFile(folder / HOLDS_NAME).read().keys() == {"l"})
        until(lambda: loaded_store(store_of(settings_of(folder))).holds.keys() == {"l"})


def test_where_another_process_has_the_folder_by_then_no_exchange_is_asked_any_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder, till, kraken = tmp_path / "s", Till(), SimulatedKraken()
    with serve(kraken):
        spec = simulated_spec(kraken, name="k")
        with cluster_of(spec, own("own", till), state=str(folder)) as cluster:
            cluster.broker("k").get_account_balance()
            cluster.broker("own").get_account_balance()
            cluster.hold("own", "must not be used")
            new = tmp_path / "n"
            with subprocess.Popen(
                [sys.executable, "-c", SUCCESSOR, str(new)], stdout=subprocess.PIPE, text=True
            ) as other:
                try:
                    assert_gives_way(cluster, other, folder, kraken, till)
                finally:
                    other.kill()
    assert "it asks no exchange any more" in caplog.text
    assert (folder / SOCKET_NAME).exists(), "it is the other's"
    assert loaded_store(store_of(settings_of(folder))).holds.keys() == {"own"}, "its next start knows of it"


def put(new: Path, folder: Path) -> bool:
    """Put a folder in the place of another. False: that one was made anew in between."""
    if folder.exists():
        removed(folder)
    try:
        new.rename(folder)
    except OSError:
        return False
    return True


def assert_gives_way(
    cluster: Cluster, other: subprocess.Popen[str], folder: Path, kraken: SimulatedKraken, till: Till
) -> None:
    assert other.stdout is not None
    assert other.stdout.readline() == "has it\n"
    until(lambda: put(folder.with_name("n"), folder))
    until(lambda: cluster.reading("k").reason is Reason.FAILED)
    assert not cluster.reading("k").available
    assert f"process {other.pid} has the state folder" in cluster.reading("k").detail
    calls, fetches = kraken.calls_to("/0/private/BalanceEx"), till.fetches
    assert calls
    cluster.broker("k").get_account_balance()
    cluster.broker("own").get_account_balance()
    with pytest.raises(CouldNotAsk, match="asks no exchange any more"):
        cluster.broker("k").get_positions()
    assert (kraken.calls_to("/0/private/BalanceEx"), till.fetches) == (calls, fetches)
    with pytest.raises(ControlError, match="asks no exchange any more"):
        cluster.reset("k")
    assert running(settings_of(folder)) == f"process {other.pid}"


@pytest.mark.parametrize(
    "name",
    [
        CLAIM_NAME,
        LIVED_NAME,
        HOLDS_NAME,
        SOCKET_NAME,
        DATABASE_NAME,
        f"{DATABASE_NAME}-wal",
        f"{DATABASE_NAME}-shm",
        "holds.new",
    ],
)
@pytest.mark.parametrize("is_there", [True, False])
def test_a_link_in_the_state_folder_is_not_followed(tmp_path: Path, name: str, is_there: bool) -> None:
    folder, elsewhere = tmp_path / "state", tmp_path / "elsewhere"
    folder.mkdir(mode=0o700)
    if is_there:
        elsewhere.write_text("another program's")
        elsewhere.chmod(0o644)
    (folder / name).symlink_to(elsewhere)
    with cluster_of(own("k", Till()), state=str(folder)) as cluster:
        cluster.broker("k").get_account_balance()
        cluster.hold("k", "must not be used")
    assert elsewhere.exists() is is_there
    if is_there:
        assert elsewhere.read_text() == "another program's"
        assert elsewhere.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("mode", [0o770, 0o777, 0o1777, 0o702])
def test_a_state_folder_in_which_others_may_write_is_refused(tmp_path: Path, mode: int) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    folder.chmod(mode)
    with pytest.raises(ConfigError, match=r"cluster\.state.*other users may write in it; chmod 700"):
        cluster_of(own("k", Till()), state=str(folder)).start()
    assert not list(folder.iterdir())
    with cluster_of(own("k", Till()), state=str(folder / "inside")):
        assert (folder / "inside").stat().st_mode & 0o777 == 0o700


def test_two_clusters_of_one_name_on_one_store_are_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(recorder, "LOOKS_FOR_ANOTHER", 1)
    store = f"sqlite:///{tmp_path / 'shared.db'}"

    def started(folder: str, name: str) -> Cluster:
        return cluster_of(own("k", Till()), state=str(tmp_path / folder), store=store, name=name)

    def looked_again(cluster: Cluster) -> None:
        """The recorder has looked at least twice since now."""
        for _ in range(2):
            (tmp_path / "one" / LIVED_NAME).unlink()
            until((tmp_path / "one" / LIVED_NAME).exists)
        cluster.broker("k").get_account_balance()

    with started("one", "main") as first:
        first.broker("k").get_account_balance()
        with started("two", "other") as second:
            second.broker("k").get_account_balance()
            looked_again(first)
            assert "writes to" not in caplog.text
        with started("three", "main") as third:
            third.broker("k").get_account_balance()
            until(
                lambda: f"another cluster of the same name writes to {tmp_path / 'shared.db'}" in caplog.text
            )
