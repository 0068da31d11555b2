"""Logs and access logs: levels, and which header fields are written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from msgspec import field

from engine.config.check import Defect
from engine.config.kinds import Level, Switch, Texts
from engine.config.knob import Section

if TYPE_CHECKING:
    from engine.access_log import AccessLog


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

    def open(self, subsystem: str) -> AccessLog | None:
        """The access log of a port or listener; None if it has none."""
        from engine.access_log import AccessLog, header_filter

        if self.disable:
            return None
        request, response = self.request_headers, self.response_headers
        return AccessLog(
            subsystem,
            level=self.level,
            request_headers=header_filter(tuple(request.allow_list), tuple(request.block_list)),
            response_headers=header_filter(tuple(response.allow_list), tuple(response.block_list)),
        )
