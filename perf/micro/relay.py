"""The codecs of a session in a row, as a node uses them for a download: a large read in, payload out, and back."""

from engine.wire.websocket import WebSocket
from perf.micro.benchmark import Benchmark, Run
from perf.micro.mux import ends

READ = 1 << 18


def benchmarks() -> list[Benchmark]:
    return [
        Benchmark("relay-in", "256 KiB: unmask, demultiplex", _in, READ),
        Benchmark("relay-out", "256 KiB: frame, mask", _out, READ),
    ]


def _in() -> Run:
    agent, node = ends()
    stream = node.open()
    agent.receive(memoryview(node.grant(stream, 0)))
    theirs = agent.streams[stream.id]
    data = memoryview(b"".join(WebSocket(client=True).message([agent.data(theirs, READ), bytes(READ)])))
    websocket = WebSocket(client=False)

    def run() -> None:
        stream.receive_window = max(stream.receive_window, READ)
        for event in websocket.receive(data):
            node.receive(memoryview(event.data))

    return run


def _out() -> Run:
    _, node = ends()
    stream, websocket, payload = node.open(), WebSocket(client=True), bytes(READ)
    return lambda: websocket.message([node.data(stream, READ), payload])
