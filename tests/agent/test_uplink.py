"""An agent and its node, which a test plays: how it registers, and that it comes back after every kind of loss."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from functools import partial
from io import StringIO

import pytest
import trio
from trio.testing import MockClock
from wsproto.events import CloseConnection, TextMessage

from engine import log
from engine.agent.uplink import (
    HASTY_SECONDS,
    LACKING_FIRST_SECONDS,
    REPEAT_SECONDS,
    RETIRE_SECONDS,
    RETURN_CEILING_SECONDS,
)
from engine.config import ListenerConfig
from engine.errors import Refused, Unreachable
from engine.loop.backoff import LONGEST_PAUSE_SECONDS, LONGEST_SECONDS, SETTLED_SECONDS
from engine.session.liveness import PING_SECONDS, PONG_SECONDS
from tests import roles as roles_module
from tests.agent.upstream_port import Port, start
from tests.peers import ACK, DATA, FIN, GO_AWAY, PING, SYN, WINDOW, Peer, accept
from tests.programs import free_port
from tests.roles import GET, Roles, answer, server_config, settle, tell_head, values_of

agent_config = partial(roles_module.agent_config, carriers=["websocket"])  # the others have tests of their own

# -- Registering


async def test_a_registration_says_who_comes_and_for_what(roles: Roles, port: Port) -> None:
    config = agent_config(port.number, 1, endpoint="my endpoint/ü")
    config.connect.url += "/base/"
    config.connect.token, config.connect.tenant_id = "a.b.c", "acme"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roles.agent_with, config)
        talk, head = await port.arrivals.receive()
        assert head.startswith(b"GET /base/piko/v1/upstream/my%20endpoint%2F%C3%BC HTTP/1.1\r\n")
        for name, value in (
            (b"host", b"127.0.0.1:%d" % port.number),
            (b"authorization", b"Bearer a.b.c"),
            (b"x-piko-tenant-id", b"acme"),
            (b"connection", b"Upgrade"),
            (b"upgrade", b"websocket"),
            (b"sec-websocket-version", b"13"),
        ):
            assert values_of(head, name) == [value]
        assert values_of(head, b"sec-websocket-extensions") == []
        await accept(talk, head)


async def test_streams_of_the_node_are_http_to_the_service_one_request_after_the_other(
    roles: Roles, port: Port
) -> None:
    peer = await start(roles, port, agent_config(port.number, await roles.service(tell_head)))
    await peer.say(WINDOW, SYN, 2)
    assert (await peer.hear_until(WINDOW, ACK)).stream == 2
    for _ in range(3):
        await peer.say(DATA, 0, 2, GET)
        assert (await peer.hear_data(2, b"\r\n\r\n" + GET)).startswith(b"HTTP/1.1 200 ")
    await peer.say(DATA, SYN, 4, GET)  # as Go's, whose window update follows
    await peer.hear_data(4, b"web.test\r\n\r\n")
    for stream in (2, 4):
        await peer.say(WINDOW, FIN, stream)
        await peer.hear_until(WINDOW, FIN, stream)


async def test_each_listener_has_a_session_of_its_own(roles: Roles, port: Port, mock_clock: MockClock) -> None:
    config = agent_config(port.number, 1, endpoint="one")
    config.listeners.append(ListenerConfig(endpoint_id="two", addr="127.0.0.1:1"))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roles.agent_with, config)
        first, second = await port.arrivals.receive(), await port.arrivals.receive()
        paths = [head.split()[1] for _, head in (first, second)]
        assert sorted(paths) == [b"/piko/v1/upstream/one", b"/piko/v1/upstream/two"]
        peers = [await accept(*first), await accept(*second)]
    await peers[0].talk.reset()
    await settle()
    mock_clock.jump(1)
    _, again = await port.arrivals.receive()
    assert again.split()[1] == paths[0]
    await settle()
    assert port.arrivals.statistics().current_buffer_used == 0


# -- Coming back

LOSSES: dict[str, Callable[[Peer], Awaitable[None]]] = {
    "RST": lambda peer: peer.talk.reset(),
    "FIN": lambda peer: peer.talk.finish(),
    "close 1000": lambda peer: peer.send(CloseConnection(1000)),
    "close 1001": lambda peer: peer.send(CloseConnection(1001, "node is stopping")),
    "close 1011": lambda peer: peer.send(CloseConnection(1011)),
    "go-away and FIN": lambda peer: _go_away_and_finish(peer),
    "go-away for an error": lambda peer: peer.say(GO_AWAY, length=1),
    "text": lambda peer: peer.send(TextMessage("hello")),
    "nonsense": lambda peer: peer.talk.say(b"\xff" * 100),
    "a stream that cannot be": lambda peer: peer.say(DATA, 0, 8, b"hello"),
}


async def _go_away_and_finish(peer: Peer) -> None:
    await peer.say(GO_AWAY)
    await peer.talk.finish()


@pytest.mark.parametrize("loss", [*LOSSES, "silence"])
async def test_after_every_kind_of_loss_the_agent_comes_back_and_serves(
    roles: Roles, port: Port, mock_clock: MockClock, loss: str
) -> None:
    peer = await start(roles, port, agent_config(port.number, await roles.service(tell_head)))
    for _ in range(5):
        await peer.say(DATA, SYN, 2, GET)
        await peer.hear_data(2, b"web.test\r\n\r\n")
        if loss == "silence":
            mock_clock.jump(PING_SECONDS + 1)
            await settle()
            mock_clock.jump(PONG_SECONDS + 1)
        else:
            await LOSSES[loss](peer)
        await settle()
        mock_clock.jump(LONGEST_SECONDS)  # no wait between two attempts is longer
        peer = await port.next()
    await settle()
    assert port.arrivals.statistics().current_buffer_used == 0


async def test_a_node_that_died_and_came_back_is_found_and_served(roles: Roles, mock_clock: MockClock) -> None:
    config = server_config()
    node = await roles.node(config)
    await roles.agent(node, await roles.service(tell_head))
    config.upstream.bind_addr = f"127.0.0.1:{node.upstream}"
    for _ in range(3):
        await node.kill()
        await settle()
        mock_clock.jump(LONGEST_SECONDS)  # in vain: nobody listens
        await settle()
        node = await roles.node(config)
        mock_clock.jump(LONGEST_SECONDS)
        await settle()
        assert (await (await roles.dial(node.proxy)).ask()).status == 200


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
async def test_an_answer_that_invites_another_try_gets_one(
    roles: Roles, port: Port, mock_clock: MockClock, status: int
) -> None:
    config = agent_config(port.number, 1)
    config.connect.timeout = 1000
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roles.agent_with, config)
        for _ in range(20):
            talk, _ = await port.arrivals.receive()
            await talk.say(answer(b"later", status=b"%d x" % status))
            await settle()
            mock_clock.jump(LONGEST_SECONDS)
        await port.next()


@pytest.mark.parametrize("carrier", ["websocket", "poll"])
@pytest.mark.parametrize(("asked", "seconds"), [(7, 7), (999_999, LONGEST_PAUSE_SECONDS)])
async def test_an_agent_comes_again_when_it_was_told_to_and_waits_no_longer_than_is_sensible(
    roles: Roles, port: Port, mock_clock: MockClock, carrier: str, asked: int, seconds: float
) -> None:
    config = roles_module.agent_config(port.number, 1, carriers=[carrier])
    config.connect.timeout = 10_000
    said = answer(b'{"error":"later"}', status=b"429 Too Many Requests", fields=b"Retry-After: %d\r\n" % asked)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roles.agent_with, config)
        talk, _ = await port.arrivals.receive()
        await talk.say(said)
        await settle()
        mock_clock.jump(seconds - 0.1)
        await settle()
        assert port.arrivals.statistics().current_buffer_used == 0
        mock_clock.jump(0.1 + LONGEST_SECONDS)
        await port.arrivals.receive()
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize(
    "said",
    [
        b"",
        b"hello\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Accept: c2l4dGVlbiAgbGV0dGVycw==\r\n\r\n",
    ],
    ids=["nothing", "no HTTP", "no accept value", "a wrong accept value"],
)
async def test_whoever_is_no_node_may_have_one_behind_it_the_next_time(
    roles: Roles, port: Port, mock_clock: MockClock, said: bytes
) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roles.agent_with, agent_config(port.number, 1))
        talk, _ = await port.arrivals.receive()
        if said:
            await talk.say(said)
        else:
            await talk.finish()
        await settle()
        mock_clock.jump(1)
        await port.next()


@pytest.mark.parametrize("status", [401, 403, 404, 400, 405, 302, 200])
async def test_an_answer_that_is_final_ends_the_agent_with_it(roles: Roles, port: Port, status: int) -> None:
    async def refuse() -> None:
        talk, _ = await port.arrivals.receive()
        await talk.say(answer(b'{"error":"no"}\n', status=b"%d Sorry" % status))

    config = agent_config(port.number, 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse)
        error = await roles.failure_of_agent(config)
    assert isinstance(error, Refused)
    assert str(error).startswith(f'{config.connect.url} answered {status} Sorry: {{"error":"no"}}')


@pytest.mark.parametrize(
    ("asked", "what"), [("proxy", "a node's proxy port, for clients"), ("admin", "no upstream port of a node")]
)
async def test_an_agent_that_asks_another_port_is_told_which_it_needs(roles: Roles, asked: str, what: str) -> None:
    error = await roles.failure_of_agent(agent_config(getattr(await roles.node(), asked), 1))
    assert isinstance(error, Refused)
    assert str(error).endswith(f"; that is {what}: an agent needs its upstream port (8001, if nobody changed it)")


async def test_an_agent_that_is_refused_later_ends_then(roles: Roles, port: Port, mock_clock: MockClock) -> None:
    async def refuse_the_second_time() -> None:
        peer = await port.next()
        await settle()
        await peer.talk.reset()
        await settle()
        mock_clock.jump(1)
        talk, _ = await port.arrivals.receive()
        await talk.say(answer(status=b"401 Unauthorized"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(refuse_the_second_time)
        assert isinstance(await roles.failure_of_agent(agent_config(port.number, 1)), Refused)


@pytest.mark.parametrize("who", ["nobody", "somebody silent", "somebody busy"])
async def test_an_agent_that_never_got_in_ends_when_its_time_is_over(
    roles: Roles, port: Port, mock_clock: MockClock, who: str
) -> None:
    async def play() -> None:
        if who == "somebody busy":
            talk, _ = await port.arrivals.receive()
            await talk.say(answer(b"full", status=b"503 Busy"))
        await settle()
        mock_clock.jump(31)

    with trio.socket.socket() as bound:
        await bound.bind(("127.0.0.1", 0))  # so that nobody listens there
        number = bound.getsockname()[1] if who == "nobody" else port.number
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play)
            error = await roles.failure_of_agent(agent_config(number, 1))
    assert isinstance(error, Unreachable)
    words = {"nobody": "refused", "somebody silent": "no answer", "somebody busy": "503 Busy: full"}
    assert str(error).startswith("not connected within 30 s: ")
    assert words[who] in str(error)


async def test_a_token_that_was_replaced_is_used_at_the_next_dial(
    roles: Roles, port: Port, mock_clock: MockClock
) -> None:
    config = agent_config(port.number, 1)
    config.connect.token = "old"
    peer = await start(roles, port, config)
    config.connect.token = "new"
    await peer.talk.reset()
    await settle()
    mock_clock.jump(1)
    _, head = await port.arrivals.receive()
    assert values_of(head, b"authorization") == [b"Bearer new"]


# -- Being sent elsewhere


async def test_a_go_away_is_followed_at_once_and_before_the_old_session_ends(
    roles: Roles, port: Port, mock_clock: MockClock
) -> None:
    old = await start(roles, port, agent_config(port.number, await roles.service(tell_head)))
    mock_clock.jump(HASTY_SECONDS)
    await old.say(GO_AWAY)
    new = await port.next()
    # It has arrived elsewhere, and says so; what still comes is served.
    assert (await old.hear_until(GO_AWAY, 0)).length == 0
    for peer, stream in ((old, 2), (new, 2), (old, 4)):
        await peer.say(DATA, SYN, stream, GET)
        await peer.hear_data(stream, b"web.test\r\n\r\n")
    await old.send(CloseConnection(1001))
    assert await old.hear() is None
    await settle()
    assert port.arrivals.statistics().current_buffer_used == 0


async def test_a_node_that_sends_everybody_away_at_once_is_not_asked_faster_and_faster(
    roles: Roles, port: Port, mock_clock: MockClock
) -> None:
    peer = await start(roles, port, agent_config(port.number, 1))
    for _ in range(10):
        await peer.say(GO_AWAY)
        await settle()
        assert port.arrivals.statistics().current_buffer_used == 0
        mock_clock.jump(LONGEST_SECONDS)
        peer = await port.next()


async def test_an_agent_that_finds_nowhere_else_serves_where_it_is(
    roles: Roles, port: Port, mock_clock: MockClock
) -> None:
    old = await start(roles, port, agent_config(port.number, await roles.service(tell_head)))
    mock_clock.jump(HASTY_SECONDS)
    await old.say(GO_AWAY)
    for stream in range(2, 10, 2):
        talk, _ = await port.arrivals.receive()
        await talk.say(answer(status=b"503 Full"))
        await old.say(DATA, SYN, stream, GET)
        await old.hear_data(stream, b"web.test\r\n\r\n")
        await settle()
        mock_clock.jump(2)
        await settle()


@pytest.mark.parametrize("way", ["RST", "go-away"])
async def test_a_node_that_has_ended_is_expected_back(
    roles: Roles, port: Port, mock_clock: MockClock, way: str
) -> None:
    peer = await start(roles, port, agent_config(port.number, 1))
    if way == "RST":
        mock_clock.jump(SETTLED_SECONDS)
        await peer.talk.reset()
    else:
        mock_clock.jump(HASTY_SECONDS)
        await peer.say(GO_AWAY)
    await settle()
    for dial in range(12):  # without that, they would be 15 s apart by then
        if dial == 6 and way == "go-away":
            await peer.talk.reset()
            await settle()
        if dial or way == "RST":
            mock_clock.jump(RETURN_CEILING_SECONDS)
            await settle()
        talk, _ = port.arrivals.receive_nowait()
        await talk.say(answer(status=b"503 Full"))
        await settle()


async def test_what_fails_alike_again_and_again_is_logged_once_a_minute(roles: Roles, mock_clock: MockClock) -> None:
    config = agent_config(free_port(), 1)
    config.connect.timeout = 1000.0
    stream = StringIO()
    log.configure("info", (), stream)
    try:
        roles.nursery.start_soon(roles.agent_with, config)
        for passed in range(0, 90, 2):
            await settle()
            log.flush()
            assert passed > REPEAT_SECONDS - 4 or stream.getvalue().count("cannot connect") == 1
            mock_clock.jump(2)
        assert stream.getvalue().count("cannot connect") == 2
    finally:
        log.configure("warn")
    assert "`trioduct doctor`" in stream.getvalue()


# -- Where clients come in

TOLD = b"x-trioduct-public-url: %b\r\n"


async def logged(roles: Roles, port: Port, answer_fields: bytes) -> dict[str, object]:
    """The line `connected` of an agent whose node answers with these fields."""
    stream = StringIO()
    log.configure("info", (), stream)
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(roles.agent_with, agent_config(port.number, 1, endpoint="shop"))
            talk, head = await port.arrivals.receive()
            await accept(talk, head, fields=answer_fields)
        log.flush()
    finally:
        log.configure("warn")
    lines: list[dict[str, object]] = [json.loads(line) for line in stream.getvalue().splitlines()]
    (connected,) = [line for line in lines if line["msg"] == "connected"]
    return connected


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (b"https://*.example.com", {"public_url": "https://shop.example.com"}),
        (
            b"http://tunnel.example.com:8000",
            {"public_url": "http://tunnel.example.com:8000", "named_by": "x-piko-endpoint"},
        ),
    ],
)
async def test_what_the_node_tells_of_clients_is_in_the_log(
    roles: Roles, port: Port, url: bytes, shown: dict[str, str]
) -> None:
    line = await logged(roles, port, TOLD % url)
    assert {key: line[key] for key in line.keys() & {"public_url", "named_by"}} == shown


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        TOLD % b"",
        TOLD % b"javascript:alert(1)",
        TOLD % b"https://user:password@example.com",
        TOLD % b"https://example.com/a/path",
        TOLD % "https://ex\u202emaple.com".encode(),
        TOLD % (b"https://" + b"a." * 200 + b"com"),
        TOLD % b"https://a.example.com" + TOLD % b"https://b.example.com",
    ],
    ids=["none", "empty", "a script", "a password", "a path", "right to left", "long", "two"],
)
async def test_what_can_be_no_public_url_is_passed_over(roles: Roles, port: Port, fields: bytes) -> None:
    line = await logged(roles, port, fields)
    assert not line.keys() & {"public_url", "named_by"}


# -- A node of several workers


@pytest.fixture
def fast(mock_clock: MockClock) -> MockClock:
    """A clock that runs ten times as fast: to stand still would not do where pauses are drawn by lot."""
    mock_clock.rate = 10
    return mock_clock


async def seat(port: Port, number: int, of: int) -> Peer:
    """Take the next registration as one of several workers, and ping, as a node does: a silent one is given up."""
    peer = await accept(*await port.arrivals.receive(), fields=b"X-Trioduct-Workers: %d/%d\r\n" % (number, of))
    await peer.say(PING, SYN)
    return peer


async def start_at(roles: Roles, port: Port, number: int, of: int) -> Peer:
    config = agent_config(port.number, await roles.service(tell_head))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(roles.agent_with, config)
        return await seat(port, number, of)


async def test_it_dials_until_each_worker_has_a_session_and_ends_what_is_one_too_many(
    roles: Roles, port: Port, fast: MockClock
) -> None:
    first = await start_at(roles, port, 2, 3)
    again = await seat(port, 2, 3)
    # It asks for nothing more, serves what comes nevertheless, and ends.
    assert (await again.hear_until(GO_AWAY, 0)).length == 0
    await again.say(DATA, SYN, 2, GET)
    await again.hear_data(2, b"web.test\r\n\r\n")
    await again.say(DATA, FIN, 2)
    third, second = await seat(port, 3, 3), await seat(port, 1, 3)
    with trio.move_on_after(RETIRE_SECONDS + 1):
        while await again.hear() is not None:
            pass
    for peer in (first, second, third):
        await peer.say(DATA, SYN, 2, GET)
        await peer.hear_data(2, b"web.test\r\n\r\n")
    with trio.move_on_after(3):
        await port.arrivals.receive()
        raise AssertionError("it has one on each, and dials")


async def test_it_dials_four_times_for_each_worker_and_then_lives_with_what_it_has_for_a_while(
    roles: Roles, port: Port, fast: MockClock
) -> None:
    first = await start_at(roles, port, 1, 2)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(first.hear_data, 2, b"web.test\r\n\r\n")  # which answers pings meanwhile
        for _ in range(4 * 2):
            await seat(port, 1, 2)
        since = trio.current_time()
        await seat(port, 1, 2)
        assert trio.current_time() - since >= LACKING_FIRST_SECONDS / 2
        await first.say(DATA, SYN, 2, GET)


@pytest.mark.parametrize("leaving", [True, False], ids=["leaving", "killed"])
@pytest.mark.parametrize("which", [0, 1])
async def test_a_worker_that_leaves_or_dies_is_replaced_by_the_next_with_its_number(
    leaving: bool, which: int, roles: Roles, port: Port, fast: MockClock
) -> None:
    peers = [await start_at(roles, port, 1, 2), await seat(port, 2, 2)]
    await trio.sleep(HASTY_SECONDS)
    old, other = peers[which], peers[1 - which]
    if leaving:
        await old.say(GO_AWAY)
    else:
        await old.talk.reset()
    new = await seat(port, which + 1, 2)
    if leaving:  # it has arrived elsewhere, and says so
        assert (await old.hear_until(GO_AWAY, 0)).length == 0
    for peer in (new, other):
        await peer.say(DATA, SYN, 2, GET)
        await peer.hear_data(2, b"web.test\r\n\r\n")


async def test_a_refusal_by_another_worker_does_not_end_the_agent(roles: Roles, port: Port, fast: MockClock) -> None:
    first = await start_at(roles, port, 1, 2)
    talk, _ = await port.arrivals.receive()
    await talk.say(answer(b'{"error": "taken"}', status=b"403 Forbidden"))
    await trio.sleep(1)
    await first.say(DATA, SYN, 2, GET)
    await first.hear_data(2, b"web.test\r\n\r\n")


async def test_a_node_without_workers_is_dialled_once(roles: Roles, port: Port, fast: MockClock) -> None:
    await start(roles, port, agent_config(port.number, 1))
    with trio.move_on_after(3):
        await port.arrivals.receive()
        raise AssertionError("it has a session, and dials")
