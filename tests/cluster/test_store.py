"""What nodes know of each other by a real Redis, and go on knowing when it is away, hangs, or loses everything."""

from __future__ import annotations

import contextlib
import ipaddress
import re
import secrets
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trio
from coredis import Redis
from coredis.retry import NoRetryPolicy

from engine.cluster import record, store
from engine.cluster.directory import Directory, Own
from engine.cluster.entry import Entry
from engine.cluster.record import Keys, Lease, Said, Whole
from engine.cluster.store import Health, Store
from engine.errors import Refused
from engine.log import configure, flush
from engine.routing.tenants import key
from tests.cluster.redis import RedisServer, redis_server
from tests.programs import needs

__all__ = ["redis_server"]

pytestmark = needs("redis-server")

SECRET = b"a secret of thirty-two characters"
NETWORKS = [ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("10.0.0.0/8")]
KEYS = Keys("test")


def client(server: RedisServer, **more: Any) -> Any:
    return lambda: Redis(
        "127.0.0.1", server.port, connect_timeout=2, stream_timeout=2, retry_policy=NoRetryPolicy(), **more
    )


class Member:
    """A node, as the store sees it."""

    def __init__(
        self, id: str, server: RedisServer, *, secret: bytes = SECRET, addr: str = "127.0.0.1:8000", **more: Any
    ) -> None:
        self.own = Own(Entry(id, secrets.token_hex(4), addr, proxy_addr=addr, **more))
        self.directory = Directory(id)
        self.store = Store(client(server), "test", secret, self.directory, self.own, NETWORKS)
        self.scope = trio.CancelScope()

    def knows(self) -> dict[str, dict[str, int]]:
        return {entry.id: dict(entry.endpoints) for entry in self.directory.peers}


class Cluster:
    def __init__(self, server: RedisServer, nursery: trio.Nursery) -> None:
        self.server = server
        self.nursery = nursery

    async def join(self, id: str, **more: Any) -> Member:
        member = Member(id, self.server, **more)

        async def run(task_status: trio.TaskStatus[None]) -> None:
            with member.scope:
                await member.store.run(task_status)

        await self.nursery.start(run)
        return member


@pytest.fixture
async def cluster(redis_server: RedisServer) -> AsyncIterator[Cluster]:
    await redis_server.ready()
    async with trio.open_nursery() as nursery:
        yield Cluster(redis_server, nursery)
        nursery.cancel_scope.cancel()


async def until(holds: Callable[[], bool], seconds: float = 10) -> None:
    with trio.fail_after(seconds):
        while not holds():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_nodes_know_of_each_other_and_of_each_change(cluster: Cluster) -> None:
    first = await cluster.join("first")
    first.own.changed("web", 2)
    second = await cluster.join("second")
    await until(lambda: second.knows() == {"first": {"web": 2}} and first.knows() == {"second": {}})
    second.own.changed("db", 1)
    await until(lambda: first.knows() == {"second": {"db": 1}})
    second.own.changed("db", 0)
    first.own.changed("web", 3)
    await until(lambda: first.knows() == {"second": {}} and second.knows() == {"first": {"web": 3}})
    assert first.store.health is Health.OK
    assert not first.store.gaps + second.store.gaps
    assert not first.store.rejected + second.store.rejected


async def test_a_name_in_two_tenants_stays_two_endpoints(cluster: Cluster) -> None:
    first, second = await cluster.join("first"), await cluster.join("second")
    served = {key("web"): 1, key("web", "acme"): 2, key("x" * 255, "y" * 255): 3}
    for one, count in served.items():
        first.own.changed(one, count)
    await until(lambda: second.knows() == {"first": served})
    third = await cluster.join("third")
    await until(lambda: third.knows().get("first") == served)
    assert not second.store.rejected + third.store.rejected


async def test_a_node_that_leaves_is_forgotten_at_once_and_one_that_dies_soon(cluster: Cluster) -> None:
    first, second, third = [await cluster.join(id) for id in ("first", "second", "third")]
    await until(lambda: len(first.directory) == 2)
    second.scope.cancel()
    await second.store.leave()
    await until(lambda: list(first.knows()) == ["third"])
    third.scope.cancel()
    await until(lambda: not first.knows())


async def test_ten_thousand_changes_at_once_come_to_the_same(cluster: Cluster) -> None:
    first, second = await cluster.join("first"), await cluster.join("second")
    for number in range(20_000):  # twice as many as are queued
        first.own.changed(f"e{number % 5000}", number % 7)
    await until(lambda: second.knows() == {"first": first.own.entry.endpoints})


async def test_the_whole_state_is_written_again_when_somebody_wants_it(cluster: Cluster) -> None:
    first, second = await cluster.join("first"), await cluster.join("second")
    key = KEYS.state("first")
    async with client(cluster.server)() as redis:
        await until(lambda: list(second.knows()) == ["first"])
        written = await redis.get(key)
        for count in (1, 2, 3):
            first.own.changed("web", count)
            await until(lambda count=count: second.knows() == {"first": {"web": count}})  # type: ignore[misc]
            await trio.sleep(0.6)  # a tick, and more
        assert await redis.get(key) == written
        third = await cluster.join("third")
        await until(lambda: third.knows() == {"first": {"web": 3}, "second": {}})
        assert await redis.get(key) != written
    assert first.store.gaps == second.store.gaps == 0


async def test_more_endpoints_than_others_believe_are_told_on_both_sides(
    cluster: Cluster, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (record, store):
        monkeypatch.setattr(module, "MAX_ENDPOINTS", 10)
    first = await cluster.join("first")
    for number in range(10):
        first.own.changed(f"e{number}", 1)
    second = await cluster.join("second")
    await until(lambda: second.knows() == {"first": first.own.entry.endpoints})
    assert not first.store.degraded
    first.own.changed("one too many", 1)
    third = await cluster.join("third")
    await until(lambda: third.store.rejected["more than 10 endpoints"] > 1)
    assert "one too many" not in third.knows().get("first", {})
    assert first.store.unbelieved == 1
    assert "11 endpoints" in first.store.degraded
    flush()
    assert log_file.read_text().count("too many endpoints") == 1
    first.own.changed("one too many", 0)
    await until(lambda: third.knows().get("first") == first.own.entry.endpoints)
    await until(lambda: not first.store.degraded)
    assert not first.store.unbelieved


async def test_workers_of_one_node_leave_each_other_to_their_supervisor(cluster: Cluster) -> None:
    ones = [await cluster.join(f"one.{number}", worker_of="one", workers=2) for number in (1, 2)]
    two = await cluster.join("two")
    sibling = Entry("one.2", "s", "unix:/none", worker_of="one", workers=2)
    ones[0].directory.put(sibling)
    ones[1].own.changed("web", 1)
    await until(lambda: two.knows() == {"one.1": {}, "one.2": {"web": 1}})
    assert {(entry.node, entry.workers) for entry in two.directory.peers} == {("one", 2)}
    ones[1].scope.cancel()
    await until(lambda: two.knows() == {"one.1": {}})
    await until(lambda: len(ones[0].directory) == 2)
    await trio.sleep(1.5)  # longer than what is forgotten takes to be
    assert ones[0].directory.get("one.2") is sibling
    assert not ones[0].store.gaps


async def test_a_store_that_is_away_changes_nothing_and_all_is_well_when_it_is_back(cluster: Cluster) -> None:
    first, second = await cluster.join("first"), await cluster.join("second")
    first.own.changed("web", 1)
    await until(lambda: second.knows() == {"first": {"web": 1}})
    cluster.server.kill()
    await until(lambda: second.store.health is Health.AWAY)
    assert "store" in second.store.degraded
    first.own.changed("web", 5)
    await trio.sleep(2.5)  # longer than a lease
    assert second.knows() == {"first": {"web": 1}}
    cluster.server.start()  # and it is empty
    await until(lambda: second.knows() == {"first": {"web": 5}}, 3)
    await until(lambda: not second.store.degraded)
    await trio.sleep(1)
    assert second.knows() == {"first": {"web": 5}}


async def test_a_store_that_hangs_changes_nothing(cluster: Cluster) -> None:
    first, second = await cluster.join("first"), await cluster.join("second")
    await until(lambda: len(first.directory) == len(second.directory) == 1)
    cluster.server.hang()
    await until(lambda: first.store.health is not Health.OK)
    await trio.sleep(1)
    assert len(first.directory) == 1
    cluster.server.go_on()
    await until(lambda: first.store.health is second.store.health is Health.OK)
    await trio.sleep(1)
    assert len(first.directory) == len(second.directory) == 1


async def test_a_store_that_was_emptied_is_written_again_and_nobody_is_forgotten(cluster: Cluster) -> None:
    first, second = await cluster.join("first"), await cluster.join("second")
    first.own.changed("web", 1)
    await until(lambda: second.knows() == {"first": {"web": 1}})
    forgotten: list[str] = []
    second.directory.watcher = Watcher(forgotten.append)
    for _ in range(4):
        cluster.server.say("FLUSHALL")
        await trio.sleep(0.6)
    await until(lambda: "state:first" in cluster.server.say("KEYS", "*"))
    third = await cluster.join("third")
    await until(lambda: third.knows() == {"first": {"web": 1}, "second": {}})
    assert not forgotten


class Watcher:
    def __init__(self, removed: Callable[[str], None]) -> None:
        self._removed = removed

    def peer_changed(self, entry: Entry) -> None: ...

    def peer_removed(self, entry: Entry) -> None:
        self._removed(entry.id)

    def endpoint_changed(self, peer: str, endpoint: str, count: int, guarded: bool) -> None: ...


async def test_a_node_may_start_while_the_store_is_away(redis_server: RedisServer) -> None:
    await redis_server.ready()
    redis_server.kill()
    async with trio.open_nursery() as nursery:
        cluster = Cluster(redis_server, nursery)
        first = await cluster.join("first")
        assert first.store.health is Health.AWAY
        redis_server.start()
        await until(lambda: first.store.health is Health.OK)
        second = await cluster.join("second")
        await until(lambda: list(second.knows()) == ["first"])
        nursery.cancel_scope.cancel()


async def test_a_second_node_with_the_same_id_is_refused(cluster: Cluster) -> None:
    first = await cluster.join("first")
    with pytest.RaisesGroup(
        pytest.RaisesExc(Refused, match="cluster.node_id first: another node"), allow_unwrapped=True
    ):
        await Member("first", cluster.server).store.run()
    first.scope.cancel()
    await cluster.join("first")  # as soon as the lease of the other is over


@pytest.fixture
def log_file(tmp_path: Path) -> Iterator[Path]:
    """Where log lines go, instead of to stderr."""
    path = tmp_path / "log"
    with path.open("w") as stream:
        configure("warn", stream=stream)
        yield path
        configure("warn")


async def test_two_nodes_with_one_id_that_started_without_the_store_are_told(
    redis_server: RedisServer, log_file: Path
) -> None:
    await redis_server.ready()
    redis_server.kill()
    async with trio.open_nursery() as nursery:
        cluster = Cluster(redis_server, nursery)
        twins = [await cluster.join("first", addr=f"127.0.0.1:{port}") for port in (8001, 8002)]
        redis_server.start()
        await until(lambda: all("cluster.node_id first: another node" in twin.store.degraded for twin in twins))
        await until(lambda: all(sum(twin.store.rejected.values()) > 1 for twin in twins))
        twins[0].scope.cancel()
        await until(lambda: not twins[1].store.degraded)
        nursery.cancel_scope.cancel()
    flush()
    assert log_file.read_text().count("another node has this id") == 2  # once each


async def test_what_is_not_signed_by_a_node_is_not_believed(cluster: Cluster) -> None:
    first = await cluster.join("first")
    stranger = await cluster.join("stranger", secret=b"another secret of thirty-two characters")
    outside = await cluster.join("outside", addr="192.0.2.1:8000")
    async with client(cluster.server)() as redis:
        await redis.sadd(KEYS.members, ["garbage", "moved"])
        await redis.set(KEYS.lease("garbage"), b"garbage")
        lease = Lease("other", "s", "127.0.0.1:1", "", "", "", 0, 0)
        await redis.set(KEYS.lease("moved"), record.seal(SECRET, KEYS.lease("other"), lease))
        await redis.publish(KEYS.events, b"garbage")
        await until(lambda: sum(first.store.rejected.values()) > 10)
    assert not first.knows()
    assert not stranger.knows()
    assert any("allowed_networks" in why for why in first.store.rejected)
    assert first.store.health is Health.OK
    assert outside.knows() == {"first": {}}


async def test_a_gap_has_the_whole_state_read_again(cluster: Cluster) -> None:
    first, second = await cluster.join("first"), await cluster.join("second")
    first.own.changed("web", 1)
    await until(lambda: second.knows() == {"first": {"web": 1}})
    entry = first.own.entry
    async with client(cluster.server)() as redis:
        ahead = Said(entry.id, entry.start, [(entry.revision + 5, "db", 1)])
        await redis.publish(KEYS.events, record.seal(SECRET, KEYS.events, ahead))
        await until(lambda: second.store.gaps == 1)
    first.own.changed("web", 2)
    await until(lambda: second.knows() == {"first": {"web": 2}})


@pytest.mark.parametrize(
    ("options", "more", "said"),
    [
        (["--requirepass", "right"], {"password": "wrong"}, "WRONGPASS|invalid username-password"),
        (["--requirepass", "right"], {}, "(?i)auth"),
        (["--replicaof", "127.0.0.1 1"], {}, "(?i)read.?only"),
    ],
)
async def test_what_is_wrong_with_a_store_is_said_in_a_sentence(
    redis_server: RedisServer, options: list[str], more: dict[str, Any], said: str
) -> None:
    redis_server.kill()
    redis_server.options = tuple(options)
    redis_server.start()
    await redis_server.ready()
    member = Member("first", redis_server)
    member.store._client = client(redis_server, **more)
    async with trio.open_nursery() as nursery:
        await nursery.start(member.store.run)
        assert re.search(said, member.store.degraded), member.store.degraded
        assert "\n" not in member.store.degraded
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("words", [("SET", KEYS.members, "text"), ("RPUSH", KEYS.lease("first"), "text")])
async def test_a_key_of_another_type_is_said_in_a_sentence(redis_server: RedisServer, words: tuple[str, ...]) -> None:
    await redis_server.ready()
    redis_server.say(*words)
    member = Member("first", redis_server)
    async with trio.open_nursery() as nursery:
        await nursery.start(member.store.run)
        assert "wrong kind of value" in member.store.degraded
        redis_server.say("DEL", words[1])
        await until(lambda: member.store.health is Health.OK)
        nursery.cancel_scope.cancel()


async def test_a_web_server_in_its_place_is_said_in_a_sentence(redis_server: RedisServer) -> None:
    async def http(stream: trio.SocketStream) -> None:
        with contextlib.suppress(trio.BrokenResourceError):
            await stream.receive_some()
            await stream.send_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await stream.aclose()

    async with trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, http, 0)
        redis_server.port = listeners[0].socket.getsockname()[1]
        member = Member("first", redis_server)
        with trio.fail_after(10):
            await nursery.start(member.store.run)
        assert member.store.health is Health.AWAY
        assert member.store.degraded.count("\n") == 0
        nursery.cancel_scope.cancel()


async def test_entries_of_another_version_are_passed_over_and_those_of_this_one_are_not(
    cluster: Cluster, log_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = await cluster.join("first"), await cluster.join("second")
    await until(lambda: first.knows() == {"second": {}})
    lease = Lease("later", "s", "127.0.0.1:1", "", "", "9.0", 1, 0)
    with monkeypatch.context() as patch:
        patch.setattr(record, "VERSION", b"2")
        by_later = {
            KEYS.lease("later"): record.seal(SECRET, KEYS.lease("later"), lease),
            KEYS.events: record.seal(SECRET, KEYS.events, Said("later", "s", [(1, "web", 1)])),
        }
    # The same version, and yet of another shape: one field less.
    short = record.seal(SECRET, KEYS.lease("short"), Whole("short", 1, {}))
    async with client(cluster.server)() as redis:

        async def write() -> None:
            await redis.sadd(KEYS.members, ["later", "short"])
            await redis.set(KEYS.lease("later"), by_later[KEYS.lease("later")])
            await redis.set(KEYS.lease("short"), short)
            await redis.publish(KEYS.events, by_later[KEYS.events])

        why = {"another version": 4, "of another shape": 2}
        with trio.fail_after(10):
            while not all(
                sum(count for said, count in first.store.rejected.items() if text in said) >= times
                for text, times in why.items()
            ):
                await write()  # others take out of the set whom they do not know
                await trio.sleep(0.1)
    second.own.changed("web", 1)
    await until(lambda: first.knows() == {"second": {"web": 1}})
    assert first.store.health is Health.OK
    flush()
    lines = [line for line in log_file.read_text().splitlines() if "not believed" in line]
    assert any("another version" in line for line in lines), lines


def test_states_of_other_versions_and_shapes_are_not_believed() -> None:
    key = KEYS.state("first")
    sealed = record.seal(SECRET, key, Whole("s", 1, {"web": 1}))
    assert record.unseal(SECRET, key, sealed, Whole) == Whole("s", 1, {"web": 1})
    for bad, shape in ((sealed[:-1], Whole), (sealed, Lease), (b"", Whole), (b"x" * 64, Whole)):
        with pytest.raises(record.Untrusted):
            record.unseal(SECRET, key, bad, shape)
    with pytest.raises(record.Untrusted):
        record.unseal(SECRET, KEYS.state("second"), sealed, Whole)


@pytest.mark.parametrize(
    "said",
    [
        msgspec.msgpack.encode(Whole("s", 1, {"web": 1})).replace(b"web", b"\xff\xff\xff"),
        b"\x94\xa1s\x01\x80" + b"\x91" * 100_000,
    ],
)
def test_what_is_signed_and_cannot_be_read_is_not_believed(said: bytes) -> None:
    sealed = record._mac(SECRET, "place", said) + said
    with pytest.raises(record.Untrusted):
        record.unseal(SECRET, "place", sealed, Whole)


@pytest.mark.parametrize("port", ["0", "65536", "²", "9" * 5000, ""])
def test_an_address_without_a_port_is_not_dialled(port: str) -> None:
    networks = [ipaddress.ip_network("10.0.0.0/8")]
    assert record.defect_of_address(f"10.0.0.1:{port}", networks) == "an address without a port"
