"""The streams of listen and connect are Trio's: Trio's own check says so."""

from __future__ import annotations

import hashlib

import pytest
import trio
from trio.testing import check_half_closeable_stream

import trioduct
from tests.roles import Roles


def at(port: int) -> str:
    return f"http://127.0.0.1:{port}"


async def test_streams_are_half_closeable_streams_of_trio(roles: Roles) -> None:
    node = await roles.node()
    async with trioduct.listen("web", url=at(node.upstream)) as listener:

        async def make() -> tuple[trioduct.TunnelStream, trioduct.TunnelStream]:
            near = await trioduct.connect("web", url=at(node.proxy))
            return near, await listener.accept()

        async def clogged() -> tuple[trioduct.TunnelStream, trioduct.TunnelStream]:
            near, far = await make()
            for stream in (near, far):
                while not stream._full:
                    with trio.move_on_after(0.2):
                        await stream.send_all(bytes(1 << 16))
            return near, far

        await check_half_closeable_stream(make, clogged)


async def test_what_is_sent_arrives_and_a_slow_reader_holds_the_sender_back(roles: Roles) -> None:
    node = await roles.node()
    data = bytes(range(256)) * 4096 * 64  # 64 MiB
    sent = 0
    async with trioduct.listen("web", url=at(node.upstream)) as listener:
        near = await trioduct.connect("web", url=at(node.proxy))
        far = await listener.accept()

        async def send() -> None:
            nonlocal sent
            for start in range(0, len(data), 1 << 16):
                await near.send_all(data[start : start + (1 << 16)])
                sent += 1 << 16
            await near.send_eof()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            before = -1
            while before != sent:
                before = sent
                await trio.sleep(0.5)
            assert sent < len(data) // 2
            assert len(far._kept) <= 64 * 1024
            heard = hashlib.sha256()
            while part := await far.receive_some():
                heard.update(part)
        assert heard.digest() == hashlib.sha256(data).digest()


async def test_a_receive_that_is_cancelled_loses_nothing(roles: Roles) -> None:
    node = await roles.node()
    async with trioduct.listen("web", url=at(node.upstream)) as listener:
        near = await trioduct.connect("web", url=at(node.proxy))
        far = await listener.accept()
        with trio.move_on_after(0.05):
            await far.receive_some()
        await near.send_all(b"hello")
        assert await far.receive_some(2) == b"he"
        assert await far.receive_some() == b"llo"


async def test_streams_of_a_node_that_dies_are_broken_and_the_listener_goes_on(roles: Roles) -> None:
    node = await roles.node()
    async with trioduct.listen("web", url=at(node.upstream), settings={"resume": "0"}) as listener:
        await trioduct.connect("web", url=at(node.proxy), settings={"resume": "0"})
        far = await listener.accept()
        await node.kill()
        with pytest.raises(trio.BrokenResourceError):
            await far.receive_some()
        with pytest.raises(trio.BrokenResourceError):
            await far.send_all(b"hello")


async def test_an_endpoint_that_nobody_offers_is_told(roles: Roles) -> None:
    node = await roles.node()
    with pytest.raises((trioduct.Unreachable, trioduct.Refused), match="no available upstreams"):
        await trioduct.connect("nobody", url=at(node.proxy), settings={"timeout": "2s"})


async def test_what_fails_in_the_block_is_raised_as_it_is(roles: Roles) -> None:
    node = await roles.node()
    with pytest.raises(KeyError):
        async with trioduct.listen("web", url=at(node.upstream)):
            raise KeyError


async def test_bad_arguments_are_told() -> None:
    with pytest.raises(trioduct.ConfigError, match="proxi_url"):
        await trioduct.connect("web", url="http://node:8000", settings={"proxi_url": "x"})
    with pytest.raises(trioduct.ConfigError, match=r"connect\.url"):
        await trioduct.connect("web", url="gopher://node")
    with pytest.raises(ValueError, match="a/b"):
        async with trioduct.listen("a/b", url="http://node:8001"):
            pass
