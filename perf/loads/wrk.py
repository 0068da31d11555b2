"""wrk as the generator: it checks our closed loop, and costs the least CPU.

It is told by a small script to print its counters and its histogram of latencies as JSON. wrk has one
histogram with a precision of 1 µs; like any closed loop's, its latencies leave out what nobody asked for
during a stall.
"""

import resource
import shutil
import subprocess
from pathlib import Path

import msgspec

from perf.errors import LoadFailed, MissingProgram
from perf.loads.load import Load
from perf.loads.outcome import Outcome, Watch
from perf.loads.target import Target
from perf.statistics import histogram

SCRIPT = Path(__file__).with_name("wrk.lua")
VARIED_SCRIPT = Path(__file__).with_name("varied.lua")
GRACE_SECONDS = 10


class _Said(msgspec.Struct):
    microseconds: int
    answers: int
    bytes: int
    latency: dict[int, int]
    errors: dict[str, int]


class Wrk(Load, frozen=True, kw_only=True, tag="wrk"):
    connections: int = 32
    path: str = ""  # "" is the target's own
    threads: int = 1
    keep_alive: bool = True
    varied: bool = False  # no two heads are the same, below /varied/; else all are

    def generate(self, target: Target, watch: Watch) -> Outcome:
        if target.via or target.tls:
            raise LoadFailed("wrk connects straight to a plain target here; `closed` takes any way")
        if self.warmup_seconds >= 1:
            self._run(target, self.warmup_seconds)
        watch.begin()
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        said = self._run(target, self.seconds)
        outcome = watch.end()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        outcome.seconds = said.microseconds / 1e6
        outcome.answers = said.answers - said.errors["status"]
        outcome.bytes_down = said.bytes
        outcome.errors = {kind: count for kind, count in said.errors.items() if count}
        if said.latency:
            outcome.latency = histogram.encoded(histogram.histogram_of(said.latency))
        outcome.generators = self.threads
        outcome.generator_cpu_seconds = sum(after[:2]) - sum(before[:2])
        return outcome

    def _run(self, target: Target, seconds: float) -> _Said:
        program = shutil.which("wrk")
        if program is None:
            raise MissingProgram("the program wrk is not installed")
        argv = [
            program,
            "-t",
            str(self.threads),
            "-c",
            str(self.connections),
            "-d",
            f"{max(1, round(seconds))}s",
        ]
        for name, value in (("Host", target.host_field), *target.headers):
            argv += ["-H", f"{name}: {value}"]
        if not self.keep_alive:
            argv += ["-H", "Connection: close"]
        argv += [
            "-s",
            str(VARIED_SCRIPT if self.varied else SCRIPT),
            f"http://{target.host}:{target.port}{self.path or target.path}",
        ]
        answer = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=seconds + GRACE_SECONDS)
        _, found, said = answer.stdout.rpartition("\nJSON ")
        if answer.returncode or not found:
            raise LoadFailed(f"wrk failed: {(answer.stderr or answer.stdout).strip()[:200]}")
        return msgspec.json.decode(said, type=_Said, strict=False)
