"""Mixed requests, some of which are answered early: `python -m perf.experiments.early --programs trioduct,piko`.

Clients send bodies of 0 to 3 MiB and are answered with as much, in one or the other framing. A part of the services'
answers comes before the body has been read, as those of services that refuse an upload do: the service then reads what
is left of it, or says that it closes and does. Each node is tried with each agent, in turns, with the same requests.

What is counted is what a client sees: an answer that did not come, is not whole, is another's, or the node's own error.
A client goes on with its connection as long as that is not closed; if it is before a byte of the answer has come, and
was used before, the client asks again on a new one, once, as clients do (RFC 9112, 9.3.1) if the request has no body.
"""

import os
import random
import sys
from collections import Counter
from itertools import product
from typing import NamedTuple

import click
import h11
import trio

from perf.errors import MissingProgram
from perf.topologies.processes import Ground, find_program, free_port, open_ground

MIB = 1 << 20
PIECE = 1 << 16
ENDPOINT = "web"
ANSWER_SECONDS = 20
LINGER_SECONDS = 5
PATTERN = random.Random(1).randbytes(1 << 16)  # without a period, so that each place in it is known by what is there


class Wish(NamedTuple):
    """What one request is, and how the service is to answer it; stands in the target."""

    number: int
    upload: int  # bytes
    chunked: bool
    when: str  # "late"; "keep" or "close", what an early answer does with its connection
    read: int  # bytes of the upload that are read before an early answer
    answer: int  # bytes
    framing: str

    def target(self) -> str:
        return "/" + "/".join(map(str, self))

    @classmethod
    def told(cls, target: bytes) -> "Wish":
        number, upload, chunked, when, read, answer, framing = target.decode().split("/")[1:]
        return cls(int(number), int(upload), chunked == "True", when, int(read), int(answer), framing)

    @classmethod
    def drawn(cls, number: int, chance: random.Random, early: float) -> "Wish":
        upload = chance.choice([0, 0, 1000, chance.randrange(1 << 16), chance.randrange(3 * MIB)])
        when = "late" if not upload or chance.random() >= early else chance.choice(["keep", "close"])
        read = chance.choice([0, chance.randrange(upload)]) if when != "late" else upload
        answer = chance.choice([0, 100, chance.randrange(1 << 16), chance.randrange(3 * MIB)])
        framing = chance.choice(["length", "chunked"])
        return cls(number, upload, chance.random() < 0.5, when, read, answer, framing)

    def body(self) -> bytes:
        """The answer's, which no other has."""
        whole = PATTERN * (self.answer // len(PATTERN) + 2)
        start = self.number % len(PATTERN)
        return whole[start : start + self.answer]


class End:
    """One end of a connection: h11's state machine, and the stream that it is about."""

    def __init__(self, stream: trio.SocketStream, role: type[h11.CLIENT] | type[h11.SERVER]) -> None:
        self.stream = stream
        self.http = h11.Connection(role, max_incomplete_event_size=1 << 18)

    async def next(self) -> object:
        while (event := self.http.next_event()) is h11.NEED_DATA:
            self.http.receive_data(await self.stream.receive_some(PIECE))
        return event

    async def say(self, event: h11.Event) -> None:
        if data := self.http.send(event):
            await self.stream.send_all(data)

    async def say_body(self, body: bytes) -> None:
        for start in range(0, len(body), PIECE):
            await self.say(h11.Data(data=body[start : start + PIECE]))
        await self.say(h11.EndOfMessage())


async def serve(stream: trio.SocketStream) -> None:
    """The service."""
    end = End(stream, h11.SERVER)
    try:
        async with stream:
            while isinstance(request := await end.next(), h11.Request):
                wish = Wish.told(request.target)
                read = 0
                while (wish.when == "late" or read < wish.read) and isinstance(event := await end.next(), h11.Data):
                    read += len(event.data)
                fields = [("Content-Length", str(wish.answer))]
                if wish.framing == "chunked":
                    fields = [("Transfer-Encoding", "chunked")]
                if wish.when == "close":
                    fields.append(("Connection", "close"))
                await end.say(h11.Response(status_code=200, headers=fields))
                await end.say_body(wish.body())
                if wish.when == "close":  # as nginx does: nobody's answer is to be lost by a reset
                    await stream.send_eof()
                    with trio.move_on_after(LINGER_SECONDS):
                        while await stream.receive_some(PIECE):
                            pass
                    return
                while end.http.their_state is h11.SEND_BODY:
                    await end.next()
                if end.http.their_state is not h11.DONE:
                    return
                end.http.start_next_cycle()
    except (h11.RemoteProtocolError, OSError, trio.BrokenResourceError):
        pass  # the agent has gone


async def ask(end: End, wish: Wish) -> str:
    """Send a request and read its answer; "" if it is the right one, else what is wrong."""
    fields = [("Host", "node.test"), ("x-piko-endpoint", ENDPOINT)]
    fields.append(("Transfer-Encoding", "chunked") if wish.chunked else ("Content-Length", str(wish.upload)))
    came, body, problem = False, bytearray(), ""

    async def upload(scope: trio.CancelScope) -> None:
        with scope:
            try:
                await end.say(h11.Request(method="POST", target=wish.target(), headers=fields))
                await end.say_body(bytes(wish.upload))
            except (OSError, trio.BrokenResourceError):
                pass  # the answer may have come before; it says how it was

    try:
        with trio.fail_after(ANSWER_SECONDS):
            async with trio.open_nursery() as nursery:
                uploading = trio.CancelScope()
                nursery.start_soon(upload, uploading)
                event = await end.next()
                came = True
                if isinstance(event, h11.Response) and event.status_code == 200:
                    while isinstance(event := await end.next(), h11.Data):
                        body += event.data
                    if body != (wanted := wish.body()):
                        problem = "a part, as if it were all" if wanted.startswith(body) else "another's answer"
                else:
                    problem = f"answer: {getattr(event, 'status_code', event)!s}"
                if problem or end.http.their_state is not h11.DONE:
                    uploading.cancel()
    except* (OSError, trio.BrokenResourceError, h11.RemoteProtocolError, h11.LocalProtocolError) as group:
        error = group.exceptions[0]
        problem = f"{'cut' if came else 'no answer'}: {type(error).__name__}: {error}"
    except* trio.TooSlowError:
        problem = f"{'cut' if came else 'no answer'}: {ANSWER_SECONDS} s"
    return problem


async def client(port: int, chance: random.Random, early: float, until: float, found: Counter[str]) -> None:
    end = None
    while trio.current_time() < until:
        wish = Wish.drawn(found["asked"], chance, early)
        found["asked"] += 1
        for _ in range(2):
            used = end is not None
            if end is None:
                end = End(await trio.open_tcp_stream("127.0.0.1", port), h11.CLIENT)
            problem = await ask(end, wish)
            again = problem.startswith("no answer") and used and not wish.upload
            if problem or end.http.states != {h11.CLIENT: h11.DONE, h11.SERVER: h11.DONE}:
                await trio.aclose_forcefully(end.stream)
                end = None
            else:
                end.http.start_next_cycle()
            if not again:
                break
        if problem:
            found["failed"] += 1
            kind = wish.when if wish.upload else "no body"
            found[f"{kind}: {problem}"] += 1
    if end is not None:
        await trio.aclose_forcefully(end.stream)


async def start_way(ground: Ground, node: str, agent: str, service: int) -> int:
    """A node and its agent; the port for clients."""
    proxy, upstream, admin = (free_port() for _ in range(3))
    words: list[str] = ["server", f"--proxy.bind-addr=127.0.0.1:{proxy}", f"--upstream.bind-addr=127.0.0.1:{upstream}"]
    words += [f"--admin.bind-addr=127.0.0.1:{admin}", "--proxy.access-log.disable", "--log.level=error"]
    if os.path.basename(node) == "piko":
        words.append(f"--cluster.gossip.bind-addr=127.0.0.1:{free_port()}")
    started = await ground.start("node", [node, *words])
    await started.answers_at(upstream)
    await started.answers_at(proxy)
    words = ["agent", "http", ENDPOINT, str(service), f"--connect.url=http://127.0.0.1:{upstream}"]
    await ground.start("agent", [agent, *words, "--access-log.disable", "--log.level=error"])
    await trio.sleep(2)
    return proxy


async def measure(programs: list[str], clients: int, rounds: int, seconds: float, early: float) -> None:
    async with open_ground() as ground, trio.open_nursery() as nursery:
        listeners = await nursery.start(trio.serve_tcp, serve, 0)
        service = listeners[0].socket.getsockname()[1]
        ways: dict[tuple[str, str], int] = {}
        for node, agent in product(programs, programs):
            ways[node, agent] = await start_way(ground, node, agent, service)
        found: dict[tuple[str, str], Counter[str]] = {pair: Counter() for pair in ways}
        for turn in range(rounds):
            for pair, port in ways.items():
                async with trio.open_nursery() as asking:
                    until = trio.current_time() + seconds
                    for number in range(clients):
                        chance = random.Random(turn * 1000 + number)
                        asking.start_soon(client, port, chance, early, until, found[pair])
            click.echo(f"round {turn + 1} of {rounds}", err=True)
        click.echo("| node | agent | requests | failed | how |\n|---|---|---|---|---|")
        for pair, counts in found.items():
            asked, failed = counts.pop("asked"), counts.pop("failed", 0)
            how = "; ".join(f"{count} x {what}" for what, count in counts.most_common(6))
            names = " | ".join(map(os.path.basename, pair))
            click.echo(f"| {names} | {asked} | {failed} | {how} |")
        nursery.cancel_scope.cancel()


@click.command()
@click.option(
    "--programs", default=f"{sys.prefix}/bin/trioduct,piko", show_default=True, help="Each is node and agent."
)
@click.option("--clients", type=click.IntRange(1, 1000), default=8, show_default=True)
@click.option("--rounds", type=click.IntRange(1, 100), default=3, show_default=True)
@click.option("--seconds", type=click.FloatRange(1, 600), default=10.0, show_default=True, help="Of each turn.")
@click.option(
    "--early", type=click.FloatRange(0, 1), default=0.3, show_default=True, help="So many are answered early."
)
def main(programs: str, clients: int, rounds: int, seconds: float, early: float) -> None:
    """Count the requests that fail, between nodes and agents of several programs."""
    try:
        found = [str(find_program(name, variable="PIKO" if name == "piko" else None)) for name in programs.split(",")]
    except MissingProgram as error:
        raise click.BadParameter(str(error), param_hint="--programs") from error
    trio.run(measure, found, clients, rounds, seconds, early)


if __name__ == "__main__":
    main()
