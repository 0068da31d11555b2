"""A head's whole way through node and agent: the bytes that came in, the bytes that go on.

The functions are those that the roles call, down to what they remember of a head that comes again; no socket and no
stream is in between. Each way is measured with heads of which no two are alike, as a crowd of browsers and a service
behind it send them, and with equal ones. To write the digits that differ into the buffer is part of both, about 1 µs.
"""

import re
from collections.abc import Callable
from functools import partial
from itertools import count, repeat

# The agent's role has no other name for how it passes a head on.
from engine.agent.http import _head, _known_head
from engine.gateway.head import answer_head
from engine.node.asked import Asked
from engine.wire import http1
from engine.wire.http1 import summary
from perf.micro.benchmark import Benchmark, Run

GoOn = Callable[[memoryview], bytes]

# What stands as @ differs from head to head.
REQUEST = b"""\
GET /varied/@@@@@@@@@@@@@@@@?page=2 HTTP/1.1\r
Host: shop.example\r
User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0\r
Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8\r
Accept-Language: en-US,en;q=0.5\r
Accept-Encoding: gzip, deflate, br, zstd\r
Referer: https://shop.example/\r
Sec-Fetch-Dest: document\r
Sec-Fetch-Mode: navigate\r
Sec-Fetch-Site: same-origin\r
Priority: u=0, i\r
x-piko-endpoint: lab\r
Cookie: session=@@@@@@@@@@@@@@@@; theme=dark\r
traceparent: 00-0000000000000000@@@@@@@@@@@@@@@@-@@@@@@@@@@@@@@@@-01\r
\r
"""
ANSWER = b"""\
HTTP/1.1 200 OK\r
Server: nginx/1.22.1\r
Date: Mon, 01 Jun 2026 12:00:@@ GMT\r
Content-Type: text/plain\r
Content-Length: 128\r
Connection: keep-alive\r
ETag: "0000000000000000@@@@@@@@@@@@@@@@"\r
Set-Cookie: seen=0000000000000000@@@@@@@@@@@@@@@@; Path=/\r
\r
"""


def benchmarks() -> list[Benchmark]:
    found = []
    for name, title, head, way in (
        ("node-request", "a client's request through the node", REQUEST, nodes_request),
        ("agent-request", "a node's request through the agent", nodes_request()(memoryview(REQUEST)), agents_request),
        ("agent-answer", "a service's answer through the agent", ANSWER, answer),
        ("node-answer", "an agent's answer through the node", answer()(memoryview(ANSWER)), answer),
    ):
        for suffix, said, varied in (("", "no two alike", True), ("-equal", "all equal", False)):
            prepare = partial(passing, head, way, varied=varied)
            found.append(Benchmark(f"heads-{name}{suffix}", f"{title}, {said}", prepare))
    return found


def passing(head: bytes, way: Callable[[], GoOn], *, varied: bool) -> Run:
    """What reads one head after another out of a buffer and writes it for the next hop; it returns that."""
    go_on, received = way(), bytearray(head)
    view = memoryview(received)
    places = [place.span() for place in re.finditer(b"@@+", head)]
    numbers = count() if varied else repeat(0)

    def run() -> bytes:
        each = b"%016d" % next(numbers)
        for start, end in places:
            received[start:end] = each[start - end :]
        return go_on(view)

    return run


def nodes_request() -> GoOn:
    """As a client's connection has it, which remembers what its latest request asked for, and for an agent of ours."""
    asked: Asked | None = None

    def go_on(head: memoryview) -> bytes:
        nonlocal asked
        found = http1.next_request(head, 0)
        assert found is not None
        request = found[0]
        if asked is None or asked.request is not request:
            asked = Asked(request, "127.0.0.1", b"http", takes_tokens=False)
        return asked.head_for(summaries=True)

    return go_on


def agents_request() -> GoOn:
    def go_on(head: memoryview) -> bytes:
        found = summary.next_request(head, 0)
        assert found is not None
        request = found[0]
        return (_known_head if request.repeats else _head)(request, b"")

    return go_on


def answer() -> GoOn:
    def go_on(head: memoryview) -> bytes:
        found = http1.next_response(head, 0, b"GET")
        assert found is not None
        return answer_head(found[0], 11, False)

    return go_on
