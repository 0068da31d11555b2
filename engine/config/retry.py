"""Which requests a node sends once more, after an agent or its service has failed."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import field

from engine.config.kinds import Attempts, Fraction, Methods, RetryCauses
from engine.config.knob import Section


class RetryConfig(Section):
    title: ClassVar[str] = "Retries of requests"

    attempts: Annotated[Attempts, "How often a request is sent at most, the first time included; 1: no retries."] = 2
    causes: Annotated[RetryCauses, "Why: lost (before an answer), timeout, or an answer of status 502, 503 or 504."] = (
        field(default_factory=lambda: ["lost"])
    )
    methods: Annotated[Methods, "Which: those of which a second time does no harm, unless others may."] = field(
        default_factory=lambda: ["GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE"]
    )
    budget: Annotated[Fraction, "Retries of an endpoint, as a fraction of its requests within some seconds."] = 1.0
