# pyright: reportMissingImports=false, reportMissingModuleSource=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false, reportUnknownArgumentType=false
# Ray is an extra that need not be installed where types are checked; its values are `Any` here.
"""Nodes of a pool as actors of Ray, which starts them again and moves them. No other file imports Ray.

What Ray says of an actor is shown and never believed: it may call one dead that runs, and start another one
in its place. The claims in the database keep the two apart. So no actor has a name, none is looked up, and no
call is repeated by Ray.
"""

from __future__ import annotations

import contextlib
import secrets
import shutil
import signal
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import ray as _untyped
from ray import exceptions as _untyped_exceptions

from brokerwatch.cli.pool_actor import STOP_S, NodeState, PoolActor
from brokerwatch.errors import ConfigError, Problem

_ray: Final[Any] = _untyped
_RayError: Final[Any] = _untyped_exceptions.RayError
_ActorDied: Final[Any] = _untyped_exceptions.ActorDiedError

OBJECT_STORE_BYTES: Final = 80_000_000
"""About the least that Ray takes. Nothing of ours is in it."""
STATE_S: Final = 2.0
"""So long the states of all nodes are waited for."""
END_S: Final = 10.0
"""So long Ray may take to end its own processes."""


class RayEngine:
    """Some nodes of one pool on a Ray cluster. For one thread.

    Args:
        address: of a Ray cluster that runs; empty: one of its own on this host, which ends with this process.
        count: how many nodes.
        node: the arguments of each `PoolActor`.

    Raises:
        ConfigError: Ray cannot be started, or is not to be reached there.
    """

    def __init__(self, address: str, count: int, node: Mapping[str, Any]) -> None:
        self._node = node
        self._folder = "" if address else tempfile.mkdtemp(prefix="brokerwatch-ray-")
        kept = signal.getsignal(signal.SIGTERM)
        try:
            self._connect(address)
        except (OSError, RuntimeError, ValueError, _RayError) as error:
            self._remove_folder()
            expected = f"expected a Ray cluster that takes us in: {error}"
            raise ConfigError((Problem("", "--address" if address else "--engine", expected),)) from error
        finally:
            signal.signal(signal.SIGTERM, kept)  # Ray has one of its own, which would end the process at once
        # An actor that runs needs no CPU of Ray's count: its accounts wait for their exchanges.
        self._actor: Any = _ray.remote(
            num_cpus=0,
            max_restarts=-1,
            max_task_retries=0,
            max_concurrency=2,  # its state is told while it is being stopped
            scheduling_strategy="SPREAD",
        )(PoolActor)
        self._actors: list[Any] = [self._begun() for _ in range(count)]
        self._asked: list[Any] = [None] * count

    def _connect(self, address: str) -> None:
        quiet: dict[str, Any] = {
            "logging_level": "error",
            "configure_logging": False,
            "log_to_driver": True,
            "namespace": f"brokerwatch-{secrets.token_hex(4)}",
        }
        if address:
            _ray.init(address=address, **quiet)
            return
        _ray.init(
            num_cpus=1,
            include_dashboard=False,
            object_store_memory=OBJECT_STORE_BYTES,
            _temp_dir=self._folder,
            **quiet,
        )

    def _begun(self) -> Any:
        return self._actor.remote(**self._node)

    def states(self) -> list[NodeState | str]:
        """What each node says of itself, or why it says nothing."""
        for number, actor in enumerate(self._actors):
            if self._asked[number] is None:
                self._asked[number] = actor.state.remote()
        asked = list(self._asked)
        answered, _ = _ray.wait(asked, num_returns=len(asked), timeout=STATE_S)
        return [
            self._answer(number, ref) if ref in answered else "it does not answer"
            for number, ref in enumerate(asked)
        ]

    def _answer(self, number: int, ref: Any) -> NodeState | str:
        self._asked[number] = None
        try:
            return NodeState(*_ray.get(ref))
        except _ActorDied as error:
            # For good, by Ray's word. It restarts what dies, so it was not able to.
            self._actors[number] = self._begun()
            return f"Ray has given it up, another one is started in its place: {_first_line(error)}"
        except _RayError as error:
            return f"Ray starts it again: {_first_line(error)}"

    def stop(self) -> int:
        """End all nodes in order, and leave Ray. How many have said that they ended."""
        told = [actor.stop.remote() for actor in self._actors]
        answered, _ = _ray.wait(told, num_returns=len(told), timeout=STOP_S)
        ended = 0
        for ref in answered:
            with contextlib.suppress(_RayError):
                ended += bool(_ray.get(ref))
        # Without its head Ray would wait for it. What is left ends with this process.
        if _within(END_S, self._leave):
            self._remove_folder()
        return ended

    def _leave(self) -> None:
        for actor in self._actors:
            _ray.kill(actor)
        _ray.shutdown()

    def _remove_folder(self) -> None:
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)


def _within(limit_s: float, function: Callable[[], object]) -> bool:
    """Whether the function has ended within so many seconds; if not, it is left behind."""
    thread = threading.Thread(target=function, name="brokerwatch-engine-end", daemon=True)
    thread.start()
    thread.join(limit_s)
    return not thread.is_alive()


def _first_line(error: Exception) -> str:
    lines: Sequence[str] = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
