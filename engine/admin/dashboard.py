"""The dashboard: a page about the node, kept live by a WebSocket that says what `admin.live` has.

Where the admin port wants a token, the page and its files are shown to everybody, for they say nothing of the node, and
what says something is asked for with the token: a program sends it as everywhere (Authorization), a page as one of the
subprotocols it offers (see `gate`), for a script can set no field of a WebSocket's opening. The page keeps it in the
tab's session storage. A cookie would go to every port of the host, and the proxy port hands over what comes to services
of others; a URL would be logged.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import trio
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from engine.admin.gate import PERMITS, TOKEN_PROTOCOL, error_answer
from engine.admin.live import POINT, Live, Viewer
from engine.admin.pages import HEADERS, SHARED, STATIC, STRICTER, files, templates
from engine.admin.tables import CARDS, TABLES, shown

BELOW: Final = "/dashboard/"
LIVE_PATH: Final = f"{BELOW}live"
FILES: Final = ("dashboard.css", "dashboard.js", "uplot.css", "uplot.js")
PUBLIC: Final = frozenset(("/", "/dashboard", BELOW, *(f"{BELOW}{name}" for name in (*FILES, *SHARED))))
LIVE_PROTOCOL: Final = "trioduct.live"
NOT_PERMITTED: Final = 4401  # close codes (RFC 6455, 7.4.2)
TOO_SLOW: Final = 4408

CHARTS: Final = (
    ("Requests per second", "rate", (("requests", "requests"), ("failing", "5xx"))),
    ("Latency", "seconds", (("p50", "p50"), ("p99", "p99"))),
    ("Bytes per second", "bytes_rate", (("bytes_in", "to services"), ("bytes_out", "to clients"))),
)
"""Title, kind of values, and lines: their key in POINT, and their name."""


class Dashboard:
    """Its routes."""

    def __init__(self, live: Live) -> None:
        self._live = live
        self._templates = templates(Path(__file__).parent / "templates")
        self._templates.globals |= {
            "tables": TABLES,
            "cards": CARDS,
            "charts": CHARTS,
            "points": ",".join(POINT),
            "shown": shown,
            "live_protocol": LIVE_PROTOCOL,
            "token_protocol": TOKEN_PROTOCOL,
        }
        self.routes: list[BaseRoute] = [
            Route("/", self._to_page),
            Route("/dashboard", self._to_page),
            Route(BELOW, self._page),
            *files(STATIC, *FILES, below=BELOW),
            WebSocketRoute(LIVE_PATH, self._feed),
        ]

    async def _to_page(self, request: Request) -> Response:
        return RedirectResponse(BELOW.removeprefix("/"), 307)  # relative: a proxy may have put something in front

    async def _page(self, request: Request) -> Response:
        permitted = request.scope[PERMITS]()
        told = await self._live.now() if permitted else {}
        page = self._templates.get_template("dashboard.html").render(permitted=permitted, told=told)
        return HTMLResponse(page, headers={**HEADERS, "Content-Security-Policy": STRICTER})

    async def _feed(self, websocket: WebSocket) -> None:
        with self._live.viewer() as viewer:
            if viewer is None:
                await websocket.send_denial_response(error_answer(503, "too many look on already"))
                return
            await websocket.accept(LIVE_PROTOCOL if LIVE_PROTOCOL in websocket.scope["subprotocols"] else None)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(_until_gone, websocket, nursery.cancel_scope)
                code, reason = await _send(websocket, viewer)
                await websocket.close(code, reason)
                nursery.cancel_scope.cancel()


async def _send(websocket: WebSocket, viewer: Viewer) -> tuple[int, str]:
    """All messages, as long as he may see them; what he is told in the end."""
    async for message in viewer.messages:
        if not websocket.scope[PERMITS]():
            return NOT_PERMITTED, "the token is not good any more"
        await websocket.send_text(message.decode())
    return TOO_SLOW, "too slow"


async def _until_gone(websocket: WebSocket, scope: trio.CancelScope) -> None:
    """A viewer has nothing to say."""
    try:
        while True:
            await websocket.receive()
    except (WebSocketDisconnect, RuntimeError):
        scope.cancel()
