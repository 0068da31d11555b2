"""Faults of the network between an agent and its node, and of what stands there: F5, F6, F7, F9, F27, F28.

They happen to the loopback device of a namespace, in which everything of a fault runs (see alone.py). This machine's
kernel has no netem, so packets are dropped and slowed down, and not delayed or put out of order.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from enum import Enum, auto
from pathlib import Path

import psutil
import trio

from tests.faults.alone import Alone, rules, run
from tests.faults.bed import Mood, Way, ask, load, percentile
from tests.faults.cluster import Outcome, seconds_until, watched
from tests.programs import Program, free_port
from tests.roles import Talk, answer

PINGS_SECONDS = 30  # a ping every 20 s, and 10 s for its answer


def near_ends(agent: Program, port: int) -> list[int]:
    """The ports of an agent's own from which it is connected to `port`."""
    found = psutil.Process(agent.pid).net_connections(kind="tcp")
    return [one.laddr.port for one in found if one.raddr and one.raddr.port == port and one.status == "ESTABLISHED"]


async def link_is_half_open(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F5: every packet of the agent's connection is dropped, both ways, as by a firewall that has forgotten it; new
    connections get through. Without and with resumption.
    """
    await alone.start()
    for resume in ("0s", "30s"):
        outcome = Outcome(f"F5 packets of the agent's connection are dropped, resume {resume}")
        agent = await alone.agent(f"--connect.resume={resume}")
        port = alone.node.upstream
        (old,) = near_ends(agent, port)
        since = trio.current_time()
        async with watched(alone, outcome):
            with rules(port, "drop", more=f"tcp PEER {old}"):
                since = trio.current_time()

                async def dialled(agent: Program = agent, old: int = old) -> bool:
                    return bool(set(near_ends(agent, alone.node.upstream)) - {old})

                outcome.told["dialled anew after s"] = round(await seconds_until(dialled, 2 * PINGS_SECONDS), 1)

                async def served() -> bool:
                    with trio.move_on_after(1):
                        return (await ask(alone.clients, "web"))[0] == 200
                    return False

                await seconds_until(served, 2 * PINGS_SECONDS)
                outcome.told["served again after s"] = round(took := trio.current_time() - since, 1)
                await trio.sleep(seconds)
            await trio.sleep(max(3, seconds))  # what is sent again of the old connection gets through now
        outcome.told["failures"] = sorted({one.partition(": ")[2][:60] for one in outcome.failed})
        outcome.expect(took < 2 * PINGS_SECONDS, "it is noticed")
        outcome.expect_in_time(took <= PINGS_SECONDS + 3, "within a ping and its answer")
        # Those under way and, until it is noticed, one more for each client that has lost one.
        outcome.expect(len(outcome.failed) <= 8, "only requests under way fail")
        outcome.expect(await alone.node.endpoints() == {"web": 1}, "one session, and the old one stays gone")
        if resume != "0s":
            outcome.expect(not outcome.failed, "with resumption none fails")
        await agent.stop()
        await alone.node.wait_registered("web", 0)
        yield outcome


SQUID = """
http_port 127.0.0.1:{port}
acl CONNECT method CONNECT
http_access allow all
visible_hostname proxy.test
pid_filename none
cache_log {folder}/squid.log
coredump_dir {folder}
pinger_enable off
shutdown_lifetime 0 seconds
cache deny all
cache_mem 8 MB
max_filedescriptors 2048
netdb_filename none
logfile_rotate 0
access_log none
read_timeout {read} seconds
client_lifetime {lifetime} seconds
"""


async def squid(alone: Alone, read: int, lifetime: int) -> int:
    """The port of a squid with these timers."""
    port = free_port()
    alone.folder.chmod(0o777)  # it becomes another user
    config = alone.folder / f"squid-{port}.conf"
    config.write_text(SQUID.format(port=port, folder=alone.folder, read=read, lifetime=lifetime))
    await alone.programs.start("squid", "-N", "-n", f"t{port}", "-f", config, port=port)
    return port


async def proxy_cuts(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F6: a proxy cuts what is silent, and what has lasted."""
    read = max(3, min(15, round(seconds / 4)))
    outcome = Outcome(f"F6 squid cuts what is silent for {read} s")
    way = Way(alone.node.upstream)
    await alone.nursery.start(way.serve)
    await alone.start()
    port = await squid(alone, read, 3600)
    url = f"--connect.url=http://127.0.0.1:{way.own}"
    agent = await alone.agent(url, f"--connect.proxy.url=http://127.0.0.1:{port}")
    outcome.told["learned in s"] = round(await learned(way, 3 * read, 20 * read), 1)
    before = way.connections
    await trio.sleep(max(seconds, 3 * read))
    outcome.told |= {"connections until then": before, "since then": way.connections - before}
    outcome.expect(way.connections == before, "it is not cut again, once the agent has learned when to ping")
    await agent.stop()
    yield outcome

    lifetime = max(3, min(60, round(seconds / 2)))
    outcome = Outcome(f"F6 squid cuts what has lasted for {lifetime} s")
    port = await squid(alone, 3600, lifetime)
    await alone.agent(url, f"--connect.proxy.url=http://127.0.0.1:{port}")
    before = way.connections
    async with watched(alone, outcome):
        await trio.sleep(2.5 * lifetime)
    outcome.told["connections"] = way.connections - before
    outcome.expect(not outcome.failed, "no request fails")
    yield outcome


async def learned(way: Way, quiet: float, at_most: float) -> float:
    """Seconds until no connection has come for `quiet` seconds."""
    begun = last = trio.current_time()
    count = way.connections
    while trio.current_time() - last < quiet and trio.current_time() - begun < at_most:
        await trio.sleep(0.2)
        if way.connections != count:
            count, last = way.connections, trio.current_time()
    return last - begun


async def proxy_dies(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F7: the proxy is killed, with all tunnels, and comes back."""
    number, absent = min(200, round(40 * seconds)), min(5.0, seconds)
    outcome = Outcome(f"F7 a proxy with {number} tunnels is killed, and is back after {absent:g} s")
    await alone.start()
    port = free_port()

    async def microsocks() -> Program:
        return await alone.programs.start("microsocks", "-i", "127.0.0.1", "-p", str(port), port=port)

    proxy = await microsocks()
    await alone.agents(number, 1, f"--connect.proxy.url=socks5h://127.0.0.1:{port}")
    async with load(alone.clients, clients=4, largest=20_000, endpoint="e0") as ledger:
        await ledger.wait_whole(20)
        proxy.process.kill()
        await proxy.wait_end()
        await trio.sleep(absent)
        outcome.told["sessions meanwhile"] = sum((await alone.node.endpoints()).values())
        await microsocks()

        async def back() -> bool:
            suspended = await alone.number("trioduct_sessions_suspended")
            return not suspended and sum((await alone.node.endpoints()).values()) == number

        outcome.told["all back after s"] = round(took := await seconds_until(back, 60), 2)
        await ledger.wait_whole(20)
    outcome.requests, outcome.failed = ledger.whole, ledger.failed
    outcome.expect(took < 60, "all come back")
    outcome.expect_in_time(took <= 5, "within 5 s")
    outcome.expect(not outcome.failed, "requests wait for it, and none fails")
    yield outcome


# DNS --------------------------------------------------------------------------------------------------------


class Names(Enum):
    """What a name server does."""

    ANSWERS = auto()
    UNKNOWN = auto()  # NXDOMAIN
    SILENT = auto()
    SLOW = auto()


class NameServer:
    """It knows one address, for every name."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.mood = Names.ANSWERS
        self.slow_seconds = 30.0
        self.asked = 0
        self._socket = trio.socket.socket(type=socket.SOCK_DGRAM)

    async def serve(self, task_status: trio.TaskStatus[None]) -> None:
        with self._socket:
            await self._socket.bind(("127.0.0.1", 53))
            task_status.started()
            async with trio.open_nursery() as nursery:
                while True:
                    query, client = await self._socket.recvfrom(4096)
                    self.asked += 1
                    nursery.start_soon(self._answer, query, client)

    async def _answer(self, query: bytes, client: tuple[str, int]) -> None:
        mood = self.mood
        if mood is Names.SILENT:
            return
        if mood is Names.SLOW:
            await trio.sleep(self.slow_seconds)
        await self._socket.sendto(self._message(query, mood), client)

    def _message(self, query: bytes, mood: Names) -> bytes:
        """RFC 1035, 4: the header, the question as it came, and an address if it is one of IPv4 that was asked for."""
        end = query.index(0, 12) + 5
        wants_ipv4 = query[end - 4 : end - 2] == b"\0\1"
        answers = int(wants_ipv4 and mood is not Names.UNKNOWN)
        flags = 0x8183 if mood is Names.UNKNOWN else 0x8180
        head = query[:2] + struct.pack("!5H", flags, 1, answers, 0, 0)
        record = struct.pack("!3HIH", 0xC00C, 1, 1, 0, 4) + socket.inet_aton(self.address)
        return head + query[12:end] + record * answers


@contextmanager
def resolver(folder: Path) -> Iterator[None]:
    """This namespace asks 127.0.0.1."""
    file = folder / "resolv.conf"
    file.write_text("nameserver 127.0.0.1\noptions timeout:2 attempts:1\n")
    run("mount", "--bind", file, "/etc/resolv.conf")
    try:
        yield
    finally:
        run("umount", "/etc/resolv.conf")


async def names_fail(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F9: the name server knows nothing, is silent, is slow; the node moves. Then the connection is cut."""
    with resolver(alone.folder):
        names = NameServer("127.0.0.1")
        names.slow_seconds = min(30, 3 * seconds)
        await alone.nursery.start(names.serve)
        old = Way(alone.node.upstream)
        new = Way(alone.node.upstream, host="127.0.0.2", own=old.own)
        for way in (old, new):
            await alone.nursery.start(way.serve)
        await alone.start()
        await alone.agent(endpoint="other")
        for mood in (Names.UNKNOWN, Names.SILENT, Names.SLOW, Names.ANSWERS):
            what = "has a new address" if mood is Names.ANSWERS else f"is {mood.name.lower()}"
            outcome = Outcome(f"F9 the name server {what}")
            # One for each: who loses session after session waits longer and longer before the next.
            agent = await alone.agent(f"--connect.url=http://node.test:{old.own}", "--connect.resume=0s")
            names.mood = mood
            async with watched(alone, outcome):  # by the tunnel that is there
                await trio.sleep(seconds)
            outcome.expect(not outcome.failed, "a tunnel that runs needs no names")
            old.be(Mood.REFUSES)
            await alone.node.wait_registered("web", 0)
            if mood is Names.ANSWERS:
                names.address = "127.0.0.2"
            else:
                await trio.sleep(seconds)
                outcome.told["other tunnel meanwhile"] = (await ask(alone.clients, "other"))[0]
                names.mood = Names.ANSWERS
                old.be(Mood.CARRIES)

            async def served() -> bool:
                return (await ask(alone.clients, "web"))[0] == 200

            outcome.told["served again s after that"] = round(took := await seconds_until(served, 60), 2)
            outcome.expect(took < 60, "it comes back")
            # A lookup that has begun ends by the resolver's own time, 2 s for each of two kinds of address.
            patience = 0 if mood in (Names.ANSWERS, Names.UNKNOWN) else 4
            outcome.expect_in_time(took <= 2 + patience, "within 2 s")
            await agent.stop()
            await alone.node.wait_registered("web", 0)
            yield outcome


# Bad lines --------------------------------------------------------------------------------------------------


async def packets_are_lost(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F27: 2 % of the packets between agent and node, each way."""
    outcome = Outcome("F27 2 % of the packets are lost, each way")
    await alone.start()
    agent = await alone.agent()
    before = near_ends(agent, alone.node.upstream)
    with rules(alone.node.upstream, "numgen random mod 100 < 2 drop"):
        async with watched(alone, outcome):
            await trio.sleep(seconds)
    outcome.expect(not outcome.failed, "every request is whole")
    outcome.expect(near_ends(agent, alone.node.upstream) == before, "on the connection that there was")
    yield outcome


async def line_is_full(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F28: one stream fills a line of 1 Mbit/s, on which others have small requests."""
    outcome = Outcome("F28 a line of 1 Mbit/s that one stream fills")

    async def serve(talk: Talk) -> None:
        head = await talk.until(b"\r\n\r\n")
        if b"/mirror" in head:
            await talk.say(answer(b"small"))
            return
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
        while True:
            await talk.say(bytes(1 << 14))

    way = Way(alone.node.upstream, narrow=True)
    await alone.nursery.start(way.serve)
    await alone.start()
    service = await alone.roles.service(serve)
    await alone.agent(f"--connect.url=http://127.0.0.1:{way.own}", service=service)
    lasts = max(12, seconds)
    took: list[float] = []
    moved = 0

    async def bulk() -> None:
        nonlocal moved
        async with await trio.open_tcp_stream("127.0.0.1", alone.clients) as stream:
            await stream.send_all(b"GET / HTTP/1.1\r\nHost: a\r\nx-piko-endpoint: web\r\n\r\n")
            while data := await stream.receive_some(65536):
                moved += len(data)

    async def small() -> None:
        while True:
            status, lasted = await ask(alone.clients, "web")
            took.append(lasted)
            if status != 200:
                outcome.failed.append(str(status))
            await trio.sleep(0.1)

    with trio.move_on_after(lasts):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(bulk)
            await trio.sleep(2)
            nursery.start_soon(small)
    outcome.requests = len(took)
    outcome.p50_ms, outcome.p99_ms, outcome.max_ms = (
        percentile(took, 0.5),
        percentile(took, 0.99),
        max(took, default=lasts) * 1000,
    )
    outcome.told["bulk KiB/s"] = round(moved / lasts / 1024)
    outcome.expect(not outcome.failed, "every request is answered")
    outcome.expect(way.connections == 1, "no ping is given up")
    outcome.expect(moved > 0, "and what fills it moves")
    outcome.expect_in_time(outcome.p99_ms <= 3000, "small requests within 3 s")
    yield outcome


FAULTS = {
    "F5": link_is_half_open,
    "F6": proxy_cuts,
    "F7": proxy_dies,
    "F9": names_fail,
    "F27": packets_are_lost,
    "F28": line_is_full,
}
