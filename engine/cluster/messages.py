"""What a supervisor and its workers say to each other, and its form: a length of four bytes, then MessagePack.

Sans-IO. Each end takes only what the other may say (`ToWorker`, `ToSupervisor`), and nothing longer than MAX_MESSAGE.

A worker is told who it is (Begin), answers when it accepts (Ready), and tells what changes of what it serves (Changed);
the supervisor carries that to all others. Whoever was told too much at once is told the whole instead (State, Peers).
Every BEAT_SECONDS a worker says that it is not stuck (Beat).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Generic, TypeVar

import msgspec

from engine.cluster.entry import Change, Entry
from engine.errors import UNREADABLE, RemoteProtocolError

LENGTH_SIZE: Final = 4
BEAT_SECONDS: Final = 1.0
MAX_MESSAGE: Final = 64 * 1024 * 1024  # some hundred thousand sessions in one answer

Counts = dict[str, dict[str, int]]
"""By limit and party (engine.limits): how much it has."""

Family = tuple[str, str, str, list[tuple[str, dict[str, str], float]]]
"""A family of metrics: its name, kind and help, and its samples: name, labels and value of each."""


class Message(msgspec.Struct, frozen=True, tag=True):
    """One of those below."""


class Sockets(msgspec.Struct, frozen=True):
    """The listening sockets that one worker accepts at, by their descriptors."""

    proxy: list[int]
    upstream: list[int]
    tcp: list[list[int]]  # of each of `proxy.tcp`
    links: list[int] = []  # of `cluster.bind_addr`

    def all(self) -> list[int]:
        return [*self.proxy, *self.upstream, *self.links, *(one for port in self.tcp for one in port)]


# From the supervisor -----------------------------------------------------------------------------------------


class Begin(Message, frozen=True):
    """Who you are: the worker `index` (from 0 on) of `count`, as a peer `id`, a part of the node `node_id`.

    `sockets`: those of all workers; you have inherited all of them. `listens`: the addresses, with their keys, to which
    they are bound. `link`: the path of the socket that your peers dial, all of whom know `secret`. Other nodes, if any,
    dial `links_at`; the node's proxy and admin ports are at `proxy_at` and `admin_at`.
    """

    index: int
    count: int
    id: str
    node_id: str
    secret: bytes
    link: str
    sockets: list[Sockets]
    listens: list[tuple[str, str]]
    links_at: str = ""
    proxy_at: str = ""
    admin_at: str = ""

    def __repr__(self) -> str:
        return f"Begin({self.id}, {self.index}/{self.count})"  # the secret is not for logs


class Accept(Message, frozen=True):
    """Accept at the sockets of these workers, and of no others."""

    of: list[int]


class Peers(Message, frozen=True):
    """All peers that there are, and by their ids: what they hold (the principal by endpoint), and the counts of it that
    are limited.
    """

    entries: list[Entry]
    held: dict[str, dict[str, str]] = {}
    counts: dict[str, Counts] = {}


class Changed(Message, frozen=True):
    """One endpoint of a peer; from a worker, one of its own."""

    change: Change


class Held(Message, frozen=True):
    """A peer (from a worker: itself) has a session for `endpoint` that was let in for `principal`, or has none more."""

    id: str
    endpoint: str
    principal: str
    held: bool


class Count(Message, frozen=True):
    """Of what `limit` limits, a party has so much at a peer (from a worker: itself)."""

    id: str
    limit: str
    party: str
    count: int


class Taken(Message, frozen=True):
    """A party has taken so much more of what comes again with time (`limit`), at another worker."""

    limit: str
    party: str
    amount: float


class Share(Message, frozen=True):
    """Of the bytes that may wait in all workers (loop.memory), so many may in you."""

    size: int


class Lose(Message, frozen=True):
    """Another was first to hold that endpoint for another principal: end your sessions of it."""

    endpoint: str


class Leaves(Message, frozen=True):
    """The agents of a peer are asked to come to others."""

    id: str


class Gone(Message, frozen=True):
    """A peer has left."""

    id: str


class Ask(Message, frozen=True):
    """Say how you are (Answer), and, if `nodes`, what you know of other nodes."""

    number: int
    nodes: bool = False


class Look(Message, frozen=True):
    """Read yourself (Seen), for those who look on, and, if `nodes`, say what you know of other nodes."""

    number: int
    nodes: bool = False


class Leave(Message, frozen=True):
    """Send everybody elsewhere, and end when nothing is under way."""


class Stop(Message, frozen=True):
    """End at once."""


ToWorker = (
    Begin | Accept | Peers | Changed | Held | Count | Taken | Share | Lose | Leaves | Gone | Ask | Look | Leave | Stop
)

# From a worker -----------------------------------------------------------------------------------------------


class Ready(Message, frozen=True):
    """I can accept, and this is what I serve."""

    entry: Entry


class State(Message, frozen=True):
    """What I serve, and what I hold, as a whole."""

    entry: Entry
    held: dict[str, str] = {}
    counts: Counts = {}


class Leaving(Message, frozen=True):
    """I do not accept agents any more, and soon no clients."""


class Beat(Message, frozen=True):
    """My loop turns. `degraded`: what is wrong though I serve; empty if nothing is. So many bytes wait for my peers."""

    degraded: str = ""
    waiting: int = 0


class Session(msgspec.Struct, frozen=True):
    """Who has registered what (an endpoint's key): for `seconds`, from the address `client`. What its agent says of
    itself is `version`, `way` and `weight` (see wire.agents), and the `domains` that it claims.
    """

    endpoint: str
    principal: str
    client: str
    seconds: float
    carrier: str
    suspended: bool
    version: str = ""
    way: str = ""
    weight: int = 1
    domains: list[str] = []


class Answer(Message, frozen=True):
    """How I am."""

    number: int
    sessions: list[Session]
    metrics: list[Family]
    nodes: list[Entry] | None = None


class Seen(Message, frozen=True):
    """A reading of me (admin.reading), in MessagePack."""

    number: int
    reading: msgspec.Raw
    nodes: list[Entry] | None = None


class Farewell(Message, frozen=True):
    """What I have counted, for the last time."""

    metrics: list[Family]


ToSupervisor = Ready | State | Changed | Held | Count | Taken | Leaving | Beat | Answer | Seen | Farewell

# The form ----------------------------------------------------------------------------------------------------

M = TypeVar("M")


def encode(message: Message) -> bytes:
    body = msgspec.msgpack.encode(message)
    if len(body) > MAX_MESSAGE:
        raise ValueError(f"a message of {len(body)} bytes; at most {MAX_MESSAGE} are read")
    return len(body).to_bytes(LENGTH_SIZE) + body


class Decoder(Generic[M]):
    """Bytes to messages of `type`, a union of some of those above."""

    def __init__(self, type: object) -> None:
        self._decoder: msgspec.msgpack.Decoder[M] = msgspec.msgpack.Decoder(type)
        self._data = bytearray()

    def receive(self, data: bytes | bytearray) -> Iterator[M]:
        """The messages that are whole now. Raises RemoteProtocolError."""
        self._data += data
        while len(self._data) >= LENGTH_SIZE:
            size = int.from_bytes(self._data[:LENGTH_SIZE])
            if size > MAX_MESSAGE:
                raise RemoteProtocolError(f"a message of {size} bytes; expected at most {MAX_MESSAGE}")
            end = LENGTH_SIZE + size
            if len(self._data) < end:
                return
            body = bytes(self._data[LENGTH_SIZE:end])
            del self._data[:end]
            try:
                yield self._decoder.decode(body)
            except UNREADABLE as error:
                raise RemoteProtocolError("not a message of a supervisor's channel", str(error)) from error
