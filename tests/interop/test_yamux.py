"""hashicorp's yamux, by a small Go program (yamux_peer), at the other end of our sessions, in both roles."""

from __future__ import annotations

import random
import shutil
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from engine.wire import mux, yamux
from engine.wire.mux import Mux, StreamState
from engine.wire.yamux import INITIAL_WINDOW
from tests.programs import Program, Programs

pytestmark = [pytest.mark.interpreted, pytest.mark.timeout(300)]  # of which Go's first build is most


@pytest.fixture(scope="session")
def peer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Go program, built."""
    go = shutil.which("go") or pytest.skip("there is no Go toolchain")
    program = tmp_path_factory.mktemp("go") / "yamux_peer"
    subprocess.run(
        [go, "build", "-buildvcs=false", "-o", program, "."], cwd=Path(__file__).with_name("yamux_peer"), check=True
    )
    return program


class Line(StreamState):
    """A stream that sends what is queued as its window allows, and hears what comes."""

    def __init__(self, stream_id: int) -> None:
        super().__init__(stream_id)
        self.queue = bytearray()
        self.heard = bytearray()
        self.hangs_up = False  # ends when the queue is empty


class Session:
    """Our end of a session with the Go program: one task reads, `send` writes what has been collected.

    `echoes` says whether streams say back what they hear, window by window, and end when they are ended.
    """

    def __init__(self, stream: trio.SocketStream, program: Program, *, client: bool, echoes: bool) -> None:
        self.mux = Mux(client=client, accepts=True, new_stream=Line)
        self.program = program
        self.gone: list[int] = []
        self.reset: list[int] = []
        self.opened: list[int] = []
        self.ponged: list[int] = []
        self.away: int | None = None
        self.out = bytearray()
        self._stream = stream
        self._echoes = echoes

    async def send(self) -> None:
        out, self.out = self.out, bytearray()
        await self._stream.send_all(out)

    async def step(self) -> bool:
        """Take one read's worth; False at the end."""
        await self.send()
        data = await self._stream.receive_some(1 << 16)
        for what, line, value in self.mux.receive(memoryview(data)):
            if line is not None:
                self._hear(what, line, value)
            elif what == mux.PINGED:
                assert isinstance(value, int)
                self.out += self.mux.pong(value)
            elif what == mux.PONGED:
                assert isinstance(value, int)
                self.ponged.append(value)
            else:
                assert isinstance(value, int)
                self.away = value
        return bool(data)

    def _hear(self, what: int, line: Line, value: memoryview | int) -> None:
        if what == mux.OPENED:
            self.opened.append(line.id)
        elif what == mux.RECEIVED:
            assert isinstance(value, memoryview)
            (line.queue if self._echoes else line.heard).extend(value)
            if not self._echoes:
                self.out += self.mux.grant(line, len(value))
        elif what == mux.ENDED:
            line.hangs_up = True
            if line.gone:
                self.gone.append(line.id)
        elif what == mux.RESET:
            self.reset.append(line.id)
            return
        self.talk(line)

    def talk(self, line: Line) -> None:
        size = min(len(line.queue), line.send_window)
        if size:
            self.out += self.mux.data(line, size) + line.queue[:size]
            del line.queue[:size]
            if self._echoes and not line.ended_there:
                self.out += self.mux.grant(line, size)
        if line.hangs_up and not line.queue and not line.ended_here:
            self.out += self.mux.end(line)
            if line.gone:
                self.gone.append(line.id)


@asynccontextmanager
async def session_with(
    programs: Programs, peer: Path, *arguments: str, client: bool, echoes: bool = False
) -> AsyncIterator[Session]:
    """A session whose other end, in the other role, is the Go program with `arguments`."""
    [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with listener:
        port = listener.socket.getsockname()[1]
        role = "server" if client else "client"
        program = await programs.start(peer, role, f"127.0.0.1:{port}", *arguments)
        stream = await listener.accept()
    async with stream:
        yield Session(stream, program, client=client, echoes=echoes)


@pytest.mark.parametrize("client", [True, False], ids=["we are the client", "we are the server"])
@pytest.mark.parametrize(("streams", "size"), [(1, 5_000_000), (50, 100_000), (200, 1)])
async def test_hashicorps_streams_are_served(
    programs: Programs, peer: Path, client: bool, streams: int, size: int
) -> None:
    # Many streams at once: their SYNs overtake one another.
    async with session_with(programs, peer, "call", str(streams), str(size), client=client, echoes=True) as ours:
        while await ours.step():
            pass
        assert await ours.program.wait_end() == 0, ours.program.text
    assert ours.program.lines == ["ok"]
    assert (len(ours.opened), len(ours.gone), ours.reset, ours.away) == (streams, streams, [], yamux.NORMAL)
    assert {stream_id % 2 for stream_id in ours.opened} == {0 if client else 1}
    assert not ours.mux.streams


@pytest.mark.parametrize("client", [True, False], ids=["we are the client", "we are the server"])
@pytest.mark.parametrize(("streams", "size"), [(1, 5_000_000), (50, 100_000), (200, 1)])
async def test_hashicorp_serves_our_streams(
    programs: Programs, peer: Path, client: bool, streams: int, size: int
) -> None:
    async with session_with(programs, peer, "echo", client=client) as ours:
        lines = [ours.mux.open() for _ in range(streams)]
        said = random.Random(1).randbytes(size)
        for line in lines:
            line.queue += said
            line.hangs_up = True
            ours.talk(line)
        ours.out += ours.mux.ping(7)
        while len(ours.gone) < streams:
            assert await ours.step(), ours.program.text
    assert all(line.heard == said for line in lines)
    assert (ours.reset, ours.mux.pending, ours.ponged) == ([], 0, [7])


async def test_hashicorp_uses_a_window_larger_than_its_own(programs: Programs, peer: Path) -> None:
    async with session_with(programs, peer, "echo", client=False) as ours:
        line = ours.mux.open()
        ours.out += ours.mux.grant(line, 3 * INITIAL_WINDOW)
        said = bytes(4 * INITIAL_WINDOW)
        line.queue += said
        # Nothing more is granted, so all of it has to come back through what was granted at once.
        heard = 0
        while heard < len(said):
            await ours.send()
            data = await ours._stream.receive_some(1 << 16)
            for what, _, value in ours.mux.receive(memoryview(data)):
                if what == mux.RECEIVED:
                    assert isinstance(value, memoryview)
                    heard += len(value)
            ours.talk(line)
        assert line.receive_window == 0


async def test_hashicorp_resets_what_exceeds_its_backlog(programs: Programs, peer: Path) -> None:
    async with session_with(programs, peer, "idle", client=False) as ours:
        for _ in range(mux.MAX_PENDING + 5):
            ours.out += ours.mux.grant(ours.mux.open(), 0)
        while len(ours.reset) < 5:
            assert await ours.step(), ours.program.text
    assert len(ours.mux.streams) == ours.mux.pending == mux.MAX_PENDING


async def test_a_reset_of_ours_leaves_hashicorps_session_whole(programs: Programs, peer: Path) -> None:
    async with session_with(programs, peer, "echo", client=False) as ours:
        lost, kept = ours.mux.open(), ours.mux.open()
        for line in lost, kept:
            line.queue += b"hello"
            ours.talk(line)
        while lost.heard != b"hello":
            assert await ours.step()
        ours.out += ours.mux.reset(lost)
        kept.queue += b" again"
        kept.hangs_up = True
        ours.talk(kept)
        while not kept.gone:
            assert await ours.step(), ours.program.text
    assert bytes(kept.heard) == b"hello again"
    assert not ours.reset
