"""Autobahn's WebSocket suite against our codec, in both roles: it attacks our echo server, our client echoes
it.

The suite (PyPI: autobahntestsuite) runs on Python 2.7 only, so it is not among the requirements: the
environment variable AUTOBAHN names its `wstest`. Cases 12 and 13 are about compression, which is never
negotiated here."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
import trio

from engine.errors import WebSocketError
from engine.wire import http1, websocket
from engine.wire.websocket import WebSocket
from tests.programs import Programs, free_port

# What may be said of a case. INFORMATIONAL is about what the RFC leaves open, NON-STRICT about the moment of
# a refusal, UNIMPLEMENTED about compression.
PASSED = {"OK", "INFORMATIONAL", "NON-STRICT", "UNIMPLEMENTED"}


def wstest() -> str:
    return os.environ.get("AUTOBAHN") or pytest.skip("AUTOBAHN does not name Autobahn's wstest")


async def echo(stream: trio.abc.Stream, end: WebSocket, data: bytes) -> None:
    """Answer each message with itself until the other end closes, or breaks the protocol."""
    message: list[bytes] = []
    while True:
        try:
            events = end.receive(memoryview(data))
        except WebSocketError as error:
            await stream.send_all(end.close(error.code, error.public[:100]))
            return
        for opcode, payload, ends in events:
            if opcode == websocket.PING:
                await stream.send_all(b"".join(end.message([payload], websocket.PONG)))
            elif opcode == websocket.CLOSE:
                code, _ = websocket.close_reason(payload)
                await stream.send_all(end.close(code))
                return
            elif opcode != websocket.PONG:
                message.append(bytes(payload))
                if ends:
                    await stream.send_all(b"".join(end.message(message, opcode)))
                    message = []
        data = bytes(await stream.receive_some(1 << 18))
        if not data:
            return


async def read_head(stream: trio.abc.Stream) -> tuple[bytes, bytes]:
    data = b""
    while (end := http1.head_end(data)) < 0:
        more = await stream.receive_some()
        if not more:
            raise ConnectionResetError("no handshake")
        data += more
    return data[:end], data[end:]


async def serve(stream: trio.SocketStream) -> None:
    async with stream:
        try:
            head, rest = await read_head(stream)
            request = http1.parse_request(head)
            fields = [
                (b"Connection", b"Upgrade"),
                (b"Upgrade", b"websocket"),
                (b"Sec-WebSocket-Accept", websocket.check_upgrade_request(request.fields)),
            ]
            await stream.send_all(http1.encode_response(101, b"Switching Protocols", fields))
            await echo(stream, WebSocket(client=False), rest)
        except (OSError, trio.BrokenResourceError):
            pass  # hanging up without a word is one of the suite's cases


async def visit(port: int, target: str) -> list[str]:
    """Open a WebSocket at `target`, echo until it is closed; returns the first messages, for the suite's
    own."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        key = websocket.new_key()
        fields = [
            (b"Host", b"127.0.0.1:%d" % port),
            (b"Connection", b"Upgrade"),
            (b"Upgrade", b"websocket"),
            (b"Sec-WebSocket-Version", b"13"),
            (b"Sec-WebSocket-Key", key),
        ]
        await stream.send_all(http1.encode_request(b"GET", target.encode(), fields))
        head, rest = await read_head(stream)
        response = http1.parse_response(head, b"GET")
        websocket.check_upgrade_answer(response.status, response.fields, key)
        if not target.startswith("/runCase"):
            end = WebSocket(client=True)
            said: list[str] = []
            while not said:
                said += [
                    str(data, "utf-8") for opcode, data, _ in end.receive(memoryview(rest)) if opcode == websocket.TEXT
                ]
                if end.closed:
                    break
                rest = await stream.receive_some()
                if not rest:
                    break
            return said
        with contextlib.suppress(trio.BrokenResourceError):
            await echo(stream, WebSocket(client=True), rest)
    return []


def verdicts(folder: Path) -> dict[str, str]:
    """Case to verdict, both of the behaviour and of how the connection was closed, where either is a
    failure."""
    report = json.loads((folder / "index.json").read_text())["engine"]
    assert len(report) > 300, f"only {len(report)} cases were run"
    return {
        case: f"{result['behavior']}, close {result['behaviorClose']}"
        for case, result in report.items()
        if result["behavior"] not in PASSED or result["behaviorClose"] not in PASSED
    }


@pytest.mark.timeout(1200)
async def test_our_server_withstands_autobahns_client(programs: Programs, tmp_path: Path) -> None:
    program = wstest()
    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        port = listeners[0].socket.getsockname()[1]
        spec = tmp_path / "spec.json"
        spec.write_text(
            json.dumps(
                {
                    "outdir": str(tmp_path / "report"),
                    "servers": [{"agent": "engine", "url": f"ws://127.0.0.1:{port}"}],
                    "cases": ["*"],
                    "exclude-cases": [],
                    "exclude-agent-cases": {},
                }
            )
        )
        started = await programs.start(program, "-m", "fuzzingclient", "-s", spec)
        await started.process.wait()
        nursery.cancel_scope.cancel()
    assert verdicts(tmp_path / "report") == {}


@pytest.mark.timeout(1200)
async def test_our_client_withstands_autobahns_server(programs: Programs, tmp_path: Path) -> None:
    program = wstest()
    port = free_port()
    spec = tmp_path / "spec.json"
    spec.write_text(
        json.dumps(
            {
                "outdir": str(tmp_path / "report"),
                "url": f"ws://127.0.0.1:{port}",
                "cases": ["*"],
                "exclude-cases": [],
                "exclude-agent-cases": {},
            }
        )
    )
    await programs.start(program, "-m", "fuzzingserver", "-s", spec, port=port)
    [count] = await visit(port, "/getCaseCount")
    for case in range(1, int(count) + 1):
        await visit(port, f"/runCase?case={case}&agent=engine")
    await visit(port, "/updateReports?agent=engine")
    assert verdicts(tmp_path / "report") == {}
