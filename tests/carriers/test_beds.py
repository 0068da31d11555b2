"""Each middlebox does to HTTP what `facts` says of it. No carrier is in this: both ends are the test's own.

That something is kept back can only be seen by waiting for it in vain, which a slow machine makes easier, never harder.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import trio

from perf.topologies.cutter import Cutter, How
from tests.carriers import facts
from tests.carriers.beds import LIFETIME_SECONDS
from tests.carriers.ends import END, Ends, Far, chunk, post, request
from tests.carriers.facts import FACTS, MIB
from tests.programs import Programs, free_port
from tests.roles import Roles, Talk, echo

IN_VAIN_SECONDS = 0.3
PART = bytes(1024)
OVER_MIB = MIB + 1

every_box = pytest.mark.parametrize("name", FACTS)
patient = pytest.mark.skipif("TRIODUCT_FULL" not in os.environ, reason="waits for a minute; TRIODUCT_FULL=1")


@every_box
async def test_an_upgrade_is_answered_as_the_table_says(ends: Ends, name: str) -> None:
    client = await ends.dial()
    upgrade = (b"Connection: Upgrade", b"Upgrade: websocket", b"Sec-WebSocket-Version: 13")
    await client.say(request(ends.box, *upgrade, b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", method=b"GET"))
    if FACTS[name].upgrade != 403:
        far = await ends.arrived()
        arrived = far.values(b"upgrade")
        line = b"101 Switching Protocols" if arrived else b"426 Upgrade Required"
        more = b"Connection: Upgrade\r\nUpgrade: websocket" if arrived else b"Content-Length: 0"
        await far.talk.say(b"HTTP/1.1 %b\r\n%b\r\n\r\n" % (line, more))
    head = await client.until(END)
    assert int(head[9:12]) == FACTS[name].upgrade
    if name == "mute":
        await far.talk.say(b"from the node")
        await client.say(b"from the client")
        assert await says_nothing(client)
        assert await says_nothing(far.talk)


async def says_nothing(talk: Talk) -> bool:
    with trio.move_on_after(IN_VAIN_SECONDS) as waited:
        await talk.hear()
    return waited.cancelled_caught


@every_box
async def test_an_answer_passes_as_it_comes_but_for_what_is_kept_back(ends: Ends, name: str) -> None:
    client = await ends.dial()
    await client.say(request(ends.box, method=b"GET"))
    far = await ends.arrived()
    await far.begin()
    await far.say(b"first")
    if kept := FACTS[name].down:
        for _ in range(kept // len(PART) - 1):
            await far.say(PART)
        assert await says_nothing(client)
        await far.say(PART)
        await client.until(b"first")
    else:
        await client.until(b"first")
        await far.say(b"second")
        await client.until(b"second")


@every_box
async def test_a_request_passes_as_it_comes_but_for_what_is_kept_back(ends: Ends, name: str) -> None:
    client = await ends.dial()
    await client.say(request(ends.box, b"Transfer-Encoding: chunked") + chunk(b"first"))
    kept = FACTS[name].up
    if kept == 0:
        far = await ends.arrived()
        await far.talk.until(b"first")
        await client.say(chunk(b"second"))
        await far.talk.until(b"second")
        return
    for _ in range(((256 << 10) if kept is None else kept) // len(PART) - 1):
        await client.say(chunk(PART))
    with trio.move_on_after(IN_VAIN_SECONDS) as waited:
        await ends.arrived()
    assert waited.cancelled_caught
    if kept is None:
        await client.say(chunk(b""))
        far = await ends.arrived()
        assert (await far.body()).startswith(b"first")
    else:
        await client.say(chunk(PART))
        far = await ends.arrived()
        await far.talk.until(b"first")
        await client.say(chunk(b"second"))
        await far.talk.until(b"second")


@pytest.mark.parametrize("name", [name for name, facts in FACTS.items() if facts.up is not None])
async def test_an_answer_before_the_end_of_its_request_passes_or_waits(ends: Ends, name: str) -> None:
    client = await ends.dial()
    padding = bytes(FACTS[name].up or 1)
    await client.say(request(ends.box, b"Transfer-Encoding: chunked") + chunk(b"first") + chunk(padding))
    far = await ends.arrived()
    await far.talk.until(b"first")
    await far.answer(b"early")
    if FACTS[name].early:
        await client.until(b"early")
    else:
        assert await says_nothing(client)
        await client.say(chunk(b""))
        await client.until(b"early")


@every_box
async def test_posts_of_known_length_pass_one_after_another(ends: Ends, name: str) -> None:
    ends.nursery.start_soon(answer_all, ends)
    client = await ends.dial()
    for number in range(5):
        answered = await client.ask(post(ends.box, b"x" * number))
        assert answered.body == b"%d" % number
        if not FACTS[name].reuse:
            assert b"close" not in b"".join(answered.values(b"connection")).lower()
            assert await client.is_over()
            client = await ends.dial()


@every_box
async def test_two_posts_are_on_their_way_at_once(ends: Ends, name: str) -> None:
    clients = [await ends.dial(), await ends.dial()]
    for client in clients:
        await client.say(post(ends.box, b"body"))
    fars = [await ends.arrived(), await ends.arrived()]
    for far in reversed(fars):
        await far.body()
        await far.answer()
    for client in clients:
        assert (await client.answer()).status == 200


@every_box
@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunked"])
async def test_a_long_body_passes_or_is_refused(ends: Ends, name: str, chunked: bool) -> None:
    ends.nursery.start_soon(answer_all, ends)
    assert await status_of(ends, MIB, chunked) == 200
    assert await status_of(ends, OVER_MIB, chunked) == (413 if FACTS[name].longest == MIB else 200)


async def status_of(ends: Ends, size: int, chunked: bool) -> int:
    """The answer to a POST of that size; a refusal may come before all of it has been said."""
    client = await ends.dial()
    body = bytes(size)
    answered = []

    async def hear() -> None:
        answered.append(await client.answer())
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hear)
        try:
            if chunked:
                await client.say(request(ends.box, b"Transfer-Encoding: chunked") + chunk(body) + chunk(b""))
            else:
                await client.say(post(ends.box, body))
        except trio.BrokenResourceError:
            pass
    return answered[0].status


@every_box
async def test_an_answer_that_may_not_be_stored_is_not_given_twice(ends: Ends, name: str) -> None:
    for number in range(2):
        client = await ends.dial()
        await client.say(request(ends.box, method=b"GET"))
        far = await ends.arrived()
        await far.answer(b"%d" % number, b"Cache-Control: no-store\r\nConnection: close\r\n")
        assert (await client.answer()).body == b"%d" % number


async def answer_all(ends: Ends) -> None:
    """A node that answers each POST with the length of its body."""

    async def serve(far: Far) -> None:
        try:
            while True:
                await far.answer(b"%d" % len(await far.body()))
                if not await far.next_head():
                    return
        except (EOFError, trio.BrokenResourceError, trio.ClosedResourceError):
            return  # the box would not have that body

    while True:
        ends.nursery.start_soon(serve, await ends.arrived())


# Cuts -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["squid_bumping_lifetime"])
async def test_a_busy_stream_is_ended_when_its_life_is_over(ends: Ends, name: str) -> None:
    client = await ends.dial()
    await client.say(request(ends.box, method=b"GET"))
    far = await ends.arrived()
    await far.begin()

    async def be_busy() -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await far.say(b"busy")
                await trio.sleep(0.1)

    ends.nursery.start_soon(be_busy)
    await client.is_over()


@pytest.mark.parametrize("how", ["reset", "close"])
async def test_what_is_cut_ends_on_both_sides(how: How, roles: Roles) -> None:
    arrived = trio.Event()
    ended: list[bool] = []
    both = trio.Event()

    async def service(talk: Talk) -> None:
        await talk.exactly(5)
        arrived.set()
        ended.append(await talk.is_over())
        both.set()

    cutter = Cutter(await roles.service(service), how=how)
    client = await roles.dial(await roles.nursery.start(cutter.run))
    await client.say(b"hello")
    await arrived.wait()
    assert cutter.open == 1
    cutter.cut()
    proper = how == "close"
    assert await client.is_over() is proper
    await both.wait()
    assert ended == [proper]
    assert (cutter.opened, cutter.cuts) == (1, 1)


async def test_after_a_silent_cut_neither_end_knows(roles: Roles) -> None:
    cutter = Cutter(await roles.service(echo), how="silence")
    client = await roles.dial(await roles.nursery.start(cutter.run))
    await client.say(b"hello")
    assert await client.exactly(5) == b"hello"
    cutter.cut()
    with trio.move_on_after(IN_VAIN_SECONDS) as waited:
        await client.say(b"again")
        await client.hear()
    assert waited.cancelled_caught


async def test_a_connection_is_cut_when_its_seconds_are_over(roles: Roles) -> None:
    cutter = Cutter(await roles.service(echo), every=0.2)
    client = await roles.dial(await roles.nursery.start(cutter.run))
    assert await client.is_over() is False


async def test_while_there_is_no_network_nobody_gets_through(roles: Roles) -> None:
    cutter = Cutter(await roles.service(echo))
    port = await roles.nursery.start(cutter.run)
    before = await roles.dial(port)
    await before.say(b"hello")
    await before.exactly(5)
    with cutter.away():
        assert await before.is_over() is False
        assert await (await roles.dial(port)).is_over() is False
    after = await roles.dial(port)
    await after.say(b"hello")
    assert await after.exactly(5) == b"hello"


async def test_the_cutter_is_a_program_as_well(roles: Roles, programs: Programs) -> None:
    port, service = free_port(), await roles.service(echo)
    words = ("-m", "perf.topologies.cutter", f"--listen={port}", f"--to={service}", "--how=close")
    program = await programs.start(sys.executable, *words)
    await program.wait_line("relaying")
    client = await roles.dial(port)
    await client.say(b"hello")
    assert await client.exactly(5) == b"hello"
    program.process.send_signal(signal.SIGUSR1)
    assert await client.is_over() is True
    await program.stop()
    assert program.lines[-1] == "1 connections, 1 of them cut"


# With patience ----------------------------------------------------------------------------------------------


@patient
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", [name for name, facts in FACTS.items() if "after" in facts.unanswered])
async def test_an_unanswered_request_is_given_up(ends: Ends, name: str) -> None:
    client = await ends.dial()
    await client.say(post(ends.box, b"body"))
    await (await ends.arrived()).body()
    assert (await client.until(END))[9:12].decode() == FACTS[name].unanswered.partition(" ")[0]


@patient
@pytest.mark.parametrize("name", ["varnish"])
async def test_varnish_gives_a_silent_request_up(ends: Ends, name: str) -> None:
    client = await ends.dial()
    await client.say(request(ends.box, b"Transfer-Encoding: chunked") + chunk(b"first"))
    assert int((await client.until(END))[9:12]) == 503


@patient
@pytest.mark.parametrize("name", ["squid_lifetime"])
async def test_the_lifetime_of_a_client_does_not_end_its_tunnel(ends: Ends, name: str) -> None:
    client = await ends.dial()
    await client.say(request(ends.box, method=b"GET"))
    far = await ends.arrived()
    with trio.move_on_after(3 * LIFETIME_SECONDS) as waited:
        await far.talk.hear()
    assert waited.cancelled_caught
    await far.answer(b"still here")
    assert (await client.answer()).body == b"still here"


# The document -----------------------------------------------------------------------------------------------


def test_the_document_has_the_table_that_was_proven() -> None:
    document = Path(__file__).parents[2] / "docs/middleboxes.md"
    assert facts.table() in document.read_text()
