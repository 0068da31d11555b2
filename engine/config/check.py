"""Checking values that have been read: what is wrong with several of them together, or with the files they name."""

from __future__ import annotations

from collections.abc import Sequence

from engine.config.address import split_address
from engine.errors import ConfigError


class Defect(ConfigError):
    """What is wrong with the value of one key, relative to the section that found it."""

    def __init__(self, key: str, value: str, problem: str) -> None:
        super().__init__(f"{key}: {quoted(value)}: {problem}" if value else f"{key}: {problem}")
        self.key = key
        self.value = value
        self.problem = problem


def quoted(text: str) -> str:
    """A value as a message repeats it: on one line, and cut where it is long."""
    return repr(text if len(text) <= 80 else f"{text[:79]}…")


def check_distinct(items: str, key: str, values: Sequence[str]) -> None:
    """Raise `Defect` if two `items` of a list have the same value, which is that of `key`."""
    for index, value in enumerate(values):
        if (first := values.index(value)) < index:
            raise Defect(f"{items}[{index}].{key}", value, f"is the same as {items}[{first}]; expected each once")


def check_no_clash(listens: Sequence[tuple[str, str]], defaults: Sequence[tuple[str, str]]) -> None:
    """Raise `Defect` if the same port of the same address is named twice. Both are keys with an address each.

    Found here, because a second attempt to listen would not say who was first. The defaults are looked at first:
    what somebody changed is what is wrong.
    """
    taken: list[tuple[str, str, int]] = []
    for key, address in sorted(listens, key=lambda item: item not in defaults):
        host, port = split_address(address)
        for other, other_host, other_port in taken:
            if port and port == other_port and (host == other_host or "" in (host, other_host)):
                raise Defect(key, address, f"{other} is the same port; expected another one")
        taken.append((key, host, port))


def read_named_file(key: str, path: str, expected: str, *, most: int = -1) -> bytes:
    """The bytes of the file that `key` names, `most` of them if that is said. Raises `Defect`."""
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError as error:
        raise Defect(key, path, _unread(path, error, expected)) from None


def _unread(path: str, error: OSError, expected: str) -> str:
    hint = ", or --config.expand-env, which puts in what ${…} stands for" if "${" in path else ""
    return f"{error.strerror}; expected {expected}{hint}"


def read_secret_file(key: str, path: str) -> str:
    """The secret in the file that `key` names, which only its owner may read. Raises Defect."""
    from proxy_adapters import Secret as ProxySecret

    try:
        return ProxySecret.from_file(path).read()
    except UnicodeDecodeError:
        raise Defect(key, path, "not UTF-8; expected a file with the secret") from None
    except OSError as error:
        raise Defect(key, path, _unread(path, error, "a file with the secret")) from None
    except ValueError as error:
        raise Defect(key, path, f"{error}") from None
