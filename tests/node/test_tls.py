"""TLS on every port and at every client of ours: who is believed, who has to show a certificate, and what is said."""

from __future__ import annotations

import json
import ssl

import pytest
import trio
import trustme
from trio.testing import MockClock

from engine.config import ClientTLS, ServerTLS
from engine.errors import Unreachable
from tests.conftest import Pki
from tests.roles import (
    GET,
    Roles,
    RunningNode,
    Talk,
    agent_config,
    answer,
    echo,
    forward_config,
    server_config,
    settle,
    tell_head,
)

HEALTH = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


def secure(section: ServerTLS, pki: Pki, *, mutual: bool = False) -> None:
    section.cert, section.key = str(pki.cert), str(pki.key)
    section.client_cas = str(pki.ca) if mutual else ""


async def tls_node(roles: Roles, pki: Pki, *, mutual: bool = False) -> RunningNode:
    """A node with TLS on all of its ports."""
    config = server_config()
    for section in (config.proxy, config.upstream, config.admin):
        secure(section.tls, pki, mutual=mutual)
    return await roles.node(config)


@pytest.fixture(scope="session")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Another authority, and a certificate for other.test."""
    folder = tmp_path_factory.mktemp("stranger")
    authority = trustme.CA()
    pair = authority.issue_cert("other.test")
    made = Pki(authority, folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    authority.cert_pem.write_to_path(made.ca)
    made.key.write_bytes(pair.private_key_pem.bytes())
    made.cert.write_bytes(b"".join(part.bytes() for part in pair.cert_chain_pems))
    return made


async def test_all_ports_speak_tls_and_all_our_clients_do(roles: Roles, pki: Pki) -> None:
    node = await tls_node(roles, pki)
    for protocol, service in (("http", tell_head), ("tcp", echo)):
        config = agent_config(
            node.upstream, await roles.service(service), endpoint=protocol, protocol=protocol, scheme="https"
        )
        config.connect.tls.root_cas = str(pki.ca)
        await roles.agent_with(config)
    forwarding = forward_config(node.proxy, "tcp", scheme="https")
    forwarding.connect.tls.root_cas = str(pki.ca)
    forward = await roles.forward_with(forwarding)

    client = await roles.dial(node.proxy, tls=pki.client_context())
    seen = await client.ask(GET.replace(b"web", b"http"))
    assert b"\r\nX-Forwarded-Proto: https\r\n" in seen.body
    client = await roles.dial(forward.ports[0][1])
    await client.say(b"hello")
    await client.finish()
    assert await client.rest() == b"hello"
    admin = await roles.dial(node.admin, tls=pki.client_context())
    assert (await admin.ask(HEALTH)).status == 200


async def test_a_large_body_passes_through_all_that_tls(roles: Roles, pki: Pki) -> None:
    body = bytes(range(256)) * 40_000

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(answer(await talk.exactly(len(body))))

    node = await tls_node(roles, pki)
    service = await roles.service(serve, tls=pki.server_context())
    config = agent_config(node.upstream, f"https://127.0.0.1:{service}/base/", scheme="https")
    config.connect.tls.root_cas = config.listeners[0].tls.root_cas = str(pki.ca)
    await roles.agent_with(config)
    client = await roles.dial(node.proxy, tls=pki.client_context())
    async with trio.open_nursery() as nursery:
        head = b"POST /a HTTP/1.1\r\nHost: web.test\r\nContent-Length: %d\r\n\r\n" % len(body)
        nursery.start_soon(client.say, head + body)
        assert (await client.answer()).body == body


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_a_port_that_wants_a_certificate_lets_nobody_in_without(
    roles: Roles, pki: Pki, stranger: Pki, version: ssl.TLSVersion
) -> None:
    node = await tls_node(roles, pki, mutual=True)
    config = agent_config(node.upstream, await roles.service(tell_head), scheme="https")
    config.connect.tls = ClientTLS(root_cas=str(pki.ca), cert=str(pki.cert), key=str(pki.key))
    await roles.agent_with(config)
    for port, request in ((node.proxy, GET), (node.admin, HEALTH)):
        for shown in (pki, stranger, None):
            context = pki.client_context()
            context.maximum_version = version
            if shown is not None:
                context.load_cert_chain(shown.cert, shown.key)
            try:
                client = await roles.dial(port, tls=context)
                status = (await client.ask(request)).status
            except (trio.BrokenResourceError, EOFError):
                status = 0
            assert status == (200 if shown is pki else 0)


async def failure(roles: Roles, node: RunningNode, tls: ClientTLS, clock: MockClock) -> str:
    """Why an agent does not come in."""
    config = agent_config(node.upstream, 1, scheme="https")
    config.connect.tls = tls

    async def wait_no_longer() -> None:
        await settle()
        clock.jump(config.connect.timeout + 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait_no_longer)
        error = await roles.failure_of_agent(config)
    assert isinstance(error, Unreachable)
    return str(error)


async def test_an_agent_without_the_certificate_that_is_wanted_is_not_let_in(
    roles: Roles, pki: Pki, stranger: Pki, mock_clock: MockClock
) -> None:
    node = await tls_node(roles, pki, mutual=True)
    ca = str(pki.ca)
    assert "certificate required" in await failure(roles, node, ClientTLS(root_cas=ca), mock_clock)
    wrong = ClientTLS(root_cas=ca, cert=str(stranger.cert), key=str(stranger.key))
    assert "unknown ca" in await failure(roles, node, wrong, mock_clock)


async def test_a_node_is_believed_only_with_a_good_certificate_of_its_own_name(
    roles: Roles, pki: Pki, stranger: Pki, mock_clock: MockClock
) -> None:
    node = await tls_node(roles, pki)
    unknown = await failure(roles, node, ClientTLS(root_cas=str(stranger.ca)), mock_clock)
    assert "unable to get local issuer certificate (set its CA with --connect.tls.root-cas" in unknown
    misnamed = await failure(roles, node, ClientTLS(root_cas=str(pki.ca), server_name="other.test"), mock_clock)
    assert "is not valid for 'other.test'. (set the name in it with --connect.tls.server-name)" in misnamed
    for tls in (
        ClientTLS(root_cas=str(pki.ca)),
        ClientTLS(root_cas=str(pki.ca), server_name="localhost"),
        ClientTLS(insecure_skip_verify=True, server_name="other.test"),
    ):
        config = agent_config(node.upstream, 1, scheme="https")
        config.connect.tls = tls
        await roles.agent_with(config)


async def test_a_service_is_believed_only_with_a_good_certificate_of_its_own_name(
    roles: Roles, pki: Pki, stranger: Pki
) -> None:
    node = await roles.node()
    theirs = stranger.server_context()
    theirs.load_verify_locations(pki.ca)
    theirs.verify_mode = ssl.CERT_REQUIRED
    service = await roles.service(tell_head, tls=theirs)
    ca, cert, key = str(stranger.ca), str(pki.cert), str(pki.key)
    client = await roles.dial(node.proxy)
    for name, tls, status in (
        ("good", ClientTLS(root_cas=ca, server_name="other.test", cert=cert, key=key), 200),
        ("any", ClientTLS(insecure_skip_verify=True, cert=cert, key=key), 200),
        ("name", ClientTLS(root_cas=ca, cert=cert, key=key), 502),
        ("ca", ClientTLS(root_cas=str(pki.ca), server_name="other.test", cert=cert, key=key), 502),
        ("cert", ClientTLS(root_cas=ca, server_name="other.test"), 502),
    ):
        config = agent_config(node.upstream, f"https://127.0.0.1:{service}", endpoint=name)
        config.listeners[0].tls = tls
        await roles.agent_with(config)
        got = await client.ask(GET.replace(b"web", name.encode()))
        assert got.status == status, name
        if status == 502:
            assert json.loads(got.body) == {"error": "upstream unreachable"}


async def test_who_speaks_the_wrong_one_is_hung_up_on_or_told(roles: Roles, pki: Pki) -> None:
    secured, plain = await tls_node(roles, pki), await roles.node()
    for port in (secured.proxy, secured.upstream):
        client = await roles.dial(port)
        await client.say(GET)
        await client.is_over()
    for port in (plain.proxy, plain.upstream):
        with pytest.raises(trio.BrokenResourceError):
            await roles.dial(port, tls=pki.client_context())


async def test_a_client_that_hangs_up_without_closing_its_tls_has_not_sent_its_body(roles: Roles, pki: Pki) -> None:
    heard, is_heard = trio.open_memory_channel[bytes](0)
    ends = trio.Event()

    async def serve(talk: Talk) -> None:
        await heard.send(await talk.until(b"hello"))
        assert not await talk.is_over()
        ends.set()

    node = await tls_node(roles, pki)
    config = agent_config(node.upstream, await roles.service(serve), scheme="https")
    config.connect.tls.root_cas = str(pki.ca)
    await roles.agent_with(config)
    client = await roles.dial(node.proxy, tls=pki.client_context())
    await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
    await is_heard.receive()
    await client.finish()
    await ends.wait()
