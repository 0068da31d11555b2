"""CPU, memory and context switches of the processes in the path, each by the name of its leg.

Only counters that the kernel keeps are read, before and after: nothing runs inside or beside the
processes. A leg is a process and its children (nginx has workers), as they are when the probe is read.
"""

import contextlib
import re
import time
from collections.abc import Mapping
from pathlib import Path

import msgspec
import psutil

SWITCHES = re.compile(r"^((?:non)?voluntary)_ctxt_switches:\s*(\d+)$", re.MULTILINE)
CPUCLOCK_SCHED = 2  # of a whole process, threads that have ended among them
PEAK = re.compile(r"^VmHWM:\s*(\d+) kB$", re.MULTILINE)


class Usage(msgspec.Struct, frozen=True):
    """What a leg had used up when it was read, or, as a difference, what it used in between."""

    cpu_seconds: float = 0.0
    waits: int = 0  # context switches because there was nothing to do
    evictions: int = 0  # context switches because somebody else wanted the core
    # Never differences: memory at the time of reading, and the most that each process has had so far.
    resident_bytes: int = 0
    peak_bytes: int = 0

    def since(self, before: "Usage") -> "Usage":
        return Usage(
            cpu_seconds=self.cpu_seconds - before.cpu_seconds,
            waits=self.waits - before.waits,
            evictions=self.evictions - before.evictions,
            resident_bytes=self.resident_bytes,
            peak_bytes=self.peak_bytes,
        )


def read_legs(pids: Mapping[str, int]) -> dict[str, Usage]:
    """What each leg has used so far; a leg that is gone reads as nothing."""
    return {leg: read_leg(pid) for leg, pid in pids.items()}


def read_leg(pid: int) -> Usage:
    cpu, waits, evictions, resident, peak = 0.0, 0, 0, 0, 0
    for process in family(pid):
        try:
            with process.oneshot():
                times = process.cpu_times()
                cpu += times.user + times.system
                resident += process.memory_info().rss
            peak += 1024 * sum(map(int, PEAK.findall(Path(f"/proc/{process.pid}/status").read_text())))
        except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
            continue
        # psutil's own count is that of the first thread alone.
        for status in Path(f"/proc/{process.pid}/task").glob("*/status"):
            with contextlib.suppress(OSError):  # threads end
                said = dict(SWITCHES.findall(status.read_text()))
                waits += int(said["voluntary"])
                evictions += int(said["nonvoluntary"])
    return Usage(cpu, waits, evictions, resident, peak)


def ran_seconds(pid: int) -> float:
    """The CPU time of a process without its children, to the nanosecond, where `read_leg` has ticks of 10 ms.

    Raises OSError if it is gone.
    """
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)  # clock_getcpuclockid(3), which Python does not have


def family(pid: int) -> list[psutil.Process]:
    """A process and its children; nobody if it is gone."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def used_between(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, Usage]:
    return {leg: usage.since(before.get(leg, Usage())) for leg, usage in after.items()}
