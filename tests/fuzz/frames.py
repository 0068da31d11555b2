"""WebSocket, yamux and datagrams in frames: however they come, they mean the same, and nothing is kept of them."""

from __future__ import annotations

from itertools import cycle

from engine.errors import HTTPError, WebSocketError
from engine.wire import datagrams as udp
from engine.wire import websocket as ws
from engine.wire.datagrams import DatagramError
from engine.wire.http1.message import fields_of
from engine.wire.websocket import BINARY, CLOSE, MAX_CONTROL, WebSocket
from engine.wire.yamux import SYN, WINDOW_UPDATE, header
from tests.fuzz.pieces import cut, places, singly
from tests.wire import test_mux
from tests.wire.test_datagrams import encode, read
from tests.wire.test_websocket import Message, messages

MAX_FRAME = 1 << 20


def websocket(data: bytes) -> None:
    """What an open WebSocket hears, of either end; what it says in turn of what it has heard is heard as that."""
    for client in (False, True):
        heard = _heard([data], client)
        assert _heard(singly(data), client) == heard
        assert _heard(cut(data), client) == heard
        if isinstance(heard, int):
            continue
        _again(data, client)
        said = b"".join(b"".join(WebSocket(client=not client).message([body], opcode)) for opcode, body in heard)
        assert messages(WebSocket(client=client), [said]) == heard


def _heard(parts: list[bytes], client: bool) -> list[Message] | int:
    """The messages, or the code of the close that answers them."""
    end = WebSocket(client=client, max_frame=MAX_FRAME)
    try:
        return messages(end, parts)
    except WebSocketError as error:
        assert error.code in (ws.PROTOCOL_ERROR, ws.INVALID_PAYLOAD, ws.TOO_BIG)
        return error.code
    finally:
        assert len(end._header) < 14
        assert len(end._control) <= MAX_CONTROL


def _again(data: bytes, client: bool) -> None:
    """What of a binary message is put back comes again, and nothing else does."""
    end = WebSocket(client=client, max_frame=MAX_FRAME)
    whole = [(opcode, bytes(part)) for opcode, part, _ in end.receive(memoryview(data))]
    end = WebSocket(client=client, max_frame=MAX_FRAME)
    found: list[tuple[int, bytes]] = []
    view = memoryview(data)
    while True:
        end.position = 0
        for number in cycle(range(3)):
            event = end.next(view)
            if event is None:
                break
            opcode, part, _ = event
            taken = len(part) // 2 if opcode == BINARY and number else len(part)
            found.append((opcode, bytes(part[:taken])))
            if taken < len(part):
                end.put_back(len(part) - taken)
                break
        view = view[end.position :]
        if not view:
            break
    assert _joined(found) == _joined(whole)


def _joined(parts: list[tuple[int, bytes]]) -> tuple[bytes, list[tuple[int, bytes]]]:
    return b"".join(part for opcode, part in parts if opcode < CLOSE), [one for one in parts if one[0] >= CLOSE]


def handshake(data: bytes) -> None:
    """The fields of an opening handshake, as a request and as its answer."""
    fields = fields_of(b"x\r\n" + data + b"\r\n\r\n")
    try:
        accepted = ws.check_upgrade_request(fields)
    except HTTPError as error:
        assert error.status in (400, 426)
    else:
        assert len(accepted) == 28
    try:
        ws.check_upgrade_answer(101, fields, b"dGhlIHNhbXBsZSBub25jZQ==")
    except HTTPError as error:
        assert error.status == 502
    else:
        assert b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" in data


def yamux(data: bytes) -> None:
    """What an agent hears of a session, in which a stream is open."""
    session = header(WINDOW_UPDATE, SYN, 2, 0) + data
    whole = test_mux.outcome([session])
    for other in (
        test_mux.outcome(singly(session)),
        test_mux.outcome(cut(session)),
        test_mux.outcome_in_turns(session, cycle([7, *(place + 1 for place in places(data, 2))]), cycle([1, 2])),
    ):
        assert other[1] == whole[1]
        if not whole[1]:
            assert other == whole


def datagrams(data: bytes) -> None:
    """What one end of a tunnel of UDP hears: the first line, of either end, and frames."""
    for line in (udp.OPEN, udp.READY):
        ends = []
        for size in range(min(len(data), len(line)) + 1):
            try:
                ends.append(udp.line_end(data[:size], line))
            except DatagramError:
                ends.append(-2)
        assert ends == sorted(ends, key=lambda end: (end == -2, end))  # what is known for wrong, or right, stays so
        assert max(ends) <= 0 or data.startswith(line)
    heard = [_read(pieces) for pieces in ([data], singly(data), cut(data))]
    assert heard[0] == heard[1] == heard[2]
    if isinstance(heard[0], list):
        assert data.startswith(encode(heard[0]))


def _read(pieces: list[bytes]) -> list[tuple[int, bytes | None]] | str:
    try:
        return read(pieces)
    except DatagramError as error:
        return error.public
