"""Whether a service is well, which its agent finds out."""

from __future__ import annotations

from typing import Annotated, ClassVar

from engine.config.check import Defect
from engine.config.kinds import CountAboveZero, HealthCheck, SecondsAboveZero, Target
from engine.config.knob import Section


class HealthConfig(Section):
    title: ClassVar[str] = "Health of the service"

    check: Annotated[HealthCheck, "Look whether it accepts connections (tcp), or answers 2xx or 3xx (http)."] = "off"
    path: Annotated[Target, "What `http` asks for."] = "/"
    interval: Annotated[SecondsAboveZero, "Time between two checks."] = 10.0
    timeout: Annotated[SecondsAboveZero, "Timeout of a check."] = 5.0
    unhealthy_after: Annotated[CountAboveZero, "Checks in a row that fail until the endpoint is withdrawn."] = 3
    healthy_after: Annotated[CountAboveZero, "Checks in a row that pass until it is offered again."] = 1

    def verify(self) -> None:
        if self.check != "http" and self.path != "/":
            raise Defect("path", self.path, f"check is {self.check}, which asks for nothing; expected check: http")
