"""Faults of services and clients in the middle of an exchange: F12, F17 to F23.

Both ends are in this process, so what one has said and the other has heard is known to the byte and the millisecond.
"""

from __future__ import annotations

import hashlib
import random
import signal
from collections.abc import AsyncGenerator

import trio

from tests.faults.alone import Alone, all_of
from tests.faults.bed import percentile
from tests.faults.cluster import Outcome
from tests.programs import TRIODUCT, Program, free_port
from tests.roles import Service, Talk, answer, values_of

HEAD = "{method} {path} HTTP/1.1\r\nHost: a\r\nx-piko-endpoint: {endpoint}\r\n{fields}\r\n"
KIB = b"0123456789abcdef" * 64


def request(path: str = "/", *fields: str, method: str = "GET", endpoint: str = "web") -> bytes:
    lines = "".join(f"{field}\r\n" for field in fields)
    return HEAD.format(method=method, path=path, endpoint=endpoint, fields=lines).encode()


async def through(alone: Alone, serve: Service, *options: str) -> tuple[Program, Program, int]:
    """A node, and an agent before a service (on this port) that does as it is written."""
    node = await alone.start(*options)
    service = await alone.roles.service(serve)
    return node, await alone.agent("--connect.resume=0s", service=service), service


def note(outcome: Outcome, seconds: list[float]) -> None:
    outcome.requests += len(seconds)
    outcome.p50_ms, outcome.p99_ms = percentile(seconds, 0.5), percentile(seconds, 0.99)
    outcome.max_ms = max(seconds, default=0) * 1000


async def one_stalls(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F12: one of the streams of a tunnel is not read any more."""
    clients = 99 if seconds >= 10 else 9
    outcome = Outcome(f"F12 one of {clients + 1} streams of a tunnel stalls")
    said = 0

    async def serve(talk: Talk) -> None:
        nonlocal said
        while True:
            head = await talk.until(b"\r\n\r\n")
            if b"/endless" not in head:
                await talk.say(answer(KIB * 64))
                continue
            await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40))
            while True:
                await talk.say(KIB)
                said += len(KIB)

    await through(alone, serve, "--proxy.http.write-timeout=0")  # by which it would be gone after 10 s

    async def measured() -> list[float]:
        took: list[float] = []

        async def ask() -> None:
            talk = await alone.roles.dial(alone.clients)
            while True:
                since = trio.current_time()
                assert (await talk.ask(request())).body == KIB * 64
                took.append(trio.current_time() - since)

        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for _ in range(clients):
                    nursery.start_soon(ask)
        return took

    calm = await measured()
    stalled = await alone.roles.dial(alone.clients, buffer=4096)
    await stalled.say(request("/endless"))
    await stalled.until(b"\r\n\r\n")
    took = await measured()
    note(outcome, took)
    before = -1
    with trio.move_on_after(20):
        while said > before:
            before = said
            await trio.sleep(1)
    outcome.told |= {"without it": f"{len(calm)} whole, p99 {percentile(calm, 0.99):.0f} ms"}
    outcome.told["read for it KiB"] = said // 1024
    outcome.expect(said == before, "no more is read for who reads nothing")
    # The kernel's buffers of four sockets on the way, which hold some MiB on loopback, are in it.
    outcome.expect(said < 20 << 20, "what is read for it is bounded")
    outcome.expect_in_time(len(took) >= 0.95 * len(calm), "95 % of the throughput for the others")
    outcome.expect_in_time(percentile(took, 0.99) <= 1.1 * percentile(calm, 0.99), "1.1 times their p99")
    yield outcome


async def node_is_told_to_stop(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F17: SIGTERM while clients upload; a second one; and one with nothing under way."""
    uploads, mebibytes = (100, 10) if seconds >= 10 else (10, 4)  # more than the 3 s in which agents go elsewhere
    outcome = Outcome(f"F17 SIGTERM with {uploads} uploads of {mebibytes} MiB in flight")
    server = await alone.start()
    agent = await alone.agent()
    piece = random.randbytes(1 << 17)
    whole = hashlib.sha256(piece * 8 * mebibytes).hexdigest()
    begun = 0
    kept = await alone.roles.dial(alone.clients)
    await kept.ask(request("/mirror?answer=1"))

    async def upload(index: int) -> None:
        nonlocal begun
        talk = await alone.roles.dial(alone.clients)
        since = trio.current_time()
        await talk.say(request("/mirror?answer=1", f"Content-Length: {mebibytes << 20}", method="POST"))
        for number in range(8 * mebibytes):
            await talk.say(piece)
            if number == 1:
                begun += 1
            await trio.sleep_until(since + (number + 1) / 8)  # 1 MiB/s
        said = await talk.answer()
        if said.status == 200 and said.values(b"x-got-sha256") == [whole.encode()]:
            outcome.requests += 1
            outcome.expect(said.values(b"connection") == [b"close"], "the last answer says that it is the last")
        else:
            outcome.failed.append(f"{index}: {said.head!r}")

    async with trio.open_nursery() as nursery:
        for index in range(uploads):
            nursery.start_soon(upload, index)
        while begun < uploads:  # noqa: ASYNC110
            await trio.sleep(0.05)
        server.process.send_signal(signal.SIGTERM)
        since = trio.current_time()
        while True:
            try:
                await (await alone.roles.dial(alone.clients)).close()
            except OSError:
                break
            await trio.sleep(0.02)
        outcome.told["new ones refused after s"] = round(trio.current_time() - since, 2)
        outcome.expect_in_time(trio.current_time() - since <= 3.5, "new connections are refused within 3 s")
    outcome.expect(not outcome.failed, "every upload is whole")
    outcome.expect(await server.wait_end() == 0, "exit code 0")
    agent.process.kill()
    yield outcome

    outcome = Outcome("F17 SIGTERM twice, with an answer that does not end")
    server = await alone.start()

    async def endless(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234")
        await trio.sleep_forever()

    await alone.agent(service=await alone.roles.service(endless))
    talk = await alone.roles.dial(alone.clients)
    await talk.say(request())
    await talk.until(b"1234")
    server.process.send_signal(signal.SIGTERM)
    await trio.sleep(0.5)
    outcome.expect(server.process.poll() is None, "the first one waits for it")
    since = trio.current_time()
    server.process.send_signal(signal.SIGTERM)
    status = await server.wait_end()
    outcome.told |= {"ended after s": round(trio.current_time() - since, 2), "exit code": status}
    outcome.expect_in_time(trio.current_time() - since <= 1, "the second one ends it within 1 s")
    yield outcome

    outcome = Outcome("F17 SIGTERM with nothing under way")
    server = await alone.start()
    await alone.node.endpoints()  # it serves
    since = trio.current_time()
    outcome.expect(await server.stop() == 0, "exit code 0")
    outcome.told["ended after s"] = round(trio.current_time() - since, 2)
    outcome.expect_in_time(trio.current_time() - since <= 0.3, "it ends within 300 ms")
    yield outcome


async def answered_early(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F18: the service answers before it has read the body, and hangs up or reads on."""
    number = min(1000, round(100 * seconds))
    outcome = Outcome(f"F18 {number} answers before the body was read")

    async def serve(talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            match head.split(b" ")[1]:
                case b"/refuse":
                    await talk.say(
                        answer(b"too large", status=b"413 Content Too Large", fields=b"Connection: close\r\n")
                    )
                    await talk.close()  # with a body unread: the kernel sends RST
                    return
                case b"/login":
                    await talk.say(answer(b"who?", status=b"401 Unauthorized"))
                    await talk.exactly(int(values_of(head, b"content-length")[0]))
                case _:
                    await talk.say(answer(b"ok"))
                    await talk.exactly(int(values_of(head, b"content-length")[0]))

    await through(alone, serve)
    took: list[float] = []
    wanted = {"/refuse": (413, b"too large"), "/login": (401, b"who?"), "/fine": (200, b"ok")}

    async def ask(index: int) -> None:
        path = [*wanted][index % 3]
        size = random.randint(0, 1 << 18)
        talk = await alone.roles.dial(alone.clients)
        since = trio.current_time()
        async with trio.open_nursery() as nursery:

            async def upload() -> None:
                try:
                    await talk.say(random.randbytes(size))
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    pass  # its answer has come, and the node has closed

            await talk.say(request(path, f"Content-Length: {size}", method="POST"))
            nursery.start_soon(upload)
            try:
                said = await talk.answer()
            except (EOFError, trio.BrokenResourceError) as error:
                outcome.failed.append(f"{path}, {size} bytes: {error!r}")
            else:
                took.append(trio.current_time() - since)
                if (said.status, said.body) != wanted[path]:
                    outcome.failed.append(f"{path}, {size} bytes: {said}")
            nursery.cancel_scope.cancel()
        await talk.close()

    await all_of(number, 1, ask)
    note(outcome, took)
    outcome.expect(not outcome.failed, "every answer arrives")
    outcome.told["failures"] = sorted({one.partition(": ")[2][:80] for one in outcome.failed})
    outcome.expect_in_time(outcome.p50_ms <= 50, "within 50 ms")
    yield outcome


BREAKS = ("length-fin", "length-rst", "chunked-fin", "chunked-rst", "chunk-fin", "close-rst")


async def body_breaks_off(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F19: the service ends in the middle of its answer, by FIN or RST; then the agent, then the node does."""
    number = min(10_000, round(300 * seconds))
    outcome = Outcome(f"F19 {number} bodies that break off")
    begun = trio.Event()

    async def serve(talk: Talk) -> None:
        head = await talk.until(b"\r\n\r\n")
        framing, _, how = head.split(b" ")[1][1:].decode().partition("-")
        fields = {
            "length": b"Content-Length: 100000\r\n",
            "close": b"Connection: close\r\n",
        }.get(framing, b"Transfer-Encoding: chunked\r\n")
        await talk.say(b"HTTP/1.1 200 OK\r\n" + fields + b"\r\n")
        if framing == "chunked":  # between two chunks
            await talk.say(b"400\r\n" + KIB + b"\r\n")
        elif framing == "chunk":  # inside one
            await talk.say(b"800\r\n" + KIB)
        else:
            await talk.say(KIB)
        if how == "wait":
            begun.set()
            await trio.sleep_forever()
        await trio.sleep(random.choice((0, 0, 0.001)))
        await (talk.reset() if how == "rst" else talk.close())

    node, agent, service = await through(alone, serve)

    async def heard(talk: Talk) -> str:
        """How an answer has ended."""
        said = b""
        try:
            while data := await talk.hear():
                said += data
        except trio.BrokenResourceError:
            return "aborted"
        head, _, body = said.partition(b"\r\n\r\n")
        if head[9:12] == b"502":
            return "502"
        whole = body.endswith(b"0\r\n\r\n") if b"chunked" in head else len(body) == 100_000
        return "whole" if whole else "aborted"

    ends: dict[str, int] = {}

    async def ask(index: int) -> None:
        talk = await alone.roles.dial(alone.clients)
        await talk.say(request(f"/{BREAKS[index % len(BREAKS)]}", "Connection: close"))  # a 502 ends, too
        with trio.fail_after(30):
            end = await heard(talk)
        ends[end] = ends.get(end, 0) + 1
        await talk.close()

    await all_of(number, 8, ask)
    outcome.requests, outcome.told["ends"] = number, ends
    outcome.expect("whole" not in ends, "none of them looks whole")

    for name, program in (("agent", agent), ("node", node)):
        begun = trio.Event()
        talk = await alone.roles.dial(alone.clients)
        await talk.say(request("/chunked-wait"))
        await begun.wait()
        await talk.until(b"\r\n\r\n")
        await trio.sleep(0.1)
        program.process.kill()
        with trio.fail_after(30):
            end = await heard(talk)
        outcome.told[f"{name} killed"] = end
        outcome.expect(end != "whole", f"nor does one whose {name} was killed")
        if program is agent:
            await alone.agent("--connect.resume=0s", service=service)
    yield outcome


async def trailers(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F20: trailers, both ways, some of them forbidden."""
    number = round(100 * seconds)
    outcome = Outcome(f"F20 trailers of {number} exchanges, both ways")
    sent = b"0\r\nX-Sum: %d\r\nContent-Length: 5\r\nAuthorization: x\r\nHost: evil\r\nX-Last: \xe9\r\n\r\n"
    passed = b"0\r\nX-Sum: %d\r\nX-Last: \xe9\r\n\r\n"

    async def serve(talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            body = await talk.until(b"0\r\n")
            body += await talk.until(b"\r\n\r\n")
            index = int(values_of(head, b"x-number")[0])
            if body != b"5\r\nhello\r\n" + passed % index or b"X-Sum" in head or b"evil" in head:
                outcome.failed.append(f"{head + body!r}")
            await talk.say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n" + sent % index)

    await through(alone, serve)

    async def ask(index: int) -> None:
        talk = await alone.roles.dial(alone.clients)
        fields = (f"X-Number: {index}", "Transfer-Encoding: chunked", "TE: trailers", "Connection: TE")
        await talk.say(request("/", *fields, method="POST") + b"5\r\nhello\r\n" + sent % index)
        head = await talk.until(b"\r\n\r\n")
        body = await talk.until(b"0\r\n")
        body += await talk.until(b"\r\n\r\n")
        if body != b"5\r\nhello\r\n" + passed % index or b"X-Sum" in head:
            outcome.failed.append(f"{head + body!r}")
        outcome.requests += 1
        await talk.close()

    await all_of(number, 4, ask)
    outcome.expect(not outcome.failed, "what may pass passes as it is, and nothing else does")
    outcome.told["failures"] = outcome.failed[:2]
    yield outcome


async def interim_answers(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F21: 100, 102 and 103, many of them, in their order and before the final answer exists."""
    number = round(50 * seconds)
    outcome = Outcome(f"F21 interim answers of {number} exchanges")
    said_at: dict[int, float] = {}
    heard = [trio.Event() for _ in range(number)]
    hints = [b"HTTP/1.1 103 Early Hints\r\nLink: </%d>\r\n\r\n" % one for one in range(20)]

    async def serve(talk: Talk) -> None:
        while True:
            head = await talk.until(b"\r\n\r\n")
            index = int(values_of(head, b"x-number")[0])
            if values_of(head, b"expect") != [b"100-continue"]:
                outcome.failed.append(f"{head!r}")
            await talk.say(b"HTTP/1.1 102 Processing\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n")
            await talk.exactly(5)
            said_at[index] = trio.current_time()
            await talk.say(b"".join(hints))
            await heard[index].wait()  # there is no 200 before these have arrived
            await talk.say(answer(b"ok"))

    await through(alone, serve)
    took: list[float] = []

    async def ask(index: int) -> None:
        talk = await alone.roles.dial(alone.clients)
        fields = (f"X-Number: {index}", "Content-Length: 5", "Expect: 100-continue")
        await talk.say(request("/", *fields, method="POST"))
        with trio.fail_after(20):
            told = [(await talk.until(b"\r\n\r\n"))[9:12] for _ in range(2)]
            await talk.say(b"hello")
            got = [await talk.until(b"\r\n\r\n") for _ in hints]
            took.append(trio.current_time() - said_at[index])
            heard[index].set()
            final = await talk.answer()
        links = [values_of(one, b"link") for one in got]
        if (told, links) != ([b"102", b"100"], [values_of(one, b"link") for one in hints]) or final.body != b"ok":
            outcome.failed.append(f"{told} {got} {final}")
        await talk.close()

    await all_of(number, 1, ask)
    note(outcome, took)
    outcome.expect(not outcome.failed, "all of them, in order")
    outcome.told["failures"] = outcome.failed[:2]
    outcome.expect_in_time(outcome.p50_ms <= 5, "within 5 ms")
    yield outcome


async def small_chunks(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F22: events and chunks of one byte: how much later they arrive than without node and agent."""
    number = round(200 * seconds)
    outcome = Outcome(f"F22 {number} chunks of a byte, one every 5 ms")
    said_at: list[float] = []

    async def serve(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await talk.say(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        for _ in range(number):
            await trio.sleep(0.005)
            said_at.append(trio.current_time())
            await talk.say(b"1\r\nx\r\n")
        await talk.say(b"0\r\n\r\n")

    service = await alone.roles.service(serve)
    await alone.start()
    await alone.agent(service=service)

    async def delays(port: int) -> list[float]:
        said_at.clear()
        talk = await alone.roles.dial(port)
        await talk.say(request())
        await talk.until(b"\r\n\r\n")
        heard_at = []
        for _ in range(number):
            outcome.expect(await talk.exactly(6) == b"1\r\nx\r\n", "each byte in a chunk of its own")
            heard_at.append(trio.current_time())
        return [there - here for here, there in zip(said_at, heard_at, strict=True)]

    direct, through_both = await delays(service), await delays(alone.clients)
    note(outcome, through_both)
    added = [percentile(through_both, share) - percentile(direct, share) for share in (0.5, 0.99)]
    outcome.told["added ms"] = f"p50 {added[0]:.2f}, p99 {added[1]:.2f}"
    outcome.expect_in_time(added[0] <= 0.5, "p50 0.5 ms later")
    outcome.expect_in_time(added[1] <= 2, "p99 2 ms later")
    yield outcome


async def half_closes(alone: Alone, seconds: float) -> AsyncGenerator[Outcome, None]:
    """F23: one end has said all, and the other goes on: TCP both ways, and an HTTP client."""
    number = min(1000, round(100 * seconds))
    outcome = Outcome(f"F23 {number} half-closed connections, of TCP each way and of HTTP")
    first, second = random.randbytes(70_000), random.randbytes(300_000)

    async def serve(talk: Talk) -> None:
        """Of TCP: by the first byte, either the client or the service ends first."""
        kind = await talk.exactly(1)
        if kind == b"c":
            if await talk.rest() != first:
                outcome.failed.append("the service: not all that the client has said before its FIN")
            await talk.say(second)
            await talk.finish()
        else:
            await talk.say(second)
            await talk.finish()
            if await talk.rest() != first:
                outcome.failed.append("the service: not all that the client has said after the service's FIN")

    async def web(talk: Talk) -> None:
        await talk.until(b"\r\n\r\n")
        await trio.sleep(0.01)
        await talk.say(answer(second))

    await alone.start()
    await alone.agent(service=await alone.roles.service(web))
    await alone.agent(endpoint="tcp", kind="tcp", service=await alone.roles.service(serve))
    port = free_port()
    words = (TRIODUCT, "forward", "tcp", str(port), "tcp", f"--connect.url=http://127.0.0.1:{alone.clients}")
    await alone.programs.start(*words, port=port)

    async def ask(index: int) -> None:
        kind = "csh"[index % 3]
        with trio.fail_after(30):
            talk = await alone.roles.dial(alone.clients if kind == "h" else port)
            if kind == "h":
                await talk.say(request())
                await talk.finish()
                got = (await talk.answer()).body
            elif kind == "c":
                await talk.say(b"c" + first)
                await talk.finish()
                got = await talk.rest()
            else:
                await talk.say(b"s")
                got = await talk.rest()
                await talk.say(first)
                await talk.finish()
        if got != second:
            outcome.failed.append(f"the client, {kind}: {len(got)} of {len(second)} bytes")
        outcome.requests += 1
        await talk.close()

    await all_of(3 * number, 4, ask)
    await trio.sleep(0.2)
    outcome.expect(not outcome.failed, "all bytes behind a FIN arrive")
    outcome.told["failures"] = sorted(set(outcome.failed))[:3]
    yield outcome


FAULTS = {
    "F12": one_stalls,
    "F17": node_is_told_to_stop,
    "F18": answered_early,
    "F19": body_breaks_off,
    "F20": trailers,
    "F21": interim_answers,
    "F22": small_chunks,
    "F23": half_closes,
}
