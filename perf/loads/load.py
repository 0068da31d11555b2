"""A load: a description that can be sent to another process, and a function that runs it there."""

from typing import Self

import msgspec

from perf.loads.outcome import Outcome, Watch
from perf.loads.target import Target


class Load(msgspec.Struct, frozen=True, kw_only=True, tag_field="load", forbid_unknown_fields=True):
    """Bounded by its seconds. A new load is one file with one subclass, named in `perf.loads`."""

    seconds: float = 3.0
    warmup_seconds: float = 0.5
    processes: int = 1

    def generate(self, target: Target, watch: Watch) -> Outcome:
        """Apply the load, in a process of its own: `watch.begin()` when warm, `watch.end()` when its time
        is over.

        Raises LoadFailed if the target cannot be reached at all.
        """
        raise NotImplementedError

    def share(self, index: int) -> Self:
        """The part of the process `index` of `processes`."""
        return self


def part(whole: int, index: int, processes: int) -> int:
    """`whole` in as equal integers as can be."""
    return whole // processes + (index < whole % processes)
