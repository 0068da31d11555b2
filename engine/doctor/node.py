"""At the node: TLS with it, whether a WebSocket upgrade arrives there, and a registration.

Whether an upgrade arrives can be told without registering anything: a handshake for WebSocket version 0 is refused by
every server, and in other words if it has arrived as an upgrade (RFC 6455, 4.2.2: 426) than if a proxy that looks
into TLS has made a plain request of it. For a server without words, a second one of a browser's kind does it.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, Literal, NamedTuple
from urllib.parse import quote

import trio

from engine.config import ConnectConfig
from engine.doctor.certificate import Certificate
from engine.doctor.report import Report, words
from engine.doctor.session import Session, median
from engine.errors import Refused, RemoteProtocolError, Unreachable
from engine.log import printable
from engine.transport.connection import Connection
from engine.transport.dial import Server, connection_over, open_websocket
from engine.wire import http1, websocket
from engine.wire.http1 import Fields
from engine.wire.tls import TLS
from proxy_adapters import Tunnel

REGISTER_PATH: Final = "/piko/v1/upstream/"
TLS_SECONDS: Final = 15.0
ANSWER_SECONDS: Final = 15.0
REST_SECONDS: Final = 1.0
ROUND_TRIPS: Final = 5
EXCERPT: Final = 2000

Leg = Literal["tls", "upgrade", "node", "session"]


class Stopped(Exception):
    """It went no further than this leg; the text says why. `certificate` is what was shown to us, if anything."""

    def __init__(self, leg: Leg, fact: str, *, certificate: Certificate | None = None, cure: str = "") -> None:
        super().__init__(fact)
        self.leg = leg
        self.certificate = certificate
        self.cure = cure  # "http" or "https": what its port seems to speak


async def secure(tunnel: Tunnel, context: ssl.SSLContext | None, name: str) -> tuple[Connection, TLS | None]:
    """A connection to the node over the tunnel, with TLS if there is a context. Raises Stopped."""
    connection = connection_over(tunnel)
    if context is None:
        return connection, None
    try:
        with trio.fail_after(TLS_SECONDS):
            layer = await connection.start_tls(context, server_hostname=name)
    except BaseException as error:
        connection.abort()
        if isinstance(error, ssl.SSLError):
            plain = "WRONG_VERSION_NUMBER" in str(error) or "HTTP_REQUEST" in str(error)
            fact = "no TLS is spoken there" if plain else words(error)
            raise Stopped("tls", fact, cure="http" if plain else "") from error
        if isinstance(error, OSError | trio.TooSlowError):
            raise Stopped("tls", f"it hung up during TLS: {words(error)}") from error
        raise
    return connection, layer


async def look(tunnel: Tunnel, name: str) -> Certificate | None:
    """The certificate that the other end shows, believed or not. Nothing is said to it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    connection = connection_over(tunnel)
    try:
        with trio.fail_after(TLS_SECONDS):
            layer = await connection.start_tls(context, server_hostname=name)
    except (OSError, ssl.SSLError, trio.TooSlowError):
        return None
    finally:
        connection.abort()
    return Certificate.read(layer.object.getpeercert(binary_form=True))


def credentials(connect: ConnectConfig) -> Fields:
    """What an agent shows to the node."""
    fields: Fields = []
    if connect.token:
        fields.append((b"Authorization", b"Bearer " + connect.token.encode()))
    if connect.tenant_id:
        fields.append((b"x-piko-tenant-id", connect.tenant_id.encode()))
    return fields


async def ask_for_upgrade(
    connection: Connection,
    again: Callable[[], Awaitable[Connection]],
    server: Server,
    endpoint: str,
    fields: Fields,
) -> str:
    """Ask for a WebSocket that no server gives: what the answer means, in words, if an upgrade arrives. Raises Stopped.

    The connection is closed; `again` opens another one, if one answer is not enough.
    """
    answer = await _ask(connection, server, endpoint, [(b"Sec-WebSocket-Version", b"0"), *fields])
    if answer.status == 400 and answer.names_version and not re.search(r"upgrade|version", answer.text):
        # Go's gorilla, which has the same answer to a wrong version and to no upgrade at all. It looks at the origin
        # after both, and before it gives a WebSocket.
        foreign: Fields = [(b"Sec-WebSocket-Version", b"13"), (b"Origin", b"http://doctor.invalid"), *fields]
        second = await _ask(await again(), server, endpoint, foreign)
        if second.status in (101, 403):
            return f"it arrives as one{second.inspected}"
        if second.status == 400:
            raise Stopped("upgrade", f"it arrives without its `Upgrade: websocket`{second.inspected}")
        answer = second
    return _meaning(answer)


class _Answer(NamedTuple):
    status: int
    said: str  # for people
    text: str  # the body, in lower case
    names_version: bool  # of the WebSocket, which only a WebSocket server does
    inspected: str  # what only somebody inside TLS can have added


async def _ask(connection: Connection, server: Server, endpoint: str, fields: Fields) -> _Answer:
    path = f"{server.path}{REGISTER_PATH}{quote(endpoint, safe='')}"
    asked: Fields = [
        (b"Host", server.authority.encode()),
        (b"Connection", b"Upgrade"),
        (b"Upgrade", b"websocket"),
        (b"Sec-WebSocket-Key", websocket.new_key()),
        (b"User-Agent", b"trioduct"),
        *fields,
    ]
    connection.put(http1.encode_request(b"GET", path.encode(), asked))
    data = b""
    try:
        with trio.fail_after(ANSWER_SECONDS):
            while (end := http1.head_end(data)) < 0:
                more = await connection.receive()
                if not more:
                    raise ConnectionResetError("closed in place of an answer")
                data += more
        response = http1.parse_response(data[:end], b"GET")
        body = data[end:]
        with trio.move_on_after(REST_SECONDS):
            while len(body) < (response.body if 0 <= response.body < EXCERPT else EXCERPT):
                more = await connection.receive()
                if not more:
                    break
                body += more
    except RemoteProtocolError as error:
        if data[:1] in (b"\x15", b"\x16"):
            raise Stopped("node", "it speaks TLS there", cure="https") from error
        raise Stopped("upgrade", f"no HTTP came back: {error}") from error
    except (OSError, ssl.SSLError) as error:
        silent = not data and not server.secure  # many say nothing to those who do not begin with TLS
        raise Stopped(
            "upgrade", f"it was cut during the upgrade: {words(error)}", cure="https" if silent else ""
        ) from error
    except trio.TooSlowError as error:
        raise Stopped("upgrade", f"no answer to the upgrade within {ANSWER_SECONDS:g} s") from error
    finally:
        connection.abort()
    text = body[:EXCERPT].decode("utf-8", "replace")
    said = f"{response.status} {response.reason.decode('latin-1')}".rstrip()
    excerpt = printable(" ".join(text.split()), 300)
    found = [(name.lower(), value.decode("latin-1")) for name, value in response.fields]
    traces = [f"{name.decode()}: {value}" for name, value in found if name in (b"via", b"x-cache", b"x-squid-error")]
    return _Answer(
        response.status,
        f"{said}: {excerpt}" if excerpt else said,
        text.lower(),
        any(name == b"sec-websocket-version" for name, _ in found),
        f"; somebody on the way looks into it ({', '.join(traces)})" if traces else "",
    )


def _meaning(answer: _Answer) -> str:
    status, said, text, _, inspected = answer
    if status in (101, 426) or "version" in text:
        return f"it arrives as one{inspected}"
    if status == 400 and "upgrade" in text:
        raise Stopped("upgrade", f"it arrives without its `Upgrade: websocket`{inspected}; the node: {said}")
    if status == 401:
        raise Stopped("node", f"the node wants a token, or another one: {said}{inspected}")
    if "missing endpoint" in text or "no available upstreams" in text:
        raise Stopped("node", f"that is a node's proxy port, for clients; an agent needs its upstream port: {said}")
    if status == 404:
        raise Stopped("node", f"that is no upstream port of a node (8001, if nobody changed it): {said}{inspected}")
    raise Stopped("upgrade" if inspected else "node", f"it was answered by {said}{inspected}")


async def register(
    connect: ConnectConfig, server: Server, endpoint: str, report: Report, *, silent_seconds: float, echo_seconds: float
) -> None:
    """Register `endpoint` as an agent does, for a moment, and see what the session is worth. Raises Stopped."""
    path = REGISTER_PATH + quote(endpoint, safe="")
    with report.step("registration", endpoint) as step:
        try:
            connection, _ = await open_websocket(server, path, credentials(connect))
        except (Refused, Unreachable) as error:
            raise Stopped("node", str(error)) from error
        step.text = "registered"
    session = Session(connection)
    try:
        with report.step("round trip") as step:
            with trio.fail_after(ANSWER_SECONDS):
                trips = [await session.round_trip() for _ in range(ROUND_TRIPS)]
            step.text = f"{median(trips) * 1000:.1f} ms, the median of {ROUND_TRIPS} pings"
            step.seconds = None
        if echo_seconds:
            with report.step("throughput") as step:
                with trio.fail_after(echo_seconds + ANSWER_SECONDS):
                    speed = await session.echo(echo_seconds)
                step.text = f"at least {speed / 1e6:.1f} MB/s each way at the same time, in echoes of 125 bytes"
        if silent_seconds:
            with report.step("silence") as step:
                longest = await session.be_silent(silent_seconds)
                step.text = f"held for {silent_seconds:g} s; the longest silence in it was {longest:.1f} s"
    except (OSError, RemoteProtocolError, trio.TooSlowError, ssl.SSLError) as error:
        if isinstance(error, ConnectionResetError) and len(error.args) > 1:
            raise Stopped(
                "session", f"the session was cut after {error.args[1]:.1f} s of silence: {error.args[0]}"
            ) from error
        raise Stopped("session", f"the session did not last: {words(error)}") from error
    finally:
        with trio.CancelScope(shield=True):
            await session.leave()
