"""What stands between a duplex and its user, and changes nothing."""

from __future__ import annotations

from engine.tunnel.over import Over
from engine.tunnel.relay import Relay
from tests.loop.ends import End, Turns


class Bed:
    """Two ends in memory that are relayed, of which the right has something in front."""

    def __init__(self) -> None:
        turns = Turns()
        self.left, self.right = End(turns), End(turns)
        self.between = Over(self.right)
        self.over: list[Exception | None] = []
        self.relay = Relay(self.left, self.between, self.over.append)


async def test_what_is_said_goes_through_both_ways() -> None:
    bed = Bed()
    bed.left.hear(b"to the right")
    bed.right.hear(b"to the left")
    assert (bed.left.said, bed.right.said) == (b"to the left", b"to the right")
    assert bed.between.account is bed.right.account


async def test_who_is_full_holds_the_other_back_until_there_is_room() -> None:
    bed = Bed()
    bed.right.full = True
    bed.left.hear(b"much")
    assert bed.left.paused
    assert bed.between.backlog == len(b"much")
    bed.right.drain()
    assert not bed.left.paused


async def test_ends_go_through_one_way_after_the_other() -> None:
    bed = Bed()
    bed.left.hear_end()
    assert bed.right.ended
    assert not bed.over
    bed.right.hear_end()
    assert bed.left.ended
    assert bed.over == [None]


async def test_a_loss_goes_through() -> None:
    bed = Bed()
    error = ConnectionResetError("cut")
    bed.right.receiver.lost(error)
    assert bed.left.aborted
    assert bed.over == [error]
