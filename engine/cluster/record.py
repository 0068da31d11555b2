"""What nodes write into a store and say to each other by it: signed, bounded, and checked before it is believed.

Below `trioduct:NAME:` there are

    members             a set of the ids of all nodes
    lease:ID            a node's Lease, which expires a moment after the node has stopped renewing it
    state:ID            the endpoints that it serves, whole, as of a revision, written now and then
    events              (a channel) changes of endpoints as they happen, nodes that come and go, states that are wanted

Each value and each message is an HMAC-SHA256 of the cluster's secret over where it stands and what it says, and behind
it what it says, in msgpack. Who can write into the store and does not know the secret can hide nodes, or show an older
state of one, but not invent any; and a link to a node is opened only by proofs of the same secret (wire.peers).
"""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Collection
from typing import Final, TypeVar

import msgspec

from engine.cluster.entry import Change, Entry
from engine.errors import UNREADABLE
from engine.wire.workers import MAX_WORKERS

VERSION: Final = b"1"  # of all that follows: what has another is passed over
MAX_STATE: Final = 8 * 1024 * 1024  # bytes
MAX_ENDPOINTS: Final = 100_000  # of a node
MAX_NAME: Final = 1024  # bytes of an endpoint's, with its tenant's
MAX_ID: Final = 128
MAX_SESSIONS: Final = 10_000_000
MAC_SIZE: Final = 32

Network = ipaddress.IPv4Network | ipaddress.IPv6Network
S = TypeVar("S", bound=msgspec.Struct)


class Untrusted(Exception):
    """What stands in the store is not to be believed; the text says why, and quotes nothing of it."""


class Lease(msgspec.Struct, frozen=True, array_like=True):
    """A node lives, and is like that. Its endpoints are in its state, at `revision` or behind it. `beat` counts the
    renewals.
    """

    id: str
    start: str
    addr: str
    proxy_addr: str
    admin_addr: str
    version: str
    revision: int
    beat: int
    worker_of: str = ""
    workers: int = 1


class Whole(msgspec.Struct, frozen=True, array_like=True):
    """The endpoints of a node, as of a revision."""

    start: str
    revision: int
    endpoints: dict[str, int]
    guarded: set[str] = set()


class Said(msgspec.Struct, frozen=True, array_like=True):
    """A message of the channel: changes in their order; or that a node has come, or goes; or that it `wants` the state
    of the node with that id, because what stands in the store is too old.
    """

    id: str
    start: str
    changes: list[tuple[int, str, int]] = []  # revision, endpoint, sessions
    gone: bool = False
    wants: str = ""
    guarded: list[int] = []  # the revisions of changes that leave an endpoint guarded


class Keys:
    """The names of everything that the cluster `name` has in a store."""

    def __init__(self, name: str) -> None:
        self.members = f"trioduct:{name}:members"
        self.events = f"trioduct:{name}:events"
        self._prefix = f"trioduct:{name}:"

    def lease(self, id: str) -> str:
        return f"{self._prefix}lease:{id}"

    def state(self, id: str) -> str:
        return f"{self._prefix}state:{id}"


def seal(secret: bytes, place: str, value: msgspec.Struct) -> bytes:
    """`value` as it is written at `place` (a key or the channel)."""
    said = msgspec.msgpack.encode(value)
    return _mac(secret, place, said) + said


def unseal(secret: bytes, place: str, sealed: bytes, shape: type[S]) -> S:
    """What was sealed. Raises Untrusted."""
    if len(sealed) > MAX_STATE:
        raise Untrusted(f"more than {MAX_STATE} bytes")
    said = sealed[MAC_SIZE:]
    if not hmac.compare_digest(sealed[:MAC_SIZE], _mac(secret, place, said)):
        raise Untrusted("signed with another secret or by another version, or not written by a node")
    try:
        return msgspec.msgpack.decode(said, type=shape)
    except UNREADABLE:
        raise Untrusted("signed, but of another shape") from None


def _mac(secret: bytes, place: str, said: bytes) -> bytes:
    return hmac.digest(secret, b"trioduct-store %b %b\0%b" % (VERSION, place.encode(), said), "sha256")


def lease_of(entry: Entry, beat: int) -> Lease:
    return Lease(
        entry.id,
        entry.start,
        entry.addr,
        entry.proxy_addr,
        entry.admin_addr,
        entry.version,
        entry.revision,
        beat,
        entry.worker_of,
        entry.workers,
    )


def entry_of(lease: Lease, whole: Whole, networks: Collection[Network]) -> Entry:
    """A node as the directory has it. Raises Untrusted."""
    check_lease(lease, networks)
    if whole.start != lease.start:
        raise Untrusted("the state of an earlier life")
    if len(whole.endpoints) > MAX_ENDPOINTS:
        raise Untrusted(f"more than {MAX_ENDPOINTS} endpoints")
    for endpoint, count in whole.endpoints.items():
        _check_endpoint(endpoint, count)
    if not whole.guarded <= whole.endpoints.keys():
        raise Untrusted("a guarded endpoint that is none of its endpoints")
    return Entry(
        lease.id,
        lease.start,
        lease.addr,
        whole.revision,
        whole.endpoints,
        lease.proxy_addr,
        lease.admin_addr,
        lease.version,
        lease.worker_of,
        lease.workers,
        whole.guarded,
    )


def check_lease(lease: Lease, networks: Collection[Network]) -> None:
    """Raises Untrusted."""
    for id in (lease.id, lease.worker_of or lease.id):
        if not 0 < len(id) <= MAX_ID or not id.isprintable():
            raise Untrusted("no id of a node")
    if not 0 < lease.workers <= MAX_WORKERS:
        raise Untrusted("no number of workers")
    if defect := defect_of_address(lease.addr, networks):
        raise Untrusted(defect)


def changes_of(said: Said) -> list[Change]:
    """Raises Untrusted."""
    for _, endpoint, count in said.changes:
        _check_endpoint(endpoint, count)
    guarded = set(said.guarded)
    return [
        Change(said.id, said.start, revision, endpoint, count, revision in guarded)
        for revision, endpoint, count in said.changes
    ]


def _check_endpoint(endpoint: str, count: int) -> None:
    if not 0 < len(endpoint.encode("utf-8", "replace")) <= MAX_NAME or abs(count) > MAX_SESSIONS:
        raise Untrusted("no endpoint, or no number of sessions")


def defect_of_address(address: str, networks: Collection[Network]) -> str:
    """Why peers would not dial this; empty if they would."""
    host, _, port = address.rpartition(":")
    try:
        found = ipaddress.ip_address(host.removeprefix("[").removesuffix("]"))
    except ValueError:
        return "an address that is no IP address"
    if len(port) > 5 or not port.isdecimal() or not 0 < int(port) < 65536:
        return "an address without a port"
    if not any(found in network for network in networks):
        return f"{found} is not in cluster.allowed_networks"
    return ""
