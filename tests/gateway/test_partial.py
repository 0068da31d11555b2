"""A head that has not come whole: put together, and charged to whom it is kept for."""

from __future__ import annotations

import pytest

from engine.gateway.partial import Partial
from engine.loop.memory import Account, Memory
from tests.gateway.bench import GET, OK, POST, Bench
from tests.loop.ends import End


def test_what_is_kept_comes_before_what_follows_and_is_charged_while_it_is_kept() -> None:
    end = End()
    account = Account(Memory(1000), end)
    partial = Partial(account)
    heard, used = b"", []
    for part in (b"GET ", b"/ HT", b"TP/1.1"):
        partial.keep(partial.join(memoryview(part)))
        heard += part
        used.append((partial.data, account.used))
    assert used == [(b"GET ", 4), (b"GET / HT", 8), (b"GET / HTTP/1.1", 14)]
    assert bytes(partial.join(memoryview(b"\r\n"))) == b"GET / HTTP/1.1\r\n"
    assert (partial.data, account.used) == (b"", 0)


def test_what_is_kept_stays_when_the_buffer_it_came_in_is_used_again() -> None:
    partial = Partial(Account(Memory(1000), End()))
    buffer = bytearray(b"GET ")
    partial.keep(memoryview(buffer))
    buffer[:] = b"xxxx"
    assert partial.data == b"GET "


async def test_heads_are_owed_for_until_they_are_whole_on_either_side(bench: Bench) -> None:
    bench.client.hear(GET[:10])
    assert bench.client.account.used == 10
    bench.client.hear(GET[10:])
    assert bench.client.account.used == 0
    bench.service().hear(OK[:10])
    assert bench.service().account.used == 10
    bench.service().hear(OK[10:])
    assert bench.service().account.used == 0
    assert bench.client.said == OK


@pytest.mark.parametrize("end", ["hear_end", "hear_reset", "too late", "a defect"])
async def test_half_a_head_is_not_owed_for_any_longer_than_there_is_somebody_who_waits_for_its_rest(
    bench: Bench, end: str
) -> None:
    """Streams of one session have one account, which lives longer than they do."""
    bench.client.hear(GET[:10])
    if end == "too late":
        bench.pass_seconds(bench.role.timeouts.head)
    elif end == "a defect":
        bench.inbound.break_off(KeyError("a defect"))
    else:
        getattr(bench.client, end)()
    assert bench.client.account.used == 0


@pytest.mark.parametrize("end", ["hear_end", "hear_reset", "the client is lost", "too late"])
async def test_nor_is_half_an_answers_head(bench: Bench, end: str) -> None:
    bench.client.hear(POST)
    bench.service().hear(OK[:10])
    if end == "too late":
        bench.pass_seconds(bench.role.timeouts.answer)
    elif end == "the client is lost":
        bench.client.hear_reset()
    else:
        getattr(bench.service(), end)()
    assert bench.service().account.used == 0
