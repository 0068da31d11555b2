"""The ways to a store that `cluster.store` may name: TLS with a client certificate, a user, sentinels."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import trio
import trustme

from engine.cluster.store import Health, Store
from engine.config.server import ClusterConfig, SentinelConfig, StoreTLS
from engine.node.membership import join_by_store
from tests.cluster.redis import RedisServer
from tests.programs import accepts, free_port, needs

pytestmark = needs("redis-server")

SECRET = "a secret of thirty-two characters"


def member(id: str, store: str, **more: object) -> tuple[Store, ClusterConfig]:
    config = ClusterConfig(node_id=id, store=store, secret=SECRET, advertise_addr="127.0.0.1:1", **more)  # type: ignore[arg-type]
    config.verify()
    at = "127.0.0.1:1"
    return join_by_store(config, links_at=at, proxy_at=at, admin_at=at)[1], config


async def until(store: Store, health: Health, nodes: int, seconds: float = 20) -> None:
    with trio.fail_after(seconds):
        while store.health is not health or len(store._directory) != nodes:  # noqa: ASYNC110
            await trio.sleep(0.02)


@contextmanager
def server(folder: Path, *options: str) -> Iterator[RedisServer]:
    folder.mkdir(exist_ok=True)
    redis = RedisServer(folder, *options)
    try:
        yield redis
    finally:
        redis.close()


def secret_file(path: Path, text: str) -> str:
    path.write_text(f"{text}\n")
    path.chmod(0o600)
    return str(path)


async def test_a_user_whose_password_is_in_a_file(tmp_path: Path) -> None:
    password = secret_file(tmp_path / "password", "p@ss:word/1")
    user = "user node on >p@ss:word/1 ~trioduct:* &trioduct:* +@all -@dangerous"
    with server(tmp_path / "redis", "--user", *user.split()[1:]) as redis:
        await redis.ready()
        url = f"redis://node@127.0.0.1:{redis.port}/3"
        store, _ = member("first", url, store_password_file=password)
        by_url, _ = member("second", f"redis://node:p%40ss%3Aword%2F1@127.0.0.1:{redis.port}/3")
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            await nursery.start(by_url.run)
            await until(store, Health.OK, 1)
            assert not store.degraded
            nursery.cancel_scope.cancel()


async def test_tls_asks_both_sides_for_a_certificate(tmp_path: Path) -> None:
    authority, other = trustme.CA(), trustme.CA()
    files = {}
    for name, pair in (
        ("server", authority.issue_cert("127.0.0.1")),
        ("node", authority.issue_cert("node.test")),
        ("stranger", other.issue_cert("node.test")),
    ):
        files[name] = tmp_path / f"{name}.pem"
        files[name].write_bytes(pair.private_key_and_cert_chain_pem.bytes())
        files[name].chmod(0o600)
    ca, wrong_ca = tmp_path / "ca.pem", tmp_path / "wrong.pem"
    authority.cert_pem.write_to_path(ca)
    other.cert_pem.write_to_path(wrong_ca)
    port = free_port()
    tls = ["--tls-port", str(port), "--tls-cert-file", files["server"], "--tls-key-file", files["server"]]
    with server(tmp_path / "redis", *map(str, tls), "--tls-ca-cert-file", str(ca)) as redis:
        await redis.ready()

        def node(id: str, pem: str, trusted: Path) -> Store:
            store_tls = StoreTLS(cert=str(files[pem]), key=str(files[pem]), root_cas=str(trusted))
            return member(id, f"rediss://127.0.0.1:{port}", store_tls=store_tls)[0]

        good, second = node("first", "node", ca), node("second", "node", ca)
        stranger, astray = node("third", "stranger", ca), node("fourth", "node", wrong_ca)
        async with trio.open_nursery() as nursery:
            for store in (good, second, stranger, astray):
                await nursery.start(store.run)
            await until(good, Health.OK, 1)
            assert stranger.health is astray.health is Health.AWAY
            assert "certificate" in astray.degraded.lower(), astray.degraded
            assert "\n" not in stranger.degraded + astray.degraded
            nursery.cancel_scope.cancel()


@contextmanager
def sentinel(config: Path) -> Iterator[None]:
    with config.with_suffix(".log").open("ab") as log:
        process = subprocess.Popen(["redis-server", config, "--sentinel"], stdout=log, stderr=log)
    try:
        yield
    finally:
        process.kill()
        process.wait()


class Sentinels:
    """A master, a replica and three sentinels, which take 1 s to notice."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.master = stack.enter_context(server(folder / "master"))
        self.replica = stack.enter_context(
            server(folder / "replica", "--replicaof", "127.0.0.1", str(self.master.port))
        )
        self.ports = [free_port() for _ in range(3)]
        for port in self.ports:
            config = folder / f"sentinel-{port}.conf"
            config.write_text(
                f"port {port}\nbind 127.0.0.1\ndir {folder}\n"
                f"sentinel monitor cluster 127.0.0.1 {self.master.port} 2\n"
                "sentinel down-after-milliseconds cluster 1000\nsentinel failover-timeout cluster 5000\n"
            )
            stack.enter_context(sentinel(config))

    @property
    def url(self) -> str:
        return f"redis+sentinel://{','.join(f'127.0.0.1:{port}' for port in self.ports)}/cluster"

    async def ready(self) -> None:
        """They know of each other and of the replica."""
        with trio.fail_after(30):
            for port in self.ports:
                while not self._knows_all(port):  # noqa: ASYNC110
                    await trio.sleep(0.1)

    def _knows_all(self, port: int) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), 2) as sock:
                sock.sendall(b"INFO sentinel\r\n")
                return b"slaves=1,sentinels=3" in sock.recv(65536)
        except OSError:
            return False


async def test_another_master_is_found_by_the_sentinels(tmp_path: Path) -> None:
    """The old one is killed. What was known stays, and goes on being kept current by the new one."""
    with ExitStack() as stack:
        sentinels = Sentinels(tmp_path, stack)
        await sentinels.ready()
        first, second = member("first", sentinels.url)[0], member("second", sentinels.url)[0]
        async with trio.open_nursery() as nursery:
            await nursery.start(first.run)
            await nursery.start(second.run)
            await until(first, Health.OK, 1)
            await until(second, Health.OK, 1)
            sentinels.master.kill()
            await until(first, Health.AWAY, 1)
            await until(first, Health.OK, 1, 40)
            await until(second, Health.OK, 1, 40)
            first._own.changed("web", 2)
            with trio.fail_after(10):
                while (known := second._directory.get("first")) is None or known.endpoints != {"web": 2}:  # noqa: ASYNC110
                    await trio.sleep(0.02)
            assert "lease:first" in sentinels.replica.say("KEYS", "*")
            nursery.cancel_scope.cancel()


@pytest.mark.parametrize("why", ["nobody", "another name"])
async def test_sentinels_that_know_no_master_are_told_of(tmp_path: Path, why: str) -> None:
    with ExitStack() as stack:
        if why == "nobody":
            url = f"redis+sentinel://127.0.0.1:{free_port()}/cluster"
        else:
            sentinels = Sentinels(tmp_path, stack)
            await sentinels.ready()
            url = sentinels.url.replace("/cluster", "/other")
        store = member("first", url)[0]
        async with trio.open_nursery() as nursery:
            await nursery.start(store.run)
            assert store.health is Health.AWAY
            assert "\n" not in store.degraded
            nursery.cancel_scope.cancel()


async def test_sentinels_have_a_password_of_their_own_and_tls(tmp_path: Path) -> None:
    authority = trustme.CA()
    pem, ca = tmp_path / "pair.pem", tmp_path / "ca.pem"
    pem.write_bytes(authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.bytes())
    authority.cert_pem.write_to_path(ca)
    at_store, at_sentinel = free_port(), free_port()
    tls = {"tls-cert-file": pem, "tls-key-file": pem, "tls-ca-cert-file": ca}
    config = tmp_path / "sentinel.conf"
    lines = [f"{name} {value}" for name, value in {"port": 0, "tls-port": at_sentinel, **tls}.items()]
    lines += ["bind 127.0.0.1", "tls-replication yes", f"dir {tmp_path}"]
    lines += ["user node on >of-the-sentinel ~* &* +@all", "user default off"]
    lines += [f"sentinel monitor main 127.0.0.1 {at_store} 1", "sentinel auth-pass main of-the-store"]
    config.write_text("\n".join(lines))
    with ExitStack() as stack:
        words = [word for name, value in tls.items() for word in (f"--{name}", str(value))]
        redis = stack.enter_context(
            server(tmp_path / "redis", "--tls-port", str(at_store), "--requirepass", "of-the-store", *words)
        )
        await redis.ready()
        stack.enter_context(sentinel(config))
        with trio.fail_after(10):
            while not await accepts(at_sentinel):
                pass

        def node(id: str, password: str) -> Store:
            return member(
                id,
                f"rediss+sentinel://:of-the-store@127.0.0.1:{at_sentinel}/main",
                store_tls=StoreTLS(cert=str(pem), key=str(pem), root_cas=str(ca)),
                sentinel=SentinelConfig("node", secret_file(tmp_path / id, password)),
            )[0]

        good, second, wrong = (
            node("first", "of-the-sentinel"),
            node("second", "of-the-sentinel"),
            node("third", "of-the-store"),
        )
        async with trio.open_nursery() as nursery:
            for store in (good, second, wrong):
                await nursery.start(store.run)
            await until(good, Health.OK, 1)
            assert wrong.health is Health.AWAY
            assert "WRONGPASS" in wrong.degraded or "invalid username-password" in wrong.degraded, wrong.degraded
            assert "\n" not in wrong.degraded
            nursery.cancel_scope.cancel()
