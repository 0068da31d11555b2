"""A Go Piko on either side: PIKO=/path/to/piko, or these are skipped.

The same arguments start both programs, which is half of what is tested; the other half is the wire. Ours with
ours is here as well, so that the same sentences hold for all four pairs.
"""

from __future__ import annotations

import hashlib
import json
import random
from contextlib import suppress
from functools import partial
from pathlib import Path

import httpx
import jwt
import pytest
import trio
from websockets.sync.client import connect as connect_websocket

from tests.programs import PIKO, TRIODUCT, Node, Programs, free_port, needs_piko

NAMES = {TRIODUCT: "trioduct", PIKO: "piko"}


def cases(*rows: tuple[str, ...]) -> list[pytest.ParameterSet]:
    """One case for each row of commands, skipped if one of them is not here."""
    return [
        pytest.param(*row, id="-".join(NAMES[command] for command in row), marks=[needs_piko] * (PIKO in row))
        for row in rows
    ]


# The node's command, then the agent's.
PAIRS = cases((TRIODUCT, TRIODUCT), (TRIODUCT, PIKO), (PIKO, TRIODUCT))


@pytest.mark.parametrize(("server", "agent"), PAIRS)
async def test_bodies_arrive_whole_both_ways(server: str, agent: str, programs: Programs, origin: int) -> None:
    node = Node(programs, command=server)
    await node.start()
    await node.start_agent("web", origin, command=agent)
    await node.wait_registered("web")
    base = f"http://127.0.0.1:{node.proxy}"
    async with httpx.AsyncClient(base_url=base, headers={"x-piko-endpoint": "web"}) as client:
        for size in (0, 1, 5_000, 300_000, 3_000_000):
            body = random.randbytes(size)
            answer = await client.post(f"/mirror?answer={size}", content=body)
            assert answer.status_code == 200
            assert answer.headers["x-got-sha256"] == hashlib.sha256(body).hexdigest()
            assert answer.headers["x-sent-sha256"] == hashlib.sha256(answer.content).hexdigest()


@pytest.mark.parametrize(("server", "agent"), PAIRS)
async def test_many_requests_at_once(server: str, agent: str, programs: Programs, origin: int) -> None:
    node = Node(programs, command=server)
    await node.start()
    await node.start_agent("web", origin, command=agent)
    await node.wait_registered("web")
    base = f"http://127.0.0.1:{node.proxy}"
    statuses: list[int] = []
    async with httpx.AsyncClient(base_url=base, headers={"x-piko-endpoint": "web"}) as client:

        async def ask() -> None:
            for _ in range(20):
                statuses.append((await client.get("/fields")).status_code)

        async with trio.open_nursery() as nursery:
            for _ in range(16):
                nursery.start_soon(ask)
    assert statuses == [200] * 320


@pytest.mark.parametrize("agent", [*cases((TRIODUCT,), (PIKO,))])
@pytest.mark.parametrize("framing", ["Content-Length: 50000", "Transfer-Encoding: chunked"])
async def test_an_answer_does_not_wait_for_the_rest_of_the_request(
    agent: str, framing: str, programs: Programs
) -> None:
    node = Node(programs)
    await node.start()
    head = f"POST / HTTP/1.1\r\nHost: x\r\nx-piko-endpoint: web\r\n{framing}\r\n\r\n"
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(trio.serve_tcp, partial(answer_early, b"early"), 0)
        await node.start_agent("web", listeners[0].socket.getsockname()[1], command=agent)
        await node.wait_registered("web")
        async with await trio.open_tcp_stream("127.0.0.1", node.proxy) as stream:
            await stream.send_all(head.encode() + b"3e8\r\n" + b"x" * 1000 + b"\r\n")
            heard = b""
            while not heard.endswith(b"early"):
                more = await stream.receive_some()
                assert more, f"ended after {heard!r}"
                heard += more
        assert heard.startswith(b"HTTP/1.1 200 ")
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("server", "agent"), PAIRS)
async def test_a_websocket_passes(server: str, agent: str, programs: Programs, origin: int) -> None:
    node = Node(programs, command=server)
    await node.start()
    await node.start_agent("web", origin, command=agent)
    await node.wait_registered("web")

    def talk() -> str | bytes:
        url = f"ws://127.0.0.1:{node.proxy}/echo"
        with connect_websocket(url, additional_headers={"x-piko-endpoint": "web"}) as socket:
            socket.send(b"x" * 200_000)
            return socket.recv(10)

    assert await trio.to_thread.run_sync(talk) == b"x" * 200_000


@pytest.mark.parametrize(
    ("server", "agent", "forward"),
    cases(
        (TRIODUCT, TRIODUCT, TRIODUCT),
        (PIKO, TRIODUCT, TRIODUCT),
        (TRIODUCT, PIKO, TRIODUCT),
        (TRIODUCT, TRIODUCT, PIKO),
    ),
)
async def test_tcp_passes_through_a_forward(server: str, agent: str, forward: str, programs: Programs) -> None:
    node = Node(programs, command=server)
    await node.start()
    local = free_port()
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(trio.serve_tcp, echo, 0)
        service = listeners[0].socket.getsockname()[1]
        await node.start_agent("echo", service, kind="tcp", command=agent)
        await node.wait_registered("echo")
        url = f"--connect.url=http://127.0.0.1:{node.proxy}"
        await programs.start(forward, "forward", "tcp", str(local), "echo", url, port=local)

        sent = random.randbytes(2_000_000)
        stream = await trio.open_tcp_stream("127.0.0.1", local)
        nursery.start_soon(stream.send_all, sent)
        got = bytearray()
        while len(got) < len(sent):
            chunk = await stream.receive_some()
            assert chunk, f"ended after {len(got)} of {len(sent)} bytes"
            got += chunk
        assert got == sent
        await stream.aclose()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("agent", [*cases((TRIODUCT,), (PIKO,))])
async def test_tcp_passes_through_a_public_port_and_ends_each_way(agent: str, programs: Programs) -> None:
    """Piko's agent closes both ways as soon as one has ended, so what a service says behind its client's end is lost:
    there the client ends when it has heard all.
    """
    public = free_port()
    node = Node(programs, options=(f"--proxy.tcp={public}=echo",))
    await node.start()
    sent = random.randbytes(2_000_000)
    async with trio.open_nursery() as nursery:
        listeners: list[trio.SocketListener] = await nursery.start(trio.serve_tcp, echo, 0)
        await node.start_agent("echo", listeners[0].socket.getsockname()[1], kind="tcp", command=agent)
        await node.wait_registered("echo")
        async with await trio.open_tcp_stream("127.0.0.1", public) as stream:
            said = trio.Event()

            async def say() -> None:
                await stream.send_all(sent)
                if agent == TRIODUCT:
                    await stream.send_eof()
                said.set()

            nursery.start_soon(say)
            heard = b""
            while len(heard) < len(sent):
                heard += await stream.receive_some()
            assert heard == sent
            await said.wait()
            if agent == PIKO:
                await stream.send_eof()
            assert await stream.receive_some() == b""
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    ("server", "agent"), cases((TRIODUCT, TRIODUCT), (PIKO, TRIODUCT), (TRIODUCT, PIKO), (PIKO, PIKO))
)
async def test_either_bench_measures_either_node(server: str, agent: str, programs: Programs) -> None:
    """`agent` is whose bench it is: it brings its own."""
    node = Node(programs, command=server)
    await node.start()
    bench = await programs.start(
        agent,
        *("bench", "http", "--requests=200", "--clients=2", "--endpoints=2", "--upstreams=2"),
        f"--connect.proxy-url=http://127.0.0.1:{node.proxy}",
        f"--connect.upstream-url=http://127.0.0.1:{node.upstream}",
    )
    assert await bench.wait_end() == 0, bench.text
    assert any(line.startswith("Throughput: ") for line in bench.lines), bench.text


async def echo(stream: trio.SocketStream) -> None:
    # A Go forward does not end its WebSocket, it drops it, which reaches this end as the reset that it is.
    with suppress(trio.BrokenResourceError):
        async for chunk in stream:
            await stream.send_all(chunk)


TENANTS = {
    "acme": "the key of acme, which has more than thirty-two bytes",
    "beta": "and that of beta, with as many as it",
}
CLIENTS = "the key of the proxy port, which has more than thirty-two bytes"


def tenants_file(folder: Path, proxy: str) -> str:
    """Piko's own configuration of two tenants."""
    tenants = [{"id": one, "auth": {"hmac_secret_key": key}} for one, key in TENANTS.items()]
    path = folder / "server.yaml"
    path.write_text(
        json.dumps(
            {"upstream": {"tenants": tenants}} | ({"proxy": {"auth": {"hmac_secret_key": proxy}}} if proxy else {})
        )
    )
    return f"--config.path={path}"


async def echo_as(name: bytes, stream: trio.SocketStream) -> None:
    await stream.send_all(name)
    await echo(stream)


@pytest.mark.parametrize("tokens", [False, True])
@pytest.mark.parametrize(
    ("server", "agent", "forward"),
    cases((TRIODUCT, TRIODUCT, TRIODUCT), (TRIODUCT, PIKO, TRIODUCT), (TRIODUCT, PIKO, PIKO)),
)
async def test_each_tenant_reaches_its_own(
    server: str, agent: str, forward: str, tokens: bool, programs: Programs, tmp_path: Path
) -> None:
    node = Node(programs, command=server, options=(tenants_file(tmp_path, CLIENTS if tokens else ""),))
    await node.start()
    async with trio.open_nursery() as nursery:
        for tenant, key in TENANTS.items():
            serve = partial(trio.serve_tcp, partial(echo_as, tenant.encode()), 0)
            listeners: list[trio.SocketListener] = await nursery.start(serve)
            shown = (f"--connect.token={jwt.encode({}, key, 'HS256')}", f"--connect.tenant-id={tenant}")
            service = listeners[0].socket.getsockname()[1]
            await node.start_agent("db", service, *shown, kind="tcp", command=agent)
            listeners = await nursery.start(partial(trio.serve_tcp, partial(say_http, tenant.encode()), 0))
            await node.start_agent("web", listeners[0].socket.getsockname()[1], *shown, command=agent)
        await node.wait_registered("db", 2)
        await node.wait_registered("web", 2)
        for tenant in TENANTS:
            token = jwt.encode({"piko": {"tenant": tenant}}, CLIENTS, "HS256")
            fields = {"x-piko-endpoint": "web"}
            fields |= {"Authorization": f"Bearer {token}"} if tokens else {"x-piko-tenant-id": tenant}
            async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{node.proxy}") as client:
                for _ in range(4):
                    assert (await client.get("/", headers=fields)).text == tenant
                wrong = await client.get("/", headers=fields | {"x-piko-tenant-id": "other"})
                assert wrong.status_code == (401 if tokens else 502)
            if not tokens and forward == PIKO:
                continue  # it cannot name a tenant, and shows no token here
            local = free_port()
            url = f"--connect.url=http://127.0.0.1:{node.proxy}"
            named = f"--connect.token={token}" if tokens else f"--connect.tenant-id={tenant}"
            await programs.start(forward, "forward", "tcp", str(local), "db", url, named, port=local)
            stream = await trio.open_tcp_stream("127.0.0.1", local)
            async with stream:
                got = b""
                while len(got) < len(tenant):
                    got += await stream.receive_some()
            assert got == tenant.encode()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(("server", "agent"), [*cases((TRIODUCT, PIKO), (PIKO, TRIODUCT), (PIKO, PIKO))])
async def test_an_agent_of_an_unknown_tenant_is_refused(
    server: str, agent: str, programs: Programs, tmp_path: Path
) -> None:
    node = Node(programs, command=server, options=(tenants_file(tmp_path, ""),))
    await node.start()
    token = f"--connect.token={jwt.encode({}, TENANTS['acme'], 'HS256')}"
    for named, said in (
        ((), "unknown tenant"),
        (("--connect.tenant-id=other",), "unknown tenant"),
        (("--connect.tenant-id=beta",), "invalid token"),
    ):
        refused = await node.start_agent("web", free_port(), token, *named, command=agent)
        assert await refused.wait_end() != 0
        assert said in refused.text or "401" in refused.text
    assert await node.endpoints() == {}


async def say_http(body: bytes, stream: trio.SocketStream) -> None:
    """Answer one request."""
    await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    await stream.aclose()


async def answer_early(body: bytes, stream: trio.SocketStream) -> None:
    """Answer when the head has come, whatever becomes of the request's body."""
    heard = await stream.receive_some()
    while b"\r\n\r\n" not in heard:
        heard += await stream.receive_some()
    await stream.send_all(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    with suppress(trio.BrokenResourceError):
        async for _ in stream:
            pass
