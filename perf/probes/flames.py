"""Where running Python processes spend their time, seen from outside by py-spy: flame graphs, hottest functions."""

import re
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import trio

from perf.errors import MissingProgram

SAMPLES_PER_SECOND = 250
LONGEST_SECONDS = 3600
STOP_SECONDS = 20.0
FRAME = re.compile(r"(.+) \((.+?)(:\d+)?\)$")


class Flames(NamedTuple):
    """What is there about a leg after the watching: an SVG, and stacks as text (`a;b;c 12`)."""

    graph: Path
    stacks: Path


@asynccontextmanager
async def watched(pids: Mapping[str, int], folder: Path) -> AsyncIterator[dict[str, Flames]]:
    """Watch processes while the body runs; the files are there when it is left. Those that are not Python's have
    none.

    Raises MissingProgram if py-spy is not installed.
    """
    program = shutil.which("py-spy") or shutil.which("py-spy", path=str(Path(sys.executable).parent))
    if program is None:
        raise MissingProgram("the program py-spy is not installed (pip install py-spy)")
    found = {leg: Flames(folder / f"{leg}.svg", folder / f"{leg}.stacks") for leg, pid in pids.items() if _python(pid)}
    watchers: list[trio.Process] = []
    try:
        for leg, flames in found.items():
            # It writes one format at a time, so there are two of it.
            for kind, path in (("flamegraph", flames.graph), ("raw", flames.stacks)):
                argv = [program, "record", "--pid", str(pids[leg]), "--rate", str(SAMPLES_PER_SECOND), "--nonblocking"]
                argv += ["--format", kind, "--output", str(path), "--duration", str(LONGEST_SECONDS)]
                watcher = await trio.lowlevel.open_process(
                    argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
                )
                watchers.append(watcher)
        yield found
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + STOP_SECONDS):
            for watcher in watchers:
                watcher.send_signal(signal.SIGINT)  # it writes what it has
            for watcher in watchers:
                await watcher.wait()
        for watcher in watchers:
            if watcher.poll() is None:
                watcher.kill()


def hottest(stacks: Path, count: int = 15) -> list[tuple[str, float]]:
    """The functions in which most samples were taken, with their share of all."""
    own: Counter[str] = Counter()
    for line in stacks.read_text().splitlines():
        stack, _, samples = line.rpartition(" ")
        function = stack.rpartition(";")[2]
        frame = FRAME.match(function)
        own[f"{frame[1]} ({frame[2]})" if frame else function] += int(samples)
    return [(name, samples / own.total()) for name, samples in own.most_common(count)]


def _python(pid: int) -> bool:
    return b"python" in Path(f"/proc/{pid}/cmdline").read_bytes()
