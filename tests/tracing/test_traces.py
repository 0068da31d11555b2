"""A trace from a client to a service and back: node and agent each tell their part, and it is one."""

from __future__ import annotations

import json
from pathlib import Path

import jwt
import pytest
import trio

from engine import log
from engine.config import AgentConfig, AuthConfig, ServerConfig, VisitorsConfig
from engine.config.server import TenantConfig
from tests.agent.test_http2 import Served, ask_many
from tests.auth.test_visitors import HASH, basic
from tests.node.conftest import Written
from tests.node.test_peers import Cluster
from tests.programs import Node, Programs, get
from tests.roles import (
    Roles,
    RunningNode,
    Talk,
    agent_config,
    answer,
    echo,
    forward_config,
    says,
    server_config,
    tell_head,
    values_of,
)
from tests.tracing.collector import Collector, Got

SECRET = "a secret of thirty-two characters, or more"
TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"
PARENT = f"traceparent: 00-{TRACE}-{SPAN}-01\r\ntracestate: vendor=1\r\n".encode()


def traced_node(collector: Collector, *, sample: float = 1.0) -> ServerConfig:
    config = server_config()
    config.cluster.node_id = "n1"
    config.tracing.url = collector.url
    config.tracing.sample = sample
    return config


def traced_agent(collector: Collector, upstream: int, service: int | str) -> AgentConfig:
    config = agent_config(upstream, service)
    config.tracing.url = collector.url
    return config


def request(fields: bytes = b"", line: bytes = b"GET /things/1?token=hidden HTTP/1.1") -> bytes:
    return line + b"\r\nHost: web.test:8000\r\n" + fields + b"\r\n"


async def tunnel(roles: Roles, collector: Collector, service: int, *, sample: float = 1.0) -> RunningNode:
    node = await roles.node(traced_node(collector, sample=sample))
    await roles.agent_with(traced_agent(collector, node.upstream, service))
    return node


def by_role(spans: list[Got]) -> tuple[Got, Got, Got]:
    """The node's, its attempt's, and the agent's."""
    (server,) = [span for span in spans if span.kind == "server"]
    (attempt,) = [span for span in spans if span.kind == "client" and span.service == "trioduct-node"]
    (agent,) = [span for span in spans if span.service == "trioduct-agent"]
    return server, attempt, agent


async def test_node_agent_and_service_are_one_trace(roles: Roles, collector: Collector) -> None:
    service = await roles.service(tell_head)
    node = await tunnel(roles, collector, service)
    client = await roles.dial(node.proxy)
    told = (await client.ask(request())).body
    server, attempt, agent = by_role(await collector.wait_for(3))

    assert server.parent == ""
    assert attempt.parent == server.id
    assert agent.parent == attempt.id
    (parent,) = values_of(told, b"traceparent")
    assert parent.decode() == f"00-{server.trace}-{agent.id}-01"
    assert {server.trace, attempt.trace, agent.trace} == {server.trace}
    assert len({server.id, attempt.id, agent.id}) == 3
    assert server.began <= attempt.began <= agent.began
    assert agent.ended <= attempt.ended <= server.ended
    assert (server.name, attempt.name, agent.name) == ("GET", "GET", "GET")
    assert not any(span.failed for span in (server, attempt, agent))
    assert server.events == ["first byte of the answer"]

    size = len(told)
    common = {
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.request.body.size": 0,
        "http.response.body.size": size,
        "network.protocol.version": "1.1",
        "trioduct.endpoint": "web",
    }
    assert server.attributes == common | {
        "trioduct.node": "n1",
        "url.scheme": "http",
        "url.path": "/things/1",
        "server.address": "web.test",
        "server.port": 8000,
        "client.address": "127.0.0.1",
        "network.peer.address": "127.0.0.1",
    }
    assert attempt.attributes == common | {
        "trioduct.node": "n1",
        "trioduct.carrier": "websocket",
        "url.full": "http://web.test:8000/things/1",
        "server.address": "web.test",
        "server.port": 8000,
        "network.peer.address": "127.0.0.1",
    }
    assert agent.attributes == common | {
        "trioduct.carrier": "websocket",
        "url.full": f"http://127.0.0.1:{service}/things/1",
        "server.address": "127.0.0.1",
        "server.port": service,
    }
    assert server.resource["service.instance.id"] == "n1"


async def test_a_client_that_has_a_trace_goes_on_with_it(roles: Roles, collector: Collector) -> None:
    node = await tunnel(roles, collector, await roles.service(tell_head), sample=0)
    client = await roles.dial(node.proxy)
    told = (await client.ask(request(PARENT))).body
    server, _, agent = by_role(await collector.wait_for(3))
    assert (server.trace, server.parent) == (TRACE, SPAN)
    assert values_of(told, b"traceparent") == [f"00-{TRACE}-{agent.id}-01".encode()]
    assert values_of(told, b"tracestate") == [b"vendor=1"]


async def test_a_head_that_comes_again_is_another_trace(roles: Roles, collector: Collector) -> None:
    node = await tunnel(roles, collector, await roles.service(tell_head))
    client = await roles.dial(node.proxy)
    told = [(await client.ask(request())).body for _ in range(4)]
    spans = await collector.wait_for(12)
    assert len({span.trace for span in spans}) == 4
    parents = [values_of(head, b"traceparent")[0][3:35].decode() for head in told]
    assert sorted(parents) == sorted({span.trace for span in spans})


async def test_a_file_with_headers_is_read_again_when_it_has_changed(
    roles: Roles, collector: Collector, tmp_path: Path
) -> None:
    file = tmp_path / "headers"
    file.touch(mode=0o600)
    file.write_text("X-Key: one")
    config = traced_node(collector)
    config.tracing.headers_file = str(file)
    node = await roles.node(config)
    client = await roles.dial(node.proxy)
    for text, told in (("X-Key: one", b"one"), ("X-Key: another", b"another"), ("no header", b"another")):
        file.write_text(text)
        await client.ask(request())
        await collector.wait_asked(len(collector.heads) + 1)
        assert values_of(collector.heads[-1], b"x-key") == [told]


@pytest.mark.parametrize(
    ("fields", "sample"),
    [(b"", 0.0), (b"traceparent: 00-%b-%b-00\r\n" % (TRACE.encode(), SPAN.encode()), 1.0)],
)
async def test_what_is_not_sampled_goes_on_as_it_came(
    fields: bytes, sample: float, roles: Roles, collector: Collector
) -> None:
    node = await tunnel(roles, collector, await roles.service(tell_head), sample=sample)
    client = await roles.dial(node.proxy)
    told = (await client.ask(request(fields))).body
    assert values_of(told, b"traceparent") == values_of(request(fields), b"traceparent")
    await client.ask(request(PARENT))  # of which is told, behind the first
    assert {span.trace for span in await collector.wait_for(3)} == {TRACE}


async def test_a_node_that_traces_nothing_passes_a_trace_on_to_an_agent_that_does(
    roles: Roles, collector: Collector
) -> None:
    node = await roles.node()
    await roles.agent_with(traced_agent(collector, node.upstream, await roles.service(tell_head)))
    client = await roles.dial(node.proxy)
    told = (await client.ask(request(PARENT))).body
    (agent,) = await collector.wait_for(1)
    assert (agent.trace, agent.parent) == (TRACE, SPAN)
    assert values_of(told, b"traceparent") == [f"00-{TRACE}-{agent.id}-01".encode()]


async def test_an_agent_that_traces_nothing_passes_the_nodes_trace_on(roles: Roles, collector: Collector) -> None:
    node = await roles.node(traced_node(collector))
    await roles.agent(node, await roles.service(tell_head))
    client = await roles.dial(node.proxy)
    told = (await client.ask(request())).body
    server, attempt = await collector.wait_for(2)
    assert values_of(told, b"traceparent") == [f"00-{server.trace}-{attempt.id}-01".encode()]


async def test_traces_are_limited_in_number_whoever_wants_them(roles: Roles, collector: Collector) -> None:
    config = traced_node(collector)
    config.tracing.rate = 1  # so ten at once
    node = await roles.node(config)
    await roles.agent(node, await roles.service(tell_head))
    client = await roles.dial(node.proxy)
    told = [(await client.ask(request(PARENT if number % 2 else b""))).body for number in range(30)]
    traced = [head for head in told if SPAN.encode() not in head and b"traceparent" in head]
    assert 10 <= len(traced) <= 12
    assert len(await collector.wait_for(2 * len(traced))) == 2 * len(traced)


async def test_an_endpoint_that_nobody_has_is_an_error_of_the_node(roles: Roles, collector: Collector) -> None:
    node = await roles.node(traced_node(collector))
    client = await roles.dial(node.proxy)
    assert (await client.ask(request())).status == 502
    (server,) = await collector.wait_for(1)
    assert server.failed
    assert (server.attributes["http.response.status_code"], server.attributes["error.type"]) == (502, "502")


async def test_an_agent_whose_service_is_away_has_no_answer(roles: Roles, collector: Collector) -> None:
    node = await tunnel(roles, collector, 1)
    client = await roles.dial(node.proxy)
    assert (await client.ask(request())).status == 502
    server, attempt, agent = by_role(await collector.wait_for(3))
    assert server.failed
    assert attempt.failed
    assert attempt.attributes["error.type"] == "502"
    assert agent.failed
    assert agent.attributes["error.type"] == "no_answer"
    assert "http.response.status_code" not in agent.attributes


async def test_a_mistake_of_the_client_is_an_error_for_who_asked_only(roles: Roles, collector: Collector) -> None:
    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(answer(b"", status=b"404 Not Found"))

    node = await tunnel(roles, collector, await roles.service(serve))
    client = await roles.dial(node.proxy)
    assert (await client.ask(request())).status == 404
    server, attempt, agent = by_role(await collector.wait_for(3))
    assert (server.failed, attempt.failed, agent.failed) == (False, True, True)


async def test_a_client_that_leaves_is_told_of_as_such(roles: Roles, collector: Collector) -> None:
    asked = trio.Event()

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        asked.set()
        await trio.sleep_forever()

    node = await tunnel(roles, collector, await roles.service(serve))
    client = await roles.dial(node.proxy)
    await client.say(request())
    await asked.wait()
    await client.reset()
    server, attempt, agent = by_role(await collector.wait_for(3))
    assert {one.attributes["error.type"] for one in (server, attempt, agent)} == {"client_gone"}


async def test_a_request_that_is_sent_again_has_a_span_for_each_attempt(roles: Roles, collector: Collector) -> None:
    calls = 0

    async def serve(talk: Talk) -> None:
        nonlocal calls
        await talk.until(b"\r\n\r\n")
        calls += 1
        if calls == 1:
            agents[0].scope.cancel()  # the session is lost, before there is an answer
            await trio.sleep_forever()
        await talk.say(answer(b"hello"))

    service = await roles.service(serve)
    node = await roles.node(traced_node(collector))
    agents = [await roles.agent_with(traced_agent(collector, node.upstream, service)) for _ in range(2)]
    client = await roles.dial(node.proxy)
    while calls < 2:
        assert (await client.ask(request())).body == b"hello" or calls == 1
        if calls == 1 and not agents[0].scope.cancel_called:
            break
    spans = await collector.wait_for(4)
    attempts = [span for span in spans if span.kind == "client" and span.service == "trioduct-node"]
    again = [span for span in attempts if "http.request.resend_count" in span.attributes]
    (lost,) = [span for span in attempts if span.attributes.get("error.type") == "connection_lost"]
    assert again[0].attributes["http.request.resend_count"] == 1
    assert (again[0].trace, again[0].parent) == (lost.trace, lost.parent)


async def test_a_websocket_is_one_span_that_ends_with_it(roles: Roles, collector: Collector) -> None:
    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n")
        await echo(talk)

    node = await tunnel(roles, collector, await roles.service(serve))
    client = await roles.dial(node.proxy)
    await client.say(request(b"Connection: Upgrade\r\nUpgrade: other\r\n"))
    await client.until(b"\r\n\r\n")
    await client.say(b"four")
    assert await client.exactly(4) == b"four"
    assert collector.spans == []
    await client.finish()
    server, attempt, agent = by_role(await collector.wait_for(3))
    for span in (server, attempt, agent):
        assert not span.failed
        assert span.attributes["http.response.status_code"] == 101
        assert (span.attributes["http.request.body.size"], span.attributes["http.response.body.size"]) == (4, 4)


async def test_a_service_of_http2_has_spans_whichever_connection_they_wait_for(
    roles: Roles, collector: Collector
) -> None:
    said = traced_node(collector)
    said.proxy.http2 = True
    node = await roles.node(said)
    served = Served(streams=1)
    agent = traced_agent(collector, node.upstream, await roles.service(served.serve))
    agent.listeners[0].protocol = "h2"
    await roles.agent_with(agent)
    assert len(await ask_many(roles, node, 3)) == 3
    spans = await collector.wait_for(9)
    attempts = {span.id for span in spans if span.kind == "client" and span.service == "trioduct-node"}
    told = [span for span in spans if span.service == "trioduct-agent"]
    assert {span.parent for span in told} == attempts
    others = [span for span in spans if span.id not in attempts]
    assert {(span.kind, span.attributes["network.protocol.version"]) for span in others} == {
        ("server", "2"),
        ("client", "2"),
    }
    heads = [head[b"traceparent"].split(b"-")[2].decode() for head in served.heads]
    assert set(heads) == {span.id for span in told}


async def test_a_tcp_connection_through_a_forward_is_a_span_of_the_node(roles: Roles, collector: Collector) -> None:
    node = await roles.node(traced_node(collector))
    await roles.agent_with(agent_config(node.upstream, await roles.service(echo), endpoint="database", protocol="tcp"))
    forward = await roles.forward_with(forward_config(node.proxy, "database"))
    client = await roles.dial(forward.ports[0][1])
    await client.say(b"four")
    assert await client.exactly(4) == b"four"
    await client.close()
    (server,) = await collector.wait_for(1)
    assert (server.kind, server.attributes["trioduct.endpoint"]) == ("server", "database")
    assert server.attributes["http.request.body.size"] == 4


async def test_no_secret_is_told(roles: Roles, collector: Collector) -> None:
    jwt = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2lnbmF0dXJl"
    node = await tunnel(roles, collector, await roles.service(says(b"hello")))
    client = await roles.dial(node.proxy)
    line = b"M-SEARCH /share/%b/token=s3cret?key=s3cret HTTP/1.1" % jwt
    await client.ask(request(b"Authorization: Basic s3cret\r\nCookie: s3cret\r\n", line))
    for span in await collector.wait_for(3):
        assert "s3cret" not in str(span)
        assert "eyJ" not in str(span)
        assert (span.name, span.attributes["http.request.method"]) == ("HTTP", "_OTHER")
        assert span.attributes["http.request.method_original"] == "M-SEARCH"


async def test_access_logs_have_the_trace(roles: Roles, collector: Collector, written: Written, tmp_path: Path) -> None:
    of_node = traced_node(collector)
    of_node.proxy.access_log.disable = False
    node = await roles.node(of_node)
    of_agent = traced_agent(collector, node.upstream, await roles.service(says(b"hello")))
    of_agent.listeners[0].access_log.disable = False
    await roles.agent_with(of_agent)
    client = await roles.dial(node.proxy)
    assert (await client.ask(request())).body == b"hello"
    spans = await collector.wait_for(3)
    lines = written("proxy.access", "proxy.http.access")
    assert [line["trace_id"] for line in lines] == [spans[0].trace] * 2, json.dumps(lines)
    assert log.flush()


async def test_an_access_log_has_the_trace_of_a_client_that_is_not_sampled(
    roles: Roles, collector: Collector, written: Written
) -> None:
    config = traced_node(collector)
    config.proxy.access_log.disable = False
    node = await roles.node(config)
    await roles.agent(node, await roles.service(says(b"hello")))
    client = await roles.dial(node.proxy)
    await client.ask(request(PARENT.replace(b"-01\r\n", b"-00\r\n")))
    await client.ask(request(PARENT))
    await collector.wait_for(2)
    assert [line["trace_id"] for line in written("proxy.access")] == [TRACE] * 2


async def test_another_node_in_between_keeps_the_trace(roles: Roles, collector: Collector) -> None:
    cluster = Cluster(roles)
    first = await cluster.node("first", config=traced_node(collector))
    second = await cluster.node("second", config=traced_node(collector))
    await roles.agent_with(traced_agent(collector, second.upstream, await roles.service(tell_head)))
    client = await roles.dial(first.proxy)
    told = (await client.ask(request())).body
    server, attempt, agent = by_role(await collector.wait_for(3))
    assert (server.attributes["trioduct.node"], attempt.attributes["trioduct.peer"]) == ("first", "second")
    assert (attempt.parent, agent.parent) == (server.id, attempt.id)
    assert values_of(told, b"traceparent") == [f"00-{server.trace}-{agent.id}-01".encode()]


async def test_a_node_that_has_to_ask_for_a_password_tells_of_the_request_where_it_is_asked(
    roles: Roles, collector: Collector, tmp_path: Path
) -> None:
    htpasswd = tmp_path / "htpasswd"
    htpasswd.write_bytes(b"alice:%b\n" % HASH)
    cluster = Cluster(roles)
    first = await cluster.node("first", config=traced_node(collector))
    second = await cluster.node("second", config=traced_node(collector))
    config = traced_agent(collector, second.upstream, await roles.service(tell_head))
    config.listeners[0].visitors = VisitorsConfig(basic_auth_file=str(htpasswd))
    await roles.agent_with(config)
    client = await roles.dial(first.proxy)
    assert (await client.ask(request())).status == 401
    (refused,) = await collector.wait_for(1)
    assert refused.attributes["trioduct.node"] == "second"
    collector.spans.clear()
    told = await client.ask(request(b"Authorization: " + basic("alice", "secret") + b"\r\n" + PARENT))
    assert told.status == 200
    server, _, agent = by_role(await collector.wait_for(3))
    assert values_of(told.body, b"authorization") == []
    assert values_of(told.body, b"traceparent") == [f"00-{TRACE}-{agent.id}-01".encode()]
    assert (server.trace, server.parent) == (TRACE, SPAN)


async def test_tenants_are_named(roles: Roles, collector: Collector) -> None:
    config = traced_node(collector)
    config.upstream.tenants = [TenantConfig("acme", AuthConfig(hmac_secret_key=SECRET))]
    node = await roles.node(config)
    of_agent = agent_config(node.upstream, await roles.service(says(b"hello")))
    of_agent.connect.tenant_id = "acme"
    of_agent.connect.token = jwt.encode({}, SECRET, "HS256")
    await roles.agent_with(of_agent)
    client = await roles.dial(node.proxy)
    assert (await client.ask(request(b"x-piko-tenant-id: acme\r\n"))).body == b"hello"
    for span in await collector.wait_for(2):
        assert (span.attributes["trioduct.endpoint"], span.attributes["trioduct.tenant"]) == ("web", "acme")


async def test_metrics_say_what_became_of_spans_where_there_are_any(roles: Roles, collector: Collector) -> None:
    node = await roles.node(traced_node(collector))
    client = await roles.dial(node.proxy)
    await client.ask(request())
    await collector.wait_for(1)
    exported = ""
    while "trioduct_spans_exported_total 1.0" not in exported:
        _, exported = await get(node.admin, "/metrics")
    for reason in ("queue", "collector", "rejected"):
        assert f'trioduct_spans_dropped_total{{reason="{reason}"}} 0.0' in exported
    _, silent = await get((await roles.node()).admin, "/metrics")
    assert "trioduct_spans" not in silent


@pytest.mark.timeout(120)
async def test_workers_and_an_agent_of_their_own_processes_tell_of_what_passed_before_they_ended(
    programs: Programs, origin: int
) -> None:
    async with trio.open_nursery() as nursery:
        collector = await Collector().start(Roles(nursery))
        node = Node(programs, options=("--workers=2", f"--tracing.url={collector.url}", "--tracing.rate=0"))
        server = await node.start()
        await server.wait_line('"node started"')
        agent = await node.start_agent("web", origin, f"--tracing.url={collector.url}")
        await node.wait_registered("web", 2)
        for _ in range(20):
            stream = await trio.open_tcp_stream("127.0.0.1", node.proxy)
            async with stream:
                await stream.send_all(b"GET /mirror?answer=3 HTTP/1.0\r\nx-piko-endpoint: web\r\n\r\n")
                assert b" 200 " in b"".join([part async for part in stream])
        for program in (agent, server):
            assert await program.stop() == 0
        spans = await collector.wait_for(60)
        nursery.cancel_scope.cancel()
    assert len(spans) == 60
    served = {str(span.resource["service.instance.id"]) for span in spans if span.kind == "server"}
    assert {name[-2:] for name in served} == {".1", ".2"}
    traces = [[span for span in spans if span.trace == trace] for trace in {span.trace for span in spans}]
    assert [len(trace) for trace in traces] == [3] * 20
    for trace in traces:
        server_span, attempt, agent_span = by_role(trace)
        assert (attempt.parent, agent_span.parent) == (server_span.id, attempt.id)
