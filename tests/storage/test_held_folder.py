"""A state folder after its holder let go of it: a part that was left behind does not take it again."""

from __future__ import annotations

from pathlib import Path

from brokerwatch.storage.held_folder import HeldFolder
from brokerwatch.storage.locks import Claim, claim
from brokerwatch.storage.state_folder import CLAIM_NAME


def test_a_folder_that_was_let_go_of_is_not_taken_again(tmp_path: Path) -> None:
    found = claim(tmp_path / CLAIM_NAME)
    assert isinstance(found, Claim)
    folder = HeldFolder(tmp_path, found)
    folder.release()
    assert not folder.mend(), "as a recorder does that a hanging database left behind"
    with (tmp_path / "takes the descriptor's number").open("w"):
        assert not folder.mend()
        after = claim(tmp_path / CLAIM_NAME)
        assert isinstance(after, Claim)
        after.release()
