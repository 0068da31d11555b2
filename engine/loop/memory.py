"""Who holds how much of this process's memory, and what happens when it is too much.

Everything that waits is charged to the *account* of the connection that it waits for: what is queued because its peer
does not take it, what it has sent and nobody has taken yet, requests kept for another try. An account has a limit,
and who goes over it is ended by whoever charges it. All accounts together have the *process's* limit; when that is
passed, the connections that have moved nothing for longest are ended, one after the other, until it holds again.

A charge is booked only where something has to wait. A request that passes without waiting costs nothing here.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol

MIB: Final = 1024 * 1024
SHARE: Final = (
    0.4  # of the machine's memory, or of the cgroup's: the rest is for the interpreter, its objects, and peaks
)
KEPT: Final = 4  # of the limit of several processes, one part in so many is kept for those that use little
CONNECTION_BYTES: Final = 64 * MIB  # twice the largest window of a stream: more than a peer that reads can leave

_UNLIMITED: Final = 1 << 62


class Overdrawn(Exception):
    """A peer was ended because what was held for it had to be freed."""


class Owner(Protocol):
    def overdrawn(self) -> None:
        """Free what is held, by ending whoever does not take it."""


class Memory:
    """The accounts of one process. `holders` are those with something in them, the longest unmoved first."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.ended = 0  # how many were ended for it
        self._holders: dict[Account, None] = {}

    def reclaim(self) -> None:
        """End who has moved nothing for longest, until the limit holds."""
        while self.used > self.limit and self._holders:
            account = next(iter(self._holders))
            self.ended += 1
            if account.owner is not None:
                account.owner.overdrawn()
            account.close()


class Account:
    """What one connection is charged with: bytes in `used`, at most `limit`."""

    __slots__ = ("_memory", "limit", "owner", "used")

    def __init__(self, memory: Memory, owner: Owner, limit: int = CONNECTION_BYTES) -> None:
        self.owner: Owner | None = owner
        self.limit = limit
        self.used = 0
        self._memory = memory

    def charge(self, size: int) -> bool:
        """`size` bytes more are held; False if that is over the limit, and the owner has to be ended."""
        memory = self._memory
        if not self.used:
            memory._holders[self] = None
        self.used += size
        memory.used += size
        return self.used <= self.limit

    def release(self, size: int) -> None:
        """`size` bytes are held no more: the owner's peer takes what is sent to it."""
        size = min(size, self.used)
        memory = self._memory
        self.used -= size
        memory.used -= size
        memory._holders.pop(self, None)
        if self.used:
            memory._holders[self] = None  # behind those that have moved nothing since

    def close(self) -> None:
        """Nothing is held any more."""
        self.release(self.used)

    def end(self) -> None:
        """Nothing is held any more, and nothing will be: the owner is let go, for the garbage collector's sake."""
        self.close()
        self.owner = None


def shares(limit: int, used: Sequence[int]) -> list[int]:
    """The limits of several processes that use so many bytes, and may use `limit` together.

    What nobody uses is for all of them alike, and some of it is kept for those that use little, so that there is room
    when they need it. If there is too much in use, each has to give up as much as any other.
    """
    if not used:
        return []
    kept = limit // (KEPT * len(used))
    claimed = [max(kept, one) for one in used]
    free = (limit - sum(claimed)) // len(used)
    return [max(0, one + free) for one in claimed]


def process_limit() -> int:
    """Bytes that all accounts of this process may hold together: a share of what the process may use."""
    return int(SHARE * min(_machine_bytes(), *map(_limit_in, _cgroup_files()), _UNLIMITED))


def _machine_bytes() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return _UNLIMITED


def _cgroup_files() -> Iterator[Path]:
    """The files in which this process's cgroup and those above it say their limits, of both versions (cgroups(7))."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, name = line.split(":", 2)
        if not controllers:
            root, file = Path("/sys/fs/cgroup"), "memory.max"
        elif "memory" in controllers.split(","):
            root, file = Path("/sys/fs/cgroup/memory"), "memory.limit_in_bytes"
        else:
            continue
        folder = root / name.lstrip("/")
        yield from (above / file for above in (folder, *folder.parents) if above.is_relative_to(root))


def _limit_in(file: Path) -> int:
    try:
        text = file.read_text().strip()
    except OSError:  # none there: the root has no limit, and in a container the names may be another's
        return _UNLIMITED
    return int(text) if text.isdigit() else _UNLIMITED
