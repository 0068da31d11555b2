"""What browsers are shown in place of errors."""

from __future__ import annotations

import pytest

from engine.gateway.pages import Pages
from engine.gateway.role import Refuse
from tests.gateway.bench import GET, OK, Bench

BROWSER = GET.replace(b"\r\n\r\n", b"\r\nAccept: text/html, */*;q=0.8\r\n\r\n")


@pytest.mark.parametrize(
    ("status", "shown"), [(502, b"<p>502"), (503, b"<p>5xx"), (599, b"<p>5xx"), (429, b""), (401, b"<p>401")]
)
async def test_a_page_is_the_one_of_its_status_or_of_all_like_it(bench: Bench, status: int, shown: bytes) -> None:
    bench.role.pages = Pages({"502": b"<p>502", "5xx": b"<p>5xx", "401": b"<p>401"})
    bench.role.decides = lambda: Refuse(status, "why", 7, b"Basic")
    bench.client.hear(BROWSER)
    head, _, body = bench.client.said.partition(b"\r\n\r\n")
    assert body == (shown or b'{"error":"why"}\n')
    assert (b"Content-Type: text/html; charset=utf-8" in head) is bool(shown)
    assert (b"Content-Security-Policy: default-src 'none'" in head) is bool(shown)
    assert (b"Cache-Control: no-store" in head) is bool(shown)
    assert b"Content-Length: %d\r\n" % len(body) in head + b"\r\n"
    for said in (b"HTTP/1.1 %d " % status, b"Retry-After: 7", b"WWW-Authenticate: Basic"):
        assert said in head
    assert bench.role.over[-1].bytes_out == len(body)


async def test_programs_are_told_in_json_and_a_head_has_no_body(bench: Bench) -> None:
    bench.role.pages = Pages({"5xx": b"<p>sorry"})
    bench.role.decides = lambda: Refuse(503, "why")
    bench.client.hear(GET)
    assert bench.client.said.endswith(b'\r\n\r\n{"error":"why"}\n')
    bench.client.hear(BROWSER.replace(b"GET", b"HEAD"))
    assert bench.client.said.endswith(b"form-action 'none'\r\n\r\n")
    assert b"Content-Length: 8\r\n" in bench.client.said


async def test_a_page_is_no_end_of_the_connection_and_answers_of_services_are_left_alone(bench: Bench) -> None:
    bench.role.pages = Pages({"5xx": b"<p>sorry"})
    bench.client.hear(BROWSER)
    busy = OK.replace(b"200 OK", b"503 Busy")
    bench.service().hear(busy)
    assert bench.client.said == busy
    bench.client.hear(b"nonsense\r\n\r\n")  # of whom nobody knows what it shows
    assert bench.client.said.endswith(b"}\n")
