"""The client processes: one for each task, so that its CPU time is known exactly."""

import resource
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, Protocol

import msgspec
import trio

from perf.errors import LoadFailed, MissingProgram
from perf.topologies.processes import clean_environment
from perf.wayout.way import Errand, Order, Spent, Way

ERRAND_SECONDS = 120.0


class Client(Protocol):
    async def spend(self, way: Way, errand: Errand) -> Spent:
        """Do an errand and say what it took. Raises LoadFailed in the client's own words."""
        ...


class Ours:
    """`perf.wayout.visitor`, a Trio program with `open_tunnel`."""

    async def spend(self, way: Way, errand: Errand) -> Spent:
        argv = [sys.executable, "-m", "perf.wayout.visitor"]
        ended = await run(argv, msgspec.json.encode(Order(way, errand)), way.environment)
        if ended.code:
            raise LoadFailed(f"ours: {ended.last_words}")
        return msgspec.json.decode(ended.output, type=Spent)


class Ended(NamedTuple):
    """A process that has ended, and all the processor time that it took."""

    code: int
    output: bytes
    last_words: str
    cpu_seconds: float


async def run(argv: Sequence[str | Path], said: bytes, environment: Mapping[str, str]) -> Ended:
    """A program from start to end, with standard input. Only one at a time is measured right."""
    before = _children_seconds()
    try:
        with trio.fail_after(ERRAND_SECONDS):
            done = await trio.run_process(
                [str(word) for word in argv],
                stdin=said,
                capture_stdout=True,
                capture_stderr=True,
                check=False,
                start_new_session=True,  # Ctrl-C is for the lab
                env=clean_environment() | dict(environment),
            )
    except OSError as error:
        raise MissingProgram(f"cannot start {argv[0]}: {error.strerror}") from error
    except trio.TooSlowError:
        raise LoadFailed(f"{argv[0]} did not end within {ERRAND_SECONDS:g} s") from None
    return Ended(done.returncode, done.stdout, _last_words(done), _children_seconds() - before)


def _children_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _last_words(done: "subprocess.CompletedProcess[bytes]") -> str:
    lines = [line for line in done.stderr.decode(errors="replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else f"it ended with {done.returncode} and said nothing"
