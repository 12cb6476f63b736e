"""The address of a database, and its errors as sentences."""

from __future__ import annotations

import subprocess
import sys
import traceback
from pathlib import Path

import pytest

from brokerwatch.errors import StoreError
from brokerwatch.storage import database as database_module
from brokerwatch.storage.store import Store
from tests.support.stores import Opener, raiser


def test_a_mistake_of_ours_is_a_sentence_too_with_its_cause(
    url: str, opened: Opener, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = opened(url)
    mistake = KeyError("what we forgot")
    with monkeypatch.context() as broken:
        broken.setattr(database_module, "inspect", raiser(mistake))
        with pytest.raises(
            StoreError, match="KeyError: 'what we forgot'; this is a mistake of bro"
        ) as caught:
            store.load()
    assert caught.value.__cause__ is mistake
    assert caplog.records[0].exc_info is not None
    assert store.load().healths == {}


# --- URLs ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "is not one"),
        ("state.db", "is not one"),
        ("postgresql://ann:topsecret@host:topsecret/x", "is not one"),
        ("mysql://ann:topsecret@host/x", "begins with mysql://"),
        ("postgresql+psycopg2://ann:topsecret@host/x", r"begins with postgresql\+psycopg2://"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
        ("sqlite:///x.db?mode=ro", "more than a file"),
        ("sqlite://ann:topsecret@host/x.db", "more than a file"),
        ("sqlite:///a\0b", "a file that cannot be"),
        ("sqlite:///~no-user-of-this-name/x.db", "a file that cannot be"),
    ],
)
def test_a_url_that_can_never_work_is_refused_with_what_to_write(url: str, said: str) -> None:
    with pytest.raises(StoreError, match=said) as caught:
        Store(url, "main")
    assert "write sqlite:///folder/file.db or postgresql+psycopg://" in str(caught.value)
    assert "topsecret" not in "".join(traceback.format_exception(caught.value))


def test_a_relative_file_stays_where_it_was_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = Store("sqlite:///sub/state.db", "main")
    monkeypatch.chdir("/")
    store.open()
    store.close()
    assert (tmp_path / "sub" / "state.db").is_file()
    assert store.where == str(tmp_path.resolve() / "sub" / "state.db")


def test_the_missing_driver_is_named_with_how_to_install_it(tmp_path: Path) -> None:
    script = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from brokerwatch.storage.store import Store\n"
        "from brokerwatch.errors import StoreError\n"
        "try: Store('postgresql://ann:topsecret@host/x', 'main').open()\n"
        "except StoreError as error: print(error)\n"
    )
    done = subprocess.run(
        (sys.executable, "-c", script), capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == (
        'postgresql://ann@host/x: the driver is missing; pip install "brokerwatch[postgresql]"\n'
    )
