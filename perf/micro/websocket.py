"""Frames, in both roles, small and large."""

import itertools

from engine.wire import websocket
from perf.micro.benchmark import Benchmark, Run

SMALL, LARGE = 140, 1 << 18


def benchmarks() -> list[Benchmark]:
    return [
        Benchmark("websocket-send-small", "a masked message of 140 B", lambda: _send(SMALL), SMALL),
        Benchmark("websocket-receive-small", "64 masked messages of 140 B", lambda: _receive(SMALL, 64), 64 * SMALL),
        Benchmark("websocket-send-large", "a masked message of 256 KiB", lambda: _send(LARGE), LARGE),
        Benchmark("websocket-receive-large", "a masked message of 256 KiB", lambda: _receive(LARGE, 1), LARGE),
    ]


def _send(size: int) -> Run:
    client, payload = websocket.WebSocket(client=True), bytes(size)
    return lambda: client.message([payload])


def _receive(size: int, count: int) -> Run:
    client, server = websocket.WebSocket(client=True), websocket.WebSocket(client=False)
    pieces = itertools.chain.from_iterable(client.message([bytes(size)]) for _ in range(count))
    data = memoryview(b"".join(pieces))
    return lambda: server.receive(data)
