"""How a command ends: the exit code, and one line on stderr that says why."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from engine.config import AgentConfig, Draft, ForwardConfig, ServerConfig
from engine.errors import ConfigError, Refused, Unreachable

RoleDraft = Draft[ServerConfig] | Draft[AgentConfig] | Draft[ForwardConfig]


def complain(text: str, code: int) -> int:
    click.echo(f"trioduct: {text}", err=True)
    return code


def verdict(error: BaseException, draft: RoleDraft | None = None) -> int:
    """Say in one line why it ended, and return the exit code. Raises what is a defect of ours."""
    errors = list(leaves(error))
    if any(isinstance(one, KeyboardInterrupt) for one in errors):
        return 130
    if not all(isinstance(one, ConfigError | Refused | Unreachable | OSError) for one in errors):
        raise error
    for one in errors:
        if isinstance(one, ConfigError):
            return complain(str(one), 2)
        if isinstance(one, OSError) and draft and (line := about_address(one, draft)):
            return complain(line, 2)
    return complain("; ".join(dict.fromkeys(map(str, errors))), 1)


def leaves(error: BaseException) -> Iterator[BaseException]:
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from leaves(inner)
    else:
        yield error


def about_address(error: OSError, draft: RoleDraft) -> str:
    """The line about the address that could not be listened on, if that is what the error is about.

    The error does not know whose address it is, so each is tried again: the one that fails alike is it.
    """
    from engine.transport.listen import open_listeners

    for key, address in draft.config.listens().items():
        try:
            for listener in open_listeners(address):
                listener.close()
        except OSError as again:
            if str(again) == str(error):
                reason = os.strerror(again.errno) if again.errno and again.errno > 0 else again.strerror
                return draft.complaint(key, address, f"{reason}; expected a free port on an address of this machine")
    return ""
