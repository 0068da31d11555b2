"""Who may use an endpoint: networks, and users with passwords."""

from __future__ import annotations

from typing import Annotated, ClassVar

from engine.config.check import Defect, read_named_file
from engine.config.kinds import FileName, Networks
from engine.config.knob import Section


class VisitorsConfig(Section):
    title: ClassVar[str] = "Visitors"

    allow: Annotated[Networks, "Networks that clients have to come from; none: any."] = []
    deny: Annotated[Networks, "Networks that clients must not come from."] = []
    basic_auth_file: Annotated[FileName, "File with users, as `htpasswd -B` writes it; clients have to be one."] = ""

    def verify(self) -> None:
        self.users()

    def users(self) -> dict[bytes, bytes]:
        """The users of the file, read anew, with their hashes; none if there is no file. Raises Defect."""
        if not self.basic_auth_file:
            return {}
        from engine.auth.visitors import parse_users

        document = read_named_file("basic_auth_file", self.basic_auth_file, "a file that `htpasswd -B` writes")
        try:
            return parse_users(document)
        except ValueError as error:
            raise Defect("basic_auth_file", self.basic_auth_file, str(error)) from None
