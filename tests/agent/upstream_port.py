"""A node's upstream port that a test plays, for agents to come to."""

from __future__ import annotations

import pytest
import trio

from engine.config import AgentConfig
from tests.peers import Peer, accept
from tests.roles import Roles, Talk

Arrival = tuple[Talk, bytes]


class Port:
    """An upstream port: who comes is in `arrivals`, with the head that asked for a registration."""

    def __init__(self, number: int, arrivals: trio.MemoryReceiveChannel[Arrival]) -> None:
        self.number = number
        self.arrivals = arrivals

    async def next(self) -> Peer:
        """Take the next registration."""
        return await accept(*await self.arrivals.receive())


@pytest.fixture
async def port(roles: Roles) -> Port:
    send, receive = trio.open_memory_channel[Arrival](10)

    async def serve(talk: Talk) -> None:
        await send.send((talk, await talk.until(b"\r\n\r\n")))
        await trio.sleep_forever()

    return Port(await roles.service(serve), receive)


async def start(roles: Roles, port: Port, config: AgentConfig) -> Peer:
    """Start an agent; the session that it opens."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roles.agent_with, config)
        return await port.next()
