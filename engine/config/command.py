"""What a command line says beside the configuration of a role: the file, and the questions of other commands."""

from __future__ import annotations

from typing import Annotated, ClassVar

from msgspec import field

from engine.config.kinds import URL, FileName, Output, Switch, Token, Word
from engine.config.knob import Section
from engine.config.tls import ClientTLS


class FileConfig(Section):
    title: ClassVar[str] = "The file"

    path: Annotated[FileName, "YAML file; what it says wins over flags and environment."] = ""
    expand_env: Annotated[Switch, "Replace ${VAR}, $VAR and ${VAR:default} in it."] = False
    check: Annotated[Switch, "Print the configuration that results, and start nothing."] = False  # ours


class Invocation(Section):
    """What is said beside a role's configuration, and never in the file."""

    config: FileConfig = field(default_factory=FileConfig)


class StatusServerConfig(Section):
    url: Annotated[URL, "Admin port of the node."] = ""


class StatusConfig(Section):
    """Everything about `server status`. All but `server.url` and `forward` is ours."""

    title: ClassVar[str] = "The question"

    server: StatusServerConfig = field(default_factory=lambda: StatusServerConfig(url="http://localhost:8002"))
    forward: Annotated[Word, "Node that the asked one shall pass the question on to."] = ""
    token: Annotated[Token, "Token (JWT) to show, where the admin port asks for one."] = ""
    output: Annotated[Output, "Form of the answer: table (on a terminal), yaml (elsewhere) or json."] = ""
    tls: ClientTLS = field(default_factory=ClientTLS)


class ExaminationConfig(Section):
    """What `doctor` does beside looking at the way. All of it is ours."""

    title: ClassVar[str] = "The examination"

    patient: Annotated[Switch, "Hold a silent session for 90 s, to see whether something cuts it."] = False
    measure: Annotated[Switch, "Measure for 3 s what the way carries."] = False
    json: Annotated[Switch, "Tell it to a program: one JSON object at the end."] = False
