"""`brokerwatch keys`: pairs are made, let in, shown and revoked, and files of others are left alone."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path

import pytest

from brokerwatch.config.curve_keys import read_list, read_pair
from tests.support.command import command


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "b.toml").write_text(
        'version = 1\n[curve]\nkey_file = "own.key"\nsubscribers = "subs.keys"\nbrokers = "brokers.keys"\n'
    )
    for name in ("subs.keys", "brokers.keys"):
        (tmp_path / name).write_text("# ours\n")
        (tmp_path / name).chmod(0o644)
    return tmp_path


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_a_pair_is_made_for_its_owner_alone_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o000)
    try:
        done = command("keys", "make", "bot-1", cwd=tmp_path)
    finally:
        os.umask(before)
    assert done.status == 0, done.err
    pair = read_pair(tmp_path / "bot-1.key")
    assert (mode(tmp_path / "bot-1.key"), mode(tmp_path / "bot-1.pub")) == (0o600, 0o644)
    assert [key.public for key in read_list(tmp_path / "bot-1.pub")[0]] == [pair.public]
    assert pair.public in done.out
    assert pair.secret not in done.out + done.err + (tmp_path / "bot-1.pub").read_text()


def test_a_file_that_exists_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "a.pub").symlink_to(tmp_path / "elsewhere")
    done = command("keys", "make", "a", cwd=tmp_path)
    assert done.status == 2
    assert "left alone" in done.err
    assert not (tmp_path / "a.key").exists()
    for arguments in (("make", "../a"), ("make", "a b"), ("make", "x", "--folder", "none")):
        assert command("keys", *arguments, cwd=tmp_path).status == 2


def test_a_key_is_let_in_shown_and_revoked_on_the_lists_of_the_configuration(folder: Path) -> None:
    config = ("--config", "b.toml")
    for name in ("bot", "node"):
        command("keys", "make", name, cwd=folder)
    assert command("keys", "list", *config, cwd=folder).status == 1
    assert command("keys", "allow", "bot.pub", *config, cwd=folder).status == 0
    done = command("keys", "allow", "node.pub", "--broker", "a", "--broker", "b", *config, cwd=folder)
    assert done.status == 0, done.err
    assert "for a, b" in done.out
    again = command("keys", "allow", "bot.pub", *config, cwd=folder)
    assert again.status == 2
    assert "already" in again.err
    shown = [
        json.loads(line) for line in command("keys", "list", "--json", *config, cwd=folder).out.splitlines()
    ]
    assert [(key["name"], key["brokers"], Path(key["list"]).name) for key in shown] == [
        ("bot", [], "subs.keys"),
        ("node", ["a", "b"], "brokers.keys"),
    ]
    done = command("keys", "revoke", "bot", *config, cwd=folder)
    assert done.status == 0
    assert (folder / "subs.keys").read_text() == "# ours\n"
    assert mode(folder / "subs.keys") == 0o644
    assert command("keys", "revoke", "bot", *config, cwd=folder).status == 1
    assert "node" in command("keys", "list", *config, cwd=folder).out


def test_a_list_may_be_named_and_is_made(tmp_path: Path) -> None:
    command("keys", "make", "bot", cwd=tmp_path)
    done = command("keys", "allow", "bot.pub", "--list", "mine", cwd=tmp_path)
    assert done.status == 0, done.err
    assert "bot" in command("keys", "list", "--list", "mine", cwd=tmp_path).out
    (tmp_path / "link").symlink_to("mine")
    assert command("keys", "revoke", "bot", "--list", "link", cwd=tmp_path).status == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "mine").read_text() == ""


def test_what_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "b.toml").write_text("version = 1\n")
    (tmp_path / "two").write_text("")
    (tmp_path / "two").chmod(0o644)
    command("keys", "make", "bot", cwd=tmp_path)
    for arguments, words in (
        (("list", "--config", "b.toml"), "no [curve] table"),
        (("list",), "no configuration"),
        (("list", "--list", "none"), "readable file"),
        (("allow", "two", "--list", "l"), "one public key"),
        (("allow", "none", "--list", "l"), "readable file"),
        (("allow", "bot.pub", "--list", "l", "--list", "m"), "one list"),
        (("allow", "bot.pub", "--list", "l", "--broker", "A"), "name of a broker"),
    ):
        done = command("keys", *arguments, cwd=tmp_path)
        assert done.status == 2, arguments
        assert words in done.err, done.err
