"""Groups of processes that get less than the machine has (cgroups(7)), of either version. To make one takes root.

A process is in a group once its id is written to the group's `cgroup.procs`; what it starts is in it as well.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from perf.errors import LabError

ROOT = Path("/sys/fs/cgroup")
PERIOD_MICROSECONDS = 20_000  # who has used up his share waits for the next one

_numbers = count()


@contextmanager
def memory_group(mib: int, root: Path = ROOT) -> Iterator[Path]:
    """The folder of a group with so much memory."""
    with _group("memory", {"memory.limit_in_bytes": f"{mib}M"}, {"memory.max": f"{mib}M"}, root) as folder:
        yield folder


@contextmanager
def cpu_group(cores: float, root: Path = ROOT) -> Iterator[Path]:
    """The folder of a group that gets the processor time of so many cores, such as 0.25, before others, and no more."""
    quota = round(cores * PERIOD_MICROSECONDS)
    first = {
        "cpu.shares": "262144",  # the most that there is
        "cpu.cfs_period_us": str(PERIOD_MICROSECONDS),
        "cpu.cfs_quota_us": str(quota),
    }
    second = {"cpu.weight": "10000", "cpu.max": f"{quota} {PERIOD_MICROSECONDS}"}
    with _group("cpu", first, second, root) as folder:
        yield folder


@contextmanager
def _group(controller: str, first: Mapping[str, str], second: Mapping[str, str], root: Path) -> Iterator[Path]:
    """A group with the settings for version 1, or those for 2. Its processes have to have ended before it does.

    Raises LabError where none can be made.
    """
    is_first = (root / controller).is_dir()
    parent, settings = (root / controller, first) if is_first else (root, second)
    folder = parent / f"trioduct-perf-{os.getpid()}-{next(_numbers)}"
    try:
        if not is_first:
            (root / "cgroup.subtree_control").write_text(f"+{controller}")
        folder.mkdir()
    except OSError as error:
        raise _no_group(controller, folder, error) from error
    try:
        for name, value in settings.items():
            try:
                (folder / name).write_text(value)
            except OSError as error:
                raise _no_group(controller, folder, error) from error
        yield folder
    finally:
        folder.rmdir()


def _no_group(controller: str, folder: Path, error: OSError) -> LabError:
    return LabError(f"no {controller} cgroup can be made at {folder}: {error.strerror}")
