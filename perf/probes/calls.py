"""System calls of the processes in the path, counted by `strace -c` on each leg and its children.

strace stops a process twice in every call, which makes it several times slower: the counting has a round of its own, of
which nothing else is used.
"""

import shutil
import signal
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import trio

from perf.errors import LabError, MissingProgram
from perf.probes.legs import family

ATTACH_SECONDS = 5.0
STOP_SECONDS = 10.0


class Calls(msgspec.Struct, frozen=True):
    """How often each leg called what, and in how many answers and bytes."""

    answers: int
    transferred_bytes: int
    legs: dict[str, dict[str, int]]


def strace() -> str:
    """The program. Raises MissingProgram."""
    program = shutil.which("strace")
    if program is None:
        raise MissingProgram("the program strace is not installed")
    return program


@asynccontextmanager
async def counted(pids: Mapping[str, int]) -> AsyncIterator[dict[str, dict[str, int]]]:
    """Count while the body runs; the counts are there when it is left. Raises LabError if strace cannot attach."""
    program = strace()
    found: dict[str, dict[str, int]] = {}
    watchers: dict[str, trio.Process] = {}
    with tempfile.TemporaryDirectory(prefix="trioduct-perf-") as directory:
        try:
            for leg, pid in pids.items():
                watched = [process.pid for process in family(pid)]
                argv = [program, "-c", "-f", "-q", "-U", "name,calls", "-o", f"{directory}/{leg}"]
                for one in watched:
                    argv += ["-p", str(one)]
                watchers[leg] = await trio.lowlevel.open_process(argv, stderr=subprocess.PIPE, start_new_session=True)
                await _attached(leg, watchers[leg], watched)
            yield found
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_SECONDS):
                for watcher in watchers.values():
                    watcher.send_signal(signal.SIGINT)  # it lets go and writes what it has
                for watcher in watchers.values():
                    await watcher.wait()
            for watcher in watchers.values():
                if watcher.poll() is None:
                    watcher.kill()
        for leg in watchers:
            found[leg] = parse_summary(await trio.Path(directory, leg).read_text())


def parse_summary(text: str) -> dict[str, int]:
    """The table `name calls` as strace writes it, without its rules, head and total."""
    lines = [line.split() for line in text.splitlines()]
    return {
        words[0]: int(words[1]) for words in lines if len(words) == 2 and words[1].isdigit() and words[0] != "total"
    }


async def _attached(leg: str, watcher: trio.Process, pids: list[int]) -> None:
    assert watcher.stderr is not None
    said = bytearray()
    with trio.move_on_after(ATTACH_SECONDS):
        while watcher.poll() is None:
            if all(_tracer(pid) in (watcher.pid, None) for pid in pids):
                return
            await trio.sleep(0.01)
        said += await watcher.stderr.receive_some()
    words = said.decode(errors="replace").splitlines() or ["it said nothing"]
    raise LabError(f"strace cannot attach to {leg}: {words[0]}")


def _tracer(pid: int) -> int | None:
    """Who traces a process, 0 for nobody; None if the process has ended, which others notice."""
    try:
        return int(Path(f"/proc/{pid}/status").read_text().partition("\nTracerPid:\t")[2].partition("\n")[0])
    except OSError:
        return None
