"""An exchange that is over, as the access log is told of it."""

from __future__ import annotations

import json

import pytest

from engine.access_log import AccessLog, Finished
from engine.gateway import record
from engine.gateway.exchange import Exchange
from tests.gateway.bench import GET, OK, POST, Bench


class Lines(AccessLog):
    """Keeps what it is told."""

    def __init__(self) -> None:
        super().__init__("proxy.access")
        self.told: list[Finished] = []

    def record(self, request: Finished) -> None:
        self.told.append(request)


@pytest.fixture
def lines() -> Lines:
    return Lines()


async def test_a_line_says_what_was_asked_and_what_was_answered(bench: Bench, lines: Lines) -> None:
    bench.client.hear(POST)
    bench.service().hear(OK)
    record.write(lines, bench.role.over[0], client="192.0.2.1", endpoint="shop")
    line = lines.told[0]
    assert (line.proto, line.method, line.target, line.status) == (b"HTTP/1.1", b"POST", b"/a", 200)
    assert (line.client, line.endpoint, line.bytes_in, line.bytes_out) == ("192.0.2.1", "shop", 5, 2)
    assert line.response_head is not None
    assert json.loads(lines.rendered(line, "info", "now"))["request"]["method"] == "POST"


@pytest.mark.parametrize(("method", "size"), [(b"GET", len(b'{"error": "no available upstreams"}')), (b"HEAD", 0)])
async def test_of_an_error_of_our_own_the_bytes_are_those_of_the_body_too(
    bench: Bench, lines: Lines, method: bytes, size: int
) -> None:
    bench.have_it_wait()
    bench.client.hear(GET.replace(b"GET", method))
    bench.pass_seconds(11.0)
    record.write(lines, bench.role.over[0], client="192.0.2.1", endpoint="shop")
    assert (lines.told[0].status, lines.told[0].bytes_out) == (502, size)


async def test_a_request_without_an_answer_has_no_fields_of_one(bench: Bench, lines: Lines) -> None:
    bench.client.hear(POST)
    bench.client.hear_reset()
    record.write(lines, bench.role.over[0], client="192.0.2.1", endpoint="shop")
    line = lines.told[0]
    assert (line.status, line.response_head, line.first_byte_seconds, line.known) == (499, None, None, None)


def test_where_there_was_no_request_there_is_no_line(lines: Lines) -> None:
    record.write(lines, Exchange(None), client="192.0.2.1", endpoint="")
    assert lines.told == []
