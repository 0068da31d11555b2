"""Faults of a cluster, each with what has to hold: `python -m tests.faults F3 F4a`."""

from __future__ import annotations

import json
import re
import signal
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import trio

from perf.probes.legs import ran_seconds
from tests.faults.alone import Alone
from tests.faults.bed import Bed, Mood, Way, ask, load, percentile
from tests.programs import get

ARRIVAL = re.compile(r'.*"ts":"(\S+\.\d)\d*Z".*"upstream connected"')  # in which tenth of a second


@dataclass
class Outcome:
    """What a fault did to the requests of others. `broken`: what should have held and did not; `late`: what did, but
    not in time, which on a machine with other work says little.
    """

    fault: str
    requests: int = 0
    failed: list[str] = field(default_factory=list)
    p50_ms: float = 0
    p99_ms: float = 0
    max_ms: float = 0
    told: dict[str, object] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)

    def expect(self, holds: bool, what: str) -> None:
        if not holds:
            self.broken.append(what)

    def expect_in_time(self, holds: bool, what: str) -> None:
        if not holds:
            self.late.append(what)

    def __str__(self) -> str:
        told = "".join(f"; {name} {value}" for name, value in self.told.items())
        figures = f"p50 {self.p50_ms:.1f} ms, p99 {self.p99_ms:.0f} ms, max {self.max_ms:.0f} ms"
        verdict = "; ".join(f"NOT {one}" for one in (*self.broken, *self.late)) or "holds"
        return f"{self.fault}: {self.requests} whole, {len(self.failed)} failed; {figures}{told}: {verdict}"


@asynccontextmanager
async def watched(
    bed: Bed | Alone, outcome: Outcome, *, port: int | None = None, clients: int = 4
) -> AsyncIterator[None]:
    """Requests with books while the block runs."""
    async with load(port or bed.clients, clients=clients, largest=20_000) as ledger:
        await ledger.wait_whole(50)
        del ledger.seconds[:]
        yield
    took = [seconds for _, seconds in ledger.seconds]
    outcome.requests, outcome.failed = ledger.whole, ledger.failed
    outcome.p50_ms, outcome.p99_ms = percentile(took, 0.5), percentile(took, 0.99)
    outcome.max_ms = max(took, default=0) * 1000


async def seconds_until(holds: Callable[[], Awaitable[bool]], at_most: float = 30, *, every: float = 0.01) -> float:
    since = trio.current_time()
    with trio.move_on_after(at_most):
        while not await holds():  # noqa: ASYNC110
            await trio.sleep(every)
    return trio.current_time() - since


async def endpoints(bed: Bed, index: int) -> set[str]:
    """Nodes that `index` knows, and that serve `web`."""
    status, body = await get(bed.nodes[index].admin, "/status/cluster/nodes")
    assert status == 200
    return {one["id"] for one in json.loads(body) if one["endpoints"]}


async def ready(bed: Bed, index: int) -> str:
    return (await get(bed.nodes[index].admin, "/ready"))[1]


async def agent_dies(bed: Bed, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F1: kill -9 of one of two agents."""
    outcome = Outcome("F1 kill -9 one of two agents")
    agents = [await bed.agent("web", index, "--connect.resume=0s") for index in (1, 2)]
    await bed.wait_served("web", [0, 1, 2])
    async with watched(bed, outcome, port=bed.nodes[0].proxy):
        await trio.sleep(seconds / 2)
        agents[0].process.kill()

        async def forgotten() -> bool:
            return [await endpoints(bed, index) for index in range(3)] == [{"n2"}] * 3

        outcome.told["route gone everywhere after s"] = round(gone := await seconds_until(forgotten), 2)
        await trio.sleep(seconds / 2)
    outcome.expect_in_time(gone <= 1, "route gone on all nodes within 1 s")
    outcome.expect(len(outcome.failed) <= 4, "only requests in flight fail")
    yield outcome


async def only_agent_dies(bed: Bed, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F2: kill -9 of the only agent, which is started again."""
    outcome = Outcome("F2 kill -9 the only agent, and start it again")
    agent = await bed.agent("web", 2, "--connect.resume=0s")
    await bed.wait_served("web", [0, 1, 2])
    async with watched(bed, outcome, port=bed.nodes[0].proxy):
        await trio.sleep(seconds / 2)
        agent.process.kill()

        async def gone() -> bool:
            return (await ask(bed.nodes[0].proxy, "web"))[0] == 502

        outcome.expect(await seconds_until(gone) < 30, "told of at last")
        asked = [await ask(bed.nodes[0].proxy, "web") for _ in range(20)]
        since = trio.current_time()
        agent = await bed.agent("web", 2, "--connect.resume=0s")
        await agent.wait_line('"connected"')
        connected = trio.current_time()
        await bed.wait_served("web", [0])
        back = trio.current_time()
        await trio.sleep(seconds / 2)
    outcome.told["502 within ms"] = round(max(took for _, took in asked) * 1000, 1)
    outcome.told["served again s after its process was started"] = round(back - since, 2)
    outcome.told["ms of that after it was connected"] = round((back - connected) * 1000)
    in_flight = [one for one in outcome.failed if ": 502 " not in one]
    outcome.expect(all(status == 502 for status, _ in asked), "502 while it is absent")
    outcome.expect(len(in_flight) <= 4, "all but requests in flight are told 502")
    outcome.expect_in_time(max(took for _, took in asked) <= 0.1, "told within 100 ms")
    outcome.expect_in_time(back - since <= 0.5, "served again within 500 ms")
    yield outcome


async def agent_dials_again(bed: Bed, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F24: an agent has lost its connection, its node has not heard of that, and the balancer sends it to any node."""
    outcome = Outcome("F24 an agent dials again while its old connection is half open")
    way = Way(bed.agents)
    took: list[float] = []
    async with trio.open_nursery() as nursery:
        await nursery.start(way.serve)
        await bed.agent("web", port=way.own)
        await bed.wait_served("web", [0, 1, 2])

        async def served() -> bool:
            return (await ask(bed.clients, "web"))[0] == 200

        async def fenced() -> bool:
            return way.ended == len(took)

        async with watched(bed, outcome):
            for _ in range(max(3, round(seconds * 2))):
                way.strand()
                took.append(await seconds_until(served))
                outcome.expect(await seconds_until(fenced) < 30, "its node has closed the old one")
        nursery.cancel_scope.cancel()
    outcome.told["times"] = len(took)
    outcome.told["served again after ms"] = round(max(took) * 1000)
    outcome.expect(not outcome.failed, "no request fails")
    outcome.expect_in_time(max(took) <= 0.1, "served again within 100 ms")
    yield outcome


async def node_dies(bed: Bed, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F3: kill -9 of a node that clients and agents are at."""
    outcome = Outcome("F3 kill -9 a node")
    for _ in range(6):
        await bed.agent("web")
    await bed.wait_served("web", [0, 1, 2])
    async with watched(bed, outcome):
        await trio.sleep(seconds / 2)
        bed.servers[1].process.kill()

        async def forgotten() -> bool:
            known = [json.loads((await get(bed.nodes[i].admin, "/status/cluster/nodes"))[1]) for i in (0, 2)]
            return all("n1" not in {one["id"] for one in nodes} for nodes in known)

        outcome.told["node forgotten after s"] = round(gone := await seconds_until(forgotten), 2)
        await trio.sleep(seconds / 2)
    outcome.told["failures"] = sorted({one.partition(": ")[2][:60] for one in outcome.failed})
    outcome.expect_in_time(gone <= 3, "dead routes gone within 3 s")
    outcome.expect(len(outcome.failed) <= 4, "only requests in flight through it fail")
    outcome.expect_in_time(outcome.max_ms <= 5000, "nobody waits for more than 5 s")
    await bed.restart_node(1)
    yield outcome


async def store_fails(bed: Bed, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F4a: the store dies, hangs, is emptied, is slow, while clients ask at a node that has no agent itself."""
    await bed.agent("web", 2)
    await bed.wait_served("web", [0, 1, 2])

    async def converged() -> bool:
        healthy = ["degraded" not in await ready(bed, index) for index in range(3)]
        return all(healthy) and all([await endpoints(bed, index) == {"n2"} for index in range(3)])

    async def phase(name: str, begin: Callable[[], Awaitable[None]], end: Callable[[], Awaitable[None]]) -> Outcome:
        outcome = Outcome(f"F4a store {name}")
        async with watched(bed, outcome, port=bed.nodes[0].proxy):
            await trio.sleep(1)
            await begin()
            await trio.sleep(seconds)
            outcome.told["/ready meanwhile"] = "degraded" if "degraded" in await ready(bed, 0) else "ready"
            await end()
            outcome.told["converged after s"] = round(took := await seconds_until(converged), 2)
        outcome.expect(not outcome.failed, "no request fails")
        outcome.expect_in_time(took <= 2.5, "all converges within 2 s of its return")
        return outcome

    async def nothing() -> None: ...

    async def send(number: int) -> None:
        assert bed.redis is not None
        bed.redis.process.send_signal(number)

    async def kill() -> None:
        await send(signal.SIGKILL)

    async def flush() -> None:
        async with await trio.open_tcp_stream("127.0.0.1", bed.redis_port) as stream:
            await stream.send_all(b"FLUSHALL\r\n")
            await stream.receive_some()

    async def be(mood: Mood) -> None:
        for way in bed.redis_ways:
            way.be(mood)

    yield await phase("quiet (nothing happens)", nothing, nothing)
    yield await phase("killed, and back empty", kill, bed.start_redis)
    yield await phase("stopped", lambda: send(signal.SIGSTOP), lambda: send(signal.SIGCONT))
    yield await phase("emptied", flush, nothing)
    yield await phase("200 ms slow", lambda: be(Mood.SLOW), lambda: be(Mood.CARRIES))


async def store_is_cut_off(bed: Bed, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F4b: one node does not reach the store, and what changes meanwhile is known when it does again."""
    outcome = Outcome("F4b one node is cut off from the store")
    agent = await bed.agent("web", 2)
    await bed.agent("other", 2)
    await bed.wait_served("other", [0])
    await bed.wait_served("web", [0])
    async with watched(bed, outcome, port=bed.nodes[1].proxy):
        bed.redis_ways[0].be(Mood.HANGS)
        await trio.sleep(seconds / 2)
        stale = [await ask(bed.nodes[0].proxy, "other") for _ in range(20)]
        outcome.expect({status for status, _ in stale} == {200}, "known routes go on at the node that is cut off")
        await bed.agent("new", 2)
        await bed.wait_served("new", [1])
        outcome.told["unknown there meanwhile"] = (await ask(bed.nodes[0].proxy, "new"))[0]
        await trio.sleep(seconds / 2)
        bed.redis_ways[0].be(Mood.CARRIES)

        async def healed() -> bool:
            return (await ask(bed.nodes[0].proxy, "new"))[0] == 200

        outcome.told["healed after s"] = round(took := await seconds_until(healed), 2)
    outcome.expect_in_time(took <= 4.5, "healed within 2 s, and the 2 s in which it waits for an answer")
    outcome.expect(not outcome.failed, "no request fails at the others")
    assert agent.process.poll() is None
    yield outcome


async def nodes_are_cut_off(bed: Bed, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F30: nodes reach the store, and one of them is not reached by the others."""
    outcome = Outcome("F30 a node is not reached by others")
    for index in (1, 2):
        await bed.agent("web", index)
    await bed.agent("only", 2)
    await bed.wait_served("only", [0, 1])
    await bed.wait_served("web", [0])
    async with watched(bed, outcome, port=bed.nodes[0].proxy):
        await trio.sleep(0.5)
        bed.links[2].be(Mood.REFUSES)
        await trio.sleep(0.1)
        asked = [await ask(bed.nodes[0].proxy, "only") for _ in range(20)]
        outcome.told["only there"] = sorted({status for status, _ in asked})
        outcome.told["told within ms"] = round(max(took for _, took in asked) * 1000)
        await trio.sleep(seconds)
        bed.links[2].be(Mood.CARRIES)

        async def healed() -> bool:
            return (await ask(bed.nodes[0].proxy, "only"))[0] == 200

        outcome.told["healed after s"] = round(await seconds_until(healed), 2)
    outcome.expect({status for status, _ in asked} == {502}, "502 where no other node serves it")
    outcome.expect_in_time(max(took for _, took in asked) <= 1, "told within 1 s")
    outcome.expect(len(outcome.failed) <= 4, "only requests in flight fail where another does")
    yield outcome


async def nodes_restart(bed: Bed, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F15: one node after the other is restarted, `seconds` / 4 times each, behind a balancer that asks /ready."""
    outcome = Outcome("F15 rolling restart")
    for _ in range(6):
        await bed.agent("web")
    await bed.wait_served("web", [0, 1, 2])
    restarts = 0
    async with watched(bed, outcome):
        for _ in range(max(1, round(seconds / 4))):
            for index in range(3):
                await bed.servers[index].stop()
                await bed.restart_node(index)
                restarts += 1
    outcome.told["restarts"] = restarts
    outcome.told["failures"] = sorted({one.partition(": ")[2][:60] for one in outcome.failed})
    outcome.expect(not outcome.failed, "no request fails")
    yield outcome


async def agents_lose_their_node(bed: Bed, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F16: a thousand agents for each of `seconds` are at one node, which is killed; all come to the others."""
    number = round(seconds) * 1000
    outcome = Outcome(f"F16 {number} agents lose their node")
    others, agents = (0, 1), []
    for index in others:  # so that all come to the third
        await bed.servers[index].stop()
    for first in range(0, number, 1000):
        listeners = "".join(
            f"  - {{endpoint_id: e{index}, addr: '{bed.origin}'}}\n" for index in range(first, first + 1000)
        )
        path = bed.folder / f"agents-{first}.yaml"
        path.write_text(
            f"connect: {{url: 'http://127.0.0.1:{bed.agents}', resume: 0s, timeout: 2m}}\nlisteners:\n{listeners}"
        )
        words = ("--config.path", path, "--log.level=error")
        agents.append(await bed.programs.start(bed.nodes[0].command, "agent", "start", *words))
    with trio.fail_after(120):
        while len(await bed.nodes[2].endpoints()) < number:  # noqa: ASYNC110
            await trio.sleep(0.2)
    for index in others:
        await bed.restart_node(index)
    at_work = [program.pid for program in (*agents, *(bed.servers[index] for index in others))]

    async def back() -> bool:
        return sum(map(len, [await bed.nodes[index].endpoints() for index in others])) == number

    waits: list[float] = []

    async def ask_for_health(port: int) -> None:
        while True:
            since = trio.current_time()
            await get(port, "/health")
            waits.append(trio.current_time() - since)
            await trio.sleep(0.05)

    async with trio.open_nursery() as nursery:
        for index in others:
            nursery.start_soon(ask_for_health, bed.nodes[index].admin)
        bed.servers[2].process.kill()
        worked = -sum(map(ran_seconds, at_work))
        took = await seconds_until(back, 60, every=0.25)  # what a node has to say is long
        worked += sum(map(ran_seconds, at_work))
        nursery.cancel_scope.cancel()
    arrivals = Counter(
        match[1] for index in others for line in bed.servers[index].lines if (match := ARRIVAL.match(line)) is not None
    )
    outcome.told["all back after s"] = round(took, 2)
    outcome.told["CPU s of nodes and agents"] = round(worked, 1)
    outcome.told["most in 100 ms"] = max(arrivals.values())
    outcome.told["p99 of /health ms"] = round(percentile(waits, 0.99))
    outcome.expect(took < 60, "all come back")
    outcome.expect_in_time(took <= 10, "within 10 s")
    outcome.expect_in_time(percentile(waits, 0.99) <= 250, "health within 250 ms")
    yield outcome


Fault = Callable[[Bed, float], AsyncGenerator[Outcome, None]]

FAULTS: dict[str, Fault] = {
    "F1": agent_dies,
    "F2": only_agent_dies,
    "F3": node_dies,
    "F4a": store_fails,
    "F4b": store_is_cut_off,
    "F15": nodes_restart,
    "F16": agents_lose_their_node,
    "F24": agent_dials_again,
    "F30": nodes_are_cut_off,
}
