"""yamux: frames of one stream, small and large, in and out."""

from engine.wire.mux import Mux, StreamState
from perf.micro.benchmark import Benchmark, Run

SMALL, LARGE, MANY = 140, 1 << 17, 64


def benchmarks() -> list[Benchmark]:
    return [
        Benchmark("mux-receive-small", "64 frames of 140 B", lambda: _receive(SMALL, MANY), MANY * SMALL),
        Benchmark("mux-receive-large", "a frame of 128 KiB", lambda: _receive(LARGE, 1), LARGE),
        Benchmark("mux-open-end", "open a stream, one frame, end it on both sides", _open_end),
    ]


def _receive(size: int, count: int) -> Run:
    agent, node = ends()
    stream = node.open()
    agent.receive(memoryview(node.grant(stream, 0)))
    data = memoryview(b"".join(node.data(stream, size) + bytes(size) for _ in range(count)))
    received = agent.streams[stream.id]
    amount = size * count

    def run() -> object:
        received.receive_window = max(received.receive_window, amount)
        return agent.receive(data)

    return run


def _open_end() -> Run:
    agent, node = ends()

    def run() -> None:
        stream = node.open()
        agent.receive(memoryview(node.data(stream, SMALL) + bytes(SMALL) + node.end(stream)))
        theirs = agent.streams[stream.id]
        node.receive(memoryview(agent.data(theirs, SMALL) + bytes(SMALL) + agent.end(theirs)))

    return run


def ends() -> tuple[Mux[StreamState], Mux[StreamState]]:
    """An agent's end, which accepts streams, and a node's, which opens them."""
    agent = Mux(client=True, accepts=True, new_stream=StreamState)
    return agent, Mux(client=False, accepts=False, new_stream=StreamState)
