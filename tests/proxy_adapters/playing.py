"""Plays a script without I/O: what the proxy says is given, what we say is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from proxy_adapters.handshake import Hear, Leg, Player, Redial, Say, Script, Work

T = TypeVar("T")


@dataclass
class Played:
    """What came of it: `said` per Say, `connections` used, `leftover` behind the handshake."""

    said: list[bytes] = field(default_factory=list)
    legs: list[str] = field(default_factory=list)
    redials: list[int] = field(default_factory=list)
    leftover: bytes = b""
    result: Any = None


def play(script: Script[T], answers: Sequence[bytes], *, played: Played | None = None) -> Played:
    """Feed `answers` one by one, each when the script listens; behind the last one the stream ends."""
    played = played or Played()
    player = Player(script)
    waiting = list(answers)
    while (step := player.step) is not None:
        match step:
            case Say():
                played.said.append(step.data)
                player.advance()
            case Leg():
                played.legs.append(step.name)
                player.advance()
            case Redial():
                played.redials.append(len(played.said))
                player.redialled()
            case Hear():
                player.receive(waiting.pop(0) if waiting else b"")
            case Work():
                try:
                    result = step.function()
                except Exception as error:
                    player.fail(error)
                else:
                    player.advance(result)
    assert not waiting, f"never heard: {waiting}"
    played.leftover, played.result = player.leftover, player.result
    return played


def single_bytes(data: bytes) -> list[bytes]:
    return [data[index : index + 1] for index in range(len(data))]
