"""Each kind of secret that a configuration may have: used and refused, with all logging on, and found nowhere."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import jwt
import pytest
import trio

from tests.agent.proxies import Proxy
from tests.canary import CANARY, found_in
from tests.cluster.redis import RedisServer
from tests.programs import TRIODUCT, Node, Program, Programs, accepts, free_port, needs
from tests.roles import Talk

pytestmark = [needs("redis-server"), pytest.mark.timeout(300)]

CLUSTER = f"{CANARY}-of-the-cluster-of-thirty-two-letters"
STORE = f"{CANARY}-of-the-store"
AGENTS = f"{CANARY}-of-the-tokens-of-agents-thirty-two"
CLIENTS = f"{CANARY}-of-the-tokens-of-clients-thirty-two"
LOGIN = f"alice:{CANARY}-of-the-proxy"
WRONG = f"{CANARY}-and-wrong"
DEBUG = "--log.level=debug"


class Secrets:
    """Files that only their owner may read, each of its own."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made = 0

    def file(self, name: str, text: str) -> Path:
        self._made += 1
        path = self._folder / f"{self._made}-{name}"
        path.touch(0o600)
        path.write_text(text)
        return path


def token(key: str, subject: str) -> str:
    return jwt.encode({"sub": subject, "jti": CANARY}, key, "HS256")


@asynccontextmanager
async def login_proxy() -> AsyncIterator[int]:
    """A forward proxy that wants LOGIN; its port."""
    proxy = Proxy(LOGIN)

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            try:
                await proxy.http(Talk(stream))
            except (EOFError, OSError, trio.BrokenResourceError):
                pass

    async with trio.open_nursery() as nursery:
        [listener] = await nursery.start(partial(trio.serve_tcp, serve, 0, host="127.0.0.1"))
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[RedisServer]:
    server = RedisServer(tmp_path, "--requirepass", STORE)
    yield server
    server.close()


async def ask(port: int, *fields: str, path: str = "/") -> int:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        lines = [f"GET {path} HTTP/1.0", "Host: web.test", *fields, "", ""]
        await stream.send_all("\r\n".join(lines).encode())
        said = b"".join([chunk async for chunk in stream])
    return int(said.split()[1])


def proc(program: Program, name: str) -> bytes:
    return Path(f"/proc/{program.pid}/{name}").read_bytes()


async def test_no_secret_of_a_configuration_is_written_anywhere(
    programs: Programs, origin: int, store: RedisServer, tmp_path: Path
) -> None:
    secrets, cores = Secrets(tmp_path), tmp_path / "cores"
    cores.mkdir()
    await store.ready()

    async def start(*words: str | Path, env: dict[str, str] | None = None) -> Program:
        """With core files allowed, which would be written into a folder of their own."""
        shell = 'cd "$0"; ulimit -c unlimited; exec "$@"'
        return await programs.start("sh", "-c", shell, cores, TRIODUCT, *words, DEBUG, env=env)

    def server(password: str, key: str) -> tuple[Node, list[str]]:
        node = Node(programs)
        parts = {
            "upstream": {"auth": {"hmac_secret_key": AGENTS}},
            "proxy": {"auth": {"hmac_secret_key_file": str(secrets.file("clients.key", CLIENTS))}},
            "admin": {"auth": {"hmac_secret_key_file": str(secrets.file("admin.key", key))}},
            "cluster": {
                "store": store.url,
                "store_password_file": str(secrets.file("store", password)),
            },
        }
        path = secrets.file("server.yaml", json.dumps(parts))
        return node, [*node.words()[1:], f"--config.path={path}"]

    # A node that has all of them right, and one whose store refuses it.
    node, words = server(STORE, CLIENTS)
    env = {"TRIODUCT_CLUSTER_SECRET": CLUSTER}
    running = [await start(*words, env=env), await start(*server(WRONG, CLIENTS)[1], env=env)]
    for one in running:
        await one.wait_line('"node started"')

    async with login_proxy() as proxy:

        def agent(endpoint: str, *more: str | Path, login: str = LOGIN) -> list[str | Path]:
            way = {"connect": {"proxy": {"url": f"http://{login}@127.0.0.1:{proxy}"}}}
            file = secrets.file("agent.yaml", json.dumps(way))
            kind = "tcp" if endpoint == "bytes" else "http"
            url = f"--connect.url=http://127.0.0.1:{node.upstream}"
            return ["agent", kind, endpoint, str(origin), url, f"--config.path={file}", *more]

        good = token(AGENTS, "good")
        by_env = await start(*agent("web"), env={"TRIODUCT_CONNECT_TOKEN": good})
        by_file = await start(*agent("bytes"), f"--connect.token-file={secrets.file('token', good)}")
        printed = f"--connect.token-command=cat {secrets.file('printed', good)}"
        by_command = await start(*agent("third"), printed)
        for one in (by_env, by_file, by_command):
            await one.wait_line('"connected"')
            running.append(one)

        # And who has them wrong.
        ended = [
            await start(
                *agent("web", "--connect.timeout=1s", login=f"alice:{WRONG}"), env={"TRIODUCT_CONNECT_TOKEN": good}
            ),
            await start(*agent("web"), env={"TRIODUCT_CONNECT_TOKEN": token(WRONG * 2, "bad")}),
            await start(*agent("web"), env={"TRIODUCT_CONNECT_TOKEN": f"{WRONG} with blanks"}),
            await start(*server(STORE, "too short")[1], env=env),
            await start(*words, env={"TRIODUCT_CLUSTER_SECRET": CANARY}),
            await programs.start(TRIODUCT, *words, "--config.check", env=env),
            await programs.start(
                TRIODUCT, "doctor", "web", *agent("web")[4:], env={"TRIODUCT_CONNECT_TOKEN": token(WRONG * 2, "bad")}
            ),
        ]
        for one in ended:
            await one.wait_end()
        assert "proxy-auth failed" in ended[0].text
        assert [one.process.returncode for one in ended] == [1, 1, 2, 2, 2, 0, 4], str(programs)

        client = f"Authorization: Bearer {token(CLIENTS, 'client')}"
        key = f"X-Api-Key: {CANARY}"
        assert await ask(node.proxy, client, key, path=f"/fields?token={CANARY}") == 200
        assert await ask(node.proxy, f"Authorization: Bearer {token(WRONG * 2, 'bad')}") == 401
        assert await ask(node.proxy, f"Authorization: Basic {base64.b64encode(LOGIN.encode()).decode()}") == 401
        assert await ask(node.proxy, client, f"Cookie: {CANARY}\0") == 400

        for key, status in ((CLIENTS, 200), (WRONG * 2, 0)):
            local = str(free_port())
            forward = ["forward", "tcp", local, "bytes", f"--connect.url=http://127.0.0.1:{node.proxy}"]
            running.append(await start(*forward, env={"TRIODUCT_CONNECT_TOKEN": token(key, "forward")}))
            while not await accepts(int(local)):
                pass
            try:
                assert await ask(int(local), path="/fields") == status
            except (trio.BrokenResourceError, IndexError):
                assert not status

        allowed = f"Authorization: Bearer {token(CLIENTS, 'admin')}"
        shown = []
        for path in ("/metrics", "/status/upstream/sessions", "/status/cluster/nodes", "/status/cluster/nodes/local"):
            shown.append(await told(node.admin, path, allowed))
        assert b"piko_proxy_requests" in shown[0]
        asking = await programs.start(
            TRIODUCT,
            *("server", "status", "cluster", "nodes", f"--server.url=http://127.0.0.1:{node.admin}"),
            env={"TRIODUCT_TOKEN": token(CLIENTS, "admin")},
        )
        assert await asking.wait_end() == 0, asking.text

        for one in running:
            shown += [proc(one, "cmdline"), proc(one, "comm")]
            assert proc(one, "limits").split(b"Max core file size")[1].split()[0] == b"1"
        for one in running:
            one.process.send_signal(signal.SIGABRT)
        assert {await one.wait_end() for one in running} == {-signal.SIGABRT}
    assert list(cores.iterdir()) == []
    shown += [f"{one.words}\n{one.text}".encode() for one in [*running, *ended, asking]]
    for text in shown:
        assert found_in(text) == [], text.decode(errors="replace")


async def told(port: int, path: str, *fields: str) -> bytes:
    stream = await trio.open_tcp_stream("127.0.0.1", port)
    async with stream:
        lines = [f"GET {path} HTTP/1.0", "Host: localhost", *fields, "", ""]
        await stream.send_all("\r\n".join(lines).encode())
        said = b"".join([chunk async for chunk in stream])
    assert said.split()[1] == b"200", said
    return said
