"""The admin port over a real socket: what it answers, and to whom."""

from __future__ import annotations

import http.client
import io
import json
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import jwt
import pytest
import trio
from starlette.types import ASGIApp, Receive, Scope, Send

from engine import log
from engine.admin.app import NodeStatus, agent_app, node_app
from engine.admin.metrics import AgentMetrics, NodeMetrics
from engine.admin.serve import MAX_CONNECTIONS, serve_admin
from engine.auth.verifier import Verifier
from engine.routing.tenants import key
from tests.conftest import Pki

SECRET = "a secret of some forty characters, or more"


@dataclass
class Answer:
    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


@dataclass
class Port:
    """An admin port that is being served."""

    number: int
    host: str = "127.0.0.1"
    tls: ssl.SSLContext | None = None

    async def get(self, path: str, method: str = "GET", **headers: str) -> Answer:
        return await trio.to_thread.run_sync(self._get, path, method, headers)

    def _get(self, path: str, method: str, headers: Mapping[str, str]) -> Answer:
        if self.tls is None:
            connection = http.client.HTTPConnection(self.host, self.number, timeout=10)
        else:
            connection = http.client.HTTPSConnection(self.host, self.number, timeout=10, context=self.tls)
        try:
            connection.request(method, path, headers={k.replace("_", "-"): v for k, v in headers.items()})
            response = connection.getresponse()
            return Answer(response.status, dict(response.getheaders()), response.read())
        finally:
            connection.close()


class State:
    """What the node is, as the tests change it."""

    def __init__(self) -> None:
        self.not_ready: str | None = None
        self.endpoints: dict[str, int] = {}

    def app(self, *, verifier: Verifier | None = None, hosts: tuple[str, ...] = ()) -> ASGIApp:
        return node_app(
            NodeMetrics(),
            not_ready=lambda: self.not_ready,
            local=lambda: NodeStatus("n1", "10.0.0.1:8000", "10.0.0.1:8002", self.endpoints),
            verifier=verifier,
            hosts=hosts,
        )


async def served(nursery: trio.Nursery, app: ASGIApp, address: str = "127.0.0.1") -> Port:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.create_server((address, 0), family=family)
    await nursery.start(serve_admin, [listener], app)
    return Port(listener.getsockname()[1])


@pytest.fixture
def state() -> State:
    return State()


@pytest.fixture
async def port(nursery: trio.Nursery, state: State) -> Port:
    return await served(nursery, state.app())


async def test_health_is_for_a_process_that_answers(port: Port) -> None:
    answer = await port.get("/health")
    assert (answer.status, answer.json()) == (200, {"status": "ok"})


async def test_ready_says_why_not(port: Port, state: State) -> None:
    assert (await port.get("/ready")).status == 200
    state.not_ready = "draining"
    answer = await port.get("/ready")
    assert (answer.status, answer.json()) == (503, {"status": "not ready", "reason": "draining"})


async def test_metrics_are_in_prometheus_text_format(port: Port) -> None:
    answer = await port.get("/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"piko_proxy_requests_in_flight 0.0" in answer.body


async def test_endpoints_are_a_map_to_their_sessions(port: Port, state: State) -> None:
    assert (await port.get("/status/upstream/endpoints")).json() == {}
    state.endpoints = {"e": 2, "f": 1}
    assert (await port.get("/status/upstream/endpoints")).json() == {"e": 2, "f": 1}


async def test_what_is_missing_in_an_answer_is_told_in_its_head(nursery: trio.Nursery, state: State) -> None:
    asked = []

    async def refresh(nodes: bool) -> str:
        asked.append(nodes)
        return "worker 2"

    app = node_app(
        NodeMetrics(), not_ready=lambda: None, local=lambda: NodeStatus("n1", "", "", state.endpoints), refresh=refresh
    )
    port = await served(nursery, app)
    paths = "/metrics", "/status/upstream/endpoints", "/status/cluster/nodes", "/metrics?forward=n1", "/ready"
    for path, told in zip(paths, ["worker 2"] * 4 + [None], strict=True):
        assert (await port.get(path)).headers.get("x-trioduct-incomplete") == told
    assert asked == [False, False, True, True]


async def test_endpoints_may_be_asked_for_by_tenant(port: Port, state: State) -> None:
    state.endpoints = {"e": 2, key("e", "acme"): 1, key("f", "acme"): 1, key("e", "beta"): 4}
    assert (await port.get("/status/upstream/endpoints")).json() == {"e": 7, "f": 1}
    assert (await port.get("/status/upstream/endpoints?tenant=acme")).json() == {"e": 1, "f": 1}
    assert (await port.get("/status/upstream/endpoints?tenant=other")).json() == {}
    node = (await port.get("/status/cluster/nodes/local")).json()
    assert node["endpoints"] == {"e": 7, "f": 1}
    assert node["tenants"] == {"acme": {"e": 1, "f": 1}, "beta": {"e": 4}}
    (node,) = (await port.get("/status/cluster/nodes")).json()
    assert (node["endpoints"], node["upstreams"]) == (4, 8)


async def test_nodes_have_pikos_shapes(port: Port, state: State) -> None:
    state.endpoints = {"e": 2, "f": 1}
    known = {"id": "n1", "status": "active", "proxy_addr": "10.0.0.1:8000", "admin_addr": "10.0.0.1:8002"}
    assert (await port.get("/status/cluster/nodes")).json() == [known | {"endpoints": 2, "upstreams": 3}]
    for name in ("local", "n1"):
        answer = await port.get(f"/status/cluster/nodes/{name}")
        assert answer.json() == known | {"endpoints": {"e": 2, "f": 1}}
    answer = await port.get("/status/cluster/nodes/n2")
    assert (answer.status, answer.json()) == (404, {"error": "unknown node"})


@pytest.mark.parametrize("path", ["/status/gossip/nodes", "/status/gossip/nodes/n1"])
async def test_gossip_is_said_not_to_be_there(port: Port, path: str) -> None:
    answer = await port.get(path)
    assert answer.status == 404
    assert answer.json()["error"].startswith("this node has no gossip")


async def test_forwarding_to_this_node_is_answered_here_and_to_another_is_404(port: Port) -> None:
    assert (await port.get("/status/upstream/endpoints?forward=n1")).status == 200
    for query in ("forward=n2", "forward=", "a=b&forward=n2"):
        answer = await port.get(f"/status/upstream/endpoints?{query}")
        assert (answer.status, answer.json()) == (404, {"error": "unknown node"})


async def test_other_paths_and_methods_are_errors_in_json(port: Port) -> None:
    answer = await port.get("/nothing")
    assert (answer.status, answer.json()) == (404, {"error": "not found"})
    answer = await port.get("/health", "POST")
    assert (answer.status, answer.json()) == (405, {"error": "method not allowed"})
    assert (await port.get("/health", "HEAD")).body == b""


async def test_answers_are_not_guessed_at_and_not_kept(port: Port) -> None:
    for path in ("/health", "/nothing", "/metrics"):
        headers = (await port.get(path)).headers
        assert (headers["x-content-type-options"], headers["cache-control"]) == ("nosniff", "no-store")
        assert "server" not in headers


# Who may ask -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8002", 200),
        ("localhost:8002", 200),
        ("LOCALHOST", 200),
        ("node.localhost", 200),
        ("127.8.8.8", 200),
        ("[::1]:8002", 200),
        ("mine.example:8002", 200),
        ("localhost.:1", 200),
        ("evil.example", 403),
        ("localhost.evil.example", 403),
        ("127.0.0.1.evil.example:8002", 403),
        ("evil-localhost", 403),
        ("10.0.0.1", 403),
        ("[::2]", 403),
    ],
)
async def test_this_machine_answers_only_to_its_own_names(
    nursery: trio.Nursery, state: State, host: str, status: int
) -> None:
    port = await served(nursery, state.app(hosts=("mine.example",)))
    assert (await port.get("/health", Host=host)).status == status


async def test_a_port_that_is_open_to_both_protocols_sees_through_a_mapped_address(
    nursery: trio.Nursery, state: State
) -> None:
    listener = socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    await nursery.start(serve_admin, [listener], state.app())
    port = Port(listener.getsockname()[1])
    assert (await port.get("/health", Host="evil.example")).status == 403
    assert (await port.get("/health")).status == 200


async def test_a_request_from_elsewhere_may_use_any_address_and_no_strange_name(state: State) -> None:
    async def get(server: str, host: bytes) -> int:
        said: list[Any] = []

        async def send(message: Any) -> None:
            said.append(message)

        scope = {
            "type": "http",
            "method": "GET",
            "path": "/health",
            "scheme": "http",
            "query_string": b"",
            "headers": [(b"host", host)],
            "server": (server, 8002),
            "client": ("10.0.0.9", 1),
        }
        await state.app(hosts=("Admin.example",))(scope, partial(trio.sleep_forever), send)
        status: int = said[0]["status"]
        return status

    for host in (b"10.0.0.1:8002", b"192.168.1.1:80", b"[fd00::1]", b"admin.example", socket.gethostname().encode()):
        assert await get("10.0.0.1", host) == 200
    for host in (b"evil.example", b"10.0.0.1.evil.example", b"example", b"x.admin.example"):
        assert await get("10.0.0.1", host) == 403
    assert await get("127.0.0.1", b"192.168.1.1:80") == 403


async def test_a_port_on_every_address_is_asked_by_no_strange_name_either(nursery: trio.Nursery, state: State) -> None:
    port = await served(nursery, state.app(verifier=Verifier(hmac_secret_key=SECRET)), "0.0.0.0")
    token = f"Bearer {jwt.encode({}, SECRET)}"
    answer = await port.get("/status/upstream/endpoints", Host="evil.example", Authorization=token)
    assert answer.status == 403
    assert "admin.hosts" in answer.json()["error"]
    assert (await port.get("/health", Authorization=token)).status == 200


async def test_a_request_without_a_host_is_no_browsers(port: Port) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port.number)
    await stream.send_all(b"GET /health HTTP/1.0\r\n\r\n")
    assert (await stream.receive_some()).startswith(b"HTTP/1.1 200")
    await stream.aclose()


async def test_pages_of_other_sites_are_refused(port: Port) -> None:
    own = f"http://127.0.0.1:{port.number}"
    assert (await port.get("/health", Origin=own)).status == 200
    for origin in ("http://evil.example", "null", own.replace("http", "https"), "http://127.0.0.1", own + "/"):
        answer = await port.get("/health", Origin=origin)
        assert (answer.status, answer.json()) == (403, {"error": "not for pages of other sites"})


async def test_a_web_socket_is_refused_where_there_is_none(port: Port) -> None:
    for host in ("evil.example", f"127.0.0.1:{port.number}"):
        answer = await port.get(
            "/status/live",
            Host=host,
            Connection="Upgrade",
            Upgrade="websocket",
            Sec_WebSocket_Version="13",
            Sec_WebSocket_Key="dGhlIHNhbXBsZSBub25jZQ==",
        )
        assert (answer.status, answer.json()) == (404, {"error": "not found"})


async def test_with_a_verifier_every_route_wants_a_token(nursery: trio.Nursery, state: State) -> None:
    port = await served(nursery, state.app(verifier=Verifier(hmac_secret_key=SECRET)))
    token = f"Bearer {jwt.encode({}, SECRET)}"
    for path in ("/health", "/ready", "/metrics", "/status/cluster/nodes", "/nothing"):
        answer = await port.get(path)
        assert (answer.status, answer.json()) == (401, {"error": "missing authorization"})
        assert (await port.get(path, Authorization=token)).status in (200, 404)
        assert (await port.get(path, X_Piko_Authorization=token, Authorization="Basic x")).status in (200, 404)
    assert (await port.get("/health", Authorization=token, Host="any.example")).status == 403
    for headers, text in (
        ({"Authorization": "Basic x"}, "unsupported auth type"),
        ({"Authorization": "Bearer x"}, "invalid token"),
        ({"Authorization": token, "X-Piko-Tenant-ID": "t"}, "unknown tenant"),
    ):
        answer = await port.get("/health", **headers)
        assert (answer.status, answer.json()) == (401, {"error": text})


async def test_an_agent_shows_metrics_health_and_readiness_and_no_more(nursery: trio.Nursery) -> None:
    port = await served(nursery, agent_app(AgentMetrics()))
    assert b"trioduct_reconnects_total" in (await port.get("/metrics")).body
    assert (await port.get("/health")).status == (await port.get("/ready")).status == 200
    assert (await port.get("/status/cluster/nodes")).status == 404
    assert (await port.get("/health", Host="evil.example")).status == 403


# The server ------------------------------------------------------------------------------------------------


async def test_tls_is_spoken_where_configured(nursery: trio.Nursery, state: State, pki: Pki) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    await nursery.start(partial(serve_admin, [listener], state.app(), tls=pki.server_context))
    number = listener.getsockname()[1]
    port = Port(number, "localhost", pki.client_context())
    assert (await port.get("/health", Origin=f"https://localhost:{number}")).status == 200
    stream = await trio.open_tcp_stream("127.0.0.1", number)
    await stream.send_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert not (await stream.receive_some()).startswith(b"HTTP/1.1 200")
    await stream.aclose()
    assert (await port.get("/health")).status == 200


async def _endless(scope: Scope, receive: Receive, send: Send) -> None:
    """Answers for ever."""
    await send({"type": "http.response.start", "status": 200, "headers": []})
    while True:
        await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})


async def _silent(scope: Scope, receive: Receive, send: Send) -> None:
    """Never answers."""
    await trio.sleep_forever()


@pytest.mark.parametrize("app", [_endless, _silent])
@pytest.mark.parametrize("secure", [False, True])
async def test_it_stops_at_once_whatever_clients_do(app: ASGIApp, secure: bool, pki: Pki) -> None:
    listener = socket.create_server(("127.0.0.1", 0))
    number = listener.getsockname()[1]
    streams: list[trio.abc.Stream] = []
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            await nursery.start(
                partial(serve_admin, [listener], app, tls=pki.server_context if secure else lambda: None)
            )
            streams = [await trio.open_tcp_stream("127.0.0.1", number) for _ in range(3)]
            if secure:
                context = pki.client_context()
                streams = [trio.SSLStream(one, context, server_hostname="localhost") for one in streams]
            for stream in streams[:2]:  # the third says nothing
                await stream.send_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            if app is _endless:
                for stream in streams[:2]:
                    assert (await stream.receive_some(100)).startswith(b"HTTP/1.1 200")
            nursery.cancel_scope.cancel()
    for stream in streams:
        await trio.aclose_forcefully(stream)
    with pytest.raises(OSError, match=r"refused|connect"):
        await trio.open_tcp_stream("127.0.0.1", number)


async def test_silent_connections_do_not_silence_it(port: Port) -> None:
    streams = []
    for _ in range(16):
        streams += [await trio.open_tcp_stream("127.0.0.1", port.number) for _ in range(16)]
        assert (await port.get("/health")).status == 200
    for stream in streams:
        await stream.aclose()


async def test_silent_connections_do_not_cut_an_answer_that_is_under_way(nursery: trio.Nursery) -> None:
    asked, may_answer = trio.Event(), trio.Event()

    async def slow(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/slow":
            asked.set()
            await may_answer.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"4")]})
        await send({"type": "http.response.body", "body": b"done"})

    port = await served(nursery, slow)
    async with await trio.open_tcp_stream("127.0.0.1", port.number) as asking:
        await asking.send_all(b"GET /slow HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await asked.wait()
        streams = [await trio.open_tcp_stream("127.0.0.1", port.number) for _ in range(3 * MAX_CONNECTIONS)]
        assert (await port.get("/health")).body == b"done"  # so they have all been accepted
        may_answer.set()
        heard = b""
        while not heard.endswith(b"done"):
            heard += await asking.receive_some() or b"cut short, done"
        assert b"cut short" not in heard
    for stream in streams:
        await stream.aclose()


@pytest.mark.parametrize(
    ("said", "answered"),
    [
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"HTTP/1.1 505 "),
        (
            b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
            b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
            b"HTTP/1.1 200 ",
        ),
    ],
)
async def test_it_speaks_no_http_2_in_clear_text(port: Port, said: bytes, answered: bytes) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", port.number) as stream:
        await stream.send_all(said)
        await stream.send_eof()
        heard = b""
        while part := await stream.receive_some():
            heard += part
        assert heard.startswith(answered)
        assert heard.count(b"HTTP/1.1") == 1


async def test_connections_beyond_the_bound_are_closed_and_served_again_later(port: Port) -> None:
    streams = [await trio.open_tcp_stream("127.0.0.1", port.number) for _ in range(MAX_CONNECTIONS + 1)]
    assert await streams[0].receive_some() == b""
    for stream in streams:
        await stream.aclose()
    for _ in range(100):  # the server may not have seen all of them go
        try:
            answer = await port.get("/health")
        except (OSError, http.client.HTTPException):
            continue
        assert answer.status == 200
        return
    pytest.fail("no connection was let in")


@pytest.mark.parametrize(
    "data",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"\x00" * 1000,
        b"GET / HTTP/1.1\r\n\r\n",
        b"G" * 100_000,
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 50,
        b"GET /\xff HTTP/1.1\r\nHost: localhost\r\n\r\n",
    ],
)
async def test_bad_input_disturbs_nobody_else(port: Port, data: bytes) -> None:
    stream = await trio.open_tcp_stream("127.0.0.1", port.number)
    try:
        await stream.send_all(data)
        await stream.send_eof()
        while await stream.receive_some():
            pass
    except trio.BrokenResourceError:
        pass
    await stream.aclose()
    assert (await port.get("/health")).status == 200


@pytest.fixture
async def logged() -> AsyncIterator[Callable[[], list[dict[str, Any]]]]:
    stream = io.StringIO()
    log.configure("info", (), stream)

    def lines() -> list[dict[str, Any]]:
        assert log.flush()
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    yield lines
    log.configure("warn")


async def test_a_refusal_is_logged_once_without_its_credentials(
    nursery: trio.Nursery, state: State, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    port = await served(nursery, state.app(verifier=Verifier(hmac_secret_key=SECRET)))
    await port.get("/x%0d%0ay?token=canary", Authorization="Bearer canary")
    (line,) = logged()
    assert (line["msg"], line["status"], line["reason"]) == ("request refused", 401, "invalid token")
    assert line["client-ip"] == "127.0.0.1"
    assert line["path"] == "/x\\r\\ny"
    assert "canary" not in json.dumps(line)


async def test_a_defect_is_a_500_and_one_line_in_our_log(
    nursery: trio.Nursery, state: State, logged: Callable[[], list[dict[str, Any]]]
) -> None:
    state.endpoints = None  # type: ignore[assignment]  # a defect
    port = await served(nursery, state.app())
    answer = await port.get("/status/upstream/endpoints")
    assert (answer.status, answer.json()) == (500, {"error": "internal server error"})
    while not logged():  # that happens after the answer
        await trio.lowlevel.checkpoint()
    (line,) = logged()
    assert (line["level"], line["subsystem"]) == ("error", "admin")
    assert "AttributeError" in line["exception"]
