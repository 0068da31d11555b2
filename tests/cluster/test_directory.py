"""What is known of peers: whatever becomes of the changes, the watcher has been told of all that is known."""

from __future__ import annotations

from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from engine.cluster.directory import Directory, Own
from engine.cluster.entry import Change, Entry

ENDPOINTS = st.sampled_from(["web", "db", "mail"])
# What happens to a change on its way: it is lost, or comes once or twice, after so many others.
FATES = st.lists(st.integers(0, 4), max_size=2)
STEPS = st.lists(st.tuples(ENDPOINTS, st.integers(0, 3), FATES), max_size=30)


@dataclass
class Book:
    """A watcher that writes down what it is told."""

    peers: dict[str, str] = field(default_factory=dict)
    served: dict[str, dict[str, int]] = field(default_factory=dict)

    def peer_changed(self, entry: Entry) -> None:
        self.peers[entry.id] = entry.start

    def peer_removed(self, entry: Entry) -> None:
        del self.peers[entry.id]
        assert not self.served.pop(entry.id, None), "it still serves something"

    def endpoint_changed(self, peer: str, endpoint: str, count: int, guarded: bool) -> None:
        endpoints = self.served.setdefault(peer, {})
        assert endpoints.get(endpoint, 0) != count, "that was known"
        if count:
            endpoints[endpoint] = count
        else:
            del endpoints[endpoint]


def begin(start: str = "life") -> tuple[Own, list[Change]]:
    own, said = Own(Entry("peer", start, "127.0.0.1:1")), list[Change]()
    own.tell.append(said.append)
    return own, said


@given(STEPS)
def test_changes_that_are_lost_doubled_or_late_are_made_good_by_the_whole_state(
    steps: list[tuple[str, int, list[int]]],
) -> None:
    own, said = begin()
    directory, book = Directory("here"), Book()
    directory.watcher = book
    directory.put(own.entry)
    on_their_way: list[tuple[int, Change]] = []
    for number, (endpoint, count, fate) in enumerate(steps):
        own.changed(endpoint, count)
        on_their_way += [(number + late, change) for change in said for late in fate]
        said.clear()
        arrived = [change for at, change in on_their_way if at <= number]
        on_their_way = [(at, change) for at, change in on_their_way if at > number]
        for change in arrived:
            directory.change(change)
        known = directory.get("peer")
        assert known is not None
        assert known.revision <= own.now.revision
        assert book.served.get("peer", {}) == known.endpoints
        if known.revision == own.now.revision:
            assert known.endpoints == own.now.endpoints
    old = own.entry
    directory.put(old)
    for _, change in on_their_way:  # what comes later still is known by then
        assert directory.change(change)
    directory.put(Entry("peer", "life", "127.0.0.1:1"))  # a state of its first moment, read late
    assert directory.get("peer") == old
    assert book.served.get("peer", {}) == own.now.endpoints
    directory.remove("peer")
    assert not book.peers


@given(STEPS)
def test_changes_that_all_come_in_their_order_need_no_whole_state(steps: list[tuple[str, int, list[int]]]) -> None:
    own, said = begin()
    directory = Directory("here")
    directory.put(own.entry)
    for endpoint, count, _ in steps:
        own.changed(endpoint, count)
    assert all([directory.change(change) for change in said])
    assert directory.get("peer") == own.now


def test_another_life_has_nothing_of_the_one_before() -> None:
    own, said = begin()
    directory, book = Directory("here"), Book()
    directory.watcher = book
    own.changed("web", 1)
    directory.put(own.entry)
    later, changes = begin("later")
    later.changed("db", 2)
    assert not directory.change(changes[0])
    directory.put(later.entry)
    assert book.peers == {"peer": "later"}
    assert book.served == {"peer": {"db": 2}}
    assert not directory.change(said[0])


def test_a_node_is_no_peer_of_its_own() -> None:
    own, said = begin()
    directory = Directory("peer")
    own.changed("web", 1)
    directory.put(own.entry)
    assert all(directory.change(change) for change in said)
    assert not directory.peers
