"""CPU, memory and context switches of the processes in the path, each by the name of its leg.

Only counters that the kernel keeps are read, before and after: nothing runs inside or beside the
processes. A leg is a process and its children (nginx has workers), as they are when the probe is read.
"""

from collections.abc import Mapping

import msgspec
import psutil


class Usage(msgspec.Struct, frozen=True):
    """What a leg had used up when it was read, or, as a difference, what it used in between."""

    cpu_seconds: float = 0.0
    context_switches: int = 0
    resident_bytes: int = 0  # never a difference: memory at the time of reading

    def since(self, before: "Usage") -> "Usage":
        return Usage(
            cpu_seconds=self.cpu_seconds - before.cpu_seconds,
            context_switches=self.context_switches - before.context_switches,
            resident_bytes=self.resident_bytes,
        )


def read_legs(pids: Mapping[str, int]) -> dict[str, Usage]:
    """What each leg has used so far; a leg that is gone reads as nothing."""
    return {leg: read_leg(pid) for leg, pid in pids.items()}


def read_leg(pid: int) -> Usage:
    cpu, switches, resident = 0.0, 0, 0
    try:
        root = psutil.Process(pid)
        family = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return Usage()
    for process in family:
        try:
            with process.oneshot():
                times = process.cpu_times()
                counts = process.num_ctx_switches()
                cpu += times.user + times.system
                switches += counts.voluntary + counts.involuntary
                resident += process.memory_info().rss
        except psutil.NoSuchProcess:
            continue
    return Usage(cpu, switches, resident)


def used_between(before: Mapping[str, Usage], after: Mapping[str, Usage]) -> dict[str, Usage]:
    return {leg: usage.since(before.get(leg, Usage())) for leg, usage in after.items()}
