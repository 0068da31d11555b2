"""The words of our own ends: what was read is said again as it was, and what was not is one declared error."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable
from functools import cache, partial
from typing import Final, TypeVar

import msgspec

from engine import log
from engine.carriers.call import node_error
from engine.cli import status as asking
from engine.cli.status import NodeState, NodeSummary, SessionState
from engine.cluster import record
from engine.cluster.messages import Decoder, ToSupervisor, ToWorker
from engine.cluster.record import Lease, Said, Untrusted, Whole
from engine.errors import UNREADABLE, HTTPError, RemoteProtocolError
from engine.wire import owner, peers, piko, posts, proxy_protocol, public_url, resumption, workers
from tests.fuzz.pieces import cut, places, singly

T = TypeVar("T")


def _maybe(read: Callable[[bytes], T], data: bytes, *errors: type[Exception]) -> T | None:
    """None for what is refused as it has to be."""
    try:
        return read(data)
    except errors:
        return None


def carrier(data: bytes) -> None:
    """The words of carriers that are made of POST requests."""
    try:
        end = posts.line_end(data)
    except HTTPError:
        assert len(data) > posts.MAX_LINE
        return
    for place in places(data, 2):
        assert posts.line_end(data[:place]) == (end if 0 < end <= place else -1)
    line = data[:end] if end > 0 else data + b"\n"
    match _maybe(posts.parse_request, line, HTTPError):
        case posts.Up(id, offset):
            assert posts.parse_request(posts.encode_up(id, offset)) == posts.Up(id, offset)
        case posts.Down() as down:
            assert posts.parse_request(posts.encode_down(*down)) == down
        case posts.Close(id, code, reason):
            again = posts.parse_request(posts.encode_close(id, code, reason))
            assert again == posts.Close(id, code, reason[:190])
        case posts.StreamUp(id):
            assert posts.encode_up_stream(id) == line
        case posts.Open(kind, id, hello):
            assert posts.parse_request(posts.encode_open(kind, id, hello)) == posts.Open(kind, id, hello)
    match _maybe(posts.parse_answer, line, RemoteProtocolError):
        case posts.Data(offset):
            assert posts.parse_answer(posts.encode_data(offset, b"")) == posts.Data(offset)
    taken = _maybe(posts.parse_taken, line, RemoteProtocolError)
    assert taken is None or posts.parse_taken(posts.encode_taken(taken)) == taken
    welcome = _maybe(posts.parse_welcome, line, RemoteProtocolError)
    assert welcome is None or posts.parse_welcome(posts.encode_welcome(welcome)) == welcome
    for base in (posts.UPSTREAM_PATH, posts.TCP_PATH):
        target = base.encode() + data
        tag = posts.tag_of(target)
        assert not tag or len(tag) in (8, 9)
        if (endpoint := posts.endpoint_of(target, base)) is not None:
            assert posts.endpoint_of(posts.path(base, endpoint, tag).encode(), base) == endpoint


def session(data: bytes) -> None:
    """What is said of sessions that outlive their carriers, of their owners, and of workers."""
    wish = _maybe(resumption.parse_wish, data, HTTPError)
    assert wish is None or resumption.parse_wish(wish.encode()) == wish
    answer = _maybe(resumption.parse_answer, data, RemoteProtocolError)
    assert answer is None or resumption.parse_answer(answer.encode()) == answer
    for kind in (wish, answer):
        if isinstance(kind, resumption.Resume | resumption.Opened):
            assert kind.id.decode() not in repr(kind), "a session's name is a secret"
    assert len(owner.owner_of_session(data)) in (0, 8)
    text = data.decode("latin-1")
    seat = workers.parse_seat(text)
    assert seat is None or workers.parse_seat(str(seat)) == seat
    url = public_url.told_text(text)
    if url is not None:
        assert public_url.told_text(str(url)) == url
        assert url.reach(text).url.isascii()
    for path in (piko.endpoint_of_upstream_path, piko.endpoint_of_tcp_path):
        for base in (b"/piko/v1/upstream/", b"/_piko/v1/tcp/"):
            path(base + data)
    label = piko.endpoint_of_host(data)
    assert "." not in label


def proxied(data: bytes) -> None:
    """The header of a balancer."""
    try:
        end = proxy_protocol.header_end(data)
    except proxy_protocol.ProxyProtocolError:
        return
    for place in places(data, 4):
        assert proxy_protocol.header_end(data[:place]) == (end if 0 < end <= place else -1)
    if end < 0:
        assert len(data) <= 16 + proxy_protocol.MAX_BLOCK
        return
    assert end <= 16 + proxy_protocol.MAX_BLOCK
    source = _maybe(proxy_protocol.source, data[:end], proxy_protocol.ProxyProtocolError)
    if source is not None:
        host, port = source
        assert str(ipaddress.ip_address(host)) == host
        assert 0 <= port < 65536


_HELLO: Final = peers.Hello("node/1", "node 2", b"0" * 32)
_SECRET: Final = b"a secret of thirty-two characters and more"


def peer(data: bytes) -> None:
    """What opens a link of two nodes, and each of its streams."""
    for text in (data, b"a b " + data, data + b" b " + b"0" * 32):
        hello = _maybe(lambda said: peers.hello_in([(peers.FIELD, said)]), text, HTTPError)
        if hello is not None and max(map(len, hello.encode().split(b" "))) <= 512:
            assert peers.hello_in([(peers.FIELD, hello.encode())]) == hello
    said = _maybe(lambda said: peers.check_answer(_SECRET, _HELLO, [(peers.FIELD, said)]), data, RemoteProtocolError)
    assert said is None, "nobody knows the secret by chance"
    size = len(data)
    for opening in (data, size.to_bytes(2) + data, (size | 0x8000).to_bytes(2) + data):
        _opening(opening)


def _opening(data: bytes) -> None:
    try:
        read = peers.read_opening(data)
    except RemoteProtocolError:
        return
    if read is None:
        assert len(data) < 2 + peers.MAX_NAME
        return
    what, end = read
    for place in places(data[:end], 2):
        assert place == end or peers.read_opening(data[:place]) is None
    encoded = peers.opening(what) if isinstance(what, str) else what.encode()
    again = peers.read_opening(encoded)
    assert again == (what, len(encoded))


_NETWORKS: Final = [ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0")]


def cluster(data: bytes) -> None:
    """What stands in a store, written by who knows the secret and by who does not; and what nodes tell each other."""
    sealed = record._mac(_SECRET, "place", data) + data
    lease = _maybe(lambda said: record.unseal(_SECRET, "place", said, Lease), sealed, Untrusted)
    whole = _maybe(lambda said: record.unseal(_SECRET, "place", said, Whole), sealed, Untrusted)
    said = _maybe(lambda said: record.unseal(_SECRET, "place", said, Said), sealed, Untrusted)
    assert _maybe(lambda said: record.unseal(_SECRET, "place", said, Lease), data, Untrusted) is None
    assert _maybe(lambda said: record.unseal(_SECRET, "elsewhere", said, Lease), sealed, Untrusted) is None
    if lease is not None:
        _maybe(lambda _: record.check_lease(lease, _NETWORKS), b"", Untrusted)
        again = record.unseal(_SECRET, "place", record.seal(_SECRET, "place", lease), Lease)
        assert again == lease
    if whole is not None:
        known = Lease("n", whole.start, "10.0.0.1:1", "", "", "", 0, 0)
        entry = _maybe(lambda _: record.entry_of(known, whole, _NETWORKS), b"", Untrusted)
        if entry is not None:
            assert len(entry.endpoints) <= len(data)
    if said is not None:
        changes = _maybe(lambda _: record.changes_of(said), b"", Untrusted)
        assert changes is None or len(changes) == len(said.changes)
    record.defect_of_address(data.decode("utf-8", "replace"), _NETWORKS)


def supervisor(data: bytes) -> None:
    """What a supervisor and its workers say to each other: a message as it comes, and one that is `data`."""
    for stream in (data, len(data).to_bytes(4) + data):
        for type in (ToWorker, ToSupervisor):
            whole = _messages([stream], type)
            assert _messages(singly(stream), type) == whole
            assert _messages(cut(stream), type) == whole


@cache
def _decoder(type: object) -> Decoder[msgspec.Struct]:
    """One that is used again: to make one takes longer than all that is done with it."""
    return Decoder(type)


def _messages(parts: list[bytes], type: object) -> tuple[list[bytes], bool]:
    """The messages, in their one form, and whether all was right."""
    decoder = _decoder(type)
    decoder._data.clear()
    found: list[bytes] = []
    try:
        for part in parts:
            for message in decoder.receive(part):
                found.append(msgspec.msgpack.encode(message))
    except RemoteProtocolError:
        return found, False
    assert len(decoder._data) <= sum(map(len, parts))
    return found, True


def status(data: bytes) -> None:
    """What a node, or something that is none, answers to `server status` and to a carrier."""
    for shape in (dict[str, int], list[SessionState], list[NodeSummary], NodeState):
        _maybe(partial(msgspec.json.decode, type=shape), data, *UNREADABLE)
    complaint = asking._complaint(data)
    assert log.printable(complaint, log.ERROR_BYTES) == complaint, "nothing in it moves a terminal"
    said = node_error(data)
    assert said is None or len(said) <= len(data)
