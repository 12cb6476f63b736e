"""A state folder that is held by this process, and made anew when it is removed while it is used.

It may be removed by a clean-up of temporary files, by an administrator, or with the disk that it was on. Then
the lock that this process has is on a file that no other process finds. So the lock is taken again where
it is free. Where another process has it by then, that one has the folder.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from brokerwatch.log import logger
from brokerwatch.storage.locks import Claim, claim, private_folder
from brokerwatch.storage.state_folder import CLAIM_NAME, LIVED_NAME

_log: Final = logger(__name__)


class HeldFolder:
    """The folder at `path`, which this process has claimed. Its owner calls it from one thread at a time."""

    def __init__(self, path: Path, held: Claim) -> None:
        self.path: Final = path
        self.taken_by = ""
        """Another process that has the folder by now, in words; empty: none has. Any thread may look."""
        self._held = held
        self._released = False
        self._logged = ""

    def mark(self) -> None:
        """Say in the folder that a cluster has run here. Raises OSError."""
        how = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        os.close(os.open(self.path / LIVED_NAME, how, 0o600))

    def mend(self) -> bool:
        """Make anew what is gone of the folder, the lock and the mark. Whether anything was gone.

        What cannot be made is logged once and tried again with the next call. Where another process has the
        lock, nothing is made, and `taken_by` says so; nor once the folder was let go of.
        """
        if self.taken_by or self._released:
            return False
        is_ours = self._held.is_at(self.path / CLAIM_NAME)
        if is_ours and (self.path / LIVED_NAME).exists():
            return False
        try:
            if not is_ours and not self._took_again():
                return False
            self.mark()
        except OSError as error:
            words = f"{error.strerror or error}"
            if words != self._logged:
                _log.error("the state folder %s is gone and cannot be made anew: %s", self.path, words)
            self._logged = words
            return False
        self._logged = ""
        _log.error(
            "files of the state folder %s were removed while it was in use: they are made anew", self.path
        )
        return True

    def _took_again(self) -> bool:
        private_folder(self.path)
        found = claim(self.path / CLAIM_NAME)
        if not isinstance(found, Claim):
            self.taken_by = found
            return False
        lost, self._held = self._held, found
        lost.release()
        return True

    def release(self) -> None:
        """Let go of the folder."""
        self._released = True
        self._held.release()
