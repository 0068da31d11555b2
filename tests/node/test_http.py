"""HTTP from a client through node and agent to a service, and back: whatever HTTP/1.1 allows arrives as it was said."""

from __future__ import annotations

import hashlib
import random

import pytest
import trio

from tests.peers import DATA, register
from tests.roles import GET, Roles, Talk, answer, server_config, settle, tell_head, values_of

NOISE = random.Random(7).randbytes(1 << 20)
POST = b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST / HTTP/1.1\r\nHost: web.test\r\nTransfer-Encoding: chunked\r\n\r\n"
TRAILED = b"5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\nX-Sum: 1\r\nContent-Length: 7\r\n\r\n"
PASSED_TRAILED = b"5\r\nhello\r\n3\r\nabc\r\n0\r\nX-Sum: 1\r\n\r\n"


# -- Requests and answers


@pytest.mark.parametrize(
    "method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PROPFIND", "M-SEARCH"]
)
async def test_every_method_arrives_with_its_target_and_body(roles: Roles, method: str) -> None:
    async def tell(talk: Talk) -> None:
        await talk.say(answer(await talk.until(b"world")))

    node = await roles.tunnel(tell)
    client = await roles.dial(node.proxy)
    head = f"{method} /a%20b/../c?d=e&f HTTP/1.1\r\nHost: web.test\r\nContent-Length: 10\r\n".encode()
    seen = await client.ask(head + b"\r\nhelloworld")
    assert seen.body.startswith(head)
    assert seen.body.endswith(b"\r\n\r\nhelloworld")


async def test_connect_is_not_served(roles: Roles) -> None:
    node = await roles.tunnel(tell_head)
    client = await roles.dial(node.proxy)
    assert (await client.ask(b"CONNECT web.test:80 HTTP/1.1\r\nHost: web.test\r\n\r\n")).status == 501
    assert await client.is_over()


async def test_a_connection_is_kept_on_every_leg(roles: Roles) -> None:
    connections = 0

    async def counts(talk: Talk) -> None:
        nonlocal connections
        connections += 1
        await tell_head(talk)

    node = await roles.tunnel(counts)
    client = await roles.dial(node.proxy)
    for _ in range(100):
        assert (await client.ask()).status == 200
    assert connections == 1


async def test_a_service_that_closes_after_each_answer_is_dialled_for_each_request(roles: Roles) -> None:
    async def once(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(answer(b"ok", fields=b"Connection: close\r\n"))

    node = await roles.tunnel(once)
    client = await roles.dial(node.proxy)
    for _ in range(50):
        got = await client.ask()
        assert (got.status, got.body, got.values(b"connection")) == (200, b"ok", [])


async def test_a_service_that_hangs_up_between_requests_costs_no_request(roles: Roles) -> None:
    async def twice(talk: Talk) -> None:
        for _ in range(2):
            await talk.until(b"\r\n\r\n")
            await talk.say(answer(b"ok"))

    node = await roles.tunnel(twice)
    client = await roles.dial(node.proxy)
    for _ in range(100):
        assert (await client.ask()).body == b"ok"


@pytest.mark.parametrize("ours", [False, True])
async def test_behind_a_body_no_request_follows_on_a_stream_to_an_agent_that_may_be_pikos(
    roles: Roles, ours: bool
) -> None:
    """Go's server would take the body from Go's client, which sends it to the service (see gateway.head)."""
    node = await roles.node()
    agent = await register(roles, node, fields="X-Trioduct-Summaries: 1\r\n" if ours else "")
    client = await roles.dial(node.proxy)
    streams = []
    for request, end in ((GET, b"\r\n\r\n"), (GET, b"\r\n\r\n"), (POST, b"hello"), (GET, b"\r\n\r\n")):
        await client.say(request)
        heard = await agent.hear_until(DATA, 0)
        streams.append(heard.stream)
        said = heard.data
        while not said.endswith(end):
            said += (await agent.hear_until(DATA, 0, heard.stream)).data
        assert values_of(said, b"connection") == ([b"close"] if request == POST and not ours else [])
        await agent.say(DATA, 0, heard.stream, answer(b"ok"))
        assert (await client.answer()).values(b"connection") == []
    first, *others = streams
    assert others[:2] == [first, first]
    assert (others[2] == first) is ours


async def test_answers_that_have_no_body_end_with_their_head(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            status = head.split()[1][1:]
            length = b"" if status == b"204" else b"Content-Length: 1000\r\n"
            await talk.say(b"HTTP/1.1 %b x\r\nETag: y\r\n%b\r\n" % (status, length))

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    for method, status in ((b"GET", 204), (b"GET", 304), (b"HEAD", 200), (b"HEAD", 404)) * 3:
        await client.say(b"%b /%d HTTP/1.1\r\nHost: web.test\r\n\r\n" % (method, status))
        got = await client.answer(body=False)
        assert (got.status, got.values(b"etag")) == (status, [b"y"])
        assert got.values(b"content-length") == ([] if status == 204 else [b"1000"])


async def test_an_error_of_ours_to_head_has_no_body(roles: Roles) -> None:
    node = await roles.tunnel(tell_head)
    client = await roles.dial(node.proxy)
    for _ in range(2):
        await client.say(b"HEAD / HTTP/1.1\r\nHost: other.test\r\n\r\n")
        assert (await client.answer(body=False)).status == 502


async def test_chunks_and_trailers_pass_both_ways(roles: Roles) -> None:
    heard = b""

    async def serve(talk: Talk) -> None:
        nonlocal heard
        await talk.until(b"\r\n\r\n")
        heard = await talk.until(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n" + TRAILED)

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    await client.say(CHUNKED + TRAILED)
    assert values_of(await client.until(b"\r\n\r\n"), b"trailer") == [b"X-Sum"]
    assert await client.until(b"\r\n\r\n") == PASSED_TRAILED
    assert heard == PASSED_TRAILED  # what frames or routes is no trailer, and extensions are for one hop


async def test_a_pipeline_is_answered_in_order_although_its_client_has_ended(roles: Roles) -> None:
    node = await roles.tunnel(tell_head)
    client = await roles.dial(node.proxy)
    requests = [b"POST /%d HTTP/1.1\r\nHost: web.test\r\nContent-Length: 5\r\n\r\nhello" % n for n in range(50)]
    await client.say(b"".join(requests))
    await client.finish()
    for number in range(50):
        assert (await client.answer()).body.startswith(b"POST /%d HTTP" % number)
    assert await client.is_over()


async def test_a_client_that_ends_behind_its_request_is_answered(roles: Roles) -> None:
    may_answer = trio.Event()

    async def slow(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await may_answer.wait()
        await talk.say(answer(NOISE))

    node = await roles.tunnel(slow)
    client = await roles.dial(node.proxy)
    await client.say(GET)
    await client.finish()
    await settle()
    may_answer.set()
    assert (await client.answer()).body == NOISE
    assert await client.is_over()


async def test_a_client_that_ends_behind_its_request_and_then_goes_away_takes_it_back(roles: Roles) -> None:
    asked, ends = trio.Event(), []

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        asked.set()
        ends.append(await talk.is_over())

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    await client.say(GET)
    await client.finish()
    await asked.wait()
    await client.reset()
    await settle()
    assert ends == [False]


async def test_a_client_that_ends_inside_its_body_has_not_asked(roles: Roles) -> None:
    ends = []

    async def serve(talk: Talk) -> None:
        await talk.until(b"hel")
        ends.append(await talk.is_over())

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: 5\r\n\r\nhel")
    await settle()
    await client.finish()
    await client.is_over()
    await settle()
    assert ends == [False]


async def test_a_client_that_goes_away_takes_its_request_back(roles: Roles) -> None:
    asked, gone = trio.Event(), trio.Event()

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        asked.set()
        await talk.is_over()
        gone.set()

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    await client.say(GET)
    await asked.wait()
    await client.reset()
    await gone.wait()


async def test_an_http_1_0_client_gets_what_it_understands(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        assert (await talk.until(b"\r\n\r\n")).startswith(b"GET / HTTP/1.1\r\n")
        await talk.say(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        await talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + TRAILED)

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    await client.say(b"GET / HTTP/1.0\r\nHost: web.test\r\n\r\n")
    assert await client.rest() == b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhelloabc"


async def test_an_http_1_0_client_may_keep_its_connection(roles: Roles) -> None:
    node = await roles.tunnel(tell_head)
    client = await roles.dial(node.proxy)
    for _ in range(3):
        got = await client.ask(b"GET / HTTP/1.0\r\nHost: web.test\r\nConnection: keep-alive\r\n\r\n")
        assert got.values(b"connection") == [b"keep-alive"]
    assert (await client.ask(b"GET / HTTP/1.0\r\nHost: web.test\r\n\r\n")).values(b"connection") == [b"close"]
    assert await client.is_over()


async def test_an_http_1_0_service_is_one_too(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(b"HTTP/1.0 200 OK\r\n\r\n" + NOISE)

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    for _ in range(3):
        await client.say(GET)
        assert b"\r\nTransfer-Encoding: chunked\r\n" in await client.until(b"\r\n\r\n")
        body = b""
        while size := int(await client.until(b"\r\n"), 16):
            body += await client.exactly(size)
            await client.exactly(2)
        await client.exactly(2)
        assert body == NOISE


# -- Before the answer


async def test_the_service_decides_whether_a_body_is_sent(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            assert values_of(head, b"expect") == [b"100-continue"]
            if head.startswith(b"PUT /no"):
                await talk.say(answer(status=b"417 Expectation Failed", fields=b"Connection: close\r\n"))
                return
            await talk.say(b"HTTP/1.1 100 Continue\r\n\r\n")
            await talk.say(answer(await talk.exactly(5)))

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    head = b"PUT /%b HTTP/1.1\r\nHost: web.test\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    for _ in range(3):
        await client.say(head % b"yes")
        assert await client.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        assert (await client.ask(b"hello")).body == b"hello"
    refused = await client.ask(head % b"no")
    # The body may come nevertheless, and must not be taken for a request.
    assert (refused.status, refused.values(b"connection")) == (417, [b"close"])


async def test_early_hints_arrive_before_there_is_an_answer(roles: Roles) -> None:
    hints_read = trio.Event()

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        for number in range(20):
            await talk.say(b"HTTP/1.1 103 Early Hints\r\nLink: </%d>\r\n\r\n" % number)
        await hints_read.wait()
        await talk.say(answer(b"ok"))

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    await client.say(GET)
    for number in range(20):
        assert values_of(await client.until(b"\r\n\r\n"), b"link") == [b"</%d>" % number]
    hints_read.set()
    assert (await client.answer()).body == b"ok"


async def test_an_early_answer_arrives_whatever_becomes_of_the_body(roles: Roles) -> None:
    async def refuses(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(answer(b"too large", status=b"413 Content Too Large", fields=b"Connection: close\r\n"))

    node = await roles.tunnel(refuses)
    head = b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: %d\r\n\r\n" % (1 << 30)

    async def sends(client: Talk) -> None:
        try:
            await client.say(head + NOISE)
        except trio.BrokenResourceError:
            pass  # it does not listen any more

    for _ in range(200):
        client = await roles.dial(node.proxy)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sends, client)
            got = await client.answer()
        assert (got.status, got.body, got.values(b"connection")) == (413, b"too large", [b"close"])
        await client.close()


async def test_what_is_behind_an_early_answer_is_no_request(roles: Roles) -> None:
    asked = []

    async def refuses(talk: Talk) -> None:
        asked.append(await talk.until(b"\r\n\r\n"))
        await talk.say(answer(status=b"401 Unauthorized"))

    node = await roles.tunnel(refuses)
    client = await roles.dial(node.proxy)
    got = await client.ask(b"POST / HTTP/1.1\r\nHost: web.test\r\nContent-Length: %d\r\n\r\n" % (2 * len(GET)))
    assert got.status == 401
    await client.say(GET + GET)
    await client.is_over()
    assert len(asked) == 1


# -- Bodies on their way


async def test_every_chunk_arrives_before_the_next_one_is_said(roles: Roles) -> None:
    say, to_say = trio.open_memory_channel[bytes](0)

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        async for chunk in to_say:
            await talk.say(chunk)

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    await client.say(GET)
    await client.until(b"\r\n\r\n")
    for number in range(300):
        chunk = b"1\r\n%d\r\n" % (number % 10)
        await say.send(chunk)
        assert await client.exactly(len(chunk)) == chunk
    await say.send(b"0\r\n\r\n")
    assert await client.until(b"\r\n\r\n") == b"0\r\n\r\n"


async def test_both_bodies_may_be_under_way_at_once(roles: Roles) -> None:
    async def echo_chunks(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            await talk.say(await talk.hear())

    node = await roles.tunnel(echo_chunks)
    client = await roles.dial(node.proxy)
    await client.say(CHUNKED)
    await client.until(b"\r\n\r\n")
    for number in range(100):
        chunk = b"3\r\n%03d\r\n" % number
        await client.say(chunk)
        assert await client.exactly(len(chunk)) == chunk
    await client.say(b"0\r\n\r\n")
    assert await client.rest() == b"0\r\n\r\n"


@pytest.mark.parametrize("chunked", [False, True], ids=["length", "chunks"])
async def test_fifty_megabytes_arrive_both_ways(roles: Roles, chunked: bool) -> None:
    size = 50 * len(NOISE)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
    piece = b"%x\r\n%b\r\n" % (len(NOISE), NOISE) if chunked else NOISE
    end = b"0\r\n\r\n" if chunked else b""

    async def send(talk: Talk) -> None:
        for _ in range(50):
            await talk.say(piece)
        await talk.say(end)

    async def hashed(talk: Talk) -> str:
        digest = hashlib.sha256()
        for _ in range(50):
            if chunked:  # sizes are the sender's, whoever passes them on
                assert int(await talk.until(b"\r\n"), 16) == len(NOISE)
            digest.update(await talk.exactly(len(NOISE)))
            if chunked:
                await talk.exactly(2)
        assert await talk.exactly(len(end)) == end
        return digest.hexdigest()

    heard = []

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        heard.append(await hashed(talk))
        await talk.say(b"HTTP/1.1 200 OK\r\n%b\r\n\r\n" % framing)
        await send(talk)

    node = await roles.tunnel(serve)
    client = await roles.dial(node.proxy)
    await client.say(b"POST / HTTP/1.1\r\nHost: web.test\r\n%b\r\n\r\n" % framing)
    await send(client)
    await client.until(b"\r\n\r\n")
    assert [await hashed(client)] == heard
    assert heard == [hashlib.sha256(NOISE * 50).hexdigest()]


async def test_a_reader_that_rests_holds_up_nobody_and_loses_nothing(roles: Roles) -> None:
    async def serve(talk: Talk) -> None:
        while True:
            large = b"/large" in await talk.until(b"\r\n\r\n")
            await talk.say(answer(NOISE * 16 if large else b"small"))

    node = await roles.tunnel(serve)
    resting = await roles.dial(node.proxy, buffer=4096)
    await resting.say(GET.replace(b"/ ", b"/large "))
    await resting.exactly(1)
    client = await roles.dial(node.proxy)
    for _ in range(300):
        assert (await client.ask()).body == b"small"
    assert (await client.ask(GET.replace(b"/ ", b"/large "))).body == NOISE * 16
    assert hashlib.sha256((await resting.answer()).body).digest() == hashlib.sha256(NOISE * 16).digest()


async def test_a_service_that_rests_holds_up_nobody_and_loses_nothing(roles: Roles) -> None:
    may_read = trio.Event()

    async def serve(talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            if b"/large" in head:
                await may_read.wait()
            body = await talk.exactly(int(values_of(head, b"content-length")[0]))
            await talk.say(answer(hashlib.sha256(body).digest()))

    node = await roles.tunnel(serve)
    resting, client = await roles.dial(node.proxy), await roles.dial(node.proxy)
    post = b"POST %b HTTP/1.1\r\nHost: web.test\r\nContent-Length: %d\r\n\r\n"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(resting.say, post % (b"/large", 16 * len(NOISE)) + NOISE * 16)
        for _ in range(300):
            assert (await client.ask(post % (b"/small", 5) + b"hello")).body == hashlib.sha256(b"hello").digest()
        may_read.set()
        assert (await resting.answer()).body == hashlib.sha256(NOISE * 16).digest()


# -- What must not arrive; see tests/security for the rest


async def test_what_a_service_says_behind_its_answer_is_nobodys(roles: Roles) -> None:
    async def poisons(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(answer(b"good") + answer(b"poison"))
        await talk.rest()

    node = await roles.tunnel(poisons)
    client = await roles.dial(node.proxy)
    for _ in range(20):
        assert (await client.ask()).body == b"good"


# -- Clocks


async def test_a_client_that_begins_a_head_and_never_ends_it_is_told_so(roles: Roles) -> None:
    config = server_config()
    config.proxy.http.read_header_timeout = 0.1
    node = await roles.node(config)
    client = await roles.dial(node.proxy)
    await client.say(GET[:-2])
    assert (await client.answer()).status == 408
    assert await client.is_over()
