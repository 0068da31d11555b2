"""What the metrics tell of requests: each is counted once, by what became of it, and none stays in flight."""

from __future__ import annotations

import json
import re
from io import StringIO

import trio
from trio.testing import MockClock

from engine import log
from engine.node.client import UNSERVED_LINES, UNSERVED_SECONDS
from tests.roles import GET, Roles, RunningNode, Talk, answer, settle


async def metrics(roles: Roles, node: RunningNode) -> dict[str, float]:
    """The values of the node's metrics, by name and labels."""
    client = await roles.dial(node.admin)
    await client.say(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")
    text = (await client.rest()).decode()
    return {name: float(value) for name, value in re.findall(r"^(piko\S+|trioduct\S+) (\S+)$", text, re.MULTILINE)}


async def test_an_endpoint_that_nobody_offers_is_in_the_log_where_no_access_log_is_and_cannot_fill_it(
    roles: Roles, mock_clock: MockClock
) -> None:
    node, stream = await roles.node(), StringIO()
    log.configure("warn", (), stream)
    try:
        client = await roles.dial(node.proxy)
        for number in range(3 * UNSERVED_LINES):
            assert (await client.ask(GET.replace(b"web", b"web%d" % number))).status == 502
        mock_clock.jump(UNSERVED_SECONDS)
        client = await roles.dial(node.proxy)
        assert (await client.ask(GET)).status == 502
        log.flush()
    finally:
        log.configure("warn")
    told = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["msg"] for line in told] == ["no available upstreams"] * (UNSERVED_LINES + 1)
    assert (told[0]["endpoint-id"], told[0]["client-ip"]) == ("web0", "127.0.0.1")
    assert (told[-1]["endpoint-id"], told[-1]["left_out"]) == ("web", 2 * UNSERVED_LINES)


async def test_whatever_becomes_of_a_request_it_is_counted_once(roles: Roles) -> None:
    asked = trio.Event()

    async def serve(talk: Talk) -> None:
        while True:
            path = (await talk.until(b"\r\n\r\n")).split()[1]
            if path == b"/":
                await talk.say(answer(b"ok"))
            elif path == b"/breaks":
                await talk.say(answer(b"hello")[:-1])
                await settle()
                await talk.reset()
            elif path == b"/switches":
                await talk.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: chat\r\n\r\n")
            else:
                asked.set()
                await talk.rest()

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    assert (await client.ask()).status == 200
    assert (await client.ask(GET.replace(b"web", b"other"))).status == 502
    assert (await client.ask(GET.replace(b"web.", b""))).status == 400
    assert (await client.ask(b"GET / HTTP/1.1\r\nbad line\r\n\r\n")).status == 400

    client = await roles.dial(node.proxy)
    await client.say(GET.replace(b"/ ", b"/breaks "))
    assert not await client.is_over()
    client = await roles.dial(node.proxy)
    await client.say(GET.replace(b"/ ", b"/never "))
    await asked.wait()
    await client.reset()
    client = await roles.dial(node.proxy)
    upgrade = b"Connection: Upgrade\r\nUpgrade: chat\r\n\r\n"
    await client.say(GET[:-2].replace(b"/ ", b"/switches ") + upgrade)
    await client.until(b"\r\n\r\n")
    assert (await metrics(roles, node))["piko_proxy_requests_in_flight"] == 1
    await client.reset()
    await settle()

    told = await metrics(roles, node)
    assert told["piko_proxy_requests_in_flight"] == 0
    counted = {name: value for name, value in told.items() if name.startswith("piko_proxy_requests_total")}
    assert counted == {
        'piko_proxy_requests_total{method="GET",status="200"}': 2,  # one of them broke off
        'piko_proxy_requests_total{method="GET",status="502"}': 1,
        'piko_proxy_requests_total{method="GET",status="400"}': 1,
        'piko_proxy_requests_total{method="other",status="400"}': 1,
        'piko_proxy_requests_total{method="GET",status="499"}': 1,
        'piko_proxy_requests_total{method="GET",status="101"}': 1,
    }
