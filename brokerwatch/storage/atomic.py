"""A file is replaced whole or stays as it was, also where the power fails in between."""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path


def write_whole(path: Path, content: bytes, *, mode: int = 0o600) -> None:
    """Write the file at `path` anew, on the disk when this returns.

    A reader finds the old content or the new, never a part. Several processes may write at once, since each
    has a temporary name of its own beside the file. Nothing is left there when it fails.

    Args:
        path: The file. Its folder must exist.
        content: All of its new content.
        mode: Its permissions.

    Raises:
        OSError: It cannot be written. The file is as it was.
    """
    descriptor, name = tempfile.mkstemp(dir=path.absolute().parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        os.replace(name, path)
    except BaseException:
        with suppress(OSError):
            os.unlink(name)
        raise
