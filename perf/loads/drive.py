"""Apply a load: start its generator processes, let them begin together when all are ready, collect their results."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager, suppress

import msgspec
import trio

from perf.errors import LoadFailed
from perf.loads.load import Load
from perf.loads.outcome import Outcome, Progress, together
from perf.loads.target import Target
from perf.loads.worker import Order

GRACE_SECONDS = 30.0  # beyond its own time, after which a generator is given up


async def drive(
    load: Load,
    target: Target,
    *,
    begun: Callable[[], None] = lambda: None,
    ended: Callable[[], None] = lambda: None,
    heard: Callable[[Progress], None] = lambda _: None,
) -> Outcome:
    """Apply a load and return what its processes counted together.

    `begun` is called when the first of them is through its warm-up, `ended` when the last is done: the
    moments at which probes are read; `heard` what a generator tells meanwhile. Raises LoadFailed, with the
    generator's sentence, if one could not do its work.
    """
    driven = _Driven(load, target, begun, ended, heard)
    failures: list[str] = []
    with trio.move_on_after(load.warmup_seconds + load.seconds + GRACE_SECONDS) as limit:
        async with trio.open_nursery() as nursery:

            async def work(index: int) -> None:
                if failure := await driven.work(index):
                    failures.append(failure)
                    nursery.cancel_scope.cancel()  # the others would wait for it

            for index in range(load.processes):
                nursery.start_soon(work, index)
    if limit.cancelled_caught:
        raise LoadFailed(f"a generator did not end in its {load.seconds:g} s: the target stands still")
    if failures:
        raise LoadFailed(failures[0])
    return together(driven.outcomes)


class _Driven:
    """What the generators of one load have said so far."""

    def __init__(
        self,
        load: Load,
        target: Target,
        begun: Callable[[], None],
        ended: Callable[[], None],
        heard: Callable[[Progress], None],
    ) -> None:
        self._load = load
        self._target = target
        self._begun = begun
        self._ended = ended
        self._progress = heard
        self._counts = {"ready": 0, "begin": 0, "end": 0}
        self._everybody_ready = trio.Event()
        self._measure_from = 0.0
        self.outcomes: list[Outcome] = []

    async def work(self, index: int) -> str:
        """Start the generator `index` and hear it out; the sentence it failed with, if it did."""
        share = self._load if self._load.processes == 1 else self._load.share(index)
        async with _process() as process:
            assert process.stdin is not None
            await process.stdin.send_all(msgspec.json.encode(Order(share, self._target)) + b"\n")
            async with aclosing(_lines(process)) as lines:
                async for line in lines:
                    match msgspec.json.decode(line, type=str | dict[str, object]):
                        case str(moment):
                            self._heard(moment)
                            if moment == "ready":
                                await self._everybody_ready.wait()
                                await process.stdin.send_all(b"%f\n" % self._measure_from)
                        case {"recent": _}:
                            self._progress(msgspec.json.decode(line, type=Progress, strict=False))
                        case {"failed": str(sentence)}:
                            return sentence
                        case _:
                            self.outcomes.append(msgspec.json.decode(line, type=Outcome))
                            return ""
        return "a generator process died"

    def _heard(self, moment: str) -> None:
        self._counts[moment] += 1
        first, last = self._counts[moment] == 1, self._counts[moment] == self._load.processes
        if moment == "ready" and last:
            self._measure_from = time.monotonic() + self._load.warmup_seconds
            self._everybody_ready.set()
        elif moment == "begin" and first:
            self._begun()
        elif moment == "end" and last:
            self._ended()


async def _lines(process: trio.Process) -> AsyncGenerator[bytes, None]:
    assert process.stdout is not None
    said = b""
    while data := await process.stdout.receive_some():
        *lines, said = (said + data).split(b"\n")
        for line in lines:
            yield line


@asynccontextmanager
async def _process() -> AsyncIterator[trio.Process]:
    """A generator process in a session of its own; it and what it started are gone at the end."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "perf.loads.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        with trio.CancelScope(shield=True):
            await process.wait()
