"""Requests with summaries: who is sent them, and what a node that lies gets."""

from __future__ import annotations

import struct

import pytest
import trio

from tests.agent.upstream_port import Port, start
from tests.peers import ACK, DATA, SYN, WINDOW, accept, register
from tests.roles import Roles, Talk, agent_config, answer, tell_head, values_of

ASKED = b"GET /a HTTP/1.1\r\nHost: web.test\r\n\r\n"
FOR_AGENTS = ASKED[:-2] + (
    b"X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Host: web.test\r\nX-Forwarded-Proto: http\r\n\r\n"
)


def with_summary(head: bytes, body: int = 0) -> bytes:
    return struct.pack("!B3xIq", 1, len(head), body) + head


@pytest.mark.parametrize(
    ("fields", "told"), [("", FOR_AGENTS), ("X-Trioduct-Summaries: 1\r\n", with_summary(FOR_AGENTS))]
)
async def test_a_node_tells_what_it_has_read_to_who_asks_for_it(roles: Roles, fields: str, told: bytes) -> None:
    node = await roles.node()
    agent = await register(roles, node, fields=fields)
    client = await roles.dial(node.proxy)
    await client.say(ASKED)
    opened = await agent.hear_until(WINDOW, SYN)
    assert (await agent.hear_until(DATA, 0, opened.stream)).data == told
    await agent.say(DATA, ACK, opened.stream, answer(b"ok"))
    assert (await client.answer()).body == b"ok"


async def test_an_agent_takes_summaries_and_heads_as_they_come(roles: Roles, port: Port) -> None:
    peer = await start(roles, port, agent_config(port.number, await roles.service(tell_head)))
    await peer.say(DATA, SYN, 2, with_summary(ASKED) + ASKED + with_summary(ASKED))
    for _ in range(3):
        assert (await peer.hear_data(2, b"\r\n\r\n" + ASKED)).count(ASKED) == 1


async def test_a_registration_asks_for_summaries(roles: Roles, port: Port) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roles.agent_with, agent_config(port.number, 1))
        talk, head = await port.arrivals.receive()
        assert values_of(head, b"x-trioduct-summaries") == [b"1"]
        await accept(talk, head)


async def test_a_node_that_lies_has_its_own_request_refused_and_no_other(roles: Roles, port: Port) -> None:
    served = 0

    async def counts(talk: Talk) -> None:
        nonlocal served
        while True:
            await talk.until(b"\r\n\r\n")
            served += 1
            await talk.say(answer(b"ok"))

    peer = await start(roles, port, agent_config(port.number, await roles.service(counts)))
    post = b"POST /a HTTP/1.1\r\nHost: web.test\r\nContent-Length: 40\r\n\r\n"
    for stream, lie in enumerate((with_summary(post), with_summary(ASKED, 5), with_summary(ASKED + ASKED), b"\x01")):
        lying, honest = 4 * stream + 2, 4 * stream + 4
        await peer.say(DATA, SYN, honest, with_summary(ASKED)[:10])
        await peer.say(DATA, SYN, lying, lie)
        if lie != b"\x01":  # which may be the beginning of one
            refused = await peer.hear_data(lying, b"}\n")
            assert refused.startswith(b"HTTP/1.1 400 ")
        await peer.say(DATA, 0, honest, with_summary(ASKED)[10:])
        assert (await peer.hear_data(honest, b"ok")).startswith(b"HTTP/1.1 200 ")
    assert served == 4
