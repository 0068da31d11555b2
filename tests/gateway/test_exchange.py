"""What is known of a request and its answer."""

from __future__ import annotations

from engine.gateway.exchange import Exchange
from tests.gateway.bench import OK, POST, Bench


def test_one_whose_head_was_not_understood_has_no_method() -> None:
    exchange = Exchange(None)
    assert exchange.figures()[:2] == (b"", 0)
    assert exchange.first_byte_seconds is None


async def test_the_figures_are_those_of_bodies_as_they_came(bench: Bench) -> None:
    bench.client.hear(POST)
    bench.service().hear(OK[:-1])
    bench.service().hear(OK[-1:])
    exchange = bench.role.over[0]
    method, status, seconds, bytes_in, bytes_out = exchange.figures()
    assert (method, status, bytes_in, bytes_out) == (b"POST", 200, 5, 2)
    assert exchange.first_byte_seconds is not None
    assert 0 < exchange.first_byte_seconds <= seconds
    assert exchange.response is not None
    assert exchange.response.status == 200
