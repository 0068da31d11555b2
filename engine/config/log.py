"""Logs and access logs: levels, and which header fields are written."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import field

from engine.config.check import Defect
from engine.config.kinds import Level, Switch, Texts
from engine.config.knob import Section


class LogConfig(Section):
    title: ClassVar[str] = "Logs"

    level: Annotated[Level, "Lowest level to write."] = "info"
    subsystems: Annotated[Texts, "Subsystems that write everything, whatever the level (proxy,upstream)."] = []


class AccessLogHeaders(Section):
    allow_list: Annotated[Texts, "The only header fields to log."] = []
    block_list: Annotated[Texts, "Header fields not to log."] = []

    def verify(self) -> None:
        if self.allow_list and self.block_list:
            listed = ",".join(self.block_list)
            raise Defect("block_list", listed, "stands beside allow_list; expected one of the two")


class AccessLogConfig(Section):
    title: ClassVar[str] = "Access log"

    level: Annotated[Level, "Level of its lines; answers of 500 and above are warnings."] = "info"
    disable: Annotated[Switch, "Write no access log."] = False
    request_headers: AccessLogHeaders = field(default_factory=AccessLogHeaders)
    response_headers: AccessLogHeaders = field(default_factory=AccessLogHeaders)
