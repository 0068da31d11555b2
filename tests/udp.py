"""The two ends of a flow of datagrams: clients that say what a test wants, and a service that answers."""

from __future__ import annotations

import socket
from typing import Any

import trio

from tests.roles import Roles


class Udp:
    """A socket of this machine, which is closed with the test."""

    def __init__(self, roles: Roles, host: str = "127.0.0.1", port: int = 0) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.sock = trio.socket.socket(family, socket.SOCK_DGRAM)
        self.host, self.number = host, port
        roles.nursery.start_soon(self._close_in_the_end)

    async def _close_in_the_end(self) -> None:
        with self.sock:
            await trio.sleep_forever()

    async def bind(self) -> int:
        await self.sock.bind((self.host, self.number))
        self.number = self.sock.getsockname()[1]
        return self.number

    async def say(self, data: bytes, port: int) -> None:
        await self.sock.sendto(data, (self.host, port))

    async def hear(self) -> bytes:
        return await self.sock.recv(70_000)

    async def ask(self, data: bytes, port: int) -> bytes:
        await self.say(data, port)
        return await self.hear()


class Service(Udp):
    """Answers each datagram with itself behind `mark`; `peers` are the addresses that have asked, in their order."""

    def __init__(self, roles: Roles, host: str = "127.0.0.1", port: int = 0, mark: bytes = b"") -> None:
        super().__init__(roles, host, port)
        self.mark = mark
        self.peers: dict[Any, None] = {}

    async def serve(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        await self.bind()
        task_status.started()
        while True:
            data, peer = await self.sock.recvfrom(70_000)
            self.peers[peer] = None
            await self.sock.sendto(self.mark + data, peer)


async def started(roles: Roles, host: str = "127.0.0.1", port: int = 0, mark: bytes = b"") -> Service:
    service = Service(roles, host, port, mark)
    await roles.nursery.start(service.serve)
    return service
