"""Who holds how much of this process's memory, and what happens when it is too much.

Everything that waits is charged to the *account* of the connection that it waits for: what is queued because its peer
does not take it, what it has sent and nobody has taken yet, requests kept for another try. An account has a limit,
and who goes over it is ended by whoever charges it. All accounts together have the *process's* limit; when that is
passed, the connections that have moved nothing for longest are ended, one after the other, until it holds again. The
accounts of one party, a principal or a tenant, may have a limit of their own, a part of the process's; when that is
passed, the same happens among them.

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
    """What several accounts hold together: those of one process, or of one party. `holders` are those with something in
    them, the longest unmoved first.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.used = 0
        self.ended = 0  # how many were ended for it
        self.crowded: dict[Memory, None] = {}  # parties that hold more than they may
        self.parties: list[Parts] = []  # each of which has a part of the limit
        self._holders: dict[Account, None] = {}

    def resize(self, limit: int) -> None:
        """There may be so much from now on, and of that as large a part for each party as before."""
        self.limit = limit
        for parts in self.parties:
            parts.resize()

    def reclaim(self) -> None:
        """End who has moved nothing for longest, until the limits hold: of the parties, and then of all."""
        for part in tuple(self.crowded):
            part.reclaim()
        self.crowded.clear()
        while self.used > self.limit and self._holders:
            account = next(iter(self._holders))
            self.ended += 1
            if account.owner is not None:
                account.owner.overdrawn()
            account.close()

    def changed(self, account: Account, size: int, *, moved: bool) -> None:
        """`account` holds `size` bytes more, or fewer; `moved`: its owner's peer has taken something."""
        self.used += size
        if moved:
            self._holders.pop(account, None)  # to stand behind those that have moved nothing since
        if account.used:
            self._holders.setdefault(account)


class Account:
    """What one connection is charged with: bytes in `used`, at most `limit`."""

    __slots__ = ("_memory", "_parts", "limit", "owner", "used")

    def __init__(self, memory: Memory, owner: Owner, limit: int = CONNECTION_BYTES) -> None:
        self.owner: Owner | None = owner
        self.limit = limit
        self.used = 0
        self._memory = memory
        self._parts: tuple[Part, ...] = ()

    def charge(self, size: int) -> bool:
        """`size` bytes more are held; False if that is over the limit, and the owner has to be ended."""
        memory = self._memory
        if not self.used:
            memory._holders[self] = None
        self.used += size
        memory.used += size
        if self._parts:
            for part in self._parts:
                part.changed(self, size, moved=False)
                if part.used > part.limit:
                    memory.crowded[part] = None
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
        if self._parts:
            for part in self._parts:
                part.changed(self, -size, moved=True)

    def count_for(self, parts: tuple[Part, ...]) -> None:
        """What it holds counts for these parties, and for no others, from now on."""
        before, self._parts = self._parts, parts
        for part in parts:
            if part not in before:
                part.enter(self)
                if part.used > part.limit:
                    self._memory.crowded[part] = None
        for part in before:
            if part not in parts:
                part.leave(self)

    def close(self) -> None:
        """Nothing is held any more."""
        self.release(self.used)

    def end(self) -> None:
        """Nothing is held any more, and nothing will be: the owner is let go, for the garbage collector's sake."""
        self.close()
        self.count_for(())
        self.owner = None


class Part(Memory):
    """What the accounts of one party hold together, as long as there is one."""

    def __init__(self, limit: int, party: str, parts: Parts) -> None:
        super().__init__(limit)
        self._party = party
        self._parts = parts
        self._members = 0

    def enter(self, account: Account) -> None:
        self._members += 1
        self.changed(account, account.used, moved=False)

    def leave(self, account: Account) -> None:
        self._members -= 1
        self.used -= account.used
        self._holders.pop(account, None)
        if not self._members:
            self._parts.forget(self._party, self)


class Parts:
    """The parties of one kind: each may hold `fraction` of what the process may; 0: there is no limit. `ended` counts
    the connections that were ended for it.
    """

    def __init__(self, memory: Memory, fraction: float) -> None:
        self._memory = memory
        self._fraction = fraction
        self._parts: dict[str, Part] = {}
        self._ended = 0
        memory.parties.append(self)

    @property
    def _limit(self) -> int:
        """Of each of them."""
        return int(self._memory.limit * self._fraction)

    @property
    def ended(self) -> int:
        return self._ended + sum(part.ended for part in self._parts.values())

    def of(self, party: str) -> tuple[Part, ...]:
        """The part of `party`, for an account to count for; none for the party without a name."""
        if not self._fraction or not party:
            return ()
        part = self._parts.get(party)
        if part is None:
            part = self._parts[party] = Part(self._limit, party, self)
        return (part,)

    def resize(self) -> None:
        """The process may hold more, or less, than before."""
        for part in self._parts.values():
            part.limit = self._limit
            if part.used > part.limit:
                self._memory.crowded[part] = None

    def forget(self, party: str, part: Part) -> None:
        """Nobody counts for it any more."""
        self._ended += part.ended
        del self._parts[party]


class Shares:
    """What the connections of one principal may hold together, and those of one tenant: fractions, as of Parts."""

    def __init__(self, memory: Memory, principal: float, tenant: float) -> None:
        self._principals = Parts(memory, principal)
        self._tenants = Parts(memory, tenant)

    def book(self, account: Account, principal: str, tenant: str) -> None:
        """What `account` holds counts for these two from now on, as far as they have names."""
        account.count_for((*self._principals.of(principal), *self._tenants.of(tenant)))

    @property
    def ended(self) -> dict[str, int]:
        """How many connections were ended, by the limit."""
        return {"principal_memory": self._principals.ended, "tenant_memory": self._tenants.ended}


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
