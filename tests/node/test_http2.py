"""HTTP/2 on the proxy port: clients of it, and those that mean harm."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import trio
from h2.errors import ErrorCodes
from h2.settings import SettingCodes
from hpack import Encoder
from hyperframe.frame import (
    ContinuationFrame,
    Frame,
    HeadersFrame,
    PingFrame,
    PriorityFrame,
    RstStreamFrame,
    SettingsFrame,
    WindowUpdateFrame,
)
from trio.testing import MockClock

from engine.config import ServerConfig
from engine.http2.connection import MAX_STREAMS, STREAM_WINDOW
from engine.wire import posts
from tests.conftest import Pki
from tests.http2.client import Client
from tests.node.test_counting import metrics
from tests.roles import GET, Roles, RunningNode, Service, Talk, answer, says, server_config, settle, tell_head

HEAD = [(":method", "GET"), (":scheme", "http"), (":authority", "web.test"), (":path", "/")]


def config() -> ServerConfig:
    config = server_config()
    config.proxy.http2 = True
    return config


async def tunnel(roles: Roles, service: Service, settings: ServerConfig | None = None) -> RunningNode:
    node = await roles.node(settings or config())
    await roles.agent(node, await roles.service(service))
    return node


async def dial(roles: Roles, node: RunningNode, *, reads: bool = True) -> Client:
    return await Client.begin(await roles.dial(node.proxy), reads=reads)


async def ended(roles: Roles, node: RunningNode, reason: str) -> float:
    return (await metrics(roles, node)).get(f'trioduct_http2_ended_total{{reason="{reason}"}}', 0.0)


async def swallow(talk: Talk) -> None:
    """A service that reads a chunked body to its end, and tells it and its trailers."""
    while True:
        head = await talk.until(b"\r\n\r\n")
        body = last = await talk.until(b"0\r\n") if b"chunked" in head.lower() else b"\r\n"
        while last != b"\r\n":
            last = await talk.until(b"\r\n")
            body += last
        await talk.say(answer(head + body))


async def test_a_request_is_answered_like_one_of_http1(roles: Roles) -> None:
    node = await tunnel(roles, tell_head)
    client = await dial(roles, node)
    answered = await client.answer(
        await client.ask(b"/a?b", fields=[(b"x-a", b"b"), (b"cookie", b"1"), (b"cookie", b"2")])
    )
    assert answered.status == 200
    head = answered.body
    assert head.startswith(b"GET /a?b HTTP/1.1\r\nHost: web.test\r\n")
    assert b"\r\nx-a: b\r\n" in head
    assert b"\r\ncookie: 1; 2\r\n" in head
    assert b"\r\nX-Forwarded-For: 127.0.0.1\r\n" in head
    assert b"\r\nX-Forwarded-Proto: http\r\n" in head
    assert answered.fields[b"content-length"] == b"%d" % len(head)
    assert not client.closed


async def test_http1_goes_on_beside_it_and_nothing_is_spoken_where_it_is_off(roles: Roles) -> None:
    node = await tunnel(roles, says(b"hello"))
    assert (await (await roles.dial(node.proxy)).ask(GET)).body == b"hello"
    plain = await roles.node()
    told = await (await roles.dial(plain.proxy)).ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
    assert told.status == 505


async def test_it_is_agreed_on_by_tls_where_the_client_wants_it(roles: Roles, pki: Pki) -> None:
    settings = config()
    settings.proxy.tls.cert, settings.proxy.tls.key = str(pki.cert), str(pki.key)
    node = await tunnel(roles, tell_head, settings)
    context = pki.client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    client = await Client.begin(await roles.dial(node.proxy, tls=context))
    assert b"\r\nX-Forwarded-Proto: https\r\n" in (await client.answer(await client.ask())).body
    context = pki.client_context()
    context.set_alpn_protocols(["http/1.1"])
    assert (await (await roles.dial(node.proxy, tls=context)).ask(GET)).status == 200
    preface = await roles.dial(node.proxy, tls=context)  # RFC 9113, 3.2: not without having been agreed on
    assert (await preface.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")).status == 505


async def test_the_preface_comes_byte_by_byte_and_only_at_the_beginning(roles: Roles) -> None:
    node = await tunnel(roles, says(b"hello"))
    talk = await roles.dial(node.proxy)
    client = Client(talk)
    client.h2.initiate_connection()
    for byte in client.h2.data_to_send():
        await talk.say(bytes((byte,)))
        await trio.lowlevel.checkpoint()
    assert (await client.answer(await client.ask())).body == b"hello"
    late = await roles.dial(node.proxy)
    assert (await late.ask(GET)).status == 200
    assert (await late.ask(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")).status == 505


async def test_many_at_once_are_answered_as_they_are_done(roles: Roles) -> None:
    go = trio.Event()

    async def slow_and_fast(talk: Talk) -> None:
        while head := await talk.until(b"\r\n\r\n"):
            if b"/slow" in head:
                await go.wait()
            await talk.say(answer(head.split(b" ")[1]))

    node = await tunnel(roles, slow_and_fast)
    client = await dial(roles, node)
    slow = await client.ask(b"/slow")
    for number in range(30):
        path = b"/%d" % number
        assert (await client.answer(await client.ask(path))).body == path
    assert not client.answers[slow].over
    go.set()
    assert (await client.answer(slow)).body == b"/slow"


async def test_bodies_and_trailers_pass(roles: Roles) -> None:
    node = await tunnel(roles, swallow)
    client = await dial(roles, node)
    stream = await client.ask(method=b"POST", body=None, fields=[(b"te", b"trailers")])
    client.h2.send_data(stream, b"hello")
    client.h2.send_data(stream, b"")
    client.h2.send_headers(stream, [(b"x-sum", b"7"), (b"content-length", b"9")], end_stream=True)
    await client.send()
    told = (await client.answer(stream)).body
    assert b"te: trailers" in told
    assert told.endswith(b"5\r\nhello\r\n0\r\nx-sum: 7\r\n\r\n")


async def test_an_answer_in_chunks_has_its_trailers(roles: Roles) -> None:
    async def chunks(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n5\r\nhel")
        await talk.say(b"lo\r\n0\r\nX-Sum: 7\r\n\r\n")

    node = await tunnel(roles, chunks)
    client = await dial(roles, node)
    answered = await client.answer(await client.ask())
    assert (answered.body, answered.trailers) == (b"hello", [(b"x-sum", b"7")])
    assert b"transfer-encoding" not in answered.fields


async def test_an_answer_begins_before_its_request_ends(roles: Roles) -> None:
    async def converse(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while (line := await talk.until(b"\r\n")) != b"0\r\n":
            data = await talk.exactly(int(line, 16))
            await talk.until(b"\r\n")
            await talk.say(b"%x\r\n%b\r\n" % (len(data), data.upper()))
        await talk.say(b"0\r\n\r\n")

    node = await tunnel(roles, converse)
    client = await dial(roles, node)
    stream = await client.ask(method=b"POST", body=None)
    said = b""
    for word in (b"one", b"two", b"three"):
        client.h2.send_data(stream, word)
        await client.send()
        said += word.upper()
        while client.answers[stream].body != said:
            await client.hear()
    client.h2.end_stream(stream)
    await client.send()
    assert (await client.answer(stream)).body == b"ONETWOTHREE"


async def test_an_answer_that_does_not_wait_for_the_request_resets_the_rest_without_blame(roles: Roles) -> None:
    async def refuse(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(answer(b"no", status=b"403 Forbidden"))

    node = await tunnel(roles, refuse)
    client = await dial(roles, node)
    stream = await client.ask(method=b"POST", body=None)
    answered = await client.answer(stream)
    assert (answered.status, answered.body) == (403, b"no")
    while answered.reset is None:
        await client.hear()
    assert answered.reset == ErrorCodes.NO_ERROR


async def test_interim_answers_and_heads_alone(roles: Roles) -> None:
    async def go_on(talk: Talk) -> None:
        while head := await talk.until(b"\r\n\r\n"):
            if b"expect" in head:
                await talk.say(b"HTTP/1.1 100 Continue\r\n\r\n")
                assert await talk.exactly(2) == b"ok"
            await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n" + (b"" if head[:4] == b"HEAD" else b"yes"))

    node = await tunnel(roles, go_on)
    client = await dial(roles, node)
    stream = await client.ask(
        method=b"PUT", body=None, fields=[(b"content-length", b"2"), (b"expect", b"100-continue")]
    )
    while not client.answers[stream].interim:
        await client.hear()
    client.h2.send_data(stream, b"ok", end_stream=True)
    await client.send()
    assert (await client.answer(stream)).body == b"yes"
    head = await client.answer(await client.ask(method=b"HEAD"))
    assert (head.fields[b"content-length"], head.body) == (b"3", b"")


async def test_what_breaks_off_is_reset_and_the_others_go_on(roles: Roles) -> None:
    async def breaks(talk: Talk) -> None:
        while head := await talk.until(b"\r\n\r\n"):
            if b"/breaks" in head:
                await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
                await talk.reset()
                return
            await talk.say(answer(b"whole"))

    node = await tunnel(roles, breaks)
    client = await dial(roles, node)
    broken = await client.answer(await client.ask(b"/breaks"))
    assert (broken.status, broken.reset) == (200, ErrorCodes.INTERNAL_ERROR)
    assert (await client.answer(await client.ask())).body == b"whole"


async def test_a_reset_is_passed_on(roles: Roles) -> None:
    began, over = trio.Event(), trio.Event()

    async def listens(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        began.set()
        await talk.is_over()
        over.set()

    node = await tunnel(roles, listens)
    client = await dial(roles, node)
    stream = await client.ask()
    await began.wait()
    client.h2.reset_stream(stream, ErrorCodes.CANCEL)
    await client.send()
    await over.wait()


async def test_errors_are_the_same_as_of_http1(roles: Roles) -> None:
    node = await tunnel(roles, tell_head)
    client = await dial(roles, node)
    assert (await client.answer(await client.ask(host=b"none.test"))).body == b'{"error":"no available upstreams"}\n'
    assert (await client.answer(await client.ask(host=b"localhost"))).status == 400
    big = await client.answer(await client.ask(fields=[(b"x-%d" % n, b"x" * 4000) for n in range(9)]))
    assert big.status == 431
    assert (await client.answer(await client.ask(b"/_piko/v1/tcp/web"))).status == 400
    carrier = await client.answer(await client.ask(posts.TCP_PATH.encode() + b"web", method=b"POST", body=b"x"))
    assert carrier.reset == ErrorCodes.HTTP_1_1_REQUIRED  # it takes the connection, which is everybody's
    assert (await client.answer(await client.ask())).status == 200


async def test_large_bodies_both_ways_with_small_windows(roles: Roles) -> None:
    size = 3_000_000

    async def counts(talk: Talk) -> None:
        while head := await talk.until(b"\r\n\r\n"):
            if head[:3] == b"GET":
                await talk.say(answer(b"x" * size))
            else:
                await talk.exactly(size)
                await talk.say(answer(b"%d" % size))

    node = await tunnel(roles, counts)
    client = await dial(roles, node)
    assert len((await client.answer(await client.ask())).body) == size
    stream = await client.ask(method=b"PUT", body=None, fields=[(b"content-length", b"%d" % size)])
    left = size
    while left:
        room = min(client.h2.local_flow_control_window(stream), client.h2.max_outbound_frame_size, left)
        if room:
            client.h2.send_data(stream, b"x" * room, end_stream=left == room)
            left -= room
            await client.send()
        else:
            await client.hear()
    assert (await client.answer(stream)).body == b"%d" % size


async def test_a_stream_that_nobody_takes_does_not_hold_up_the_others(roles: Roles) -> None:
    async def deaf_to_one(talk: Talk) -> None:
        while head := await talk.until(b"\r\n\r\n"):
            if b"/deaf" in head:
                await trio.sleep_forever()
            await talk.say(answer(b"heard"))

    node = await tunnel(roles, deaf_to_one)
    client = await dial(roles, node)
    deaf = await client.ask(b"/deaf", method=b"PUT", body=None, fields=[(b"content-length", b"1000000000")])
    sent = 0
    for _ in range(2000):
        room = min(client.h2.local_flow_control_window(deaf), client.h2.max_outbound_frame_size)
        if room:
            client.h2.send_data(deaf, b"x" * room)
            sent += room
            await client.send()
            continue
        with trio.move_on_after(0.3) as waited:
            await client.hear()
        if waited.cancelled_caught:
            break
    assert client.h2.local_flow_control_window(deaf) == 0
    assert client.h2.outbound_flow_control_window > STREAM_WINDOW
    assert (await client.answer(await client.ask())).body == b"heard"


async def test_a_slow_reader_is_not_read_for_and_does_not_hold_up_the_others(roles: Roles) -> None:
    sent = 0

    async def endless(talk: Talk) -> None:
        nonlocal sent
        while head := await talk.until(b"\r\n\r\n"):
            if b"/endless" not in head:
                await talk.say(answer(b"short"))
                continue
            await talk.say(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                await talk.say(b"x" * 65536)
                sent += 65536

    node = await tunnel(roles, endless)
    client = await dial(roles, node, reads=False)
    client.h2.increment_flow_control_window(10_000_000)
    await client.send()
    stream = await client.ask(b"/endless")
    while len(client.answers[stream].body) < 65535:
        await client.hear()
    assert (await client.answer(await client.ask())).body == b"short"
    await trio.sleep(0.3)
    assert len(client.answers[stream].body) == 65535
    assert sent < 16 * 1024 * 1024


async def test_a_window_that_stays_shut_ends_the_stream(roles: Roles, mock_clock: MockClock) -> None:
    settings = config()
    settings.proxy.http.write_timeout = 5.0
    node = await tunnel(roles, says(b"x" * 200_000), settings)
    client = await dial(roles, node, reads=False)
    stream = await client.ask()
    while len(client.answers[stream].body) < 65535:
        await client.hear()
    mock_clock.jump(4.0)
    await settle()
    assert not client.answers[stream].over
    mock_clock.jump(4.0)
    assert (await client.answer(stream)).reset == ErrorCodes.CANCEL
    assert await ended(roles, node, "stalled") == 1
    assert not client.closed


async def test_more_streams_than_there_may_be_are_refused_and_may_be_asked_again(roles: Roles) -> None:
    go = trio.Event()

    async def waits(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await go.wait()
        await talk.say(answer(b"at last"))

    node = await tunnel(roles, waits)
    client = await dial(roles, node)
    while client.h2.remote_settings.max_concurrent_streams != MAX_STREAMS:
        await client.hear()
    del client.h2.remote_settings._settings[SettingCodes.MAX_CONCURRENT_STREAMS]  # it has not heard it
    streams = [await client.ask() for _ in range(MAX_STREAMS + 5)]
    refused = [await client.answer(stream) for stream in streams[MAX_STREAMS:]]
    assert {one.reset for one in refused} == {ErrorCodes.REFUSED_STREAM}
    go.set()
    assert {(await client.answer(stream)).body for stream in streams[:MAX_STREAMS]} == {b"at last"}


def block(*more: tuple[str, str]) -> bytes:
    encoded: bytes = Encoder().encode([*HEAD, *more])
    return encoded


def headers(stream: int, flags: list[str], data: bytes) -> Frame:
    frame = HeadersFrame(stream, data)
    for flag in flags:
        frame.flags.add(flag)
    return frame


def rapid_resets() -> list[Frame]:
    frames: list[Frame] = []
    for stream in range(1, 2 * 1200, 2):
        frames += [headers(stream, ["END_HEADERS", "END_STREAM"], block()), RstStreamFrame(stream, error_code=8)]
    return frames


def reset_by_us() -> list[Frame]:
    """CVE-2025-8671: a window that overflows has us reset the stream."""
    frames: list[Frame] = []
    for stream in range(1, 2 * 1200, 2):
        overflow = WindowUpdateFrame(stream, window_increment=2**31 - 1)
        frames += [headers(stream, ["END_HEADERS", "END_STREAM"], block()), overflow]
    return frames


def continuations() -> list[Frame]:
    return [headers(1, ["END_STREAM"], block()), *(ContinuationFrame(1, b"") for _ in range(10000))]


def bomb() -> list[Frame]:
    """A head of few bytes that become many: an entry of the table, named again and again (62 is the first of them)."""
    large = Encoder()
    data = large.encode([*HEAD, ("x-a", "x" * 3900)])
    return [headers(1, ["END_HEADERS", "END_STREAM"], data + bytes((0x80 | 62,)) * 1000)]


FLOODS: dict[str, tuple[Callable[[], Sequence[Frame | bytes]], set[str], ErrorCodes | None]] = {
    "resets": (rapid_resets, {"resets"}, ErrorCodes.ENHANCE_YOUR_CALM),
    "reset by us": (reset_by_us, {"resets", "protocol"}, None),
    "continuations": (continuations, {"head"}, ErrorCodes.ENHANCE_YOUR_CALM),
    "bomb": (bomb, {"head"}, ErrorCodes.ENHANCE_YOUR_CALM),
    "settings": (lambda: [SettingsFrame(0)] * 10000, {"settings"}, ErrorCodes.ENHANCE_YOUR_CALM),
    "pings": (lambda: [PingFrame(0, b"12345678")] * 10000, {"pings"}, ErrorCodes.ENHANCE_YOUR_CALM),
    "priorities": (lambda: [PriorityFrame(1, depends_on=3)] * 10000, {"useless_frames"}, ErrorCodes.ENHANCE_YOUR_CALM),
    "windows": (
        lambda: [WindowUpdateFrame(0, window_increment=1)] * 20000,
        {"window_updates"},
        ErrorCodes.ENHANCE_YOUR_CALM,
    ),
    "no frames": (lambda: [b"\0\0\0\1\4\0\0\0\0"], {"protocol"}, ErrorCodes.PROTOCOL_ERROR),
}


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_flood_ends_its_connection_with_a_reason_and_no_other(roles: Roles, flood: str) -> None:
    make, reasons, code = FLOODS[flood]
    node = await tunnel(roles, says(b"hello"))
    other = await dial(roles, node)
    attacker = await dial(roles, node)
    attacker.mute = True

    async def attack() -> None:
        with trio.move_on_after(10):
            try:
                frames = make()
                for start in range(0, len(frames), 100):
                    await attacker.say(*frames[start : start + 100])
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attack)
        for _ in range(20):
            assert (await other.answer(await other.ask())).body == b"hello"
        goaway = await attacker.until_closed()
        nursery.cancel_scope.cancel()
    assert goaway is None or code is None or goaway.error_code == code
    assert sum([await ended(roles, node, reason) for reason in reasons]) == 1
    assert (await other.answer(await other.ask())).body == b"hello"


async def test_half_a_head_has_its_time(roles: Roles, mock_clock: MockClock) -> None:
    node = await tunnel(roles, says(b"hello"))
    clients = [await dial(roles, node) for _ in range(2)]
    for client in clients:
        client.mute = True
    await clients[0].say(headers(1, ["END_STREAM"], block()))
    await clients[1].say(headers(1, ["END_HEADERS", "END_STREAM"], block()).serialize()[:-1])
    for client in clients:
        await client.hear()
    await settle()
    mock_clock.jump(15.0)
    for client in clients:
        goaway = await client.until_closed()
        assert goaway is not None
        assert goaway.error_code == ErrorCodes.ENHANCE_YOUR_CALM
    assert await ended(roles, node, "slow_head") == 2


async def test_who_is_idle_is_told_to_go(roles: Roles, mock_clock: MockClock) -> None:
    node = await tunnel(roles, says(b"hello"))
    client = await dial(roles, node)
    await client.answer(await client.ask())
    mock_clock.jump(302.0)
    goaway = await client.until_closed()
    assert goaway is not None
    assert (goaway.error_code, goaway.last_stream_id) == (ErrorCodes.NO_ERROR, 1)


async def test_a_body_that_rests_is_a_slow_one_but_in_grpc(roles: Roles, mock_clock: MockClock) -> None:
    node = await tunnel(roles, swallow)
    client = await dial(roles, node)
    fields = [(b"content-type", b"application/grpc+proto")]
    call = await client.ask(method=b"POST", body=None, fields=fields)
    slow = await client.ask(method=b"POST", body=None)
    for stream in (call, slow):
        client.h2.send_data(stream, b"hello")
    await client.send()
    await settle()
    for _ in range(4):
        mock_clock.jump(12.0)
        await settle()
    assert (await client.answer(slow)).status == 408
    client.h2.end_stream(call)
    await client.send()
    assert (await client.answer(call)).status == 200
