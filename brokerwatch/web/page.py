"""The page at `/`: files of this package, which need no token and name no account.

Whatever the page shows it asks of the API, as any other reader.
"""

from __future__ import annotations

from importlib.resources import files
from typing import Final

from aiohttp import web

FILES: Final = {
    "/": ("index.html", "text/html"),
    "/static/page.css": ("page.css", "text/css"),
    "/static/page.js": ("page.js", "text/javascript"),
    "/static/pool.js": ("pool.js", "text/javascript"),
    "/static/icon.svg": ("icon.svg", "image/svg+xml"),
}
"""Path to file and type. Nothing else of the disk is ever served."""


class Page:
    """The files of the page, read once. Used on the server's loop."""

    def __init__(self) -> None:
        folder = files("brokerwatch.web") / "static"
        self._bodies = {path: (folder / name).read_bytes() for path, (name, _) in FILES.items()}

    def routes(self) -> list[web.RouteDef]:
        """What is added to the application."""
        return [web.get(path, self._file) for path in FILES]

    async def _file(self, request: web.Request) -> web.StreamResponse:
        kind = FILES[request.path][1]
        return web.Response(body=self._bodies[request.path], content_type=kind, charset="utf-8")
