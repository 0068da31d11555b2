"""Which carrier is tried, which is used, and what is final: an agent's ladder and a node's port, which a test plays."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from trio.testing import MockClock

from engine.carriers.carrier import Kind
from engine.carriers.ladder import BLANK, YOUNG_DEATHS, YOUNG_SECONDS, Ladder, registration
from engine.errors import Refused, Unreachable
from engine.loop.dial import Server
from engine.loop.reactor import Reactor
from proxy_adapters import Router
from tests.roles import Roles, RunningNode, Talk, answer, join, server_config, settle

STRIPPED = answer(b"""{"error":"a WebSocket is wanted here: no 'Upgrade: websocket'"}""", status=b"400 Bad Request")
LOGIN = answer(b"<html>log in</html>", status=b"403 Forbidden")
NODE_SAYS_NO = answer(b'{"error":"invalid token"}', status=b"401 Unauthorized")
GONE = answer(b'{"error":"no such session"}', status=b"410 Gone")
NOT_FOUND = answer(b"404 page not found", status=b"404 Not Found")
FULL = answer(b"later", status=b"503 Full", fields=b"Retry-After: 7\r\n")


def ladder(port: int, kinds: Sequence[Kind] = tuple(Kind)) -> Ladder:
    server = Server(f"http://127.0.0.1:{port}", router=Router(["direct"]))
    return Ladder(registration(server, "web", list), kinds)


class Port:
    """Answers everything alike; `asked` has the first word and the path of each request."""

    def __init__(self, said: bytes) -> None:
        self.asked: list[tuple[bytes, bytes]] = []
        self._said = said

    async def serve(self, talk: Talk) -> None:
        head = await talk.until(b"\r\n\r\n")
        method, target = head.split()[:2]
        self.asked.append((method, target.rpartition(b"/")[0]))
        await talk.say(self._said)
        await talk.rest()


async def refusal(ladder: Ladder) -> Exception:
    with pytest.raises((Unreachable, Refused)) as caught:
        await ladder.open(lambda: None)
    return caught.value


@pytest.mark.parametrize("said", [STRIPPED, LOGIN])
async def test_what_something_on_the_way_answers_has_each_kind_tried(
    roles: Roles, reactor: Reactor, said: bytes
) -> None:
    port = Port(said)
    error = await refusal(ladder(await roles.service(port.serve)))
    assert port.asked[0][0] == b"GET"
    assert {target for method, target in port.asked if method == b"POST"} == {b"/trioduct/v1/upstream/web"}
    for kind in Kind:
        assert f"as {kind}: " in str(error)


@pytest.mark.parametrize("said", [NODE_SAYS_NO, FULL])
async def test_what_the_node_says_of_who_asks_is_final_and_so_is_a_pause(
    roles: Roles, reactor: Reactor, said: bytes
) -> None:
    port = Port(said)
    error = await refusal(ladder(await roles.service(port.serve)))
    assert len(port.asked) == 1
    assert isinstance(error, Refused) == (said is NODE_SAYS_NO)


async def test_a_piko_behind_a_box_without_upgrade_is_told_as_one(roles: Roles, reactor: Reactor) -> None:
    async def serve(talk: Talk) -> None:
        head = await talk.until(b"\r\n\r\n")
        await talk.say(STRIPPED if head.startswith(b"GET") else NOT_FOUND)
        await talk.rest()

    error = await refusal(ladder(await roles.service(serve)))
    assert "is it a Piko" in str(error)


async def test_only_the_kinds_that_are_allowed_are_tried(roles: Roles, reactor: Reactor) -> None:
    port = Port(STRIPPED)
    error = await refusal(ladder(await roles.service(port.serve), [Kind.WEBSOCKET]))
    assert [method for method, _ in port.asked] == [b"GET"]
    assert "as websocket" not in str(error)


async def test_what_got_through_is_tried_first_the_next_time(roles: Roles, reactor: Reactor) -> None:
    node = await roles.node()
    upgrades = 0

    async def serve(talk: Talk) -> None:
        """Removes the upgrade, and passes everything else."""
        nonlocal upgrades
        head = await talk.until(b"\r\n\r\n")
        if head.startswith(b"GET"):
            upgrades += 1
            await talk.say(STRIPPED)
            return
        far = await roles.dial(node.upstream)
        await far.say(head)
        await join(talk, far)

    climbing = ladder(await roles.service(serve))
    for _ in range(2):
        carrier, _ = await climbing.open(lambda: None)
        assert carrier.kind is Kind.STREAM
        carrier.abort()
    assert upgrades == 1
    assert climbing.may_improve
    assert "no 'Upgrade: websocket'" in climbing.failures[Kind.WEBSOCKET]
    assert await climbing.open_better(lambda: None) is None
    assert upgrades == 2


async def test_what_dies_young_again_and_again_or_brings_nothing_is_not_tried_first_any_more(
    roles: Roles, reactor: Reactor
) -> None:
    node = await roles.node()
    for blank, deaths in ((False, YOUNG_DEATHS), (True, 1)):
        climbing = ladder(node.upstream)
        for _ in range(deaths):
            carrier, _ = await climbing.open(lambda: None)
            assert carrier.kind is Kind.WEBSOCKET
            carrier.abort()
            climbing.lost(carrier.kind, YOUNG_SECONDS / 2, blank=blank)
        carrier, _ = await climbing.open(lambda: None)
        assert carrier.kind is Kind.STREAM
        carrier.abort()
        assert (climbing.failures[Kind.WEBSOCKET] == BLANK) == blank
        assert climbing.may_improve != blank  # what brings nothing would look as if it were open


@pytest.mark.parametrize("between", ["refused", "gone"])
async def test_a_node_that_dies_is_no_sign_of_a_middlebox(roles: Roles, reactor: Reactor, between: str) -> None:
    """Its port refuses connections for a while, or a new one that is there at once knows none of its sessions."""
    node = await roles.node()
    gone = False

    async def serve(talk: Talk) -> None:
        head = await talk.until(b"\r\n\r\n")
        if gone:
            await talk.say(GONE)
            return
        far = await roles.dial(node.upstream)
        await far.say(head)
        await join(talk, far)

    async def again() -> RunningNode:
        config = server_config()
        config.upstream.bind_addr = f"127.0.0.1:{node.upstream}"
        return await roles.node(config)

    climbing = ladder(node.upstream if between == "refused" else await roles.service(serve))
    for _ in range(YOUNG_DEATHS + 1):
        carrier, _ = await climbing.open(lambda: None)
        assert carrier.kind is Kind.WEBSOCKET
        carrier.fail(ConnectionResetError())
        climbing.lost(carrier.kind, YOUNG_SECONDS / 2, blank=False)
        if between == "refused":
            await node.kill()
            assert isinstance(await refusal(climbing), Unreachable)
            node = await again()
        else:
            gone = True
            assert isinstance(await refusal(climbing), Refused)
            gone = False


async def test_many_that_die_at_once_are_one_death(roles: Roles, reactor: Reactor) -> None:
    node = await roles.node()
    climbing = ladder(node.upstream)
    for _ in range(2 * YOUNG_DEATHS):
        climbing.lost(Kind.WEBSOCKET, YOUNG_SECONDS / 2, blank=False)
    carrier, _ = await climbing.open(lambda: None)
    assert carrier.kind is Kind.WEBSOCKET
    carrier.fail(ConnectionResetError())


STREAMS = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (Kind.WEBSOCKET, b""),
        (Kind.WEBSOCKET, b"HTTP/1.1 101 Swi"),
        (Kind.STREAM, b""),
        (Kind.STREAM, b"HTTP/1.1 200 OK\r\nCon"),
        (Kind.STREAM, STREAMS),
        (Kind.STREAM, STREAMS + b"10\r\n{"),
        (Kind.STREAM, STREAMS + b"1\r\n{\r\n"),
        (Kind.STREAM, b"HTTP/1.1 403 No\r\nContent-Length: 1000\r\n\r\nhalf of it"),
        (Kind.POLL, b""),
        (Kind.POLL, b"HTTP/1.1 200 OK\r\nCon"),
        (Kind.POLL, b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it"),
        (Kind.POLL, STREAMS + b"10\r\n{"),
    ],
)
async def test_who_stalls_is_waited_for_for_so_long(
    roles: Roles, reactor: Reactor, mock_clock: MockClock, kind: Kind, said: bytes
) -> None:
    errors: list[Exception] = []
    port = Port(said)

    async def find_out() -> None:
        errors.append(await refusal(ladder(await roles.service(port.serve), [kind])))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(find_out)
        for _ in range(20):
            await settle()
            mock_clock.jump(1)
        await settle()
        assert errors
    (error,) = errors
    assert isinstance(error, Unreachable | Refused)
    assert error.blocked
