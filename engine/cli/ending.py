"""How a command ends: the exit code, and one line on stderr that says why."""

from __future__ import annotations

import contextlib
import os
import sys

import click

from engine.config import AgentConfig, Draft, ForwardConfig, ServerConfig
from engine.errors import CannotListen, ConfigError, Refused, Unreachable, leaves

RoleDraft = Draft[ServerConfig] | Draft[AgentConfig] | Draft[ForwardConfig]


def complain(text: str, code: int) -> int:
    """Say what is wrong in one line on stderr, as far as it takes one, and return the exit code."""
    with contextlib.suppress(OSError):
        click.echo(f"trioduct: {text}", err=True)
    return code


def drop_output() -> None:
    """Drop what stdout could not write: some versions of Python try again at their end, and fail with a code of their
    own.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


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
        if isinstance(one, CannotListen) and draft:
            return complain(about_address(one, draft), 2)
    return complain("; ".join(dict.fromkeys(map(str, errors))), 1)


def about_address(error: CannotListen, draft: RoleDraft) -> str:
    """The line about an address that could not be listened on, with the key that configured it."""
    # `strerror` of a socket's errno repeats the address; what a failed look-up of a name has is no errno.
    reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror
    problem = f"{reason}; expected a free port on an address of this machine"
    # A role listens on nothing but what `listens` names.
    keys = (key for key, address in draft.config.listens() if address == error.address)
    return draft.complaint(next(keys), error.address, problem)
