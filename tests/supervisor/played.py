"""A worker that does what its name says, instead of serving: the command of a supervisor in these tests.

What it was told it tells as sessions when it is asked how it is.
"""

from __future__ import annotations

import os
import secrets
import socket
import sys
from typing import Any

import msgspec
import trio

from engine.admin.reading import Reading, WorkerRow
from engine.cluster.channel import Channel
from engine.cluster.entry import Change, Entry
from engine.cluster.messages import (
    BEAT_SECONDS,
    Answer,
    Ask,
    Beat,
    Begin,
    Changed,
    Count,
    Farewell,
    Held,
    Leave,
    Leaving,
    Look,
    Ready,
    Seen,
    Session,
    State,
    Stop,
    Taken,
    ToWorker,
)


def count(value: float) -> Any:
    return [("seen", "counter", "Asked.", [("seen_total", {}, value)])]


async def beat(channel: Channel[Any]) -> None:
    while True:
        channel.send(Beat())
        await trio.sleep(BEAT_SECONDS)


async def main(how: str) -> int:
    sock = socket.socket(fileno=int(os.environ["TRIODUCT_WORKER"]))
    channel: Channel[Any] = Channel(sock, ToWorker, lambda: Leaving())
    begin = await channel.next()
    assert isinstance(begin, Begin)
    if how == "fails":
        return 7
    entry = Entry(begin.id, secrets.token_hex(4), f"unix:{begin.link}")
    told = [repr(await channel.next())]
    asked = 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(channel.run)
        if how != "is stuck":
            nursery.start_soon(beat, channel)
        channel.send(Ready(entry))
        if how == "serves":
            channel.send(Changed(Change(begin.id, entry.start, 1, f"e{begin.index}", 2)))
        if how == "holds":  # each for somebody else
            channel.send(Held(begin.id, "shop", f"principal {begin.index}", True))
        if how == "counts":
            channel.send(Count(begin.id, "proxy.connections", "192.0.2.7", 5))
            channel.send(Count(begin.id, "proxy.connections", "192.0.2.8", 5))
            channel.send(Count(begin.id, "proxy.connections", "192.0.2.8", 0))
            channel.send(Taken("proxy.requests", "web", 3))
        if how == "lies":
            channel.send(Changed(Change("another", entry.start, 1, "shop", 1)))
        if how == "catches up":
            channel.send(State(Entry(begin.id, entry.start, entry.addr, 9, {"shop": 3}), {"shop": "me"}))
        if how == "babbles":
            sock.send(b"\x00\x00\x00\x01\xc1")
        while (message := await channel.next()) is not None:
            match message:
                case Ask(number):
                    asked += 1
                    if how != "hangs":
                        channel.send(
                            Answer(number, [Session(one, "", "", 0, "poll", False) for one in told], count(asked))
                        )
                case Look(number):
                    reading = Reading(
                        requests=10.0 * (begin.index + 1),
                        session_count=1,
                        workers=[WorkerRow(begin.id, os.getpid(), "ready")],
                    )
                    if how != "hangs":
                        channel.send(
                            Seen(number, msgspec.Raw(msgspec.msgpack.encode(reading) if how != "reads" else b"\xa0"))
                        )
                case Leave() if how != "stays":
                    channel.send(Leaving())
                    channel.send(Farewell(count(asked)))
                    break
                case Stop():
                    break
                case _:
                    told.append(repr(message))
        await channel.wait_sent()
        nursery.cancel_scope.cancel()
    return 0


if __name__ == "__main__":
    sys.exit(trio.run(main, sys.argv[1]))
