"""Programs that a topology starts: each kept by its pid, its output in a file, stopped in reverse order.

Every program gets a session of its own, so that Ctrl-C reaches the lab alone and the lab decides who ends
when.
"""

import os
import random
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from perf.errors import LabError, MissingProgram

START_SECONDS = 20.0
STOP_SECONDS = 5.0


class Started:
    """A running program: the name of its leg, its process, the file with what it said."""

    def __init__(self, leg: str, command: str, process: trio.Process, output: Path) -> None:
        self.leg = leg
        self.command = command
        self.process = process
        self.output = output

    @property
    def pid(self) -> int:
        return self.process.pid

    def last_words(self) -> str:
        text = self.output.read_bytes()[-2000:].decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"

    def check(self) -> None:
        """Raise LabError if the program has ended."""
        if (code := self.process.poll()) is not None:
            raise LabError(f"{self.leg} ended with {_exit(code)}: {self.last_words()} ({self.command})")

    async def answers_at(self, port: int) -> None:
        """Wait until the program accepts connections on the port. LabError if it ends or never does."""
        with trio.move_on_after(START_SECONDS):
            while True:
                self.check()
                try:
                    stream = await trio.open_tcp_stream("127.0.0.1", port)
                except OSError:
                    await trio.sleep(0.02)
                else:
                    await stream.aclose()
                    return
        raise LabError(f"{self.leg} does not answer on port {port}: {self.last_words()} ({self.command})")

    async def stop(self) -> None:
        """SIGTERM, then SIGKILL to its whole family: also when the lab itself is being cancelled."""
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_SECONDS):
            if self.process.poll() is None:
                self.process.terminate()
            await self.process.wait()
        try:
            os.killpg(self.pid, signal.SIGKILL)  # the session is named after its first process
        except ProcessLookupError:
            return
        with trio.CancelScope(shield=True):
            await self.process.wait()


class Ground:
    """A directory for files and the programs started so far."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.started: list[Started] = []

    async def start(
        self, leg: str, argv: Sequence[str | Path], *, environment: Mapping[str, str] | None = None
    ) -> Started:
        """Start a program; it is stopped when the ground is left. MissingProgram if it is not there."""
        words = [str(word) for word in argv]
        output = self.directory / f"{leg}-{len(self.started)}.log"
        with output.open("wb") as file:
            try:
                process = await trio.lowlevel.open_process(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=file,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                    env=clean_environment() | dict(environment or {}),
                )
            except OSError as error:
                raise MissingProgram(f"{leg}: cannot start {argv[0]}: {error.strerror}") from error
        started = Started(leg, shlex.join(words), process, output)
        self.started.append(started)
        return started


@asynccontextmanager
async def open_ground() -> AsyncIterator[Ground]:
    """Own what is started inside: stopped in reverse order, also on an error or Ctrl-C; its files are
    removed.
    """
    with tempfile.TemporaryDirectory(prefix="trioduct-perf-") as directory:
        ground = Ground(Path(directory))
        try:
            yield ground
        finally:
            for started in reversed(ground.started):
                await started.stop()


def find_program(name: str, *, variable: str | None = None, hint: str = "") -> Path:
    """A program's path: a path as given, else what the environment variable says, else PATH."""
    if "/" in name:
        found: str | None = name if os.access(name, os.X_OK) else None
    else:
        named = os.environ.get(variable) if variable else None
        found = shutil.which(named or name)
    if found is None:
        where = f"; name it in the environment variable {variable}" if variable else ""
        raise MissingProgram(f"the program {name} is not installed{where}{hint and f' ({hint})'}")
    return Path(found)


def version_said(program: Path, option: str) -> str:
    """The first line that a program says of itself. LabError if it is no program, or does not end."""
    try:
        answer = subprocess.run(
            [program, option], capture_output=True, text=True, timeout=20, check=False, env=clean_environment()
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise LabError(f"{program} {option} failed: {error}") from error
    return next(iter((answer.stdout.strip() or answer.stderr.strip()).splitlines()), "of unknown version")


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on, below the range that outgoing connections are given."""
    for _ in range(1000):
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port
    raise LabError("no free port between 20000 and 32000 on 127.0.0.1")


def clean_environment() -> dict[str, str]:
    """The environment without the user's proxies: nothing here may leave 127.0.0.1 through them."""
    proxies = {"http_proxy", "https_proxy", "all_proxy", "no_proxy"}
    return {name: value for name, value in os.environ.items() if name.lower() not in proxies}


def _exit(code: int) -> str:
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"code {code}"
