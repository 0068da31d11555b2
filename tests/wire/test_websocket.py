"""The WebSocket codec: RFC 6455's own examples, what it forbids, any split, and two foreign codecs as
partners."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import cycle, pairwise

import pytest
import trio
import trio_websocket
import wsproto
import wsproto.events
from hypothesis import given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType

from engine.errors import HTTPError, WebSocketError
from engine.wire import http1, websocket
from engine.wire.websocket import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, WebSocket

Message = tuple[int, bytes]


def frame(opcode: int, payload: bytes = b"", *, fin: bool = True, key: bytes = b"", bits: int = 0) -> bytes:
    """A frame by the book (5.2), byte by byte, as independent of the codec as can be."""
    size = len(payload)
    if size < 126:
        length = bytes([size])
    elif size < 1 << 16:
        length = b"\x7e" + size.to_bytes(2, "big")
    else:
        length = b"\x7f" + size.to_bytes(8, "big")
    if key:
        length = bytes([length[0] | 0x80]) + length[1:] + key
        payload = bytes(byte ^ key[at % 4] for at, byte in enumerate(payload))
    return bytes([fin << 7 | bits << 4 | opcode]) + length + payload


def messages(end: WebSocket, parts: Iterable[bytes]) -> list[Message]:
    """The whole messages and control frames in `parts`, which arrive one by one."""
    whole: list[Message] = []
    pieces = b""
    for part in parts:
        for opcode, payload, ends in end.receive(memoryview(part)):
            if opcode >= CLOSE:
                assert ends
                whole.append((opcode, bytes(payload)))
                continue
            pieces += payload
            if ends:
                whole.append((opcode, pieces))
                pieces = b""
    return whole


def singly(data: bytes) -> list[bytes]:
    return [data[at : at + 1] for at in range(len(data))]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    at = [0, *sorted({place % (len(data) + 1) for place in places}), len(data)]
    return [data[a:b] for a, b in pairwise(at)]


KEY = b"\x37\xfa\x21\x3d"


# Frames


@pytest.mark.parametrize(
    ("client", "data", "expected"),
    [
        (True, bytes.fromhex("810548656c6c6f"), [(TEXT, b"Hello")]),
        (False, bytes.fromhex("818537fa213d7f9f4d5158"), [(TEXT, b"Hello")]),
        (True, bytes.fromhex("010348656c80026c6f"), [(TEXT, b"Hello")]),
        (True, bytes.fromhex("890548656c6c6f"), [(PING, b"Hello")]),
        (False, bytes.fromhex("8a8537fa213d7f9f4d5158"), [(PONG, b"Hello")]),
        (True, bytes.fromhex("827e0100") + bytes(256), [(BINARY, bytes(256))]),
        (True, bytes.fromhex("827f0000000000010000") + bytes(65536), [(BINARY, bytes(65536))]),
        (True, bytes.fromhex("8200"), [(BINARY, b"")]),
        (False, bytes.fromhex("828037fa213d"), [(BINARY, b"")]),
    ],
)
def test_the_examples_of_the_rfc_are_read(client: bool, data: bytes, expected: list[Message]) -> None:
    assert messages(WebSocket(client=client), [data]) == expected
    assert messages(WebSocket(client=client), singly(data)) == expected
    assert messages(WebSocket(client=client), [data + data]) == expected * 2


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65535, 65536, 300_000])
@pytest.mark.parametrize("pieces", [1, 3])
def test_what_is_sent_is_one_frame_by_the_book(size: int, pieces: int) -> None:
    payload = bytes(range(256)) * (size // 256) + bytes(range(size % 256))
    parts = cut(payload, [size // 3, size // 2])[:pieces] if pieces > 1 else [payload]
    payload = b"".join(parts)
    assert b"".join(WebSocket(client=False).message(parts)) == frame(BINARY, payload)
    sent = b"".join(WebSocket(client=True).message(parts))
    key = sent[-len(payload) - 4 :][:4]
    assert sent == frame(BINARY, payload, key=key)


def test_the_servers_parts_pass_uncopied() -> None:
    part = memoryview(bytes(100_000))
    assert WebSocket(client=False).message([part])[1] is part


def test_every_frame_of_a_client_has_a_key_of_its_own() -> None:
    client = WebSocket(client=True)
    keys = {b"".join(client.message([b"x"]))[2:6] for _ in range(3000)}
    assert len(keys) > 2990


def test_a_control_frame_may_come_inside_a_message() -> None:
    data = frame(TEXT, b"He", fin=False) + frame(PING, b"?") + frame(CONTINUATION, b"llo")
    assert messages(WebSocket(client=True), [data]) == [(PING, b"?"), (TEXT, b"Hello")]
    assert messages(WebSocket(client=True), singly(data)) == [(PING, b"?"), (TEXT, b"Hello")]


def test_payload_passes_as_it_comes_and_unmasked_payload_as_a_view() -> None:
    data = memoryview(frame(BINARY, bytes(1000)))
    client = WebSocket(client=True)
    [(opcode, payload, ends)] = client.receive(data[:500])
    assert isinstance(payload, memoryview)
    assert (opcode, len(payload), ends, payload.obj is data.obj) == (BINARY, 496, False, True)
    [(opcode, payload, ends)] = client.receive(data[500:])
    assert (opcode, len(payload), ends) == (BINARY, 504, True)


def test_what_follows_a_close_is_ignored() -> None:
    client = WebSocket(client=True)
    data = frame(CLOSE, b"\x03\xe8bye") + frame(TEXT, b"late") + b"\xff\xff noise"
    assert messages(client, [data, b"\xff"]) == [(CLOSE, b"\x03\xe8bye")]
    assert client.closed


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(BINARY, b"x", bits=4), 1002),
        (frame(BINARY, b"x", bits=2), 1002),
        (frame(BINARY, b"x", bits=1), 1002),
        (frame(PING, b"x", bits=4), 1002),
        *[(frame(opcode, b"x"), 1002) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)],
        (frame(BINARY, b"x", key=KEY), 1002),
        (frame(CONTINUATION, b"x"), 1002),
        (frame(BINARY, b"x", fin=False) + frame(BINARY, b"x"), 1002),
        (frame(BINARY, b"x") + frame(CONTINUATION, b"x"), 1002),
        (frame(PING, b"x", fin=False), 1002),
        (frame(CLOSE, b"", fin=False), 1002),
        (frame(PING, bytes(126)), 1002),
        (bytes.fromhex("897f0000000000010000"), 1002),
        (bytes.fromhex("827e007d"), 1002),
        (bytes.fromhex("827f000000000000ffff"), 1002),
        (bytes.fromhex("827fffffffffffffffff"), 1002),
        (bytes.fromhex("827f8000000000000000"), 1002),
        (bytes.fromhex("827f7fffffffffffffff"), 1009),
        (bytes.fromhex("827f0000000000100001"), 1009),
        (frame(TEXT, b"\xff"), 1007),
        (frame(TEXT, b"\xc3"), 1007),
        (frame(TEXT, b"\xed\xa0\x80"), 1007),
        (frame(TEXT, b"\xc3", fin=False) + frame(CONTINUATION, b"("), 1007),
        (frame(CLOSE, b"\x03"), 1002),
        (frame(CLOSE, b"\x03\xe8\xff"), 1007),
        *[
            (frame(CLOSE, code.to_bytes(2, "big")), 1002)
            for code in (0, 999, 1004, 1005, 1006, 1015, 1016, 2999, 5000, 65535)
        ],
    ],
)
def test_what_the_rfc_forbids_a_server_is_refused_with_its_code(data: bytes, code: int) -> None:
    for parts in [data], singly(data), [frame(TEXT, b"\xc3\xa9") + data]:
        with pytest.raises(WebSocketError) as caught:
            messages(WebSocket(client=True, max_frame=1 << 20), parts)
        assert caught.value.code == code


def test_a_client_has_to_mask() -> None:
    for data in frame(BINARY, b"x"), frame(PING), frame(CLOSE):
        with pytest.raises(WebSocketError) as caught:
            messages(WebSocket(client=False), [data])
        assert caught.value.code == 1002


def test_a_long_frame_is_refused_at_its_header_and_a_frame_at_the_limit_is_not() -> None:
    server = WebSocket(client=False, max_frame=1000)
    assert messages(server, [frame(BINARY, bytes(1000), key=KEY)] * 3) == [(BINARY, bytes(1000))] * 3
    with pytest.raises(WebSocketError) as caught:
        server.receive(memoryview(frame(BINARY, bytes(1001), key=KEY)[:4]))
    assert caught.value.code == 1009


@pytest.mark.parametrize("code", [1000, 1001, 1003, 1007, 1011, 1014, 3000, 4999])
def test_a_close_has_code_and_reason(code: int) -> None:
    data = WebSocket(client=False).close(code, "für immer")
    [(opcode, body)] = messages(WebSocket(client=True), [data])
    assert (opcode, websocket.close_reason(body)) == (CLOSE, (code, "für immer"))


def test_a_close_may_be_empty() -> None:
    data = WebSocket(client=False).close(websocket.NO_STATUS)
    assert data == frame(CLOSE)
    [(_, body)] = messages(WebSocket(client=True), [data])
    assert websocket.close_reason(body) == (websocket.NO_STATUS, "")


def test_a_long_reason_is_cut_between_characters() -> None:
    [(_, body)] = messages(WebSocket(client=True), [WebSocket(client=False).close(1000, "a" + "é" * 200)])
    assert websocket.close_reason(body) == (1000, "a" + "é" * 61)


# Splits and noise

said = st.lists(
    st.tuples(
        st.sampled_from([TEXT, BINARY, PING, PONG]),
        st.text(max_size=30).map(str.encode) | st.integers(0, 70_000).map(lambda size: b"a" * size),
    ),
    max_size=5,
).map(lambda said: [(opcode, data[:125] if opcode >= CLOSE else data) for opcode, data in said])


@given(said, st.booleans(), st.lists(st.integers(0, 400_000), max_size=10))
def test_any_split_gives_the_same_messages(said: list[Message], from_client: bool, places: list[int]) -> None:
    sender, receiver = WebSocket(client=from_client), WebSocket(client=not from_client)
    data = b"".join(b"".join(sender.message([payload], opcode)) for opcode, payload in said)
    assert messages(receiver, cut(data, places)) == said
    assert len(receiver._header) + len(receiver._control) == 0


@st.composite
def fragmented(draw: st.DrawFn) -> list[tuple[int, bytes, bool]]:
    """Frames of some binary messages (opcode, payload, FIN), with control frames between them."""
    made: list[tuple[int, bytes, bool]] = []
    for payloads in draw(st.lists(st.lists(st.binary(max_size=200), min_size=1, max_size=3), max_size=4)):
        for number, payload in enumerate(payloads):
            if draw(st.booleans()):
                made.append((draw(st.sampled_from([PING, PONG])), payload[:125], True))
            made.append((CONTINUATION if number else BINARY, payload, number == len(payloads) - 1))
    return made


def taken_in_turns(
    end: WebSocket, data: bytes, reads: Iterator[int], takes: Iterator[int]
) -> tuple[bytes, list[bytes]]:
    """All binary payload, and that of control frames, when `data` comes by `reads`, and of binary payload no more than
    the next of `takes` is taken, whereupon the rest is put back and all behind it given again.
    """
    taken, control = b"", []
    waiting = b""
    while data or waiting:
        size = next(reads)
        waiting, data = waiting + data[:size], data[size:]
        view = memoryview(waiting)
        end.position = 0
        while (event := end.next(view)) is not None:
            opcode, payload, _ = event
            if opcode != BINARY:
                control.append(bytes(payload))
                continue
            size = min(next(takes), len(payload))
            taken += payload[:size]
            if size < len(payload):
                end.put_back(len(payload) - size)
                break
        waiting = waiting[end.position :]
    return taken, control


SIZES = st.lists(st.integers(0, 120), min_size=1, max_size=6).map(lambda sizes: [*sizes, 50])


@given(fragmented(), st.booleans(), SIZES, SIZES, st.binary(min_size=4, max_size=4))
def test_what_is_put_back_comes_again_whatever_the_mask_and_however_little_is_taken(
    said: list[tuple[int, bytes, bool]], masked: bool, reads: list[int], takes: list[int], key: bytes
) -> None:
    data = b"".join(frame(opcode, payload, fin=fin, key=key if masked else b"") for opcode, payload, fin in said)
    end = WebSocket(client=not masked)
    taken, control = taken_in_turns(end, data, cycle(reads), cycle(takes))
    assert taken == b"".join(payload for opcode, payload, _ in said if opcode < CLOSE)
    assert control == [payload for opcode, payload, _ in said if opcode >= CLOSE]
    assert (end._header, end._left, end._message) == (b"", 0, 0)


@given(st.binary(max_size=40), st.lists(st.integers(1, 60), min_size=1, max_size=5), st.booleans())
def test_fragments_make_one_message(data: bytes, sizes: list[int], masked: bool) -> None:
    places = [sum(sizes[:at]) for at in range(1, len(sizes))]
    parts = cut(data, places)
    wire = b""
    for at, part in enumerate(parts):
        opcode = CONTINUATION if at else BINARY
        wire += frame(opcode, part, fin=at == len(parts) - 1, key=KEY if masked else b"")
    assert messages(WebSocket(client=not masked), [wire]) == [(BINARY, data)]
    assert messages(WebSocket(client=not masked), singly(wire)) == [(BINARY, data)]


@st.composite
def noise(draw: st.DrawFn) -> bytes:
    wire = b""
    for _ in range(draw(st.integers(0, 5))):
        wire += draw(
            st.binary(max_size=8)
            | st.builds(
                frame,
                st.integers(0, 15),
                st.binary(max_size=140),
                fin=st.booleans(),
                key=st.sampled_from([b"", KEY]),
                bits=st.sampled_from([0, 0, 0, 1]),
            )
        )
    return wire


@settings(max_examples=400)
@given(noise(), st.booleans(), st.lists(st.integers(0, 700), max_size=6))
def test_noise_is_messages_or_a_protocol_error_however_it_is_split(
    data: bytes, client: bool, places: list[int]
) -> None:
    def outcome(parts: list[bytes]) -> list[Message] | int:
        end = WebSocket(client=client, max_frame=1 << 20)
        try:
            return messages(end, parts)
        except WebSocketError as error:
            return error.code
        finally:
            assert len(end._header) < 14
            assert len(end._control) <= websocket.MAX_CONTROL

    whole = outcome([data])
    assert whole == outcome(cut(data, places))
    assert whole == outcome(singly(data))


# The opening handshake


def test_the_accept_value_is_the_one_of_the_rfc() -> None:
    assert websocket.accept_value(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


REQUEST = {
    b"Host": b"a.b",
    b"Upgrade": b"WebSocket",
    b"Connection": b"keep-alive, Upgrade",
    b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ==",
    b"Sec-WebSocket-Version": b"13",
}


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({b"Upgrade": b""}, 400),
        ({b"Upgrade": b"h2c"}, 400),
        ({b"Sec-WebSocket-Version": b""}, 426),
        ({b"Sec-WebSocket-Version": b"8"}, 426),
        ({b"Sec-WebSocket-Key": b""}, 400),
        ({b"Sec-WebSocket-Key": b"c2hvcnQ="}, 400),
        ({b"Sec-WebSocket-Key": b"dGhlIHNhbXBsZSBub25jZQ=\xff"}, 400),
        ({b"sec-websocket-key": b"dGhlIHNhbXBsZSBub25jZQ=="}, 400),
    ],
)
def test_a_request_that_asks_for_something_else_is_refused(changes: dict[bytes, bytes], status: int) -> None:
    websocket.check_upgrade_request(list(REQUEST.items()))
    with pytest.raises(HTTPError) as caught:
        websocket.check_upgrade_request(list((REQUEST | changes).items()))
    assert caught.value.status == status


ANSWER = {
    b"Upgrade": b"websocket",
    b"Connection": b"Upgrade",
    b"Sec-WebSocket-Accept": b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
}


@pytest.mark.parametrize(
    "changes",
    [
        {b"Upgrade": b"h2c"},
        {b"Connection": b"close"},
        {b"Sec-WebSocket-Accept": b"s3pPLMBiTxaQ9kYGzzhZRbK+xOp="},
        {b"Sec-WebSocket-Accept": b""},
        {b"Sec-WebSocket-Extensions": b"permessage-deflate"},
        {b"Sec-WebSocket-Protocol": b"chat"},
    ],
)
def test_an_answer_that_opens_something_else_is_refused(changes: dict[bytes, bytes]) -> None:
    key = REQUEST[b"Sec-WebSocket-Key"]
    websocket.check_upgrade_answer(101, list(ANSWER.items()), key)
    with pytest.raises(HTTPError) as caught:
        websocket.check_upgrade_answer(101, list((ANSWER | changes).items()), key)
    assert caught.value.status == 502


def test_another_status_than_101_is_told_in_words() -> None:
    with pytest.raises(HTTPError, match="answered 403") as caught:
        websocket.check_upgrade_answer(403, [], b"")
    assert caught.value.status == 502


# Partners: wsproto byte for byte, trio-websocket with its own handshake


@given(said, st.booleans(), st.integers(1, 5000))
def test_wsproto_and_we_understand_each_other(said: list[Message], we_are_client: bool, step: int) -> None:
    ours = WebSocket(client=we_are_client)
    theirs = Connection(ConnectionType.SERVER if we_are_client else ConnectionType.CLIENT)

    heard: list[Message] = []
    pieces = b""
    for opcode, payload in said:
        theirs.receive_data(b"".join(ours.message([payload], opcode)))
        for event in theirs.events():
            if isinstance(event, wsproto.events.Ping):
                heard.append((PING, bytes(event.payload)))
            elif isinstance(event, wsproto.events.Pong):
                heard.append((PONG, bytes(event.payload)))
            else:
                assert isinstance(event, wsproto.events.TextMessage | wsproto.events.BytesMessage)
                text = isinstance(event, wsproto.events.TextMessage)
                pieces += event.data.encode() if isinstance(event.data, str) else event.data
                if event.message_finished:
                    heard.append((TEXT if text else BINARY, pieces))
                    pieces = b""
    assert heard == said

    wire = b""
    for opcode, payload in said:
        if opcode == PING:
            wire += theirs.send(wsproto.events.Ping(payload))
        elif opcode == PONG:
            wire += theirs.send(wsproto.events.Pong(payload))
        elif opcode == TEXT:
            wire += theirs.send(wsproto.events.TextMessage(payload.decode()))
        else:
            half = len(payload) // 2
            wire += theirs.send(wsproto.events.BytesMessage(payload[:half], message_finished=False))
            wire += theirs.send(wsproto.events.BytesMessage(payload[half:]))
    wire += theirs.send(wsproto.events.CloseConnection(4000, "done"))
    parts = [wire[at : at + step] for at in range(0, len(wire), step)]
    assert messages(ours, parts) == [*said, (CLOSE, b"\x0f\xa0done")]


async def read_head(stream: trio.abc.Stream) -> tuple[bytes, bytes]:
    data = b""
    while (end := http1.head_end(data)) < 0:
        data += await stream.receive_some()
    return data[:end], data[end:]


async def echo(stream: trio.abc.Stream, end: WebSocket, data: bytes) -> None:
    pieces = b""
    while not end.closed:
        for opcode, payload, ends in end.receive(memoryview(data)):
            if opcode == CLOSE:
                await stream.send_all(end.close(*websocket.close_reason(payload)))
            elif opcode == PING:
                await stream.send_all(b"".join(end.message([payload], PONG)))
            else:
                pieces += payload
                if ends:
                    await stream.send_all(b"".join(end.message([pieces], opcode)))
                    pieces = b""
        if not end.closed:
            data = bytes(await stream.receive_some())


async def converse(partner: trio_websocket.WebSocketConnection) -> None:
    """What trio-websocket says to our echo, and expects back."""
    for said in "grüß dich", b"", bytes(range(256)) * 300:
        await partner.send_message(said)
        assert await partner.get_message() == said
    await partner.ping(b"there?")
    await partner.aclose(4001, "enough")
    assert partner.closed
    assert (partner.closed.code, partner.closed.reason) == (4001, "enough")


async def test_our_server_serves_trio_websockets_client() -> None:
    ours, theirs = map(trio.SocketStream, trio.socket.socketpair())

    async def serve() -> None:
        head, rest = await read_head(ours)
        accept = websocket.check_upgrade_request(http1.parse_request(head).fields)
        fields = [(b"Connection", b"Upgrade"), (b"Upgrade", b"websocket"), (b"Sec-WebSocket-Accept", accept)]
        await ours.send_all(http1.encode_response(101, b"Switching Protocols", fields))
        await echo(ours, WebSocket(client=False), rest)
        await ours.aclose()

    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        partner = await trio_websocket.wrap_client_stream(nursery, theirs, "a.b", "/x")
        await converse(partner)


async def test_our_client_visits_trio_websockets_server() -> None:
    ours, theirs = map(trio.SocketStream, trio.socket.socketpair())

    async def visit() -> None:
        key = websocket.new_key()
        fields = REQUEST | {b"Sec-WebSocket-Key": key}
        await ours.send_all(http1.encode_request(b"GET", b"/x", fields.items()))
        head, rest = await read_head(ours)
        answer = http1.parse_response(head, b"GET")
        websocket.check_upgrade_answer(answer.status, answer.fields, key)
        await echo(ours, WebSocket(client=True), rest)

    async with ours, theirs, trio.open_nursery() as nursery:
        nursery.start_soon(visit)
        request = await trio_websocket.wrap_server_stream(nursery, theirs)
        assert request.path == "/x"
        await converse(await request.accept())
