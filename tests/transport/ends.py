"""A Duplex in memory, for tests: what was put is in `said`, what happened to it in plain attributes."""

from __future__ import annotations

from engine.transport.duplex import NOBODY, Bytes, Receiver


class End:
    """Takes everything at once, or nothing while `full` (then `put` answers False, as a real one would)."""

    def __init__(self) -> None:
        self.receiver: Receiver = NOBODY
        self.said = b""
        self.full = False
        self.paused = False
        self.ended = False
        self.closed = False
        self.aborted = False

    @property
    def backlog(self) -> int:
        return len(self.said) if self.full else 0

    def put(self, *parts: Bytes) -> bool:
        assert not self.aborted
        assert not self.ended
        assert not self.closed
        self.said += b"".join(parts)
        return not self.full

    def end(self) -> None:
        self.ended = True

    def close(self) -> None:
        self.receiver = NOBODY
        self.closed = True

    def abort(self) -> None:
        self.receiver = NOBODY
        self.aborted = True

    def pause(self) -> None:
        self.paused = True

    def resume(self) -> None:
        self.paused = False

    # -- what the other side does

    def hear(self, data: bytes) -> None:
        self.receiver.received(memoryview(data))

    def hear_by_bytes(self, data: bytes) -> None:
        for position in range(len(data)):
            self.hear(data[position : position + 1])

    def hear_end(self) -> None:
        self.receiver.ended()

    def break_off(self) -> None:
        receiver, self.receiver = self.receiver, NOBODY
        receiver.lost(ConnectionResetError("reset"))

    def drain(self) -> None:
        self.full = False
        self.receiver.drained()

    def take_said(self) -> bytes:
        said, self.said = self.said, b""
        return said
