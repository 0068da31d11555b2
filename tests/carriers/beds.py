"""Middleboxes between an agent (or a forward) and a node: real programs, each on a free port of 127.0.0.1.

    async with open_middlebox("nginx_buffering", node.upstream, pki) as box:
        ... an agent that is told box.flags() ...

A box leads to one port, and is gone when the block ends. All speak plain HTTP with the node; the one that inspects TLS
has a TLS front of its own before the node. What each does to traffic is written down in `facts`, and proven there.
"""

from __future__ import annotations

import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio

from perf.topologies.cutter import Cutter, How
from tests.conftest import Pki
from tests.programs import free_port
from tests.proxy_adapters.beds.bed import Bed, bed, program, unpacked
from tests.proxy_adapters.beds.proxies import ROOT, Lab, squid, squid_inspecting
from tests.roles import Talk, join

LIFETIME_SECONDS = 4


@dataclass(frozen=True, kw_only=True)
class Middlebox:
    """A middlebox that runs. `url` leads to the node, by way of `proxy` if that is set; `ca` issued what TLS shows."""

    url: str
    port: int
    proxy: str = ""
    ca: Path | None = None
    cutter: Cutter | None = None

    def flags(self) -> list[str]:
        """What an agent or a forward is told of its way."""
        told = {"url": self.url, "proxy.url": self.proxy, "tls.root-cas": self.ca}
        return [f"--connect.{name}={value}" for name, value in told.items() if value]

    async def dial(self) -> Talk:
        """A connection on which the first byte is HTTP for the node, as an agent would come to have it."""
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        if not self.proxy:
            return Talk(stream)
        target = self.url.partition("//")[2]
        talk = Talk(stream)
        await talk.say(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        answer = await talk.until(b"\r\n\r\n")
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        if self.ca is None:
            return talk
        tls = ssl.create_default_context(cafile=self.ca)
        secured = trio.SSLStream(stream, tls, server_hostname="localhost", https_compatible=True)
        await secured.do_handshake()
        return Talk(secured)


@dataclass(frozen=True, kw_only=True)
class Ground:
    """What a box is built on: the port that it leads to, a folder with its processes, tasks that end with it."""

    to: int
    pki: Pki
    where: Bed
    nursery: trio.Nursery
    stack: contextlib.ExitStack

    async def start(self, *command: str | Path, port: int) -> None:
        """Start a program; return when it listens."""
        await trio.to_thread.run_sync(partial(self.where.start, *command, port=port))


@dataclass(frozen=True)
class Kind:
    """A box that can be started, if the machine has these programs."""

    start: Callable[[Ground], Awaitable[Middlebox]]
    needs: tuple[str, ...] = ()

    def check(self) -> None:
        """Skip this test where a program is missing; on CI, fail it. (Not in a task of Trio's, which would lose the
        reason.)
        """
        for name in self.needs:
            if name == "squid-openssl":
                unpacked(name)
            else:
                program(name)


@asynccontextmanager
async def open_middlebox(name: str, to: int, pki: Pki) -> AsyncIterator[Middlebox]:
    """The box of that name, leading to a port of 127.0.0.1, as long as the block runs."""
    with bed(name) as where, contextlib.ExitStack() as stack:
        async with trio.open_nursery() as nursery:
            yield await KINDS[name].start(Ground(to=to, pki=pki, where=where, nursery=nursery, stack=stack))
            nursery.cancel_scope.cancel()


# Forward proxies --------------------------------------------------------------------------------------------


async def squid_bumping(ground: Ground, more: str = "") -> Middlebox:
    """squid that inspects TLS, and has not been told to let Upgrade pass."""
    front = await tls_front(ground)
    lab = ground.stack.enter_context(Lab(ground.pki, [front]))
    made = await trio.to_thread.run_sync(lambda: squid_inspecting(lab, ground.where, more=more))
    await trio.to_thread.run_sync(made.start)
    return Middlebox(url=f"https://localhost:{front}", port=made.port, proxy=made.url, ca=made.inspector)


async def squid_bumping_lifetime(ground: Ground) -> Middlebox:
    """The same with a client_lifetime, which counts from a request's head and ends its connection, however busy."""
    return await squid_bumping(ground, f"client_lifetime {LIFETIME_SECONDS} seconds")


async def tls_front(ground: Ground) -> int:
    """The port of a server with a certificate for localhost, which passes on the bytes inside of TLS."""
    port = free_port()
    pem = ground.where.file("front.pem", ground.pki.cert.read_text() + ground.pki.key.read_text())
    config = ground.where.file(
        "front.cfg",
        f"""
defaults
  mode tcp
  timeout connect 5s
  timeout client 1h
  timeout server 1h
listen front
  bind 127.0.0.1:{port} ssl crt {pem} alpn http/1.1
  server node 127.0.0.1:{ground.to}
""",
    )
    await ground.start(program("haproxy"), "-db", "-f", config, port=port)
    return port


async def squid_lifetime(ground: Ground) -> Middlebox:
    """squid that ends every tunnel after a few seconds, however busy it is."""
    made = squid(ground.where, f"client_lifetime {LIFETIME_SECONDS} seconds\nhttp_access allow all\n")
    await trio.to_thread.run_sync(made.start)
    return Middlebox(url=f"http://localhost:{ground.to}", port=made.port, proxy=made.url)


# Reverse proxies --------------------------------------------------------------------------------------------


async def haproxy_denying(ground: Ground) -> Middlebox:
    """A gateway that forbids Upgrade with 403, and lets HTTP through as it comes."""
    port = free_port()
    config = ground.where.file(
        "haproxy.cfg",
        f"""
defaults
  mode http
  timeout connect 5s
  timeout client 60s
  timeout server 60s
listen gateway
  bind 127.0.0.1:{port}
  http-request deny deny_status 403 if {{ req.hdr(Upgrade) -m found }}
  server node 127.0.0.1:{ground.to}
""",
    )
    await ground.start(program("haproxy"), "-db", "-f", config, port=port)
    return reverse(port)


async def nginx_buffering(ground: Ground) -> Middlebox:
    """nginx as most of its configurations have it: without the lines for Upgrade, whole bodies kept both ways. It may
    not be told by the node to do otherwise.
    """
    return await nginx(
        ground, "proxy_buffering on; proxy_request_buffering on; proxy_ignore_headers X-Accel-Buffering;"
    )


async def nginx_streaming(ground: Ground) -> Middlebox:
    """nginx that keeps nothing, for bodies of any length, and has no lines for Upgrade."""
    return await nginx(ground, f"{STREAMING} client_max_body_size 0;")


async def nginx_streaming_1m(ground: Ground) -> Middlebox:
    """nginx that keeps nothing, and ends every body behind its default of 1 MiB."""
    return await nginx(ground, STREAMING)


STREAMING = "proxy_http_version 1.1; proxy_buffering off; proxy_request_buffering off;"


async def nginx(ground: Ground, lines: str) -> Middlebox:
    port, folder = free_port(), ground.where.folder
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    config = ground.where.file(
        "nginx.conf",
        f"""
        daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
        events {{ }}
        http {{
            access_log off;
            {temporary}
            server {{
                listen 127.0.0.1:{port};
                location / {{ proxy_pass http://127.0.0.1:{ground.to}; {lines} }}
            }}
        }}
        """,
    )
    await ground.start(program("nginx"), "-e", "stderr", "-p", folder, "-c", config, port=port)
    return reverse(port)


async def apache(ground: Ground) -> Middlebox:
    """Apache's mod_proxy, as it comes."""
    port, folder = free_port(), ground.where.folder
    modules = "mpm_event authz_core proxy proxy_http"
    load = "".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in modules.split())
    config = ground.where.file(
        "httpd.conf",
        f"""
ServerRoot {folder}
ServerName gateway.test
PidFile {folder}/pid
Mutex pthread
DefaultRuntimeDir {folder}
ErrorLog {ground.where.log("error.log")}
{"User www-data" if ROOT else ""}
{"Group www-data" if ROOT else ""}
{load}
Listen 127.0.0.1:{port}
ProxyPass / http://127.0.0.1:{ground.to}/
""",
    )
    await ground.start(program("apache2"), "-d", folder, "-f", config, "-DFOREGROUND", port=port)
    return reverse(port)


async def varnish(ground: Ground) -> Middlebox:
    """Varnish with its built-in policy."""
    port = free_port()
    await ground.start(
        program("varnishd"),
        *("-F", "-j", "none", "-n", ground.where.folder / "varnish", "-s", "malloc,64m"),
        *("-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{ground.to}"),
        port=port,
    )
    return reverse(port)


async def tinyproxy_reverse(ground: Ground) -> Middlebox:
    """tinyproxy in its reverse mode."""
    port = free_port()
    config = ground.where.file(
        "tiny.conf",
        f"Port {port}\nListen 127.0.0.1\nTimeout 600\nMaxClients 100\nLogLevel Info\n"
        f'LogFile "{ground.where.log("log")}"\n'
        f'ReversePath "/" "http://127.0.0.1:{ground.to}/"\nReverseOnly Yes\n',
    )
    await ground.start(program("tinyproxy"), "-d", "-c", config, port=port)
    return reverse(port)


def reverse(port: int, cutter: Cutter | None = None) -> Middlebox:
    return Middlebox(url=f"http://127.0.0.1:{port}", port=port, cutter=cutter)


# Of our own -------------------------------------------------------------------------------------------------


async def cutter(ground: Ground, *, every: float | None, how: How) -> Middlebox:
    """A network that drops connections; what it carries meanwhile it does not touch."""
    made = Cutter(ground.to, every=every, how=how)
    await ground.nursery.start(made.run)
    return reverse(made.port, made)


async def mute(ground: Ground) -> Middlebox:
    """It passes an Upgrade and the node's 101, and no byte behind that either way. Other requests pass as they are."""

    async def serve(near: Talk, far: Talk, head: bytes) -> None:
        await far.say(head)
        if b"\r\nupgrade:" not in head.lower():
            await join(near, far)
            return
        await near.say(await far.until(b"\r\n\r\n"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(near.rest)
            nursery.start_soon(far.rest)

    async def accept(stream: trio.SocketStream) -> None:
        near = Talk(stream)
        async with stream:
            try:
                head = await near.until(b"\r\n\r\n")
                async with await trio.open_tcp_stream("127.0.0.1", ground.to) as upstream:
                    await serve(near, Talk(upstream), head)
            except* (EOFError, OSError, trio.BrokenResourceError, trio.ClosedResourceError):
                pass

    listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
    await ground.nursery.start(trio.serve_listeners, accept, listeners)
    return reverse(listeners[0].socket.getsockname()[1])


KINDS: dict[str, Kind] = {
    "squid_bumping": Kind(squid_bumping, ("squid-openssl", "haproxy")),
    "haproxy_denying": Kind(haproxy_denying, ("haproxy",)),
    "nginx_buffering": Kind(nginx_buffering, ("nginx",)),
    "nginx_streaming": Kind(nginx_streaming, ("nginx",)),
    "nginx_streaming_1m": Kind(nginx_streaming_1m, ("nginx",)),
    "apache": Kind(apache, ("apache2",)),
    "varnish": Kind(varnish, ("varnishd",)),
    "tinyproxy_reverse": Kind(tinyproxy_reverse, ("tinyproxy",)),
    "squid_bumping_lifetime": Kind(squid_bumping_lifetime, ("squid-openssl", "haproxy")),
    "squid_lifetime": Kind(squid_lifetime, ("squid",)),
    "cutter_reset": Kind(partial(cutter, every=LIFETIME_SECONDS, how="reset")),
    "cutter_close": Kind(partial(cutter, every=LIFETIME_SECONDS, how="close")),
    "cutter_silence": Kind(partial(cutter, every=LIFETIME_SECONDS, how="silence")),
    "mute": Kind(mute),
}
