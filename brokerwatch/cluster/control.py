"""The control socket: how an operator's command reaches a running cluster.

A Unix socket in the cluster's state folder, which only its owner can reach: the folder and the socket
are closed to others, and the kernel says who calls. One line of JSON asks, one answers, and the
connection ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import socket
import struct
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final, cast

from brokerwatch.errors import ControlError
from brokerwatch.gateway.loop import LoopThread

SOCKET_NAME: Final = "control.sock"
LONGEST_PATH: Final = 100
"""Bytes of a socket's path: the systems allow 104 to 108."""
LONGEST_LINE: Final = 16_384
LONGEST_ANSWER: Final = 65_536
"""Bytes of the line that answers."""
PATIENCE_S: Final = 5.0
"""What a command may take, on both sides."""
RELOAD_PATIENCE_S: Final = 30.0
"""The same where exchanges are asked whether they take a new API key."""
LONGEST_WORDS: Final = 10_000
"""Characters of an answer; the rest is cut, and a line holds it."""
STOP_S: Final = 0.2
"""What connections get to end when the socket is closed."""
MAX_WHY: Final = 160
"""Characters of a reason: with who and until when, it is shown whole wherever the hold is."""
NOT_TAKEN: Final = "not taken"
"""How the words begin about a new API key that is not used, in the answer to a reload or a reset."""
LATEST_US: Final = 4_102_444_800_000_000
"""The end of 2099: a hold for longer is one without an end."""


@dataclass(frozen=True, slots=True)
class Command:
    """What an operator wants."""

    verb: str
    """`hold`, `release`, `reset` or `reload`."""
    broker: str
    """Empty for `reload`, which is for the whole cluster."""
    why: str = ""
    until_us: int | None = None
    """Wall clock, µs: when a hold ends; None: when it is released."""

    force_key: bool = False
    """Of `reload`: drop the old API key of each account that has another one at once."""

    @property
    def patience_s(self) -> float:
        """What it may take, on both sides."""
        return RELOAD_PATIENCE_S if self.verb in ("reload", "reset") else PATIENCE_S


class ControlServer:
    """Listens until it is stopped. `obey` answers a command in words, or raises ControlError."""

    def __init__(self, loop: LoopThread, path: Path, obey: Callable[[Command, str], Awaitable[str]]) -> None:
        self._loop = loop
        self._path = path
        self._obey = obey
        self._server: asyncio.AbstractServer | None = None
        self._inode: tuple[int, int] | None = None
        """Of the socket that was bound last; None: none is."""
        self._stopped = False
        self._open: dict[asyncio.StreamWriter, asyncio.Future[None]] = {}
        """Each connection, and what is done when it is over."""

    def start(self) -> None:
        """Bind the socket; bind it again where it is gone. Raises OSError, and RuntimeError without a loop.

        The cluster holds the folder, so an old socket is stale.
        """
        if len(os.fsencode(self._path)) > LONGEST_PATH:
            raise OSError(f"the path is longer than {LONGEST_PATH} bytes, which no socket can have")
        self._loop.submit(self._start()).result(PATIENCE_S)

    def is_there(self) -> bool:
        """Whether the socket that was bound is at its place, and serves. Any thread; it touches the disk."""
        server = self._server
        return server is not None and server.is_serving() and _inode(self._path) == self._inode

    def stop(self, deadline_s: float) -> bool:
        """Close it. False when the loop does not answer in time."""
        try:
            self._loop.submit(self._stop()).result(deadline_s)
        except (TimeoutError, RuntimeError):
            return False
        return True

    def give_up(self) -> None:
        """Bind the socket no more: another server takes the path. Any thread."""
        self._stopped = True

    async def leave(self) -> None:
        """Serve no more, after `give_up`. On its loop, or when that is closed."""
        if self._server is not None:
            self._server.close()

    async def _start(self) -> None:
        if self._stopped:
            return
        if self._server is not None:  # its socket was removed
            self._server.close()
        self._path.unlink(missing_ok=True)
        self._server = await asyncio.start_unix_server(self._serve, self._path, limit=LONGEST_LINE)
        self._path.chmod(0o600)
        self._inode = _inode(self._path)

    async def _stop(self) -> None:
        self._stopped = True
        if self._server is not None:
            if (
                _inode(self._path) == self._inode
            ):  # after a removal another process may have put its own there
                self._path.unlink(missing_ok=True)
            for _ in range(5):  # a new connection gets as far as `_serve`: asyncio would lose it
                await asyncio.sleep(0)
            self._server.close()
            over = list(self._open.values())
            for writer in self._open:
                writer.transport.abort()
            if over:
                await asyncio.wait(over, timeout=STOP_S)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open[writer] = asyncio.get_running_loop().create_future()
        try:
            answer = await self._answer(reader, writer)
            async with asyncio.timeout(PATIENCE_S):
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()
        except (OSError, TimeoutError):
            pass  # the caller has gone, or never sent a command
        finally:
            writer.close()
            with contextlib.suppress(OSError, TimeoutError):
                async with asyncio.timeout(PATIENCE_S):
                    await writer.wait_closed()
            self._open.pop(writer).set_result(None)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> dict[str, str]:
        try:
            async with asyncio.timeout(PATIENCE_S):
                line = await reader.readuntil()
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            return {"error": f"not a command: expected one line of JSON, of up to {LONGEST_LINE:,} bytes"}
        # Only now: a caller that is refused before it has sent its line meets a broken pipe, not the reason.
        caller = _caller(cast("socket.socket", writer.get_extra_info("socket")))
        if caller is None:
            return {"error": "this cluster belongs to another user"}
        try:
            return {"said": _cut(await self._obeyed(_command(line), caller))}
        except (ControlError, ValueError) as error:
            return {"error": _cut(str(error))}

    async def _obeyed(self, command: Command, caller: str) -> str:
        """What the cluster says to it. It is never cancelled: the supervisor may carry it out later."""
        reply = asyncio.ensure_future(self._obey(command, caller))
        done, _ = await asyncio.wait({reply}, timeout=command.patience_s)
        if not done:
            reply.add_done_callback(lambda late: late.cancelled() or late.exception())
            raise ControlError(
                f"no answer within {command.patience_s:g} s; it may still be carried out: see "
                "`brokerwatch history`"
            )
        return reply.result()


def _cut(words: str) -> str:
    return words if len(words) <= LONGEST_WORDS else f"{words[:LONGEST_WORDS]} …"


def _inode(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except OSError:
        return None
    return (found.st_dev, found.st_ino)


def _caller(connection: socket.socket) -> str | None:
    """Who calls, as the kernel knows; None when it is neither our owner nor root."""
    if not hasattr(socket, "SO_PEERCRED"):  # not Linux: the modes of folder and socket must do
        return "the owner"
    size = struct.calcsize("3i")
    _pid, uid, _gid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    if uid not in (os.getuid(), 0):
        return None
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"


def _command(line: bytes) -> Command:
    try:
        found: object = json.loads(line)
    except (ValueError, RecursionError):
        raise ValueError("not a command: expected one line of JSON") from None
    if not isinstance(found, dict):
        raise ValueError("not a command: expected a JSON object")  # noqa: TRY004 - one kind of error for all
    parts = cast("dict[str, Any]", found)
    until, force_key = parts.get("until_us"), parts.get("force_key", False)
    verb, broker, why = (parts.get(name, "") for name in ("verb", "broker", "why"))
    if not all(isinstance(text, str) for text in (verb, broker, why)) or not (
        (until is None or type(until) is int) and isinstance(force_key, bool)
    ):
        raise ValueError("not a command: expected texts, and until_us as a number")
    return checked(Command(verb, broker, why, until, force_key))


def checked(command: Command) -> Command:
    """The command as it may be carried out. Raises ControlError."""
    if command.until_us is not None and not 0 <= command.until_us < LATEST_US:
        raise ControlError(
            "that moment cannot be: expected one before the year 2100; no `until` means no end"
        )
    # Others print it, send it and store it: what cannot be printed has no place in it.
    words = " ".join("".join(sign if sign.isprintable() else " " for sign in command.why).split())
    if len(words) > MAX_WHY:
        raise ControlError(f"the reason: expected up to {MAX_WHY} characters, not {len(words)}")
    return replace(command, why=words)


def ask(path: Path, command: Command) -> str:
    """What the cluster behind this socket says to a command. Raises ControlError with what it objects to."""
    request = json.dumps(asdict(command)).encode() + b"\n"
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(command.patience_s + 1.0)
            connection.connect(os.fspath(path))
            connection.sendall(request)
            with connection.makefile("rb") as answer:
                line = answer.readline(LONGEST_ANSWER)
    except (FileNotFoundError, ConnectionRefusedError):
        raise ControlError(
            f"no cluster listens at {path}: start it with `brokerwatch run`, or name the one that you mean "
            "with --config, --cluster or --state"
        ) from None
    except OSError as error:
        raise ControlError(f"{path} cannot be asked: {error.strerror or error}") from None
    try:
        found = cast("dict[str, Any]", json.loads(line))
    except ValueError:
        raise ControlError(f"the cluster at {path} did not answer") from None
    if "said" not in found:
        raise ControlError(str(found.get("error", "the cluster did not answer")))
    return str(found["said"])
