"""Flows of datagrams, at either end of a tunnel."""

from __future__ import annotations

from typing import Annotated, ClassVar

from engine.config.kinds import CountAboveZero, SecondsAboveZero
from engine.config.knob import Section


class UdpConfig(Section):
    title: ClassVar[str] = "Flows of UDP"

    idle: Annotated[SecondsAboveZero, "A client that is silent, and gets nothing, for so long is forgotten."] = 60.0
    max_flows: Annotated[CountAboveZero, "Clients at once; for one more, the one idle for longest is forgotten."] = 1000
    max_queue: Annotated[CountAboveZero, "Datagrams of a client that may wait, each way; the oldest are dropped."] = 128
