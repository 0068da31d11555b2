"""Clients and services that do as they please: answers are whole or visibly not, and nothing is left behind."""

from __future__ import annotations

import random

import pytest
import trio
from trio.testing import MockClock

from tests.roles import Roles, Talk, answer, settle, values_of

CLIENTS = 200


class Unruly:
    """A service that answers with the target, some number of times over, in one of many ways, or not at all."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.open = 0

    async def serve(self, talk: Talk) -> None:
        self.open += 1
        try:
            await self._serve(talk)
        finally:
            self.open -= 1

    async def _serve(self, talk: Talk) -> None:
        chance = self.chance
        while True:
            head = await talk.until(b"\r\n\r\n")
            length = sum(map(int, values_of(head, b"content-length")))
            if chance.random() < 0.2:
                length = chance.randint(0, length)  # an early answer
            await talk.exactly(length)
            body = head.split()[1] * chance.choice([0, 1, 100, 20_000])
            how = chance.choice(["length", "length", "chunks", "end", "short", "cut chunks", "RST", "FIN", "close"])
            if how in ("length", "close"):
                await talk.say(answer(body, fields=b"Connection: close\r\n" if how == "close" else b""))
            elif how == "chunks":
                await talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                for start in range(0, len(body), 7_001):
                    piece = body[start : start + 7_001]
                    await talk.say(b"%x\r\n%b\r\n" % (len(piece), piece))
                await talk.say(b"0\r\n\r\n")
            elif how == "end":
                await talk.say(b"HTTP/1.1 200 OK\r\n\r\n" + body)
            elif how == "short":
                await talk.say(answer(body + b"!")[:-1])
            elif how == "cut chunks":
                await talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
            if how in ("RST", "short"):
                await talk.reset()
            if how not in ("length", "chunks"):
                return


async def whole_answer(client: Talk) -> tuple[int, bytes]:
    head = await client.until(b"\r\n\r\n")
    status = int(head[9:12])
    if values_of(head, b"transfer-encoding") == [b"chunked"]:
        body = b""
        while size := int(await client.until(b"\r\n"), 16):
            body += await client.exactly(size)
            assert await client.exactly(2) == b"\r\n"
        assert await client.exactly(2) == b"\r\n"
    else:
        body = await client.exactly(int(values_of(head, b"content-length")[0]))
    return status, body


@pytest.mark.parametrize("seed", range(3))
async def test_whatever_they_do_nothing_is_mixed_up_or_left_behind(
    roles: Roles, mock_clock: MockClock, capfd: pytest.CaptureFixture[str], seed: int
) -> None:
    chance = random.Random(seed)
    service = Unruly(seed)
    node = await roles.tunnel(service.serve)
    seen = {"whole": 0, "error": 0, "broken": 0}

    async def run(number: int) -> None:
        client = await roles.dial(node.proxy)
        try:
            await behave(client, number)
        except (EOFError, trio.BrokenResourceError):
            seen["broken"] += 1
        await getattr(client, chance.choice(["close", "reset"]))()

    async def behave(client: Talk, number: int) -> None:
        asked = []
        for _ in range(chance.randint(1, 5)):
            name = b"/%d.%d" % (number, chance.randint(0, 9999))
            body = bytes(chance.choice([0, 0, 10, 100_000]))
            method = b"POST" if body else chance.choice([b"GET", b"DELETE"])
            head = b"%b %b HTTP/1.1\r\nHost: web.test\r\nContent-Length: %d\r\n\r\n" % (method, name, len(body))
            request = head + body
            how = chance.random()
            if how < 0.1:
                await client.say(request[: chance.randint(0, len(request))])
                break
            await client.say(request)
            asked.append(name)
            if how < 0.6:
                await hear(client, asked)
        if chance.random() < 0.3:
            await client.finish()
        if chance.random() < 0.8:
            while asked:
                await hear(client, asked)

    async def hear(client: Talk, asked: list[bytes]) -> None:
        status, body = await whole_answer(client)
        name = asked.pop(0)
        if status == 200:
            assert body.replace(name, b"") == b""
            seen["whole"] += 1
        else:
            assert status in (400, 502)
            seen["error"] += 1

    async with trio.open_nursery() as nursery:
        for number in range(CLIENTS):
            nursery.start_soon(run, number)
    assert min(seen.values()) > CLIENTS / 20, seen

    # What idles is closed in its time: streams and connections to the service, and with these all there was.
    for _ in range(4):
        await settle()
        mock_clock.jump(50)
    await settle()
    assert service.open == 0
    admin = await roles.dial(node.admin)
    await admin.say(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
    told = (await admin.rest()).decode().splitlines()
    assert "piko_proxy_requests_in_flight 0.0" in told
    assert "trioduct_streams_open 0.0" in told
    assert "handler failed" not in capfd.readouterr().err
