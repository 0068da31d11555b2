"""A secret is seen by the proxy that it is for, and by nobody else: not in logs, reprs, errors, tracebacks, argv.

Every scheme, with the right secret and with a wrong one, dialled as an agent dials, all logging on.
"""

from __future__ import annotations

import contextlib
import io
import logging
import traceback
from base64 import b64encode
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from urllib.parse import quote

import msgspec
import pytest
import trio

from engine import log
from engine.config import OutConfig
from engine.errors import Unreachable
from engine.loop.dial import Server, dial_server
from engine.loop.run import open_reactor
from proxy_adapters import Memory, Seen, TunnelError, open_tunnel
from tests.proxy_adapters.beds.conftest import no_realm
from tests.proxy_adapters.test_auth import TYPE_2, wanted
from tests.proxy_adapters.test_open import OK

__all__ = ["no_realm"]

SECRET = "cAn4ry:p@ss/w%rd"
FORMS = [
    text.decode()
    for secret in (SECRET.encode(), f"alice:{SECRET}".encode(), SECRET.encode("utf-16-le"))
    for text in (quote(secret).encode(), quote(secret, safe="").encode(), b64encode(secret)[:-4], secret.hex().encode())
] + [SECRET, repr(SECRET)[1:-1], SECRET.encode("utf-16-le").decode("latin-1")]

KINDS: dict[str, tuple[list[str], str]] = {  # what the proxy asks for, and which key of the configuration answers
    "basic": (["Basic"], "password"),
    "digest-md5": (['Digest realm="r", nonce="n", qop="auth"'], "password"),
    "digest-sha-256": (['Digest realm="r", nonce="n", algorithm=SHA-256'], "password"),
    "ntlm": (["NTLM", f"NTLM {TYPE_2}"], "password"),
    "negotiate-ntlm": (["Negotiate", f"Negotiate {TYPE_2}"], "password"),
    "negotiate": (["Negotiate"], "password"),
    "bearer": (["Bearer"], "token"),
    "command": (["Custom"], "command"),
    "socks5": ([], "password"),
}


class Proxy:
    """Takes whatever is shown to it, or nothing at all."""

    def __init__(self, asks: list[str], *, takes: bool) -> None:
        self._asks, self._takes = asks, takes
        self.heard = b""

    async def http(self, stream: trio.SocketStream) -> None:
        asks = iter(self._asks)
        async with stream:
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    more = await stream.receive_some()
                    if not more:
                        return
                    head += more
                self.heard += head
                ask = next(asks, "")
                if not ask and self._takes:
                    await stream.send_all(OK)
                    await trio.sleep_forever()
                await stream.send_all(wanted(ask or self._asks[0]))

    async def socks5(self, stream: trio.SocketStream) -> None:
        async with stream:
            yes, no = (b"\x05\x02", b"\x01\x00", b"\x05\x00\x00\x01" + bytes(6)), (b"\x05\x02", b"\x01\x01")
            answers = yes if self._takes else no
            for answer in answers:
                self.heard += await stream.receive_some()
                with contextlib.suppress(trio.BrokenResourceError):  # a secret that is not sent again
                    await stream.send_all(answer)
            await stream.receive_some()


@pytest.fixture
def logged() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    before = logging.getLogger().level
    logging.getLogger().setLevel(logging.DEBUG)
    log.configure("debug", stream=stream)
    yield stream
    log.configure("warn")
    logging.getLogger().setLevel(before)
    logging.getLogger().removeHandler(handler)


def configured(key: str, place: str, scheme: str, folder: Path, source: str) -> OutConfig:
    """The way to a proxy, with the secret by one of its sources; what the source runs notes how it was called."""
    file, called = folder / "secret", folder / "argv"
    file.write_text(SECRET)
    file.chmod(0o600)
    command = f'sh -c "cat /proc/$$/cmdline /proc/$PPID/cmdline >> {called}; cat {file}"'
    kind = "socks5h" if scheme == "socks5" else "http"
    told: dict[str, object] = {"url": [f"{kind}://{place}"], "headers": [f"X-Key: {SECRET}"]}
    auth: dict[str, object] = {} if scheme == "socks5" else {"schemes": [scheme]}
    if key == "command":
        auth["command"] = command
    elif key == "token":
        auth["token_file"] = str(file)
    elif source == "url":
        told["url"] = [f"{kind}://alice:{quote(SECRET, safe='')}@{place}"]
    else:
        value = {"": SECRET, "_file": str(file), "_env": "CANARY_OF_A_TEST", "_command": command}[source]
        told |= {"user": "alice", f"password{source}": value}
    return msgspec.convert({**told, "auth": auth}, OutConfig)


@pytest.mark.parametrize("takes", [True, False], ids=["taken", "refused"])
@pytest.mark.parametrize(
    ("scheme", "source"),
    [(scheme, "") for scheme in KINDS] + [("basic", source) for source in ("url", "_file", "_env", "_command")],
)
async def test_a_secret_is_for_the_proxy_alone(
    scheme: str,
    source: str,
    takes: bool,
    logged: io.StringIO,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    no_realm: None,
) -> None:
    monkeypatch.setenv("CANARY_OF_A_TEST", SECRET)
    monkeypatch.setattr("proxy_adapters.open.SHARED_MEMORY", Memory())  # another test's proxy may have had this port
    asks, key = KINDS[scheme]
    proxy = Proxy(asks, takes=takes)
    shown: list[object] = []
    async with trio.open_nursery() as nursery:
        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        serve = proxy.socks5 if scheme == "socks5" else proxy.http
        nursery.start_soon(partial(trio.serve_listeners, serve, listeners))
        place = f"127.0.0.1:{listeners[0].socket.getsockname()[1]}"
        config = configured(key, place, scheme, tmp_path, source)
        router = config.router("connect.proxy.url", config.url)
        memory, seen = Memory(), list[Seen]()
        for _ in range(2):  # the second time with what was learned
            try:
                async with await open_tunnel("t.test", 80, route=router, memory=memory, watch=seen.append) as tunnel:
                    shown += [tunnel, tunnel.route, *tunnel.trail]
            except TunnelError as error:
                shown += [error, error.args, error.report(), error.said, error.heard, *error.trail, vars(error)]
                shown += traceback.TracebackException.from_exception(error, capture_locals=True).format()
        async with open_reactor():
            try:
                (await dial_server(Server("http://t.test", router=router))).abort()
            except Unreachable as unreachable:
                shown += traceback.TracebackException.from_exception(unreachable, capture_locals=True).format()
                log.get_logger("canary").error("failed", exc_info=unreachable)
        (route,) = await router.routes_to("t.test", 80)
        shown += [*seen, memory, router, route, *route.hops, *(hop.login for hop in route.hops)]
        nursery.cancel_scope.cancel()
    assert log.flush()
    called = tmp_path / "argv"
    argv = called.read_text(errors="replace") if called.exists() else ""
    everything = "\n".join([logged.getvalue(), argv, *(f"{one}\n{one!r}" for one in shown)])
    for form in FORMS:
        where = everything.find(form)
        assert where < 0, f"shows itself: …{everything[max(0, where - 300) : where + 40]}…"
    if scheme in ("basic", "bearer", "command", "socks5"):
        assert logged.getvalue().count("in clear text, which everybody on the way can read") == 1, "and it is said"
        said = proxy.heard.decode("latin-1")
        basic = b64encode(f"alice:{SECRET}".encode()).decode()
        assert SECRET in said or basic in said, "the proxy itself was told"
