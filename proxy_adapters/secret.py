"""Secrets, by where they come from. They are read anew whenever one is needed, so a rotated password is
picked up without a restart, and they never show in a repr, a log or a traceback's arguments.
"""

from __future__ import annotations

import importlib
import os
import stat
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path

COMMAND_SECONDS = 10


class Hidden(str):
    """Text that does not show itself where the variables of a traceback are shown."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} characters>"


class Secret:
    """A secret that `read()` fetches; `origin` says from where, for errors. Raises ValueError or OSError."""

    __slots__ = ("_read", "blocking", "origin")

    def __init__(self, read: Callable[[], str], origin: str, *, blocking: bool = True) -> None:
        self._read = read
        self.origin = origin
        self.blocking = blocking

    def read(self) -> Hidden:
        return Hidden(self._read())

    def __repr__(self) -> str:
        return f"<Secret from {self.origin}>"

    @classmethod
    def literal(cls, text: str) -> Secret:
        return cls(lambda: text, "the configuration", blocking=False)

    @classmethod
    def from_file(cls, path: str | Path) -> Secret:
        """The file's text without its trailing newline. A file that others may read is refused.

        One in CREDENTIALS_DIRECTORY is not: systemd lets the service read it by an access list, which looks as if a
        group could.
        """

        def read() -> str:
            with open(path, encoding="utf-8") as file:
                mode = os.fstat(file.fileno()).st_mode if os.name == "posix" and not is_credential(path) else 0
                if mode & (stat.S_IRWXG | stat.S_IRWXO) & 0o044:
                    raise ValueError(f"{path} can be read by others than its owner: chmod 600 {path}")
                return file.read().removesuffix("\n").removesuffix("\r")

        return cls(read, f"file {path}")

    @classmethod
    def from_environment(cls, name: str) -> Secret:
        def read() -> str:
            try:
                return os.environ[name]
            except KeyError:
                raise ValueError(f"the environment variable {name} is not set") from None

        return cls(read, f"environment variable {name}", blocking=False)

    @classmethod
    def from_command(cls, argv: Sequence[str]) -> Secret:
        """The first line that the command prints within ten seconds. Its argv must hold no secret itself."""

        def read() -> str:
            try:
                done = subprocess.run(
                    list(argv),
                    stdin=subprocess.DEVNULL,
                    capture_output=True,
                    timeout=COMMAND_SECONDS,
                    check=True,
                )
            except subprocess.CalledProcessError as error:
                raise ValueError(f"{argv[0]} ended with exit code {error.returncode}") from None
            except subprocess.TimeoutExpired:
                raise ValueError(f"{argv[0]} took more than {COMMAND_SECONDS} s") from None
            line = done.stdout.decode("utf-8").split("\n", 1)[0].rstrip("\r")
            if not line:
                raise ValueError(f"{argv[0]} printed nothing")
            return line

        return cls(read, f"command {argv[0]}")

    @classmethod
    def from_keyring(cls, service: str, user: str) -> Secret:
        """The system's keyring, through the `keyring` package, which must be installed."""

        def read() -> str:
            try:
                keyring = importlib.import_module("keyring")
            except ImportError as error:
                raise ValueError("the package `keyring` is not installed: pip install 'trioduct[keyring]'") from error
            password = keyring.get_password(service, user)
            if password is None:
                raise ValueError(f"the keyring has no password of {user!r} for {service!r}")
            return str(password)

        return cls(read, f"keyring {service}")


def is_credential(path: str | Path) -> bool:
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return bool(folder) and Path(path).parent == Path(folder or "")
