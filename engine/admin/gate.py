"""What stands before everything that this process serves to browsers and operators.

A port of this machine is reachable by more than its operators:

- a Host that means this machine: an address, its own name, or a name that it was told. A page of another site can
  have its own name resolve to any address of ours (DNS rebinding), but it cannot send another name than its own;
- no Origin but ours: nothing here is for pages of other sites;
- a token, where the port has a verifier (for every route, as in Piko: a probe needs one, too; but for those that say
  nothing of this machine).

A script of a page can set no field of a WebSocket's opening but the subprotocols: there `trioduct.token.TOKEN` is as
good as `Authorization: Bearer TOKEN`. It is in no URL, and is not agreed on.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Collection
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from engine.auth.verifier import Verifier
from engine.errors import Unauthorized
from engine.log import get_logger
from engine.wire import piko
from engine.wire.addresses import as_meant

PERMITS: Final = "trioduct.permits"
"""In the scope of what was let in: a function that says whether it may still be shown what is for holders of tokens."""

TOKEN_PROTOCOL: Final = "trioduct.token."

log = get_logger("admin")


def error_answer(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": message}, status)


class Gate:
    """Lets a request in, or answers it.

    `hosts`: more names that mean this machine; `advice` is what to do about one that does not. `tells_path`: the path
    of what was refused may be logged. The paths in `public` are for those as well who have no token, and at those in
    `websockets` a WebSocket may be opened.
    """

    def __init__(
        self,
        app: ASGIApp,
        verifier: Verifier | None = None,
        hosts: Collection[str] = (),
        advice: str = "admin.hosts (server.hosts of an agent) may name it",
        tells_path: bool = True,
        public: Collection[str] = (),
        websockets: Collection[str] = (),
    ) -> None:
        self._app = app
        self._public = public
        self._websockets = websockets
        self._advice = advice
        self._tells_path = tells_path
        self._verifier = verifier
        self._hosts = frozenset(name.lower().removesuffix(".") for name in (socket.gethostname(), *hosts))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refusal = None if scope["type"] == "lifespan" else self._refusal(scope)
        if refusal is None:
            scope[PERMITS] = lambda: self._wrong_token(scope) is None
            await self._app(scope, receive, _with_caution(send))
            return
        status, reason = refusal
        client = (scope.get("client") or ("",))[0]
        path = {"path": scope["path"]} if self._tells_path else {}
        log.warning("request refused", status=status, reason=reason, client_ip=client, **path)
        await error_answer(status, reason)(scope, receive, _with_caution(send))

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        if scope["type"] == "websocket" and scope["path"] not in self._websockets:
            return 404, "not found"
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        # Who sends no Host is no browser.
        if host and not self._is_this_machine(_without_port(host), (scope.get("server") or ("",))[0]):
            return 403, f"this host name is not mine; {self._advice}"
        if "origin" in headers and headers["origin"] != f"{_web_scheme(scope)}://{host}":
            return 403, "not for pages of other sites"
        if scope["path"] not in self._public and (problem := self._wrong_token(scope)) is not None:
            return 401, problem
        return None

    def _wrong_token(self, scope: Scope) -> str | None:
        """None if there is a good one, or none is wanted."""
        if self._verifier is None:
            return None
        headers = Headers(scope=scope)
        own, standard, tenant = (
            [value.encode("latin-1") for value in headers.getlist(name.decode())] for name in piko.CREDENTIALS
        )
        if scope["type"] == "websocket" and not own and not standard:
            offered = [one for one in scope["subprotocols"] if one.startswith(TOKEN_PROTOCOL)]
            standard = [f"Bearer {one.removeprefix(TOKEN_PROTOCOL)}".encode() for one in offered]
        try:
            self._verifier.verify(own, standard, tenant)
        except Unauthorized as error:
            return str(error)
        return None

    def _is_this_machine(self, host: str, server: str) -> bool:
        if host == "localhost" or host.endswith(".localhost") or host in self._hosts:
            return True
        # A page whose name is an address is of whoever listens there: nobody can have an address resolve to another.
        # Which of this machine's it is cannot be known, for routers and containers translate them.
        address = _address(host)
        return address is not None and (address.is_loopback or not _is_loopback(server))


def _is_loopback(host: str) -> bool:
    address = _address(host)
    return address is not None and address.is_loopback


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return as_meant(ipaddress.ip_address(host))
    except ValueError:
        return None


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.partition(":")[0].lower().removesuffix(".")


def _web_scheme(scope: Scope) -> str:
    return "https" if scope["scheme"] in ("https", "wss") else "http"


def _with_caution(send: Send) -> Send:
    """Every answer tells browsers not to guess what it is, and nobody to keep it."""
    return with_field(with_field(send, b"x-content-type-options", b"nosniff"), b"cache-control", b"no-store")


def with_field(send: Send, name: bytes, value: bytes) -> Send:
    """`send`, with one more field in the head of the answer."""

    async def wrapped(message: Message) -> None:
        if message["type"] in ("http.response.start", "websocket.http.response.start"):
            message["headers"] = [*message["headers"], (name, value)]
        await send(message)

    return wrapped
