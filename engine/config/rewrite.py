"""What an agent changes in requests on their way to a service, and in its answers."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import field

from engine.config.check import Defect
from engine.config.kinds import FieldNames, Headers, HostAndPort, PathPrefix, split_header
from engine.config.knob import Section


class HeaderRules(Section):
    set: Annotated[Headers, "Headers that it has instead of those of the same name."] = []
    add: Annotated[Headers, "Headers that it has besides."] = []
    remove: Annotated[FieldNames, "Headers that are taken out."] = []

    def verify(self) -> None:
        for key, names in (
            ("set", [split_header(line)[0] for line in self.set]),
            ("add", [split_header(line)[0] for line in self.add]),
            ("remove", self.remove),
        ):
            for name in names:
                if why := _why_not(name.lower().encode()):
                    raise Defect(key, name, why)

    @property
    def dropped(self) -> frozenset[bytes]:
        """The names, in lower case, whose fields do not go on."""
        return frozenset(name.lower().encode() for name in (*self.remove, *(split_header(one)[0] for one in self.set)))

    @property
    def lines(self) -> list[bytes]:
        """What is added behind that."""
        return [": ".join(split_header(line)).encode("latin-1") for line in (*self.set, *self.add)]


def _why_not(name: bytes) -> str:
    from engine.wire import piko
    from engine.wire.http1.hop import HOP_BY_HOP

    if name == b"host":
        return "expected rewrite.host instead"
    if name in HOP_BY_HOP or name in (b"content-length", b"trailer", b"expect"):
        return "it says where a message ends, or is about one connection only; expected other headers"
    if name.startswith(piko.PREFIX):
        return "it is between node and agent; expected other headers"
    return ""


class RewriteConfig(Section):
    title: ClassVar[str] = "Rewriting"

    host: Annotated[HostAndPort, "Host that the service is asked for, instead of the client's."] = ""
    strip_prefix: Annotated[PathPrefix, "Beginning of paths that the service does not see, such as /shop."] = ""
    request_headers: HeaderRules = field(default_factory=HeaderRules)
    response_headers: HeaderRules = field(default_factory=HeaderRules)
