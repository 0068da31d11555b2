"""A tap does what the duplex behind it does, and shows what passes."""

from __future__ import annotations

from engine.inspector.tap import Tap
from engine.tunnel.relay import Relay
from tests.loop.ends import End, Turns


async def test_a_relay_over_a_tap_carries_the_same_and_shows_it() -> None:
    turns = Turns()
    left, right = End(turns), End(turns)
    shown: list[tuple[str, bytes]] = []
    tap = Tap(
        right, lambda data: shown.append(("sent", bytes(data))), lambda data: shown.append(("heard", bytes(data)))
    )
    over: list[Exception | None] = []
    relay = Relay(left, tap, over.append)
    left.hear(b"to the right")
    right.hear(b"to the left")
    assert (left.said, right.said) == (b"to the left", b"to the right")
    assert shown == [("sent", b"to the right"), ("heard", b"to the left")]
    assert relay.passed == [12, 11]
