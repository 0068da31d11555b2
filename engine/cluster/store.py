"""The directory's news by way of Redis or Valkey: what this node writes there, and what it reads.

Every `TICK_SECONDS` a node renews its lease and reads the leases of all others, in one round trip each; changes of
endpoints go by a channel at once. A change that does not follow on what is known (some were lost), or a lease that is
ahead of it, has the node's whole state read again. A whole state is large where there are many endpoints, so it is
written now and then only, and when somebody who has found an old one asks for it by the channel.

The store is never in the way of a request: nobody asks it anything. While it is away, or answers too slowly for leases
to mean anything, all nodes stay known as they were. A node is forgotten when its lease is gone and stays gone for
`ABSENT_SECONDS`, in a store that has answered in time all the while.
"""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, Final

import trio

from engine.cluster.directory import Directory, Own
from engine.cluster.entry import Change
from engine.cluster.record import (
    MAX_ENDPOINTS,
    MAX_STATE,
    Keys,
    Lease,
    Network,
    Said,
    Untrusted,
    Whole,
    changes_of,
    check_lease,
    entry_of,
    lease_of,
    seal,
    unseal,
)
from engine.errors import Refused, leaves
from engine.log import get_logger

if TYPE_CHECKING:
    from coredis import Redis

TICK_SECONDS: Final = 0.5
LEASE_SECONDS: Final = 1.25
ABSENT_SECONDS: Final = 0.75  # longer than a tick: a store that was emptied has all leases again by then
STATE_SECONDS: Final = 60.0
STALE_SECONDS: Final = 15.0  # how old a state may be before it is written again without being asked for
ANSWER_SECONDS: Final = 2.0
TIMELY_SECONDS: Final = 0.5
TWIN_SECONDS: Final = 5.0
CLAIM_SECONDS: Final = 4.0  # for the lease of a node that has died to expire
AGAIN_SECONDS: Final = 0.3
MAX_QUEUE: Final = 10_000
BATCH: Final = 256
MAX_MEMBERS: Final = 1000

Client = Callable[[], "AbstractAsyncContextManager[Redis[bytes]]"]

log = get_logger("cluster")


class Health(Enum):
    """Of the store, as this node sees it."""

    STARTING = auto()
    OK = auto()
    SLOW = auto()
    AWAY = auto()


class Store:
    """Keeps `directory` current, and others informed of `own`.

    `client` makes a client of the store; it may find the master of a Sentinel first, so it is called anew whenever the
    store was lost. Only `run` waits for it.
    """

    def __init__(
        self,
        client: Client,
        name: str,
        secret: bytes,
        directory: Directory,
        own: Own,
        networks: Iterable[Network],
    ) -> None:
        self.health = Health.STARTING
        self.reason = "not reached yet"
        self.read_at = -math.inf  # when all leases were read last, by time.monotonic
        self.events = 0
        self.gaps = 0
        self.rejected: Counter[str] = Counter()  # what was not believed, by why
        self._client = client
        self._keys = Keys(name)
        self._secret = secret
        self._directory = directory
        self._own = own
        self._networks = tuple(networks)
        self._beat = 0
        self._written = -1  # revision of the state that the store has
        self._written_at = -math.inf
        self._too_large = ""  # why others do not believe the state
        self._asked = False  # somebody wants the state as it is now
        self._absent: dict[str, float] = {}  # since when a known node has had no lease
        self._queue: deque[Change] = deque(maxlen=MAX_QUEUE)
        self._news = trio.Event()
        self._wanted: set[str] = set()  # nodes whose whole state is to be read
        self._look = trio.Event()
        self._told = ""
        self._twin_at = -math.inf  # when another node was seen to have our id
        self._leaving = False
        self._emptied_at = -math.inf  # all others are as absent as they are alive, until they have noticed
        own.tell.append(self._changed)

    @property
    def unbelieved(self) -> int:
        """How many endpoints of this node are more than others believe a node to have."""
        return max(0, len(self._own.now.endpoints) - MAX_ENDPOINTS)

    @property
    def degraded(self) -> str:
        """Why what is known of others, or they know of this node, may be wrong; empty if all is well."""
        if time.monotonic() - self._twin_at < TWIN_SECONDS:
            return f"cluster.node_id {self._own.id}: another node has it; give one of them another"
        if self._too_large:
            return f"cluster: {self._too_large}"
        return "" if self.health is Health.OK else f"cluster store: {self.reason}"

    @property
    def age_seconds(self) -> float:
        """Since all leases were read."""
        return time.monotonic() - self.read_at

    def _is_sibling(self, worker_of: str) -> bool:
        """Of another worker of the same node, which is known by the supervisor, and not by way of the store."""
        return bool(worker_of) and worker_of == self._own.now.worker_of

    def _changed(self, change: Change) -> None:
        self._queue.append(change)
        self._news.set()

    # -- the task

    async def run(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Do so until cancelled. Started when the id is ours, or the store is away.

        Raises Refused if another node has the id.
        """
        begun = False

        def begin() -> None:
            nonlocal begun
            if not begun:
                begun = True
                task_status.started()

        while True:
            with self._tell_of_loss():
                async with self._client() as redis:
                    if not begun:
                        await self._claim(redis)
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(self._listen, redis)
                        nursery.start_soon(self._speak, redis)
                        await self._keep(redis, begin)
            begin()
            self._written = -1  # it may be another store now, or an empty one
            await trio.sleep(AGAIN_SECONDS)

    async def leave(self) -> None:
        """Have all others forget this node now, and go on reading. Of no effect if the store is away."""
        self._leaving = True
        with trio.move_on_after(ANSWER_SECONDS), self._tell_of_loss():
            async with self._client() as redis:
                entry = self._own.entry
                gone = Said(entry.id, entry.start, gone=True)
                await redis.delete([self._keys.lease(entry.id), self._keys.state(entry.id)])
                await redis.srem(self._keys.members, [entry.id])
                await redis.publish(self._keys.events, seal(self._secret, self._keys.events, gone))

    @contextmanager
    def _tell_of_loss(self) -> Iterator[None]:
        """What the store does wrong ends the block, and is said once."""
        refused: Refused | None = None
        try:
            yield
        except BaseException as error:
            others = [one for one in leaves(error) if not isinstance(one, trio.Cancelled)]
            if not others or not all(isinstance(one, Exception) for one in others):
                raise
            refused = next((one for one in others if isinstance(one, Refused)), None)
            if refused is None and trio.current_effective_deadline() > -math.inf:  # else it is we who stop
                self._is(Health.AWAY, _words(others[0]))
        if refused is not None:
            raise refused

    def _is(self, health: Health, reason: str = "") -> None:
        self.health, self.reason = health, reason
        if health is not Health.OK:
            self._absent.clear()
        said = f"{health.name} {reason}"
        if said == self._told:
            return
        self._told = said
        if health is Health.OK:
            log.info("cluster store is there", nodes=len(self._directory) + 1)
        else:
            log.warning("cluster store is not to be relied on: all stays as it is known", error=reason)

    async def _claim(self, redis: Redis[bytes]) -> None:
        """Take the id, or wait for the lease of a predecessor to end. Raises Refused if somebody renews it."""
        from coredis import PureToken

        key = self._keys.lease(self._own.id)
        seen: bytes | None = None
        with trio.move_on_after(CLAIM_SECONDS):
            while True:
                if await redis.set(key, self._lease(), px=_ms(LEASE_SECONDS), condition=PureToken.NX):
                    return
                found = await redis.get(key)
                if found is not None and seen is not None and found != seen:
                    id = self._own.id
                    raise Refused(f"cluster.node_id {id}: another node of this cluster has it, and lives")
                seen = found if found is not None else seen
                await trio.sleep(TICK_SECONDS / 2)
        raise Refused(f"cluster store: {key} does not expire; is something else's data under this name?")

    async def _keep(self, redis: Redis[bytes], begun: Callable[[], None]) -> None:
        """Renew the lease and read those of others, for ever; `begun` is called each time that it is done."""
        while True:
            since = time.monotonic()
            with trio.fail_after(ANSWER_SECONDS):
                if not self._leaving:
                    await self._renew(redis)
                await self._read(redis)
            if time.monotonic() - since > TIMELY_SECONDS:
                self._is(Health.SLOW, f"answers take {time.monotonic() - since:.1f} s")
            else:
                self._is(Health.OK)
            self.read_at = time.monotonic()
            begun()
            self._look = trio.Event()
            with trio.move_on_after(TICK_SECONDS):
                await self._look.wait()

    def _lease(self) -> bytes:
        self._beat += 1
        entry = self._own.now
        return seal(self._secret, self._keys.lease(entry.id), lease_of(entry, self._beat))

    async def _renew(self, redis: Redis[bytes]) -> None:
        keys = self._keys
        key = keys.state(self._own.id)
        waiting: list[Awaitable[Any]] = []
        due = self._written < 0 or self._asked or time.monotonic() - self._written_at >= STALE_SECONDS
        self._asked = False
        async with redis.pipeline(transaction=False) as pipeline:
            entry = self._own.now
            writes = due and self._written != entry.revision
            if writes:
                whole = seal(self._secret, key, Whole(entry.start, entry.revision, entry.endpoints, entry.guarded))
                self._check_size(len(whole))
                waiting.append(pipeline.set(key, whole, px=_ms(STATE_SECONDS)))
            else:
                waiting.append(pipeline.pexpire(key, _ms(STATE_SECONDS)))
            waiting.append(pipeline.set(keys.lease(entry.id), self._lease(), px=_ms(LEASE_SECONDS), get=True))
            waiting.append(pipeline.sadd(keys.members, [entry.id]))
        results = [await one for one in waiting]
        if results[0] in (0, False):  # nothing to keep: the store was emptied
            self._written = -1
            self._emptied_at = time.monotonic()
        elif writes:
            first = self._written < 0
            self._written, self._written_at = entry.revision, time.monotonic()
            if first:
                await redis.publish(keys.events, seal(self._secret, keys.events, Said(entry.id, entry.start)))
        before = self._believe(keys.lease(entry.id), results[1], Lease) if results[1] is not None else None
        if before is not None and before.start != entry.start:  # both have started while the store was away
            self._twin_at = time.monotonic()
            if not self.rejected["another node has this id"]:
                log.error("another node has this id: give one of them another", node_id=entry.id, addr=before.addr)
            self.rejected["another node has this id"] += 1

    def _check_size(self, size: int) -> None:
        """Say so if there is more in our state, of `size` bytes, than others take."""
        before, self._too_large = self._too_large, ""
        if self.unbelieved or size > MAX_STATE:
            self._too_large = (
                f"{len(self._own.now.endpoints)} endpoints in {size} bytes: other nodes believe {MAX_ENDPOINTS} in "
                f"{MAX_STATE}, and do not learn of them after a start or a missed change; expected fewer per node"
            )
            if not before:
                log.error("too many endpoints", error=self._too_large)

    def _believe(self, place: str, sealed: bytes, shape: type[Any]) -> Any:
        """What stands at `place`; None for what is not to be believed."""
        try:
            return unseal(self._secret, place, sealed, shape)
        except Untrusted as error:
            self._reject(str(error), place)
            return None

    def _reject(self, why: str, place: str) -> None:
        if not self.rejected[why]:
            log.warning("not believed", at=place, error=why)
        self.rejected[why] += 1

    async def _read(self, redis: Redis[bytes]) -> None:
        keys, own_id = self._keys, self._own.id
        members = [one.decode("utf-8", "replace") for one in await redis.smembers(keys.members)]
        members = sorted(one for one in members if one != own_id)
        if len(members) > MAX_MEMBERS:
            self._reject(f"more than {MAX_MEMBERS} nodes and workers", keys.members)
            del members[MAX_MEMBERS:]
        found = await redis.mget([keys.lease(id) for id in members]) if members else ()
        leases: dict[str, Lease] = {}
        for id, sealed in zip(members, found, strict=True):
            if sealed is None:
                continue
            lease = self._believe(keys.lease(id), sealed, Lease)
            if lease is not None and lease.id == id:
                leases[id] = lease
        for id, lease in leases.items():
            if self._is_sibling(lease.worker_of):
                continue
            known = self._directory.get(id)
            if known is None or known.start != lease.start or known.revision < lease.revision or id in self._wanted:
                await self._read_state(redis, lease)
        self._wanted.clear()
        await self._forget(redis, [id for id in members if id not in leases], leases)

    async def _read_state(self, redis: Redis[bytes], lease: Lease) -> None:
        key = self._keys.state(lease.id)
        sealed = await redis.get(key)
        whole = self._believe(key, sealed, Whole) if sealed is not None else None
        if whole is None or whole.start != lease.start or whole.revision < lease.revision:
            own = self._own.now
            wish = Said(own.id, own.start, wants=lease.id)
            await redis.publish(self._keys.events, seal(self._secret, self._keys.events, wish))
        if whole is None:
            return
        try:
            check_lease(lease, self._networks)
            self._directory.put(entry_of(lease, whole, self._networks))
        except Untrusted as error:
            self._reject(str(error), key)

    async def _forget(self, redis: Redis[bytes], without_lease: list[str], leases: dict[str, Lease]) -> None:
        """Nodes whose leases are gone for long enough."""
        now = time.monotonic()
        known = {entry.id for entry in self._directory.peers if not self._is_sibling(entry.worker_of)}
        self._absent = {id: self._absent.get(id, now) for id in {*without_lease, *(known - leases.keys())}}
        over = [id for id, since in self._absent.items() if now - max(since, self._emptied_at) >= ABSENT_SECONDS]
        for id in over:
            if id in known:
                log.info("node is gone", node_id=id)
                self._directory.remove(id)
            del self._absent[id]
        if over:
            await redis.srem(self._keys.members, over)

    # -- changes

    async def _speak(self, redis: Redis[bytes]) -> None:
        """Tell others of changes, as many at once as have come."""
        while True:
            await self._news.wait()
            self._news = trio.Event()
            while self._queue:
                batch = [self._queue.popleft() for _ in range(min(BATCH, len(self._queue)))]
                first = batch[0]
                said = Said(
                    first.id,
                    first.start,
                    [(one.revision, one.endpoint, one.count) for one in batch],
                    guarded=[one.revision for one in batch if one.guarded],
                )
                with trio.fail_after(ANSWER_SECONDS):
                    await redis.publish(self._keys.events, seal(self._secret, self._keys.events, said))

    async def _listen(self, redis: Redis[bytes]) -> None:
        channel = self._keys.events
        async with redis.pubsub(channels=[channel], ignore_subscribe_messages=True) as subscription:
            async for message in subscription:
                if message is None or not isinstance(message["data"], bytes):
                    continue
                said = self._believe(channel, message["data"], Said)
                if said is not None:
                    self._heard(said)

    def _heard(self, said: Said) -> None:
        known = self._directory.get(said.id)
        if said.id == self._own.id or (known is not None and self._is_sibling(known.worker_of)):
            return
        if said.wants:
            self._asked = self._asked or said.wants == self._own.id
            return
        self.events += 1
        if said.gone:
            if known is not None and known.start == said.start:
                log.info("node leaves", node_id=said.id)
                self._directory.remove(said.id)
            return
        try:
            changes = changes_of(said)
        except Untrusted as error:
            self._reject(str(error), self._keys.events)
            return
        if known is None or not all([self._directory.change(one) for one in changes]):
            if known is not None:
                self.gaps += 1
            self._wanted.add(said.id)
            if known is None or self.age_seconds > TICK_SECONDS / 2:  # else soon: what follows on a gap is one, too
                self._look.set()


def _ms(seconds: float) -> int:
    return round(seconds * 1000)


def _words(error: BaseException) -> str:
    """What is the matter with the store, for a person; the library quotes no password."""
    if isinstance(error, trio.TooSlowError):
        return f"no answer within {ANSWER_SECONDS:g} s"
    said, cause = _text(error), error
    while cause.__cause__ is not None:  # a library's "cannot connect" hides whether by a refusal or by a certificate
        cause = next(iter(leaves(cause.__cause__)))
    return said if cause is error or _text(cause) in said else f"{said}: {_text(cause)}"


def _text(error: BaseException) -> str:
    said = (isinstance(error, OSError) and error.strerror) or str(error)
    return " ".join(said.split()).rstrip(".") or type(error).__name__
