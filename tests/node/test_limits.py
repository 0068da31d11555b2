"""Too much of everything: clients that do not read, more requests than a session may have pending, no file left."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio
from trio.testing import MockClock

from engine.gateway.clocks import SCARCE_SECONDS
from engine.wire.mux import MAX_PENDING
from tests.programs import TRIODUCT, Programs, free_port, get
from tests.roles import GET, Roles, Talk, answer, server_config, settle, tell_head

PIECE = bytes(1 << 16)
KERNEL_BYTES = 24 << 20  # what the kernel may hold of a stream on its three sockets


@pytest.fixture
def many_files() -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, hard), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_more_requests_than_a_session_may_have_pending_are_all_served(roles: Roles) -> None:
    number = MAX_PENDING + 100
    waiting = 0
    all_there = trio.Event()

    async def serve(talk: Talk) -> None:
        nonlocal waiting
        head = await talk.until(b"\r\n\r\n")
        waiting += 1
        if waiting == number:
            all_there.set()
        await all_there.wait()
        await talk.say(answer(head.split()[1]))

    node = await roles.tunnel(serve)
    clients = [await roles.dial(node.proxy) for _ in range(number)]
    for name, client in enumerate(clients):
        await client.say(b"GET /%d HTTP/1.1\r\nHost: web.test\r\n\r\n" % name)
    for name, client in enumerate(clients):
        assert (await client.answer()).body == b"/%d" % name


async def test_who_asks_and_does_not_read_is_given_up_and_has_cost_a_window(
    roles: Roles, mock_clock: MockClock
) -> None:
    said = 0
    ended = trio.Event()

    async def serve(talk: Talk) -> None:
        nonlocal said
        await talk.until(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n")
        try:
            while True:
                await talk.say(PIECE)
                said += len(PIECE)
        finally:
            ended.set()

    config = server_config()
    node = await roles.node(config)
    await roles.agent(node, await roles.service(serve))
    client = await roles.dial(node.proxy, buffer=4096)
    await client.say(GET)
    await settle()
    assert said < KERNEL_BYTES
    for _ in range(3):
        mock_clock.jump(config.proxy.http.write_timeout)
        await settle()
    await ended.wait()
    assert not await client.is_over()


async def test_who_asks_again_and_again_and_does_not_read_is_not_heard_any_more(
    roles: Roles, mock_clock: MockClock
) -> None:
    answered = 0

    async def serve(talk: Talk) -> None:
        nonlocal answered
        while True:
            await talk.until(b"\r\n\r\n")
            await talk.say(answer(PIECE))
            answered += 1

    config = server_config()
    node = await roles.node(config)
    await roles.agent(node, await roles.service(serve))
    client = await roles.dial(node.proxy, buffer=4096)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.say, GET * 2000)
        await settle()
        assert answered * len(PIECE) < KERNEL_BYTES
        for _ in range(3):
            mock_clock.jump(config.proxy.http.write_timeout)
            await settle()
        nursery.cancel_scope.cancel()
    assert not await client.is_over()


async def test_who_asks_ahead_and_reads_late_gets_every_answer(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            await talk.say(answer(head.split()[1] + PIECE))

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy, buffer=4096)
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: web.test\r\n\r\n" % number for number in range(300))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.say, requests)
        await settle()
        for number in range(300):
            assert (await client.answer()).body == b"/%d" % number + PIECE


async def test_who_sends_a_body_that_nobody_reads_is_held_back(roles: Roles) -> None:
    may_read = trio.Event()

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await may_read.wait()
        for _ in range(1600):
            await talk.exactly(len(PIECE))
        await talk.say(answer(b"ok"))

    sent = 0

    async def send(client: Talk) -> None:
        nonlocal sent
        await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: %d\r\n\r\n" % (1600 * len(PIECE)))
        for _ in range(1600):
            await client.say(PIECE)
            sent += len(PIECE)

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(send, client)
        await settle()
        assert sent < KERNEL_BYTES
        may_read.set()
        assert (await client.answer()).body == b"ok"


@pytest.mark.parametrize("size", [65, 2_000])
async def test_thousands_of_requests_in_one_go_are_answered_in_order(roles: Roles, size: int) -> None:
    node = await roles.tunnel(tell_head)
    client = await roles.dial(node.proxy)
    requests = [b"GET /%d HTTP/1.1\r\nHost: web.test\r\n\r\n" % number for number in range(size)]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.say, b"".join(requests))
        for number in range(size):
            assert (await client.answer()).body.startswith(b"GET /%d " % number)


@pytest.mark.parametrize("slow_at", ["body", "answer"])
async def test_where_nobody_is_idle_a_slow_request_makes_room_for_another(
    roles: Roles, mock_clock: MockClock, monkeypatch: pytest.MonkeyPatch, slow_at: str
) -> None:
    async def serve(talk: Talk) -> None:
        while True:
            if b"/endless" in await talk.until(b"\r\n\r\n"):
                await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                while True:
                    await talk.say(PIECE)
            await talk.say(answer(b"served"))

    monkeypatch.setattr("engine.loop.listen._descriptors", lambda: 8)
    node = await roles.tunnel(serve)  # whose agent is one of the six that there is room for
    slow = [await roles.dial(node.proxy, buffer=4096) for _ in range(5)]
    for client in slow:
        if slow_at == "body":
            await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 1000\r\n\r\nx")
        else:
            await client.say(GET.replace(b"/", b"/endless", 1))
        await settle()
    late = await roles.dial(node.proxy)
    await late.say(GET)
    mock_clock.jump(SCARCE_SECONDS - 1)
    await settle()
    mock_clock.jump(2)
    assert (await late.answer()).body == b"served"


async def test_thousands_of_requests_for_nobody_are_refused_one_by_one(roles: Roles) -> None:
    node = await roles.node()
    client = await roles.dial(node.proxy)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(client.say, GET * 2000)
        for _ in range(2000):
            assert (await client.answer()).status == 502


def processor_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def test_a_crowd_of_silent_clients_keeps_nobody_out(programs: Programs) -> None:
    proxy, upstream, admin = (free_port() for _ in range(3))
    node = await programs.start(
        *("sh", "-c", 'ulimit -n 256; exec "$0" "$@"', TRIODUCT, "server"),
        f"--proxy.bind-addr=127.0.0.1:{proxy}",
        f"--upstream.bind-addr=127.0.0.1:{upstream}",
        f"--admin.bind-addr=127.0.0.1:{admin}",
        port=admin,
    )
    connections = [await trio.open_tcp_stream("127.0.0.1", proxy) for _ in range(400)]
    with trio.fail_after(10):
        await node.wait_line("idle connection closed: too many are open")
        assert (await get(admin, "/health"))[0] == 200
        # The last one is served while the others are there, and the oldest has had to go.
        await connections[-1].send_all(GET.replace(b"web.", b""))
        assert (await connections[-1].receive_some()).startswith(b"HTTP/1.1 400 ")
        with pytest.raises(trio.BrokenResourceError):
            await connections[0].receive_some()
    for stream in connections:
        await stream.aclose()
