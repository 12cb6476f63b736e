"""Loaded by each Python process of a test: its HTTP requests carry its process id.

All processes of a pool read one file, so that its own headers cannot tell them apart.
"""

import importlib.util
import os
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

CLIENT = "aiohttp.client"
CALLER_HEADER = "X-Caller"


def _calls_by_name(client: Any) -> None:
    request = client.ClientSession._request

    async def named(self: Any, *arguments: Any, headers: Any = None, **others: Any) -> Any:
        carried: dict[str, Any] = {**(headers or {}), CALLER_HEADER: str(os.getpid())}
        return await request(self, *arguments, headers=carried, **others)

    client.ClientSession._request = named


class _OnImport:
    """Changes the HTTP client when the process first imports it, and costs nothing before."""

    def find_spec(self, name: str, path: object, target: ModuleType | None = None) -> ModuleSpec | None:
        del path, target
        if name != CLIENT:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        assert spec is not None
        loader: Any = spec.loader
        run = loader.exec_module

        def run_and_change(module: ModuleType) -> None:
            run(module)
            _calls_by_name(module)

        loader.exec_module = run_and_change
        return spec


sys.meta_path.insert(0, _OnImport())
