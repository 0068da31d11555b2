"""Where a request, a token or a connection may lead: an agent's own service, and nowhere else."""

from __future__ import annotations

import ssl
import subprocess
import warnings

import pytest
import trio

from tests.conftest import Pki
from tests.node.test_tls import tls_node
from tests.programs import needs
from tests.roles import Roles, Talk, answer, settle, values_of
from tests.security.refused import head


async def test_an_agent_reaches_its_own_service_whatever_is_asked_for(roles: Roles) -> None:
    reached: list[bytes] = []

    async def elsewhere(talk: Talk) -> None:
        reached.append(await talk.hear())

    port = await roles.service(elsewhere)
    place = b"127.0.0.1:%d" % port
    asked: list[bytes] = []

    async def serve(talk: Talk) -> None:
        while True:
            asked.append(await talk.until(b"\r\n\r\n"))
            await talk.say(answer(status=b"302 Found", fields=b"Location: http://" + place + b"/\r\n"))

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    for request in (
        head(b"x-piko-endpoint: web", first=b"GET http://" + place + b"/ HTTP/1.1"),
        head(b"x-piko-endpoint: web", host=b"Host: " + place),
        head(b"x-piko-endpoint: web", host=b"Host: 169.254.169.254"),
        head(b"X-Forwarded-Host: " + place, b"Forwarded: host=" + place),
        head(first=b"GET //" + place + b"/ HTTP/1.1"),
    ):
        got = await client.ask(request)
        assert (got.status, got.values(b"location")) == (302, [b"http://" + place + b"/"])
    await settle()
    assert len(asked) == 5
    assert reached == []
    assert values_of(asked[2], b"host") == [b"169.254.169.254"]


async def test_tls_below_1_2_is_refused_on_each_port(roles: Roles, pki: Pki) -> None:
    node = await tls_node(roles, pki)
    for port in (node.proxy, node.upstream, node.admin):
        for version in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            context = pki.client_context()
            context.set_ciphers("ALL:@SECLEVEL=0")
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                context.minimum_version = context.maximum_version = version
            with pytest.raises(trio.BrokenResourceError) as caught:
                await roles.dial(port, tls=context)
            if port != node.admin:  # where hypercorn says nothing
                assert "ALERT_PROTOCOL_VERSION" in repr(caught.value.__cause__)


@needs("openssl")
async def test_nobody_renegotiates(roles: Roles, pki: Pki) -> None:
    node = await tls_node(roles, pki)
    for port in (node.proxy, node.upstream):
        done = await trio.run_process(
            ["openssl", "s_client", "-tls1_2", "-connect", f"127.0.0.1:{port}", "-CAfile", str(pki.ca)],
            stdin=b"R\n",
            capture_stdout=True,
            stderr=subprocess.STDOUT,
            check=False,
        )
        assert b"RENEGOTIATING" in done.stdout
        assert b"no renegotiation" in done.stdout
