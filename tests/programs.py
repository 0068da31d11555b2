"""Real programs for a test: started on free ports of 127.0.0.1, their output kept, stopped by process id.

A test asks the fixture `programs` for one and need not think of its end. `Node` and its agents are the way
from a client to a service as users run it: with the installed command, or with a foreign one that takes the
same arguments.
"""

from __future__ import annotations

import itertools
import json
import os
import re
import shlex
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import trio

TRIODUCT = str(Path(sys.executable).with_name("trioduct"))
START_SECONDS = 15
DRAIN_SECONDS = 1
STOP_SECONDS = 10


# Not from the kernel's own range: a port that a test has yet to listen on, or will listen on again, must not
# become the near end of somebody's connection in between. Where to begin differs between runs side by side, and the
# two workers of one run (pytest-xdist's gw0 and gw1) begin half of the range apart.
_WORKER = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_RUN = int(os.environ.get("PYTEST_XDIST_TESTRUNUID", f"{os.getpid():x}")[:8], 16)
_ports = itertools.islice(itertools.cycle(range(20_000, 32_000)), _RUN % 300 * 20 + _WORKER % 2 * 6_000, None)


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens, and which no other test of this run was given."""
    for port in _ports:
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise AssertionError("the cycle has no end")


def path_of(program: str) -> str | None:
    """Where a program is installed, if it is; servers are where only root looks for them."""
    return shutil.which(program, path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin")


def needs(*programs: str) -> pytest.MarkDecorator:
    """Skips a test on a machine that lacks one of these programs."""
    missing = [program for program in programs if not path_of(program)]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


# A Go Piko, if the environment names one.
PIKO = os.environ.get("PIKO", "")
needs_piko = pytest.mark.skipif(not PIKO, reason="PIKO does not name a Piko binary")


def piko() -> str:
    """A Go Piko, for a synchronous test, which is skipped without one (pytest-trio would lose the reason)."""
    return PIKO or pytest.skip("PIKO does not name a Piko binary")


class Program:
    """A process and the lines that it wrote, to either of its outputs. Made by `Programs.start`."""

    def __init__(self, process: trio.Process, words: Sequence[str]) -> None:
        self.process = process
        self.words = words  # that started it
        self.lines: list[str] = []
        self._written = trio.Event()
        self._ended = trio.Event()

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def resident_kib(self) -> int:
        """Memory in use now (Linux)."""
        return self._memory_kib("VmRSS")

    def peak_kib(self) -> int:
        """The most memory that was ever in use (Linux)."""
        return self._memory_kib("VmHWM")

    def _memory_kib(self, field: str) -> int:
        status = Path(f"/proc/{self.pid}/status").read_text()
        return int(status.partition(f"{field}:")[2].split()[0])

    async def wait_line(self, pattern: str, *, seen: int = 0) -> re.Match[str]:
        """The first line, past or future, that has the pattern (not one of the first `seen`). Deadlines are the
        caller's.
        """
        while True:
            for line in self.lines[seen:]:
                if match := re.search(pattern, line):
                    return match
            seen = len(self.lines)
            if self._ended.is_set():
                raise RuntimeError(f"it ended without a line like {pattern!r}:\n{self.text}")
            await self._written.wait()

    async def wait_lines(self, number: int) -> None:
        """Return when it has written so many lines. Deadlines are the caller's."""
        while len(self.lines) < number:
            await self._written.wait()

    async def wait_end(self) -> int:
        """Wait until it has ended and all that it wrote is here; returns the exit status."""
        await self._ended.wait()
        return await self.process.wait()

    async def stop(self, sign: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status (negative: killed by that signal)."""
        self.process.send_signal(sign)
        return await self.wait_end()

    async def _collect(self) -> None:
        stream = self.process.stdout
        assert stream is not None
        rest = b""
        async with stream:
            async for chunk in stream:
                *whole, rest = (rest + chunk).split(b"\n")
                self._append(whole)
        self._ended.set()
        self._append([rest] if rest else [])

    def _append(self, lines: list[bytes]) -> None:
        self.lines += [line.decode("utf-8", "backslashreplace") for line in lines]
        self._written.set()
        self._written = trio.Event()


class Programs:
    """What a test started. Everything still running is stopped when the test ends."""

    def __init__(self, nursery: trio.Nursery) -> None:
        self._nursery = nursery
        self._started: list[Program] = []

    async def start(
        self, *command: str | Path, port: int | None = None, env: Mapping[str, str] | None = None
    ) -> Program:
        """Start a program by its name or path; with `port`, return when it accepts connections there."""
        name, *arguments = (str(word) for word in command)
        process = await trio.lowlevel.open_process(
            [path_of(name) or name, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            env=clean_environment() | dict(env or {}),
        )
        program = Program(process, [name, *arguments])
        self._started.append(program)
        self._nursery.start_soon(program._collect)
        if port is not None:
            with trio.fail_after(START_SECONDS):
                while not await accepts(port):
                    if process.poll() is not None:
                        raise RuntimeError(f"{command} ended with {process.returncode}:\n{program.text}")
        return program

    def __str__(self) -> str:
        """What they all said last, for somebody who has to find out why a test failed."""
        return "\n".join(
            f"--- {program.process.args!r} (status {program.process.poll()})\n" + "\n".join(program.lines[-20:])
            for program in self._started
        )

    def keep(self, folder: Path) -> None:
        """Write what each of them was told and has written to a file of its own (see `tests.canary`)."""
        for program in self._started:
            text = f"{shlex.join(program.words)}\n{program.text}\n"
            (folder / f"{program.pid}.txt").write_text(text, errors="backslashreplace")

    async def _stop_all(self) -> None:
        running = [program.process for program in self._started if program.process.poll() is None]
        for seconds in (DRAIN_SECONDS, STOP_SECONDS):  # a second signal ends who drains
            for process in running:
                process.terminate()
            with trio.move_on_after(seconds):
                for process in running:
                    await process.wait()
                return
        for process in running:
            if process.poll() is None:
                process.kill()
                await process.wait()


@asynccontextmanager
async def open_programs(seconds: float) -> AsyncIterator[Programs]:
    """Stops what it started when the block ends; ends the block with TooSlowError after so many seconds."""

    async def give_up() -> None:
        await trio.sleep(seconds)
        # Raised here, in Trio, because what pytest-timeout raises leaves the programs running.
        raise trio.TooSlowError(f"not done after {seconds:g} s; what the programs said:\n{programs}")

    async with trio.open_nursery() as nursery:
        programs = Programs(nursery)
        nursery.start_soon(give_up)
        try:
            yield programs
        finally:
            with trio.CancelScope(shield=True):
                await programs._stop_all()
            nursery.cancel_scope.cancel()


def clean_environment() -> dict[str, str]:
    """This environment without what would lead a program elsewhere: proxies, and settings of its own."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith(("PIKO", "TRIODUCT"))
    }


async def accepts(port: int) -> bool:
    """Whether something listens there; asked in a loop, it gives the others a moment each time."""
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        await trio.sleep(0.02)
        return False
    await stream.aclose()
    return True


# A tunnel ---------------------------------------------------------------------------------------------------


@dataclass
class Node:
    """A node, ours or a foreign one. Its ports are known before it starts, and it can come back on them.

    Without `programs` somebody else starts it, by its `words`.
    """

    programs: Programs | None = None
    command: str = TRIODUCT
    options: tuple[str, ...] = ()
    proxy: int = field(default_factory=free_port)
    upstream: int = field(default_factory=free_port)
    admin: int = field(default_factory=free_port)

    async def start(self) -> Program:
        assert self.programs is not None
        return await self.programs.start(*self.words(), port=self.admin)

    def words(self) -> list[str]:
        """The command that starts it."""
        return [
            self.command,
            "server",
            f"--proxy.bind-addr=127.0.0.1:{self.proxy}",
            f"--upstream.bind-addr=127.0.0.1:{self.upstream}",
            f"--admin.bind-addr=127.0.0.1:{self.admin}",
            *self.foreign_options(),
            *self.options,
        ]

    def foreign_options(self) -> list[str]:
        # A Go Piko always gossips; ours says that it does not.
        return [] if self.command == TRIODUCT else [f"--cluster.gossip.bind-addr=127.0.0.1:{free_port()}"]

    async def start_agent(
        self, endpoint: str, service: int, *options: str, kind: str = "http", command: str = TRIODUCT
    ) -> Program:
        """An agent that offers the service's port here as `endpoint`; see `wait_registered`."""
        assert self.programs is not None
        url = f"--connect.url=http://127.0.0.1:{self.upstream}"
        return await self.programs.start(command, "agent", kind, endpoint, str(service), url, *options)

    async def wait_registered(self, endpoint: str, sessions: int = 1) -> None:
        """Return when the node counts so many sessions of the endpoint. Deadlines are the caller's."""
        # Asked again and again: the node is another process, which sends no events.
        while (await self.endpoints()).get(endpoint, 0) != sessions:  # noqa: ASYNC110
            await trio.sleep(0.02)

    async def endpoints(self) -> dict[str, int]:
        status, body = await get(self.admin, "/status/upstream/endpoints")
        assert status == 200, body
        counted: dict[str, int] = json.loads(body)
        return counted


async def get(port: int, path: str) -> tuple[int, str]:
    """One GET, in as few words as HTTP allows: status and body. In 1.0 the body ends with the connection."""
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        await stream.send_all(f"GET {path} HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n".encode())
        answer = b"".join([chunk async for chunk in stream])
    head, _, body = answer.decode().partition("\r\n\r\n")
    return int(head.split()[1]), body
