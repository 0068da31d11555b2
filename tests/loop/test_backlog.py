"""What waits and may be lost: flows have turns, and the oldest go when there are too many."""

from __future__ import annotations

from engine.loop.backlog import ALL_BYTES, FLOW_BYTES, OVERHEAD, Backlog
from engine.loop.memory import MIB, Memory


class Flow:
    def __init__(self) -> None:
        self.dropped = 0


def all_of(backlog: Backlog[Flow]) -> list[tuple[Flow, bytes]]:
    found = []
    while backlog:
        found.append(backlog.take())
    return found


def test_flows_have_turns_and_the_oldest_of_each_go_first() -> None:
    memory = Memory(MIB)
    backlog = Backlog[Flow](memory, 2)
    loud, calm = Flow(), Flow()
    for number in range(10):
        backlog.add(loud, memoryview(b"%d" % number))
    backlog.add(calm, b"")
    assert all_of(backlog) == [(loud, b"8"), (calm, b""), (loud, b"9")]
    assert (loud.dropped, calm.dropped, backlog.dropped, memory.used) == (8, 0, 8, 0)


def test_bytes_of_a_flow_and_of_all_are_bounded() -> None:
    memory = Memory(100 * MIB)
    backlog = Backlog[Flow](memory, 1000)
    flows = [Flow() for _ in range(40)]
    for flow in flows:
        for _ in range(FLOW_BYTES // 50_000 + 1):
            backlog.add(flow, bytes(50_000))
            assert memory.used <= ALL_BYTES
    assert memory.used > ALL_BYTES - 50_000 - OVERHEAD
    assert backlog.dropped == sum(flow.dropped for flow in flows) > 0
    assert len(all_of(backlog)) + backlog.dropped == 40 * (FLOW_BYTES // 50_000 + 1)


def test_what_could_not_leave_is_the_next_again() -> None:
    backlog = Backlog[Flow](Memory(MIB), 5)
    one, other = Flow(), Flow()
    for flow, data in ((one, b"1"), (other, b"2"), (one, b"3")):
        backlog.add(flow, data)
    backlog.put_back(*backlog.take())
    assert all_of(backlog) == [(one, b"1"), (other, b"2"), (one, b"3")]


def test_what_is_forgotten_and_what_the_process_has_no_room_for_is_dropped() -> None:
    memory = Memory(1000)
    backlog = Backlog[Flow](memory, 5)
    one, other = Flow(), Flow()
    backlog.add(one, b"1")
    backlog.add(other, b"2")
    backlog.forget(one)
    assert all_of(backlog) == [(other, b"2")]
    backlog.add(other, bytes(1000))
    memory.reclaim()
    assert not backlog
    assert (one.dropped, other.dropped, memory.used) == (1, 1, 0)
