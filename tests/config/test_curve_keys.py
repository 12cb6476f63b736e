"""The files of keys: what may stand in them, and who may read them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from brokerwatch.bus.curve import made_pair
from brokerwatch.config.curve_keys import (
    KeyPair,
    ListedKey,
    is_key,
    line_text,
    listed,
    pair_text,
    public_key,
    read_list,
    read_pair,
)

PAIR = KeyPair(
    "bot-1", "Yne@$w-vo<fVvi]a<NY6T1ed:M$fCG*[IaLV{hID", "D:)Q[IlAW!ahhC2ac:9*A}h:p?([4%wOTJ%JR%cs"
)
"""The test key that ZeroMQ's documentation of zmq_curve(7) shows."""


def written(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    "text",
    ["", "x" * 39, "x" * 41, "~" * 40, '"' * 40, "#" * 40, "x" * 39 + "\u00e9", "x" * 39 + " "],
)
def test_what_is_no_key(text: str) -> None:
    assert not is_key(text)


def test_what_is_a_key_and_a_pair_is_read_as_it_was_written(tmp_path: Path) -> None:
    assert is_key(PAIR.public)
    assert is_key("rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"), "from the specification of CurveZMQ"
    path = written(tmp_path / "bot-1.key", pair_text(PAIR))
    assert read_pair(path) == PAIR
    assert PAIR.secret not in repr(PAIR)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_a_key_that_others_may_touch_is_refused(mode: int, tmp_path: Path) -> None:
    path = written(tmp_path / "k", pair_text(PAIR), mode)
    with pytest.raises(ValueError, match=r"open to other users.*chmod 600"):
        read_pair(path)


def test_a_credential_of_a_service_is_protected_by_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path / "k", pair_text(PAIR), 0o440)
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert read_pair(path) == PAIR


@pytest.mark.parametrize(
    "text",
    [
        "",
        "name a b\n",
        f"public {PAIR.public}\nsecret {PAIR.secret}\n",
        f"name x\npublic {PAIR.public}\n",
        f"name x\npublic {PAIR.public}\nsecret {PAIR.secret[:-1]}\n",
        f"name X Y\npublic {PAIR.public}\nsecret {PAIR.secret}\n",
    ],
)
def test_what_is_no_pair_is_said_without_its_secret(text: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no key pair") as caught:
        read_pair(written(tmp_path / "k", text))
    assert PAIR.secret[:12] not in str(caught.value)


def test_what_is_no_file_of_text_is_said(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00\xd8")
    (tmp_path / "large").write_bytes(b"#" * 1_000_001)
    for name, words in (
        ("none", "readable"),
        ("pipe", "a file at"),
        ("binary", "not text"),
        ("large", "larger"),
        (".", "directory"),
    ):
        with pytest.raises(ValueError, match=words):
            read_list(tmp_path / name)


def test_a_list_names_its_keys_and_its_mistakes_by_line() -> None:
    other = made_pair("other").public
    text = f"""
# a comment
bot-1 {PAIR.public}
  node {other}   kraken-main okx-main

Bad {PAIR.public}
short abc
lonely
twice {other}
brokers {made_pair("z").public} Not/A/Name
"""
    keys, mistakes = listed(text)
    assert keys == (
        ListedKey("bot-1", PAIR.public),
        ListedKey("node", other, frozenset({"kraken-main", "okx-main"})),
    )
    assert [mistake.partition(":")[0] for mistake in mistakes] == [f"line {n}" for n in (6, 7, 8, 9, 10)]
    assert listed("".join(map(line_text, keys))) == (keys, ())


def test_a_key_may_have_the_sign_of_a_comment_in_it() -> None:
    key = f"0#{PAIR.public[2:]}"
    assert is_key(key)
    assert listed(f"name {key}\n") == ((ListedKey("name", key),), ())


def test_a_list_that_others_may_change_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path / "l", line_text(ListedKey("a", PAIR.public)), 0o664)
    with pytest.raises(ValueError, match="can be changed by other users"):
        read_list(path)
    path.chmod(0o644)
    assert read_list(path)[0] == (ListedKey("a", PAIR.public),)


def test_a_public_key_is_given_as_itself_or_as_its_file(tmp_path: Path) -> None:
    path = written(tmp_path / "a.pub", line_text(ListedKey("a", PAIR.public)), 0o644)
    assert public_key(PAIR.public) == public_key(path) == public_key(str(path)) == PAIR.public
    with pytest.raises(ValueError, match="one public key"):
        public_key(written(tmp_path / "empty", "", 0o644))
    with pytest.raises(ValueError, match="40 characters"):
        public_key(PAIR.public[:-1])
    with pytest.raises(ValueError, match="readable file"):
        public_key(tmp_path / "none")
