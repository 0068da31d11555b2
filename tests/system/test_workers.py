"""A node of several workers, as users run it: they share the work, are lost and replaced, and leave one by one."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import struct
import sys
from functools import partial
from pathlib import Path

import jwt
import pytest
import trio

import trioduct
from tests.conftest import Pki
from tests.programs import PIKO, TRIODUCT, Node, Program, Programs, get, needs, needs_piko
from tests.system.ledger import load

pytestmark = pytest.mark.timeout(180)  # each starts several processes, one after the other

KEY = "a secret of thirty-two characters, or more"


def node_of(programs: Programs, *options: str, workers: int = 2) -> Node:
    return Node(programs, options=(f"--workers={workers}", *options))


async def start(node: Node, workers: int = 2) -> Program:
    server = await node.start()
    await server.wait_line('"node started"')
    assert len(workers_of(server)) == workers
    return server


def workers_of(server: Program) -> list[int]:
    """The processes that are its workers now."""
    processes = [int(path.name) for path in Path("/proc").glob("[0-9]*")]
    return sorted(one for one in processes if f"PPid:\t{server.pid}\n" in status(one) and not is_gone(one))


def status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return "State:\tZ"


def is_gone(pid: int) -> bool:
    return "State:\tZ" in status(pid)


async def wait_new_workers(server: Program, before: list[int]) -> None:
    while len(now := workers_of(server)) != len(before) or set(now) & set(before):  # noqa: ASYNC110
        await trio.sleep(0.02)


async def metric(node: Node, name: str) -> float:
    _, text = await get(node.admin, "/metrics")
    found = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rpartition(" ")[2]) for line in found)


async def sessions_by_worker(node: Node) -> list[int]:
    _, told = await get(node.admin, "/status/cluster/nodes/local")
    return list(json.loads(told)["workers"].values())


async def ask(port: int, *, target: str = "/mirror?answer=3") -> int:
    """The status of one request on a connection of its own, which the kernel takes to any worker."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(f"GET {target} HTTP/1.0\r\nx-piko-endpoint: web\r\n\r\n".encode())
        answer = b"".join([chunk async for chunk in stream])
    return int(answer.split()[1])


async def test_one_worker_is_the_node_itself(programs: Programs) -> None:
    server = await start(node_of(programs, workers=1), 0)
    assert "TRIODUCT_WORKER" not in Path(f"/proc/{server.pid}/environ").read_text()


async def test_an_agent_has_one_session_on_each_worker_and_all_of_them_serve(programs: Programs, origin: int) -> None:
    node = node_of(programs, workers=3)
    server = await start(node, 3)
    agent = await node.start_agent("web", origin)
    for number in range(1, 4):
        await agent.wait_line(f'"connected".*"worker":"{number}/3"')
    await node.wait_registered("web", 3)
    for _ in range(30):
        assert await ask(node.proxy) == 200
    while server.text.count('"proxy.access"') < 30:  # noqa: ASYNC110
        await trio.sleep(0.02)
    logged = [json.loads(line) for line in server.lines if '"proxy.access"' in line]
    assert {line["worker"] for line in logged} == {1, 2, 3}
    _, sessions = await get(node.admin, "/status/upstream/sessions")
    assert [one["endpoint"] for one in json.loads(sessions)] == ["web"] * 3
    asked = {json.loads(line)["pid"] for line in server.lines if '"worker started"' in line}
    assert asked == set(workers_of(server))
    # Registered three times, it is one endpoint; and what three processes counted is one sum.
    assert await metric(node, "piko_upstreams_registered_endpoints") == 1
    assert await metric(node, "piko_upstreams_connected_upstreams") == 3
    assert await metric(node, "piko_proxy_requests_total") == 30
    assert await metric(node, 'piko_proxy_request_size_bytes_bucket{le="+Inf"}') == 30
    assert await metric(node, "piko_proxy_request_size_bytes_count") == 30
    assert await metric(node, 'trioduct_workers{phase="ready"}') == 3
    assert await metric(node, "piko_cluster_nodes") == 1
    assert await server.stop() == 0
    assert "lost" not in server.text


@pytest.mark.parametrize("command", [TRIODUCT, pytest.param(PIKO, marks=needs_piko)])
async def test_tenants_are_apart_on_all_workers(command: str, programs: Programs, tmp_path: Path) -> None:
    tenants = [{"id": one, "auth": {"hmac_secret_key": f"{KEY} of {one}"}} for one in ("acme", "beta")]
    text = json.dumps({"upstream": {"sharing": "exclusive", "tenants": tenants}})
    (tmp_path / "server.yaml").write_text(text)
    node = node_of(programs, f"--config.path={tmp_path}/server.yaml")
    server = await start(node)

    async def serve(body: bytes, stream: trio.SocketStream) -> None:
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.0 200 OK\r\n\r\n" + body)

    async with trio.open_nursery() as nursery:
        for tenant in ("acme", "beta"):
            listeners = await nursery.start(partial(trio.serve_tcp, partial(serve, tenant.encode()), 0))
            token = jwt.encode({"sub": tenant}, f"{KEY} of {tenant}", "HS256")
            shown = (f"--connect.tenant-id={tenant}", f"--connect.token={token}")
            await node.start_agent("web", listeners[0].socket.getsockname()[1], *shown, command=command)
        await node.wait_registered("web", 2)  # exclusive, and yet both have it
        for _ in range(10):
            for tenant in ("acme", "beta", "other"):
                stream = await trio.open_tcp_stream("127.0.0.1", node.proxy)
                async with stream:
                    head = f"x-piko-endpoint: web\r\nx-piko-tenant-id: {tenant}\r\n"
                    await stream.send_all(f"GET / HTTP/1.0\r\n{head}\r\n".encode())
                    answer = b"".join([chunk async for chunk in stream])
                assert answer.endswith(b'"no available upstreams"}\n' if tenant == "other" else tenant.encode())
        _, told = await get(node.admin, "/status/upstream/sessions")
        assert [(one["tenant"], one["principal"]) for one in json.loads(told)] == [("acme", "acme"), ("beta", "beta")]
        _, told = await get(node.admin, "/status/upstream/endpoints?tenant=acme")
        assert json.loads(told) == {"web": 1}
        assert await metric(node, 'trioduct_endpoint_requests_total{endpoint="web",tenant="acme"}') == 10
        nursery.cancel_scope.cancel()
    assert await server.stop() == 0


@pytest.mark.skipif(not PIKO, reason="PIKO does not name a Piko binary")
async def test_an_agent_of_pikos_has_one_session_and_serves_what_comes_to_any_worker(
    programs: Programs, origin: int
) -> None:
    node = node_of(programs)
    await start(node)
    await node.start_agent("web", origin, command=PIKO)
    await node.wait_registered("web", 1)
    for _ in range(20):
        assert await ask(node.proxy) == 200
    # One of two connections comes to a worker without a session, which asks the other.
    assert await metric(node, "piko_upstreams_remote_requests_total") > 0


@pytest.mark.parametrize("carrier", ["websocket", "stream", "poll"])
async def test_an_agent_serves_through_workers_by_every_carrier(carrier: str, programs: Programs, origin: int) -> None:
    node = node_of(programs)
    await start(node)
    agent = await node.start_agent("web", origin, f"--connect.carriers={carrier}")
    for number in (1, 2):
        await agent.wait_line(f'"connected".*"carrier":"{carrier}".*"worker":"{number}/2"')
    async with load(node.proxy) as ledger:
        await ledger.wait_whole(60)
    assert ledger.failed == []


class Wire:
    """Carries connections to a port, until it is cut; then those that there are are reset, and new ones are carried."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._cut = trio.Event()

    async def carry(self, near: trio.SocketStream) -> None:
        async with await trio.open_tcp_stream("127.0.0.1", self._to) as far, trio.open_nursery() as nursery:
            nursery.start_soon(self._copy, near, far)
            nursery.start_soon(self._copy, far, near)
            await self._cut.wait()
            for stream in (near, far):
                stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            nursery.cancel_scope.cancel()

    async def _copy(self, source: trio.SocketStream, to: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            async for data in source:
                await to.send_all(data)

    def cut(self) -> None:
        self._cut.set()
        self._cut = trio.Event()


@pytest.mark.parametrize("carrier", ["websocket", "stream", "poll"])
async def test_a_session_goes_on_whichever_worker_its_next_connection_comes_to(
    carrier: str, programs: Programs, origin: int
) -> None:
    node = node_of(programs)
    server = await start(node)
    wire = Wire(node.upstream)
    async with trio.open_nursery() as nursery:
        (listener,) = await nursery.start(partial(trio.serve_tcp, wire.carry, 0, host="127.0.0.1"))
        port = listener.socket.getsockname()[1]
        agent = await programs.start(
            TRIODUCT,
            "agent",
            "http",
            "web",
            str(origin),
            f"--connect.url=http://127.0.0.1:{port}",
            f"--connect.carriers={carrier}",
        )
        await node.wait_registered("web", 2)
        async with load(node.proxy, largest=20_000) as ledger:
            for _ in range(6):
                await ledger.wait_whole(20)
                wire.cut()
            await ledger.wait_whole(20)
        nursery.cancel_scope.cancel()
    assert ledger.failed == []
    assert "cannot be resumed" not in agent.text
    assert "link up" in server.text  # of twelve connections one at least came to the other worker
    if carrier != "poll":  # which loses no carrier by a cut
        assert agent.text.count('"session resumed"') >= 6


async def test_a_listener_in_a_program_has_a_session_on_each_worker(programs: Programs) -> None:
    node = node_of(programs, workers=3)
    await start(node, 3)
    accepted = 0

    async def answer(stream: trioduct.TunnelStream) -> None:
        nonlocal accepted
        accepted += 1
        async with stream:
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.0 200 OK\r\n\r\n")

    async with (
        trioduct.listen("web", url=f"http://127.0.0.1:{node.upstream}") as listener,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        while (await sessions_by_worker(node)) != [1, 1, 1]:  # noqa: ASYNC110
            await trio.sleep(0.02)
        for _ in range(30):
            assert await ask(node.proxy) == 200
        nursery.cancel_scope.cancel()
    assert accepted >= 30
    await node.wait_registered("web", 0)
    assert await metric(node, "piko_upstreams_remote_requests_total") == 0


async def test_what_waits_for_a_worker_that_was_killed_is_served_and_another_takes_its_place(
    programs: Programs, origin: int
) -> None:
    node = node_of(programs)
    server = await start(node)
    agent = await node.start_agent("web", origin)
    await node.wait_registered("web", 2)
    before = workers_of(server)
    counted = 0.0
    for victim in before:
        # A worker that is stopped takes nobody; what comes to it waits in its queue.
        os.kill(victim, signal.SIGSTOP)
        statuses: list[int] = []

        async def one(statuses: list[int] = statuses) -> None:
            statuses.append(await ask(node.proxy))

        async with trio.open_nursery() as nursery:
            for _ in range(24):
                nursery.start_soon(one)
            while len(statuses) < 4:  # noqa: ASYNC110  # those of the other worker
                await trio.sleep(0.02)
            assert len(statuses) < 24
            os.kill(victim, signal.SIGKILL)
        assert statuses == [200] * 24
        while victim in workers_of(server) or len(workers_of(server)) < 2:  # noqa: ASYNC110
            await trio.sleep(0.02)
        while '"degraded"' in (await get(node.admin, "/ready"))[1]:  # noqa: ASYNC110
            await trio.sleep(0.02)
        await node.wait_registered("web", 2)
        # What a dead worker had counted, as far as it was seen, has not gone with it.
        now = await metric(node, "piko_proxy_requests_total")
        assert now >= counted
        counted = now
    assert await metric(node, "trioduct_worker_restarts_total") == 2
    assert agent.process.poll() is None
    assert "defect" not in server.text


async def test_a_worker_that_hangs_is_killed_and_what_it_served_moves(programs: Programs, origin: int) -> None:
    node = node_of(programs, "--upstream.sharing=exclusive")  # one session, so one worker has it
    server = await start(node)
    agent = await node.start_agent("web", origin)
    await node.wait_registered("web", 1)
    victim = workers_of(server)[(await sessions_by_worker(node)).index(1)]
    os.kill(victim, signal.SIGSTOP)
    await server.wait_line(f'"a worker hangs and is killed".*"pid":{victim}')
    while not is_gone(victim) or len(workers_of(server)) < 2:  # noqa: ASYNC110
        await trio.sleep(0.02)
    while await ask(node.proxy) != 200:
        pass
    while '"degraded"' in (await get(node.admin, "/ready"))[1]:  # noqa: ASYNC110
        await trio.sleep(0.02)
    await node.wait_registered("web", 1)
    for _ in range(20):
        assert await ask(node.proxy) == 200
    assert await metric(node, "trioduct_workers_hung_total") == 1
    assert await metric(node, "trioduct_worker_restarts_total") == 1
    assert agent.process.poll() is None


async def test_a_worker_that_is_told_to_leave_is_replaced_and_no_request_fails(programs: Programs, origin: int) -> None:
    node = node_of(programs)
    server = await start(node)
    await node.start_agent("web", origin)
    await node.wait_registered("web", 2)
    async with load(node.proxy) as ledger:
        for victim in workers_of(server):
            await ledger.wait_whole(30)
            os.kill(victim, signal.SIGTERM)
            while not is_gone(victim) or len(workers_of(server)) < 2:  # noqa: ASYNC110
                await trio.sleep(0.02)
            await node.wait_registered("web", 2)
        await ledger.wait_whole(30)
    assert ledger.failed == []
    assert not [line for line in server.lines if '"level":"error"' in line]


async def test_a_reload_replaces_all_workers_and_no_request_fails(
    programs: Programs, origin: int, tmp_path: Path
) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("proxy: {access_log: {disable: true}}\n")
    node = node_of(programs, f"--config.path={file}")
    server = await start(node)
    await node.start_agent("web", origin)
    await node.wait_registered("web", 2)
    async with load(node.proxy) as ledger:
        await ledger.wait_whole(50)
        for turn in range(2):
            before = workers_of(server)
            if turn:  # what is new in the file takes effect
                assert '"proxy.access"' not in server.text
                file.write_text("proxy: {access_log: {disable: false}}\n")
            server.process.send_signal(signal.SIGHUP)
            await wait_new_workers(server, before)
            await node.wait_registered("web", 2)
            await ledger.wait_whole(50)
        await server.wait_line('"proxy.access"')
    assert ledger.failed == []


@pytest.mark.parametrize(
    ("broken", "why"),
    [
        ("proxy: {timeout: soon}", r"server.yaml:1: proxy.timeout: 'soon': expected a duration"),
        ("workers: 3", r"workers: 3: their number, 2, changes by a restart, not by a reload"),
    ],
)
async def test_a_reload_with_a_mistake_is_refused_and_all_goes_on(
    broken: str, why: str, programs: Programs, origin: int, tmp_path: Path
) -> None:
    file = tmp_path / "server.yaml"
    file.write_text("workers: 2\n")
    node = Node(programs, options=(f"--config.path={file}",))
    server = await start(node)
    await node.start_agent("web", origin)
    await node.wait_registered("web", 2)
    before = workers_of(server)
    file.write_text(broken)
    server.process.send_signal(signal.SIGHUP)
    await server.wait_line(f"{why}|not reloaded.*{why}")
    await server.wait_line("not reloaded, what was there goes on")
    assert workers_of(server) == before
    assert await ask(node.proxy) == 200


async def test_reload_is_a_command_where_the_admin_port_asks_for_a_token(programs: Programs, pki: Pki) -> None:
    secure = (f"--admin.tls.cert={pki.cert}", f"--admin.tls.key={pki.key}", f"--admin.auth.hmac-secret-key={KEY}")
    node = node_of(programs, *secure)
    server = await start(node)
    before = workers_of(server)
    url = (f"--server.url=https://127.0.0.1:{node.admin}", f"--tls.root-cas={pki.ca}")
    denied = await programs.start(TRIODUCT, "server", "reload", *url)
    assert await denied.wait_end() == 1
    assert "401" in denied.text
    token = await programs.start(TRIODUCT, "token", env={"TRIODUCT_TOKEN_KEY": KEY})
    assert await token.wait_end() == 0, token.text
    allowed = await programs.start(TRIODUCT, "server", "reload", *url, env={"TRIODUCT_TOKEN": token.lines[-1].strip()})
    assert await allowed.wait_end() == 0, allowed.text
    assert "reloaded" in allowed.text
    assert not set(workers_of(server)) & set(before)


async def test_reload_by_an_open_admin_port_is_refused_with_what_to_do_instead(programs: Programs) -> None:
    node = node_of(programs)
    server = await start(node)
    command = await programs.start(TRIODUCT, "server", "reload", f"--server.url=http://127.0.0.1:{node.admin}")
    assert await command.wait_end() == 1
    assert f"send SIGHUP to process {server.pid}, or set admin.auth" in command.text


async def test_all_leave_at_sigterm_and_what_is_under_way_finishes(programs: Programs, origin: int) -> None:
    node = node_of(programs)
    server = await start(node)
    await node.start_agent("web", origin)
    await node.wait_registered("web", 2)
    before = workers_of(server)
    async with load(node.proxy, clients=2) as ledger:
        await ledger.wait_whole(10)
        server.process.send_signal(signal.SIGTERM)
        await server.wait_end()
        whole = ledger.whole
    assert whole >= 10
    assert all(map(is_gone, before))
    # Refused, never cut: nobody was promised an answer and got half of one.
    assert all("ConnectError" in one for one in ledger.failed), ledger.failed
    assert server.process.returncode == 0


async def test_a_second_signal_ends_all_workers_at_once(programs: Programs) -> None:
    node = node_of(programs, "--grace-period=1h")
    server = await start(node)
    before = workers_of(server)
    # Half a request keeps a worker from ending by itself.
    silent = [await trio.open_tcp_stream("127.0.0.1", node.proxy) for _ in range(6)]
    for stream in silent:
        await stream.send_all(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12")
    server.process.send_signal(signal.SIGTERM)
    await server.wait_line('"shutting down","grace')
    server.process.send_signal(signal.SIGTERM)
    assert await server.wait_end() == 0
    assert all(map(is_gone, before))
    for stream in silent:
        await stream.aclose()


async def test_workers_leave_when_their_supervisor_is_killed_and_the_port_is_free_again(programs: Programs) -> None:
    node = node_of(programs)
    server = await start(node)
    before = workers_of(server)
    await server.stop(signal.SIGKILL)
    while not all(map(is_gone, before)):  # noqa: ASYNC110
        await trio.sleep(0.05)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", node.proxy))
        probe.listen()


async def test_a_port_in_use_is_told_in_one_line_also_by_another_node_of_workers(programs: Programs) -> None:
    node = node_of(programs)
    await start(node)
    second = await programs.start(*node.words())
    assert await second.wait_end() == 2
    line = f"--proxy.bind-addr: '127.0.0.1:{node.proxy}': Address already in use; expected a free port on an address"
    assert line in second.text
    assert second.text.count("trioduct:") == 1


# The command as a script, whose next version is broken: the workers of that one do not start.
SCRIPT = """
import os, sys
from engine.cli import main
sys.argv[0] = "trioduct"
if {broken} and "TRIODUCT_WORKER" in os.environ:
    sys.exit(7)
sys.exit(main())
"""


async def test_new_code_that_does_not_start_leaves_the_old_in_place(
    programs: Programs, origin: int, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(broken=False))
    node = node_of(programs)
    server = await programs.start(sys.executable, script, *node.words()[1:], port=node.admin)
    await server.wait_line('"node started"')
    await node.start_agent("web", origin)
    await node.wait_registered("web", 2)
    before = workers_of(server)
    script.write_text(SCRIPT.format(broken=True))
    server.process.send_signal(signal.SIGHUP)
    await server.wait_line("the new worker 1 did not get ready: it ended with code 7")
    await server.wait_line("not reloaded, what was there goes on")
    assert workers_of(server) == before
    assert await ask(node.proxy) == 200
    script.write_text(SCRIPT.format(broken=False))
    server.process.send_signal(signal.SIGHUP)
    await wait_new_workers(server, before)
    await server.wait_line('"reloaded"')


async def test_a_first_worker_that_does_not_start_is_the_end_of_the_node(programs: Programs, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(broken=True))
    server = await programs.start(sys.executable, script, *node_of(programs).words()[1:])
    assert await server.wait_end() == 7
    assert server.text.count('"worker ended"') == 1


async def test_an_endpoint_belongs_to_one_principal_on_all_workers(programs: Programs, origin: int) -> None:
    node = node_of(programs, f"--upstream.auth.hmac-secret-key={KEY}")
    await start(node)
    for turn in range(4):
        endpoint = f"web-{turn}"
        agents = [
            await node.start_agent(endpoint, origin, f"--connect.token={jwt.encode({'sub': name}, KEY, 'HS256')}")
            for name in ("one", "two")
        ]
        # Both come at once. Whoever is second anywhere is refused, or loses what it had got.
        while all(agent.process.poll() is None for agent in agents):  # noqa: ASYNC110
            await trio.sleep(0.02)
        (loser,) = [agent for agent in agents if agent.process.poll() is not None]
        assert "403" in loser.text
        await node.wait_registered(endpoint, 2)
        _, sessions = await get(node.admin, "/status/upstream/sessions")
        owners = {one["principal"] for one in json.loads(sessions) if one["endpoint"] == endpoint}
        assert len(owners) == 1


async def test_an_endpoint_for_one_session_at_a_time_has_one_on_all_workers_also_through_a_reload(
    programs: Programs, origin: int
) -> None:
    node = node_of(programs, "--upstream.sharing=exclusive")
    server = await start(node)
    await node.start_agent("web", origin)
    await node.wait_registered("web", 1)
    second = await node.start_agent("web", origin)
    await second.wait_line("one session at a time")
    assert await node.endpoints() == {"web": 1}
    async with load(node.proxy) as ledger:
        await ledger.wait_whole(30)
        before = workers_of(server)
        server.process.send_signal(signal.SIGHUP)
        await wait_new_workers(server, before)
        await ledger.wait_whole(30)
    assert ledger.failed == []


@needs("curl")
async def test_tls_tokens_and_access_logs_are_as_in_one_process(programs: Programs, origin: int, pki: Pki) -> None:
    tls = [
        f"--{port}.tls.{name}={path}"
        for port in ("proxy", "upstream")
        for name, path in (("cert", pki.cert), ("key", pki.key))
    ]
    node = node_of(programs, *tls, f"--upstream.auth.hmac-secret-key={KEY}")
    server = await programs.start(*node.words(), port=node.admin)
    await server.wait_line('"node started"')
    making = await programs.start(TRIODUCT, "token", env={"TRIODUCT_TOKEN_KEY": KEY})
    await making.wait_end()
    agent = await programs.start(
        TRIODUCT,
        "agent",
        "http",
        "web",
        str(origin),
        f"--connect.url=https://127.0.0.1:{node.upstream}",
        f"--connect.tls.root-cas={pki.ca}",
        env={"TRIODUCT_CONNECT_TOKEN": making.lines[-1].strip()},
    )
    for number in (1, 2):
        await agent.wait_line(f'"connected".*"worker":"{number}/2"')
    for _ in range(8):
        asked = await programs.start(
            "curl",
            "-s",
            "-o",
            "/dev/null",
            "-w",
            "%{http_code}",
            "--cacert",
            pki.ca,
            "-H",
            "x-piko-endpoint: web",
            f"https://127.0.0.1:{node.proxy}/mirror?answer=1",
        )
        assert await asked.wait_end() == 0, asked.text
        assert asked.text == "200"
    while len([line for line in server.lines if '"proxy.access"' in line]) < 8:  # noqa: ASYNC110
        await trio.sleep(0.02)
    assert KEY not in server.text
    for pid in workers_of(server):  # the secret of the peers is in no argument and in no variable
        words = Path(f"/proc/{pid}/environ").read_bytes()
        assert re.search(rb"TRIODUCT_WORKER=\d+\0", words)
        assert b"secret" not in words.lower()
