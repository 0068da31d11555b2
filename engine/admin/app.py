"""What the admin port answers: health, readiness, metrics, status. JSON in Piko's shapes; an ASGI application.

It looks and changes nothing: everything it tells comes through the callables it is given. Before any of it stands
a gate (`gate`).
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Protocol
from urllib.parse import urlencode

# Imported here, by those who serve an admin port, so that the first scrape does not stall everything for 50 ms.
import prometheus_client  # noqa: F401
import trio
from starlette.applications import Starlette
from starlette.datastructures import Headers, QueryParams
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from engine.admin import dashboard
from engine.admin.ask import INCOMPLETE, ask
from engine.admin.gate import Gate, error_answer, with_field
from engine.admin.live import Live
from engine.auth.verifier import Verifier
from engine.errors import RemoteProtocolError
from engine.log import get_logger
from engine.loop.certificates import Expiry
from engine.routing import tenants
from engine.wire import piko

log = get_logger("admin")


class Metrics(Protocol):
    """What /metrics shows; see `engine.admin.metrics`."""

    def text(self) -> Callable[[], tuple[bytes, str]]: ...


@dataclass(frozen=True, slots=True)
class SessionStatus:
    """Who has registered what: for `seconds`, from the address `client`. `principal` is whom the token names, `carrier`
    what the session rides on, or did last if it is `suspended`. `version`, `way` and `weight` are as its agent has said
    (see wire.agents), and so are its `domains`.
    """

    endpoint: str
    principal: str
    client: str
    seconds: float
    carrier: str = ""
    suspended: bool = False
    version: str = ""
    way: str = ""
    weight: int = 1
    domains: Sequence[str] = ()
    tenant: str = ""


@dataclass(frozen=True, slots=True)
class NodeStatus:
    """A node as the cluster knows it. `endpoints`: the keys of registered ones (routing.tenants), and by how many
    sessions each is served. `workers`: the ids of its workers, if it has several, and how many sessions each has.
    """

    id: str
    proxy_addr: str
    admin_addr: str
    endpoints: Mapping[str, int]
    status: str = "active"
    sessions: Sequence[SessionStatus] = ()
    workers: Mapping[str, int] = field(default_factory=dict)

    def summary(self) -> dict[str, object]:
        """With numbers in place of the endpoints, as a list of nodes shows it."""
        return self.whole() | {"endpoints": len(self.endpoints), "upstreams": sum(self.endpoints.values())}

    def whole(self) -> dict[str, object]:
        told: dict[str, object] = {
            "id": self.id,
            "status": self.status,
            "proxy_addr": self.proxy_addr,
            "admin_addr": self.admin_addr,
            "endpoints": self.by_name(),
        }
        if self.workers:
            told["workers"] = dict(self.workers)
        if by_tenant := self.by_tenant():
            told["tenants"] = by_tenant
        return told

    def by_name(self) -> dict[str, int]:
        """Endpoints by their names alone, as in Piko: one that several tenants have counts the sessions of all."""
        found: dict[str, int] = {}
        for key, count in self.endpoints.items():
            name, _ = tenants.split(key)
            found[name] = found.get(name, 0) + count
        return found

    def by_tenant(self) -> dict[str, dict[str, int]]:
        """The endpoints of each tenant that has any."""
        found: dict[str, dict[str, int]] = {}
        for key, count in self.endpoints.items():
            name, tenant = tenants.split(key)
            if tenant:
                found.setdefault(tenant, {})[name] = count
        return found


async def _nothing(nodes: bool) -> str:
    """There is nothing to be asked for, and nothing is missing."""
    return ""


def node_app(
    metrics: Metrics,
    *,
    not_ready: Callable[[], str | None],
    degraded: Callable[[], str] = str,
    local: Callable[[], NodeStatus],
    peers: Callable[[], Sequence[NodeStatus]] = tuple,
    expiries: Callable[[], Sequence[Expiry]] = tuple,
    tls: Callable[[], ssl.SSLContext | None] = lambda: None,
    verifier: Verifier | None = None,
    hosts: Collection[str] = (),
    refresh: Callable[[bool], Awaitable[str]] = _nothing,
    reload: Callable[[], Awaitable[str]] | None = None,
    live: Live | None = None,
) -> ASGIApp:
    """A node's. `not_ready` says why the node should get no traffic, None if it may; `degraded` what is wrong though it
    may; `local` what it is, `expiries` until when its certificates are good, and `peers` the other nodes, whose admin
    ports speak what `tls` says. `refresh` is
    awaited before status or metrics are told, True if other nodes are part of it; what it says is missing in the answer
    is told in its head.

    `reload` replaces the processes of a node that has several, and says what is wrong, or nothing. `live` is what the
    dashboard shows.
    `hosts`: more names than localhost and the machine's own under which it may be asked.
    """

    async def endpoints(request: Request) -> Response:
        here, tenant = local(), request.query_params.get("tenant")
        return JSONResponse(here.by_name() if tenant is None else here.by_tenant().get(tenant, {}))

    async def sessions(request: Request) -> Response:
        oldest_first = sorted(local().sessions, key=lambda one: (one.tenant, one.endpoint, -one.seconds))
        return JSONResponse([_shown(one) for one in oldest_first])

    async def nodes(request: Request) -> Response:
        return JSONResponse([one.summary() for one in sorted((local(), *peers()), key=lambda one: one.id)])

    async def node(request: Request) -> Response:
        id, here = request.path_params["id"], local()
        found = [one for one in (here, *peers()) if one.id == id or (id == "local" and one is here)]
        return JSONResponse(found[0].whole()) if found else error_answer(404, "unknown node")

    async def certificates(request: Request) -> Response:
        return JSONResponse([{"port": one.port, "file": one.file, "expires": one.shown} for one in expiries()])

    async def start_reload(request: Request) -> Response:
        if reload is None:
            return error_answer(409, "this node is one process, without workers: it cannot be reloaded, but restarted")
        problem = await reload()
        return error_answer(409, problem) if problem else JSONResponse({"status": "reloaded"})

    async def gossip(request: Request) -> Response:
        return error_answer(404, "this node has no gossip: it is not part of a cluster")

    return Starlette(
        routes=[
            *_usual_routes(metrics, not_ready, degraded),
            Route("/reload", start_reload, methods=["POST"]),
            Route("/status/upstream/endpoints", endpoints),
            Route("/status/upstream/sessions", sessions),
            Route("/status/certificates", certificates),
            Route("/status/cluster/nodes", nodes),
            Route("/status/cluster/nodes/{id}", node),
            Route("/status/gossip/{rest:path}", gossip),
            *(dashboard.Dashboard(live).routes if live is not None else ()),
        ],
        middleware=[
            Middleware(
                Gate,
                verifier,
                hosts,
                public=dashboard.PUBLIC if live is not None else (),
                websockets=(dashboard.LIVE_PATH,) if live is not None else (),
            ),
            Middleware(_Fresh, refresh),
            Middleware(_Forward, lambda: local().id, peers, tls),
        ],
        exception_handlers={HTTPException: _http_error, Exception: _defect},
    )


def agent_app(
    metrics: Metrics, *, not_ready: Callable[[], str | None] = lambda: None, hosts: Collection[str] = ()
) -> ASGIApp:
    """An agent's: /metrics as in Piko, and /health and /ready."""
    return Starlette(
        routes=_usual_routes(metrics, not_ready),
        middleware=[Middleware(Gate, None, hosts)],
        exception_handlers={HTTPException: _http_error, Exception: _defect},
    )


def _usual_routes(
    metrics: Metrics, not_ready: Callable[[], str | None], degraded: Callable[[], str] = str
) -> Sequence[Route]:
    async def health(request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def ready(request: Request) -> Response:
        reason = not_ready()
        if reason is None:
            return JSONResponse({"status": "ready"} | ({"degraded": degraded()} if degraded() else {}))
        return JSONResponse({"status": "not ready", "reason": reason}, 503)

    async def show_metrics(request: Request) -> Response:
        text, media_type = await trio.to_thread.run_sync(metrics.text())
        return Response(text, headers={"Content-Type": media_type})

    return [Route("/health", health), Route("/ready", ready), Route("/metrics", show_metrics)]


def _shown(session: SessionStatus) -> dict[str, object]:
    shown = asdict(session) | {"seconds": round(session.seconds)}
    if not session.tenant:
        del shown["tenant"]
    return shown


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    answer = error_answer(error.status_code, error.detail.lower())
    answer.headers.update(error.headers or {})
    return answer


async def _defect(request: Request, error: Exception) -> Response:
    return error_answer(500, "internal server error")  # the server logs it


class _Fresh:
    """Has what is told brought up to date before it is, and says what could not be."""

    def __init__(self, app: ASGIApp, refresh: Callable[[bool], Awaitable[str]]) -> None:
        self._app = app
        self._refresh = refresh

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        missing = ""
        if scope["type"] == "http" and scope["path"].startswith(("/status/", "/metrics")):
            nodes = scope["path"].startswith("/status/cluster/") or b"forward=" in scope["query_string"]
            missing = await self._refresh(nodes)
        await self._app(scope, receive, with_field(send, INCOMPLETE, missing.encode()) if missing else send)


class _Forward:
    """`?forward=<node>` asks any node what another would say (Piko). The other is shown the caller's own token."""

    def __init__(
        self,
        app: ASGIApp,
        local_id: Callable[[], str],
        peers: Callable[[], Sequence[NodeStatus]],
        tls: Callable[[], ssl.SSLContext | None],
    ) -> None:
        self._app = app
        self._local_id = local_id
        self._peers = peers
        self._tls = tls

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            target = QueryParams(scope["query_string"]).get("forward")
            if target is not None and target != self._local_id():
                await (await self._answer_of(target, scope))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    async def _answer_of(self, target: str, scope: Scope) -> Response:
        address = next((one.admin_addr for one in self._peers() if one.id == target), None)
        if address is None:
            return error_answer(404, "unknown node")
        if scope["method"] != "GET":
            return error_answer(405, "method not allowed")
        own = {name.decode() for name in piko.CREDENTIALS}
        shown = [(name, value) for name, value in Headers(scope=scope).items() if name in own]
        try:
            query = [one for one in QueryParams(scope["query_string"]).multi_items() if one[0] != "forward"]
            path = f"{scope['path']}{'?' if query else ''}{urlencode(query)}"
            return await ask(address, path, shown, self._tls())
        except (OSError, ValueError, RemoteProtocolError, trio.TooSlowError) as error:
            log.warning("cannot ask another node", node=target, addr=address, error=str(error) or "no answer in time")
            return error_answer(502, f"node {target} is not to be reached at {address}")
