"""Faults of the machine that a node or an agent runs on: F8, F10, F11, F13, F14, F25, F26, F29."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import jwt
import trio

from tests.faults.alone import Alone, cpu_share, descriptors, more_descriptors, run
from tests.faults.bed import ask, load, percentile
from tests.faults.cluster import Outcome, seconds_until, watched
from tests.programs import Program, free_port, get
from tests.roles import Talk

SECRET = "a secret of thirty-two characters and more"
REGISTER = (
    "GET /piko/v1/upstream/web HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nAuthorization: Bearer {token}\r\n\r\n"
)


def faked() -> dict[str, str]:
    """What makes a program ask libfaketime for the time of day."""
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketime.so.1")
    return {"LD_PRELOAD": str(library), "FAKETIME_DONT_FAKE_MONOTONIC": "1"}


async def clock_is_wrong(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F8: the node's clock is ahead or behind, and jumps by an hour, either way, under load."""
    outcome = Outcome("F8 the node's clock is wrong")
    now = time.time()
    tokens = {"exp in 60 s": {"exp": now + 60}, "nbf now": {"nbf": now, "exp": now + 3600}}
    wanted = {("+0s", "exp in 60 s"): 101, ("+50s", "exp in 60 s"): 101, ("+61s", "exp in 60 s"): 401}
    wanted |= {("+0s", "nbf now"): 101, ("-61s", "nbf now"): 401, ("-61s", "exp in 60 s"): 101}
    for offset in sorted({offset for offset, _ in wanted}):
        env = {"TRIODUCT_UPSTREAM_AUTH_HMAC_SECRET_KEY": SECRET, "FAKETIME": offset}
        node = await alone.start(env=env | faked())
        for (when, name), status in wanted.items():
            if when == offset:
                talk = await alone.roles.dial(alone.node.upstream)
                await talk.say(REGISTER.format(token=jwt.encode(tokens[name], SECRET)).encode())
                got = int((await talk.until(b"\r\n\r\n"))[9:12])
                outcome.told[f"{name}, {offset}"] = got
                outcome.expect(got == status, f"{status} for a token with {name} where the clock is off by {offset}")
                await talk.close()
        await node.stop(signal.SIGKILL)
    yield outcome

    outcome = Outcome("F8 the node's clock jumps by an hour, either way")
    clock = alone.folder / "clock"
    clock.write_text("+0")
    node = await alone.start(env={"FAKETIME_TIMESTAMP_FILE": str(clock), "FAKETIME_NO_CACHE": "1"} | faked())
    agent = await alone.agent()
    async with watched(alone, outcome):
        for offset in ("+3600", "+0", "-3600", "+0"):
            clock.write_text(offset)
            await trio.sleep(seconds / 4)
    idle = await cpu_share(node.pid, max(2, seconds / 4))
    outcome.told["CPU of the node then"] = f"{idle:.0%}"
    outcome.expect(not outcome.failed, "no request fails")
    outcome.expect("lost" not in agent.text, "no session ends")
    outcome.expect(idle < 0.5, "nothing is busy for nothing")
    yield outcome


async def descriptors_run_out(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F10: 256 descriptors and 1 000 connections; then accept4 that fails with EMFILE."""
    number = 1000
    more_descriptors(4 * number)
    node = await alone.start(around=("prlimit", "--nofile=256:256"))
    await alone.agent()
    outcome = Outcome(f"F10 256 descriptors, {number} connections")
    held = await _connections(alone, number)
    await _full(alone, node, outcome, seconds)
    for talk in held:
        await talk.close()
    await _accepts_again(alone, outcome)
    outcome.expect(node.process.poll() is None, "it does not exit")
    yield outcome

    outcome = Outcome("F10 accept4 fails with EMFILE")
    command = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=accept4", "-e", "inject=accept4:error=EMFILE")
    strace = await alone.programs.start(*command, "-p", str(node.pid))
    await trio.sleep(0.5)
    held = await _connections(alone, 10)
    outcome.told["CPU meanwhile"] = f"{(share := await cpu_share(node.pid, max(1, seconds))):.0%}"
    outcome.expect(share <= 0.3, "it does not try again and again")  # with what strace costs
    await strace.stop(signal.SIGINT)
    await _accepts_again(alone, outcome)
    for talk in held:
        await talk.close()
    outcome.expect(node.process.poll() is None, "it does not exit")
    yield outcome


async def _connections(alone: Alone, number: int) -> list[Talk]:
    return [await alone.roles.dial(alone.clients) for _ in range(number)]


async def _full(alone: Alone, node: Program, outcome: Outcome, seconds: float) -> None:
    """Health answers, and the processor is not busy with what cannot be had."""
    async with trio.open_nursery() as nursery:
        slowest = 0.0

        async def health() -> None:
            nonlocal slowest
            while True:
                since = trio.current_time()
                status, _ = await get(alone.node.admin, "/health")
                outcome.expect(status == 200, "health answers")
                slowest = max(slowest, trio.current_time() - since)
                await trio.sleep(0.2)

        nursery.start_soon(health)
        share = await cpu_share(node.pid, max(1, seconds))
        nursery.cancel_scope.cancel()
    outcome.told |= {"CPU meanwhile": f"{share:.0%}", "health within ms": round(slowest * 1000)}
    outcome.expect_in_time(share <= 0.2, "a fifth of a core at most")


async def _accepts_again(alone: Alone, outcome: Outcome) -> None:
    async def served() -> bool:
        with trio.move_on_after(1):
            return (await ask(alone.clients, "web"))[0] == 200
        return False

    outcome.told["served again after s"] = round(took := await seconds_until(served), 2)
    outcome.expect(took < 30, "it accepts again")
    outcome.expect_in_time(took <= 1, "within 1 s")


@asynccontextmanager
async def memory_of(mebibytes: int) -> AsyncIterator[tuple[str, ...]]:
    """A cgroup with so much memory: the words in front of a command that put it there."""
    group = Path(f"/sys/fs/cgroup/memory/trioduct-{os.getpid()}")
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(mebibytes << 20))
        yield "sh", "-c", f'echo $$ > {group}/tasks && exec "$@"', "sh"
    finally:
        with trio.CancelScope(shield=True), trio.move_on_after(5):
            while (group / "tasks").read_text():  # noqa: ASYNC110
                await trio.sleep(0.05)
        group.rmdir()


async def memory_is_short(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F11: 256 MiB, and clients that read 10 bytes a second of answers of 10 MiB."""
    readers = min(500, round(50 * seconds))
    outcome = Outcome(f"F11 256 MiB and {readers} clients that hardly read")
    more_descriptors(8 * readers)

    moved = 0

    async def large(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (10 << 20))
        for _ in range(160):
            await talk.say(bytes(1 << 16))
            nonlocal moved
            moved += 1
        await talk.finish()

    async with memory_of(256) as around:
        node = await alone.start("--proxy.http.write-timeout=0", around=around)
        await alone.agent()
        await alone.agent(endpoint="large", service=await alone.roles.service(large))
        calm = Outcome("")
        async with watched(alone, calm):
            await trio.sleep(min(5, seconds))

        async def read() -> None:
            talk = await alone.roles.dial(alone.clients, buffer=4096)
            await talk.say(b"GET / HTTP/1.1\r\nHost: a\r\nx-piko-endpoint: large\r\n\r\n")
            while True:
                await talk.exactly(10)
                await trio.sleep(1)

        async with trio.open_nursery() as nursery:
            for _ in range(readers):
                nursery.start_soon(_or_end, read)
            before = -1
            while moved > before:  # until all buffers on the way are full
                before = moved
                await trio.sleep(1)
            async with watched(alone, outcome):
                await trio.sleep(seconds)
            nursery.cancel_scope.cancel()
        outcome.expect(node.process.poll() is None, "it is not killed")
        outcome.told["most memory MiB"] = round(node.peak_kib() / 1024)
        outcome.told["p99 before"] = f"{calm.p99_ms:.0f} ms"
        outcome.expect(not outcome.failed, "no request of others fails")
        outcome.expect_in_time(outcome.p99_ms <= 2 * calm.p99_ms, "twice their p99")
        await node.stop(signal.SIGKILL)
    yield outcome


async def _or_end(read: Callable[[], Awaitable[None]]) -> None:
    try:
        await read()
    except (EOFError, trio.BrokenResourceError):
        pass


async def tunnels_are_many(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F13: idle tunnels, and a request in one of them now and then."""
    number = min(10_000, round(200 * seconds))
    more_descriptors(20_000)
    outcome = Outcome(f"F13 {number} idle tunnels")
    node = await alone.start("--upstream.limits.registrations=0", "--upstream.limits.sessions=0")
    few = await alone.agents(10, 1)

    async def asked(endpoints: int) -> list[float]:
        took = []
        for _ in range(200):
            status, lasted = await ask(alone.clients, f"e{random.randrange(endpoints)}")
            took.append(lasted)
            if status != 200:
                outcome.failed.append(str(status))
        return took

    calm = await asked(10)
    for agent in few:
        await agent.stop()
    await alone.node.wait_registered("e0", 0)
    before = node.resident_kib()
    with trio.fail_after(300):
        agents = await alone.agents(number, 4)
    await trio.sleep(2)
    each = (node.resident_kib() - before) / number
    idle = await cpu_share(node.pid, max(5, seconds))
    took = await asked(number)
    outcome.requests = len(took)
    outcome.p50_ms, outcome.p99_ms, outcome.max_ms = percentile(took, 0.5), percentile(took, 0.99), max(took) * 1000
    outcome.told |= {"KiB of the node for each": round(each, 1), "its CPU when idle": f"{idle:.1%}"}
    outcome.told["p99 of ten tunnels"] = f"{percentile(calm, 0.99):.1f} ms"
    outcome.expect(not outcome.failed, "every request is answered")
    outcome.expect(len(await alone.node.endpoints()) == number, "all are there")
    outcome.expect(not any("lost" in agent.text for agent in agents), "none was lost")
    outcome.expect(number < 500 or each <= 40, "40 KiB for each")
    outcome.expect_in_time(idle <= 0.03, "3 % of a core")
    outcome.expect_in_time(outcome.p99_ms <= 1.5 * percentile(calm, 0.99), "1.5 times the p99 of ten")
    yield outcome


NGINX = """
daemon off; master_process off; pid {folder}/nginx.pid; error_log stderr;
events {{ worker_connections 1024; }}
http {{
    access_log off; default_type text/plain; keepalive_requests 100000000;
    client_body_temp_path {folder}/1; proxy_temp_path {folder}/2; fastcgi_temp_path {folder}/3;
    uwsgi_temp_path {folder}/4; scgi_temp_path {folder}/5;
    server {{ listen 127.0.0.1:{port}; location / {{ return 200 "$request_uri $http_x_request_id"; }} }}
}}
"""


async def it_goes_on_for_long(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F14: as many requests as there is time for; each answer has the name of its request. Nothing grows."""
    outcome = Outcome(f"F14 requests for {seconds:g} s")
    service = free_port()
    config = alone.folder / "nginx.conf"
    config.write_text(NGINX.format(folder=alone.folder, port=service))
    await alone.programs.start("nginx", "-e", "stderr", "-p", alone.folder, "-c", config, port=service)
    node = await alone.start()
    agent = await alone.agent(service=service)
    programs = {"node": node, "agent": agent}
    took: list[float] = []
    most = 100_000

    async def client(number: int) -> None:
        talk = await alone.roles.dial(alone.clients)
        for index in range(1 << 60):
            name = f"{number}-{index}"
            head = f"GET /{name} HTTP/1.1\r\nHost: a\r\nx-piko-endpoint: web\r\nX-Request-Id: {name}\r\n\r\n"
            since = trio.current_time()
            answer = await talk.ask(head.encode())
            if answer.status != 200 or answer.body != f"/{name} {name}".encode():
                outcome.failed.append(f"{name}: {answer}")
            outcome.requests += 1
            if len(took) < most:
                took.append(trio.current_time() - since)

    before: dict[str, tuple[int, int]] = {}

    def sizes() -> dict[str, tuple[int, int]]:
        return {name: (one.resident_kib(), descriptors(one.pid)) for name, one in programs.items()}

    with trio.move_on_after(seconds):
        async with trio.open_nursery() as nursery:
            for number in range(16):
                nursery.start_soon(client, number)
            await trio.sleep(seconds / 10)
            before = sizes()
            outcome.told["requests at the first look"] = outcome.requests
    after = sizes()
    for name in programs:
        grown = after[name][0] - before[name][0]
        outcome.told[f"{name} grew by KiB"] = grown
        outcome.expect(grown <= 2048, f"the {name} grows by 2 MiB at most")
        outcome.expect(after[name][1] <= before[name][1], f"the {name} has no more descriptors")
    outcome.told["failures"] = outcome.failed[:2]
    outcome.p50_ms, outcome.p99_ms, outcome.max_ms = percentile(took, 0.5), percentile(took, 0.99), max(took) * 1000
    outcome.expect(not outcome.failed, "none fails")
    outcome.expect(not await alone.number("trioduct_internal_errors_total"), "no defect is counted")
    yield outcome


async def programs_are_stopped(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F25: SIGSTOP and SIGCONT of the agent, then of the node."""
    stopped = min(25.0, seconds)  # the ledger takes 30 s for never
    node = await alone.start()
    agent = await alone.agent()
    for name, program in (("agent", agent), ("node", node)):
        outcome = Outcome(f"F25 the {name} is stopped for {stopped:g} s, and goes on")
        async with load(alone.clients, clients=4, largest=200_000) as ledger:
            await ledger.wait_whole(20)
            program.process.send_signal(signal.SIGSTOP)
            await trio.sleep(stopped)
            program.process.send_signal(signal.SIGCONT)
            await ledger.wait_whole(20)
        outcome.requests, outcome.failed = ledger.whole, ledger.failed
        outcome.told["failures"] = sorted({one.partition(": ")[2][:60] for one in outcome.failed})
        outcome.expect(len(outcome.failed) <= 8, "each ends whole, and few failed, once")
        outcome.expect(await alone.node.endpoints() == {"web": 1}, "there is one session")
        yield outcome


async def logs_go_nowhere(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F26: nobody reads the pipe of the log; its disk is full."""
    alone.node.options = ("--grace-period=20s",)  # with the access log
    pipe, full = alone.folder / "pipe", alone.folder / "full"
    os.mkfifo(pipe)
    full.mkdir()
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)  # which reads nothing
    run("mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", full)
    calm = 0.0
    try:
        places = {"goes to /dev/null": Path("/dev/null"), "goes to a pipe": pipe, "goes to a full disk": full / "log"}
        for name, file in places.items():
            outcome = Outcome(f"F26 the node's log {name}")
            node = await alone.start(around=("sh", "-c", f'exec "$@" >{file} 2>&1', "sh"))
            await alone.agent()
            rate = await _requests(alone, max(2, seconds))
            async with watched(alone, outcome):
                await trio.sleep(seconds)
            dropped = await alone.number("trioduct_log_lines_dropped_total")
            outcome.told |= {"requests/s of wrk": rate, "lines dropped": dropped}
            outcome.expect(not outcome.failed, "no request fails")
            outcome.expect(
                bool(dropped) == (file != Path("/dev/null")), "what cannot be written is dropped, and counted"
            )
            calm = calm or outcome.p99_ms
            outcome.expect_in_time(outcome.p99_ms <= 1.2 * calm, "1.2 times the p99")
            yield outcome
            outcome = Outcome(f"F26 the node stops, whose log {name}")
            since = trio.current_time()
            outcome.expect(await node.stop() == 0, "exit code 0")
            outcome.told["after s"] = round(trio.current_time() - since, 2)
            yield outcome
    finally:
        os.close(reader)
        run("umount", "-l", full)


async def _requests(alone: Alone, seconds: float) -> float:
    """As many as wrk makes, a second."""
    url = f"http://127.0.0.1:{alone.clients}/"
    fields = ("-H", "x-piko-endpoint: nobody")  # each is a line at once
    wrk = await alone.programs.start("wrk", "-t1", "-c8", f"-d{round(seconds)}", *fields, url)
    await wrk.wait_end()
    return float(wrk.text.partition("Requests/sec:")[2].split()[0])


ERRORS = ("ECONNRESET", "EPIPE", "ENOBUFS", "EIO")


async def calls_fail(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F29: one of a hundred calls of a program's sockets fails, by what strace does to them."""
    node = await alone.start()
    agent = await alone.agent("--connect.resume=0s")
    for name, program in (("node", node), ("agent", agent)):
        for error in ERRORS:
            outcome = Outcome(f"F29 calls of the {name} fail with {error}")
            async with load(alone.clients, clients=4, largest=50_000) as ledger:
                await ledger.wait_whole(20)
                strace = await alone.programs.start(*_injecting(error, program.pid))
                await trio.sleep(max(1, seconds / 4))
                await strace.stop(signal.SIGINT)
                before = ledger.whole
                await ledger.wait_whole(20)
                outcome.told["whole meanwhile"] = before
            outcome.requests, outcome.failed = ledger.whole, ledger.failed
            outcome.expect(program.process.poll() is None, "it does not end")
            outcome.expect(not await alone.number("trioduct_internal_errors_total"), "nothing is counted as a defect")
            yield outcome


def _injecting(error: str, pid: int) -> Sequence[str]:
    calls = "sendmsg,sendto,recvfrom"
    inject = f"inject={calls}:error={error}:when=100+100"
    return "strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={calls}", "-e", inject, "-p", str(pid)


FAULTS = {
    "F8": clock_is_wrong,
    "F10": descriptors_run_out,
    "F11": memory_is_short,
    "F13": tunnels_are_many,
    "F14": it_goes_on_for_long,
    "F25": programs_are_stopped,
    "F26": logs_go_nowhere,
    "F29": calls_fail,
}
