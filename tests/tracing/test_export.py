"""Spans on their way to a collector, which may be away, slow, or lie: nobody but its own spans is hurt."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from engine.gateway.exchange import Exchange
from engine.tracing import export
from engine.tracing.export import Exporter
from engine.tracing.span import Kind, Span
from engine.tracing.tracer import Tracer, new_span_id
from tests.node.conftest import Written
from tests.programs import Programs
from tests.roles import Roles, Talk
from tests.tracing.collector import Collector, answered, rejecting

EXAMPLE = Path(__file__).parents[2] / "examples/spans.py"
TRACE = b"0af7651916cd43dd8448eb211c80319c"


def put(tracer: Tracer, count: int = 1) -> None:
    for _ in range(count):
        span = Span(Kind.CLIENT, "GET", TRACE, new_span_id(), b"", 1, 0.0)
        span.attributes["trioduct.endpoint"] = "web"
        span.end(Exchange(None))
        tracer.put(span)


@asynccontextmanager
async def exporting(url: str, *, direct: bool = True, **headers: str) -> AsyncIterator[tuple[Tracer, Exporter]]:
    tracer = Tracer(1, 0, 0)
    exporter = Exporter(
        tracer,
        url=f"{url}/v1/traces",
        headers=headers,
        service="",
        otherwise="trioduct-node",
        instance="n1",
        direct=direct,
    )
    async with trio.open_nursery() as nursery:
        nursery.start_soon(exporter.run)
        yield tracer, exporter
        nursery.cancel_scope.cancel()


async def until(holds: Callable[[], bool]) -> None:
    while not holds():  # noqa: ASYNC110
        await trio.sleep(0.005)


async def test_spans_are_posted_in_batches_with_the_headers(
    roles: Roles, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "BATCH", 10)
    async with exporting(collector.url, Authorization="Bearer s3cret") as (tracer, exporter):
        put(tracer, 25)
        spans = await collector.wait_for(25)
        await until(lambda: exporter.exported == 25)
    assert len({span.id for span in spans}) == 25
    assert len(collector.heads) == 3
    assert all(head.startswith(b"POST /v1/traces HTTP/1.1\r\n") for head in collector.heads)
    assert all(b"authorization: Bearer s3cret\r\n" in head for head in collector.heads)
    assert dict(exporter.dropped) == {"queue": 0, "collector": 0, "rejected": 0}


async def test_the_environment_says_what_has_no_key(
    roles: Roles, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "front")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test,service.name=other")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-scope=a")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "none")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1")  # of no effect
    async with exporting(collector.url) as (tracer, _):
        put(tracer)
        (span,) = await collector.wait_for(1)
    assert span.service == "front"
    assert span.resource["deployment.environment.name"] == "test"
    assert b"x-scope: a\r\n" in collector.heads[0]


async def test_what_is_left_when_a_role_ends_is_sent(
    roles: Roles, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "INTERVAL_SECONDS", 3600)
    async with exporting(collector.url) as (tracer, _):
        await trio.testing.wait_all_tasks_blocked()
        put(tracer, 3)
    assert len(collector.spans) == 3


async def test_the_environment_may_say_by_which_proxy_but_not_to_this_machine(
    roles: Roles, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await Collector().start(roles)
    monkeypatch.setenv("HTTP_PROXY", proxy.url)
    async with exporting(collector.url) as (tracer, _):
        put(tracer)
        await collector.wait_for(1)
    assert proxy.heads == []
    async with exporting("http://otel.test", direct=False) as (tracer, _):
        put(tracer)
        await proxy.wait_for(1)
    assert proxy.heads[0].startswith(b"POST http://otel.test/v1/traces HTTP/1.1\r\n")


# What may be said in place of an answer, and what is told of it.
ANSWERS = [
    (answered(b"500 Internal Server Error"), "it answers 500"),
    (answered(b"401 Unauthorized"), "it answers 401"),
    (answered(b"503 Service Unavailable", fields=b"Retry-After: 86400\r\n"), "it answers 503"),
    (answered(b"302 Found", fields=b"Location: OTHER\r\n"), "it answers 302, and nothing is sent elsewhere"),
    (answered(body=b"\xff" * 20), "its answer is not OTLP"),
    (answered(body=b"x" * 100_000), "its answer has more than 65536 bytes"),
    (rejecting(2, "no\nroom"), r"it rejects 2 spans: 'no\nroom'"),
    (rejecting(10**9, ""), "it rejects 1000000000 spans: ''"),
    (rejecting(-5, ""), "it rejects -5 spans: ''"),
    (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "SSH-2.0-OpenSSH_9.2"),
]


@pytest.mark.parametrize(("answer", "why"), ANSWERS, ids=[why[:30] for _, why in ANSWERS])
async def test_a_collector_that_answers_something_else_is_told_of_once(
    answer: bytes, why: str, roles: Roles, collector: Collector, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "SEND_SECONDS", 0.5)
    monkeypatch.setattr(export, "BATCH", 3)
    other = await Collector().start(roles)
    right, collector.says = collector.says, answer.replace(b"OTHER", other.url.encode())
    async with exporting(collector.url, Authorization="Bearer s3cret") as (tracer, exporter):
        put(tracer, 9)
        await until(lambda: exporter.exported + sum(exporter.dropped.values()) == 9)
        (line,) = written("tracing")
        assert (line["level"], line["msg"]) == ("warn", "spans are lost")
        assert why in str(line["error"])
        assert "s3cret" not in str(line)
        collector.says = right
        before = exporter.exported
        put(tracer, 3)
        await until(lambda: exporter.exported == before + 3)
    assert [line["msg"] for line in written("tracing")] == ["spans are lost", "spans are exported again"]
    assert other.heads == []
    assert all(count >= 0 for count in exporter.dropped.values())


async def silent(talk: Talk) -> None:
    await talk.until(b"\r\n\r\n")
    await trio.sleep_forever()


async def trickling(talk: Talk) -> None:
    """An answer that has no end, and is never silent."""
    await talk.until(b"\r\n\r\n")
    await talk.say(b"HTTP/1.1 200 OK\r\nX: ")
    while True:
        await talk.say(b"x")
        await trio.sleep(0.01)


async def trickling_body(talk: Talk) -> None:
    await talk.until(b"\r\n\r\n")
    await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
    while True:
        await talk.say(b"x" * 4096)
        await trio.sleep(0.05)


async def vanishing(talk: Talk) -> None:
    await talk.until(b"\r\n\r\n")
    await talk.reset()


@pytest.mark.parametrize("serve", [silent, trickling, trickling_body, vanishing, None])
async def test_a_collector_that_does_not_answer_loses_its_spans_and_nothing_else(
    serve: Callable[[Talk], Awaitable[None]] | None,
    roles: Roles,
    collector: Collector,
    written: Written,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(export, "SEND_SECONDS", 0.3)
    monkeypatch.setattr(export, "BATCH", 2)
    port = await roles.service(serve) if serve is not None else 1
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            before = trio.current_time()
            await trio.sleep(0.001)
            longest = max(longest, trio.current_time() - before)

    async with exporting(f"http://127.0.0.1:{port}") as (tracer, exporter):
        roles.nursery.start_soon(tick)
        put(tracer, 8)
        await until(lambda: exporter.dropped["collector"] == 8)
    assert longest < 0.25
    assert exporter.exported == 0
    (line,) = written("tracing")
    assert line["msg"] == "spans are lost"


async def test_a_defect_of_the_exporter_costs_its_batch_alone(
    roles: Roles, collector: Collector, written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(span: Span, resource: object) -> None:
        raise RuntimeError("can't start new thread")

    async with exporting(collector.url) as (tracer, exporter):
        with monkeypatch.context() as patch:
            patch.setattr(export, "readable", broken)
            put(tracer, 2)
            await until(lambda: exporter.dropped["collector"] == 2)
        put(tracer, 3)
        await collector.wait_for(3)
    assert written("tracing")[0]["error"] == "RuntimeError: can't start new thread"


async def test_threads_that_a_collector_keeps_are_few(
    roles: Roles, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export, "SEND_SECONDS", 0.1)
    connections = 0

    async def serve(talk: Talk) -> None:
        nonlocal connections
        connections += 1
        await trickling(talk)

    port = await roles.service(serve)
    async with exporting(f"http://127.0.0.1:{port}") as (tracer, exporter):
        for number in range(1, 6):
            put(tracer)
            await until(lambda number=number: exporter.dropped["collector"] == number)  # type: ignore[misc]
    assert connections == export.THREADS


async def test_the_example_draws_a_trace(programs: Programs) -> None:
    collector = await programs.start(sys.executable, str(EXAMPLE), "0")
    port = int((await collector.wait_line(r"waiting for spans at http://127.0.0.1:(\d+)"))[1])
    async with exporting(f"http://127.0.0.1:{port}") as (tracer, _):
        put(tracer)
    await collector.wait_line(f"^trace {TRACE.decode()}$")
    await collector.wait_line("trioduct-node +client GET .* web")
