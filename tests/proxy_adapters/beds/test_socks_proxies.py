"""Real SOCKS servers: microsocks, dante, OpenSSH."""

from __future__ import annotations

import getpass
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest
import trio

from proxy_adapters import AuthenticationFailed, HopUnreachable, NotAProxy, TunnelError, TunnelRefused, open_tunnel
from proxy_adapters.auth.login import Memory
from tests.proxy_adapters.beds.bed import bed, free_port, program

Get = Callable[..., Awaitable[list[str]]]


@pytest.fixture(scope="session")
def microsocks() -> Iterator[int]:
    with bed("microsocks") as where:
        port = free_port()
        where.start(program("microsocks"), "-i", "127.0.0.1", "-p", str(port), "-u", "alice", "-P", "s3cret", port=port)
        yield port


async def test_microsocks(microsocks: int, get: Get, dead: int) -> None:
    await get(f"socks5h://alice:s3cret@127.0.0.1:{microsocks}")
    await get(f"socks5://alice:s3cret@127.0.0.1:{microsocks}")
    memory = Memory()
    with pytest.raises(AuthenticationFailed, match="'alice' or the password was refused"):
        await get(f"socks5h://alice:wrong@127.0.0.1:{microsocks}", memory=memory)
    with pytest.raises(AuthenticationFailed, match="refused before for alice"):
        await get(f"socks5h://alice:wrong@127.0.0.1:{microsocks}", memory=memory)
    with pytest.raises(AuthenticationFailed, match="accepts none of the methods"):
        await get(f"socks5h://127.0.0.1:{microsocks}")
    with pytest.raises(TunnelRefused, match="refused the connection") as refused:
        await get(f"socks5h://alice:s3cret@127.0.0.1:{microsocks}", port=dead)
    assert refused.value.retryable
    with pytest.raises(TunnelError):  # it has no SOCKS4 and hangs up
        await get(f"socks4a://127.0.0.1:{microsocks}")
    with pytest.raises(TunnelError):
        await get(f"http://127.0.0.1:{microsocks}")


@pytest.fixture(scope="session")
def danted() -> Iterator[int]:
    with bed("dante") as where:
        port, user = free_port(), getpass.getuser()
        config = where.file(
            "danted.conf",
            f"""
logoutput: {where.log("log")}
internal: 127.0.0.1 port = {port}
external: lo
clientmethod: none
socksmethod: none
user.privileged: {user}
user.unprivileged: {"nobody" if user == "root" else user}
client pass {{
  from: 127.0.0.0/8 to: 0.0.0.0/0
}}
socks block {{
  from: 0.0.0.0/0 to: 127.0.0.1/32 port = 9
  log: connect error
}}
socks pass {{
  from: 127.0.0.0/8 to: 0.0.0.0/0
  command: connect
  log: connect error
}}
""",
        )
        where.start(program("danted"), "-f", config, "-p", where.folder / "pid", port=port)
        yield port


async def test_dante(danted: int, get: Get, dead: int, web: int) -> None:
    for scheme in ("socks4", "socks5", "socks5h"):
        await get(f"{scheme}://127.0.0.1:{danted}")
    with pytest.raises(TunnelRefused, match="do not allow") as blocked:
        await get(f"socks5h://127.0.0.1:{danted}", port=9)
    assert not blocked.value.retryable
    with pytest.raises(TunnelRefused, match="refused the connection"):
        await get(f"socks5h://127.0.0.1:{danted}", port=dead)
    with pytest.raises(TunnelRefused, match="rejected or the destination could not be reached"):
        await get(f"socks4://127.0.0.1:{danted}", port=dead)
    # SOCKS4a: it really connects to 0.0.0.1, and the words say what else to use.
    with trio.fail_after(20), pytest.raises(TunnelRefused, match="try socks5h://"):
        await open_tunnel("localhost", web, route=f"socks4a://127.0.0.1:{danted}")


@pytest.fixture(scope="session")
def ssh() -> Iterator[int]:
    with bed("ssh") as where:
        server, port = free_port(), free_port()
        for name in ("host", "user"):
            where.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", where.folder / name)
        Path("/run/sshd").mkdir(exist_ok=True) if getpass.getuser() == "root" else None
        config = where.file(
            "sshd_config",
            f"Port {server}\nListenAddress 127.0.0.1\nHostKey {where.folder}/host\nStrictModes no\nUsePAM no\n"
            f"AuthorizedKeysFile {where.folder}/user.pub\nPidFile none\nPermitRootLogin yes\n",
        )
        where.start(program("sshd"), "-D", "-e", "-f", config, port=server)
        options = [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "IdentitiesOnly=yes",
            "ExitOnForwardFailure=yes",
        ]
        where.start(
            program("ssh"),
            "-N",
            *("-F", "/dev/null", "-D", f"127.0.0.1:{port}", "-p", str(server), "-i", where.folder / "user"),
            *[word for option in options for word in ("-o", option)],
            f"{getpass.getuser()}@127.0.0.1",
            port=port,
        )
        yield port


async def test_ssh_does_all_four_and_closes_where_others_answer(ssh: int, get: Get, dead: int, web: int) -> None:
    for scheme in ("socks4", "socks4a", "socks5", "socks5h"):
        await get(f"{scheme}://127.0.0.1:{ssh}")
    tunnel = await open_tunnel("localhost", web, route=f"socks4a://127.0.0.1:{ssh}")
    await tunnel.aclose()
    for scheme, words in (("socks5h", "closed the connection"), ("socks4a", "closed the connection|rejected")):
        with pytest.raises((TunnelRefused, HopUnreachable), match=words) as caught:
            await get(f"{scheme}://127.0.0.1:{ssh}", port=dead)
        assert caught.value.retryable


async def test_an_ssh_server_is_named(get: Get) -> None:
    with bed("sshd") as where:
        port = free_port()
        where.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", where.folder / "host")
        Path("/run/sshd").mkdir(exist_ok=True) if getpass.getuser() == "root" else None
        config = where.file(
            "conf", f"Port {port}\nListenAddress 127.0.0.1\nHostKey {where.folder}/host\nPidFile none\n"
        )
        where.start(program("sshd"), "-D", "-e", "-f", config, port=port)
        with pytest.raises(NotAProxy, match="SSH server"):
            await get(f"http://127.0.0.1:{port}")
