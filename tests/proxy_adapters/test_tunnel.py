"""The tunnel as a Trio stream: Trio's own checks, with and without TLS."""

from __future__ import annotations

import ssl

import pytest
import trio
import trio.testing

from proxy_adapters.tunnel import Tunnel
from tests.conftest import Pki
from tests.proxy_adapters.tls_server import Server


async def plain_pair() -> tuple[Tunnel, Tunnel]:
    ours, theirs = trio.testing.memory_stream_pair()
    return Tunnel(ours), Tunnel(theirs)


async def clogged_pair() -> tuple[Tunnel, Tunnel]:
    ours, theirs = trio.testing.lockstep_stream_pair()
    return Tunnel(ours), Tunnel(theirs)


async def test_without_tls_it_is_a_half_closeable_stream() -> None:
    await trio.testing.check_half_closeable_stream(plain_pair, clogged_pair)


@pytest.mark.parametrize("layers", [1, 2])
async def test_with_tls_it_is_a_two_way_stream(pki: Pki, layers: int) -> None:
    async def over(ours: trio.abc.Stream, theirs: trio.abc.Stream) -> tuple[Tunnel, Tunnel]:
        client, server = Tunnel(ours), Server(theirs)
        for _ in range(layers):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(server.start_server_tls, pki.server_context())
                await client.start_tls(pki.client_context(), "localhost", strict=True)
        return client, server

    async def pair() -> tuple[Tunnel, Tunnel]:
        return await over(*trio.testing.memory_stream_pair())

    # No clogged pair: a lockstep stream would wait for ever for a reader of the server's session tickets.
    await trio.testing.check_half_closeable_stream(pair, None)


@pytest.mark.parametrize("strict", [True, False])
async def test_an_end_without_close_notify_is_a_truncation_where_it_matters(pki: Pki, strict: bool) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    client, server = Tunnel(ours), Server(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.start_server_tls, pki.server_context())
        await client.start_tls(pki.client_context(), "localhost", strict=strict)
    await server.send_all(b"half")
    await theirs.aclose()
    assert await client.receive_some() == b"half"
    if strict:
        with pytest.raises(trio.BrokenResourceError, match="close_notify"):
            await client.receive_some()
    else:
        assert await client.receive_some() == b""


async def test_garbage_in_the_stream_breaks_it_with_the_reason(pki: Pki) -> None:
    ours, theirs = trio.testing.memory_stream_pair()
    client, server = Tunnel(ours), Server(theirs)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.start_server_tls, pki.server_context())
        await client.start_tls(pki.client_context(), "localhost", strict=True)
    await theirs.send_all(b"\x17\x03\x03\x00\x20" + bytes(32))
    with pytest.raises(trio.BrokenResourceError, match="TLS failed") as caught:
        await client.receive_some()
    assert isinstance(caught.value.__cause__, ssl.SSLError)


async def test_the_tunnel_has_no_socket_where_there_is_none() -> None:
    tunnel, _ = await plain_pair()
    assert tunnel.socket is None
    with pytest.raises(ValueError, match="no socket"):
        tunnel.detach()
