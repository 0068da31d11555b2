"""Logs and access logs: levels, and which header fields are written."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import field

from engine.config.check import Defect
from engine.config.kinds import Level, Switch, Texts
from engine.config.knob import Section


class LogConfig(Section):
    title: ClassVar[str] = "Logs"

    level: Annotated[Level, "Minimum level to log."] = "info"
    subsystems: Annotated[Texts, "Subsystems to log at every level (proxy,upstream)."] = []


class AccessLogHeaders(Section):
    allow_list: Annotated[Texts, "The only headers to log."] = []
    block_list: Annotated[Texts, "Headers not to log."] = []

    def verify(self) -> None:
        if self.allow_list and self.block_list:
            listed = ",".join(self.block_list)
            raise Defect("block_list", listed, "set as well as allow_list; expected one of the two")


class AccessLogConfig(Section):
    title: ClassVar[str] = "Access log"

    level: Annotated[Level, "Level of its lines; responses from 500 on are warnings."] = "info"
    disable: Annotated[Switch, "Disable the access log."] = False
    request_headers: AccessLogHeaders = field(default_factory=AccessLogHeaders)
    response_headers: AccessLogHeaders = field(default_factory=AccessLogHeaders)
