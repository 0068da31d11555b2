"""Services that speak HTTP/2, and gRPC from end to end."""

from __future__ import annotations

import queue
import ssl
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
import trio
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, Event, RequestReceived, StreamEnded, StreamReset
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame
from trio.testing import MockClock

from engine.agent.http2 import MAX_CONNECTIONS
from tests.conftest import Pki
from tests.http2.client import Client
from tests.node.test_http2 import config
from tests.roles import GET, Roles, RunningNode, Talk, agent_config, says

METADATA = (("x-piko-endpoint", "web"),)


class Calls:
    """A gRPC service, which notes what it is told of deadlines and ends."""

    def __init__(self) -> None:
        self.remaining: list[float] = []
        self.over: queue.Queue[bool] = queue.Queue()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        name = details.method.rpartition("/")[2]
        if name == "Chat":
            return grpc.stream_stream_rpc_method_handler(self.chat)
        if name == "Count":
            return grpc.unary_stream_rpc_method_handler(self.count)
        method = {"Upper": self.upper, "Fail": self.fail, "Wait": self.wait}.get(name)
        return grpc.unary_unary_rpc_method_handler(method) if method is not None else None

    def upper(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.set_trailing_metadata((("x-sum", "7"), ("x-raw-bin", b"\x00\xff")))
        return request.upper()

    def fail(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        context.abort(grpc.StatusCode.NOT_FOUND, "nothing of that name: ü")
        raise AssertionError

    def wait(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        over = threading.Event()
        context.add_callback(over.set)
        self.remaining.append(context.time_remaining())
        self.over.put(over.wait(10))
        return b"too late"

    def chat(self, words: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
        for word in words:
            yield word.upper()

    def count(self, request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
        for number in range(int(request)):
            yield b"%d" % number


@pytest.fixture
def calls() -> Iterator[tuple[Calls, int]]:
    """A gRPC server in threads, and its port."""
    served = Calls()
    server = grpc.server(ThreadPoolExecutor(8))
    handler = type("Handler", (grpc.GenericRpcHandler,), {"service": lambda _, details: served.service(details)})
    server.add_generic_rpc_handlers((handler(),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield served, port
    server.stop(None).wait()


async def in_thread(node: RunningNode, talk: Callable[[grpc.Channel], None]) -> None:
    """Have a gRPC client talk to the node."""

    def run() -> None:
        with grpc.insecure_channel(f"127.0.0.1:{node.proxy}", options=[("grpc.enable_http_proxy", 0)]) as channel:
            talk(channel)

    await trio.to_thread.run_sync(run)


async def tunnel(roles: Roles, port: int | str) -> RunningNode:
    node = await roles.node(config())
    await roles.agent_with(agent_config(node.upstream, port, protocol="h2"))
    return node


async def test_a_call_has_its_answer_trailers_and_errors(roles: Roles, calls: tuple[Calls, int]) -> None:
    def talk(channel: grpc.Channel) -> None:
        answer, call = channel.unary_unary("/t.T/Upper").with_call(b"hello", metadata=METADATA)
        assert answer == b"HELLO"
        assert dict(call.trailing_metadata()) == {"x-sum": "7", "x-raw-bin": b"\x00\xff"}
        for method, code, details in (
            ("Fail", grpc.StatusCode.NOT_FOUND, "nothing of that name: ü"),
            ("None", grpc.StatusCode.UNIMPLEMENTED, "Method not found!"),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                channel.unary_unary(f"/t.T/{method}")(b"", metadata=METADATA)
            assert (caught.value.code(), caught.value.details()) == (code, details)
        assert len(channel.unary_unary("/t.T/Upper")(b"x" * 1_000_000, metadata=METADATA)) == 1_000_000

    await in_thread(await tunnel(roles, calls[1]), talk)


async def test_streams_go_both_ways_at_once(roles: Roles, calls: tuple[Calls, int]) -> None:
    def talk(channel: grpc.Channel) -> None:
        words: queue.Queue[bytes | None] = queue.Queue()
        chat = channel.stream_stream("/t.T/Chat")(iter(words.get, None), metadata=METADATA)
        for word in (b"one", b"two" * 100_000, b"three"):
            words.put(word)
            assert next(chat) == word.upper()
        words.put(None)
        assert list(chat) == []
        assert chat.code() == grpc.StatusCode.OK
        count = channel.unary_stream("/t.T/Count")(b"1000", metadata=METADATA)
        assert list(count) == [b"%d" % number for number in range(1000)]

    await in_thread(await tunnel(roles, calls[1]), talk)


async def test_deadlines_and_cancellation_reach_the_service(roles: Roles, calls: tuple[Calls, int]) -> None:
    served, port = calls

    def talk(channel: grpc.Channel) -> None:
        wait = channel.unary_unary("/t.T/Wait")
        with pytest.raises(grpc.RpcError) as caught:
            wait(b"", metadata=METADATA, timeout=0.5)
        assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert served.over.get(timeout=5)
        assert 0 < served.remaining[0] <= 0.6
        call = wait.future(b"", metadata=METADATA)
        while len(served.remaining) < 2:
            threading.Event().wait(0.01)
        call.cancel()
        assert served.over.get(timeout=5)

    await in_thread(await tunnel(roles, port), talk)


async def test_a_call_that_nobody_serves_is_unavailable(roles: Roles) -> None:
    def talk(channel: grpc.Channel) -> None:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary("/t.T/Upper")(b"", metadata=METADATA)
        assert caught.value.code() == grpc.StatusCode.UNAVAILABLE

    await in_thread(await roles.node(config()), talk)


class Served:
    """Services of HTTP/2 that a test writes: `answer` is called when a request has come whole."""

    def __init__(self, *, streams: int = 100) -> None:
        self.connections = 0
        self.most = 0  # requests at once on one connection
        self.heads: list[dict[bytes, bytes]] = []
        self.open: dict[tuple[int, int], dict[bytes, bytes]] = {}
        self.leaves_after = 0  # requests
        self.reset = trio.Event()
        self._streams = streams
        self._saying = trio.StrictFIFOLock()

    async def answer(self, h2: H2Connection, stream: int) -> None:
        await trio.sleep(0.01)
        h2.send_headers(stream, [(b":status", b"200"), (b"x-a", b"b")])
        h2.send_data(stream, b"hello")
        h2.send_headers(stream, [(b"x-sum", b"7")], end_stream=True)

    async def serve(self, talk: Talk) -> None:
        self.connections += 1
        number = self.connections
        h2 = H2Connection(H2Configuration(client_side=False))
        said = {SettingCodes.MAX_CONCURRENT_STREAMS: self._streams}
        h2.local_settings = Settings(client=False, initial_values=said)
        h2.initiate_connection()
        await talk.say(h2.data_to_send())
        requests = 0
        async with trio.open_nursery() as nursery:
            while data := await talk.hear():
                for event in h2.receive_data(data):
                    requests += isinstance(event, RequestReceived)
                    self._take(event, h2, talk, number, nursery)
                if self.leaves_after and requests >= self.leaves_after:
                    requests = -1000
                    goaway = GoAwayFrame(0, last_stream_id=h2.highest_inbound_stream_id)
                    await self._say(talk, h2.data_to_send() + goaway.serialize())
                await self._say(talk, h2.data_to_send())

    def _take(self, event: Event, h2: H2Connection, talk: Talk, number: int, nursery: trio.Nursery) -> None:
        if isinstance(event, RequestReceived):
            self.open[number, event.stream_id or 0] = dict(event.headers)
            self.heads.append(dict(event.headers))
            self.most = max(self.most, sum(one == number for one, _ in self.open))
        elif isinstance(event, DataReceived):
            h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id or 0)
        elif isinstance(event, StreamReset):
            self.reset.set()
            self.open.pop((number, event.stream_id or 0), None)
        elif isinstance(event, StreamEnded):
            nursery.start_soon(self._answer, h2, talk, number, event.stream_id or 0)

    async def _answer(self, h2: H2Connection, talk: Talk, number: int, stream: int) -> None:
        await self.answer(h2, stream)
        self.open.pop((number, stream))
        await self._say(talk, h2.data_to_send())

    async def _say(self, talk: Talk, data: bytes) -> None:
        async with self._saying:
            await talk.say(data)


async def ask_many(roles: Roles, node: RunningNode, count: int) -> list[tuple[int, bytes]]:
    client = await Client.begin(await roles.dial(node.proxy))
    streams = [await client.ask(b"/%d" % number) for number in range(count)]
    answers = [await client.answer(stream) for stream in streams]
    return [(answer.status, answer.body) for answer in answers]


async def test_clients_of_http1_reach_it_too_and_trailers_pass(roles: Roles) -> None:
    served = Served()
    node = await tunnel(roles, await roles.service(served.serve))
    client = await roles.dial(node.proxy)
    for _ in range(3):
        await client.say(GET)
        head = await client.until(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 OK\r\nx-a: b\r\n")
        assert await client.until(b"0\r\n") == b"5\r\nhello\r\n0\r\n"
        assert await client.until(b"\r\n\r\n") == b"x-sum: 7\r\n\r\n"
    assert served.connections == 1
    await client.say(GET[:-2] + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
    assert (await client.answer()).status == 501


@pytest.mark.parametrize("streams", [1, 3, 100])
async def test_connections_are_as_many_as_the_service_needs(roles: Roles, streams: int) -> None:
    served = Served(streams=streams)
    node = await tunnel(roles, await roles.service(served.serve))
    assert await ask_many(roles, node, 60) == [(200, b"hello")] * 60
    assert served.most <= streams
    assert served.connections <= MAX_CONNECTIONS
    assert (served.connections == 1) == (streams == 100)


async def test_a_service_that_leaves_is_dialled_again_and_no_call_is_lost(roles: Roles) -> None:
    served = Served()
    served.leaves_after = 5
    node = await tunnel(roles, await roles.service(served.serve))
    for _ in range(4):
        assert await ask_many(roles, node, 5) == [(200, b"hello")] * 5
    assert served.connections >= 2


@pytest.mark.parametrize("secure", [False, True])
async def test_a_service_that_does_not_speak_it_is_told_of_at_once(roles: Roles, pki: Pki, secure: bool) -> None:
    node = await roles.node(config())
    tls = None
    if secure:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(pki.cert, pki.key)
        tls.set_alpn_protocols(["http/1.1"])
    port = await roles.service(says(b"HTTP/1.1"), tls=tls)
    agent = agent_config(node.upstream, f"{'https' if secure else 'http'}://127.0.0.1:{port}", protocol="h2")
    agent.listeners[0].tls.root_cas = str(pki.ca)
    await roles.agent_with(agent)
    assert (await (await roles.dial(node.proxy)).ask(GET)).status == 502


async def test_it_is_spoken_by_tls_where_the_service_agrees(roles: Roles, pki: Pki) -> None:
    node, served = await roles.node(config()), Served()
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(pki.cert, pki.key)
    tls.set_alpn_protocols(["h2"])
    port = await roles.service(served.serve, tls=tls)
    agent = agent_config(node.upstream, f"https://127.0.0.1:{port}", protocol="h2")
    agent.listeners[0].tls.root_cas = str(pki.ca)
    await roles.agent_with(agent)
    assert await ask_many(roles, node, 3) == [(200, b"hello")] * 3


@pytest.mark.parametrize("service", ["nobody", "silent"])
async def test_a_service_that_is_not_there_or_says_nothing(roles: Roles, service: str, mock_clock: MockClock) -> None:
    async def silent(talk: Talk) -> None:
        await talk.rest()

    node = await tunnel(roles, await roles.service(silent) if service == "silent" else 1)
    client = await roles.dial(node.proxy)
    await client.say(GET)
    if service == "silent":
        for _ in range(3):
            await trio.testing.wait_all_tasks_blocked(0.01)
            mock_clock.jump(6.0)
    assert (await client.answer()).status in (502, 504)


async def test_what_the_client_gives_up_is_reset(roles: Roles) -> None:
    served, asked = Served(), trio.Event()

    async def never(h2: H2Connection, stream: int) -> None:
        asked.set()
        await trio.sleep_forever()

    served.answer = never  # type: ignore[method-assign]
    node = await tunnel(roles, await roles.service(served.serve))
    client = await Client.begin(await roles.dial(node.proxy))
    stream = await client.ask()
    await asked.wait()
    client.h2.reset_stream(stream)
    await client.send()
    await served.reset.wait()
