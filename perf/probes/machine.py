"""The machine and the versions that a figure was measured with; without them it cannot be judged later."""

import datetime
import os
import platform
import subprocess
import sys
from pathlib import Path

import msgspec
import psutil


class Facts(msgspec.Struct, frozen=True):
    date: str
    machine: str
    cores: int
    memory_gib: float
    kernel: str
    python: str
    load_average: float  # of the last minute, before the first round
    revision: str  # of the working copy the lab was started in, or ""


def facts() -> Facts:
    return Facts(
        date=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        machine=_cpu_model(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=round(psutil.virtual_memory().total / 2**30, 1),
        kernel=platform.release(),
        python=sys.version.split()[0],
        load_average=round(os.getloadavg()[0], 2),
        revision=_revision(),
    )


def busy_seconds() -> float:
    """What all processors of the machine have worked so far, for whomever."""
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - times.iowait - times.guest - times.guest_nice)  # guests are in user


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _revision() -> str:
    try:
        answer = subprocess.run(
            ["git", "describe", "--always", "--dirty"], capture_output=True, text=True, timeout=5, check=False
        )
    except OSError:
        return ""
    return answer.stdout.strip()
