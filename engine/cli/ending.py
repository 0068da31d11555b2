"""How a command ends: the exit code, and one line on stderr that says why."""

from __future__ import annotations

import contextlib
import os
import resource
import sys

import click

from engine.config import AgentConfig, Draft, ForwardConfig, ServerConfig
from engine.errors import CannotListen, ConfigError, Refused, Unreachable, leaves

RoleDraft = Draft[ServerConfig] | Draft[AgentConfig] | Draft[ForwardConfig]


def open_standard_streams() -> None:
    """Open /dev/null in place of a standard stream that is closed (`2>&-`).

    A socket that got its descriptor would be sent what is meant for the stream.
    """
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest that is free, which is this
            if getattr(sys, name) is None:
                setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115


def forbid_core_files() -> None:
    """Have the kernel write no core file of this process, in which each of its secrets would stand.

    One byte, because where core files are piped to a program no other limit is looked at (core(5)). The hard limit is
    left as it is: `prlimit --core=unlimited: --pid PID` allows core files again.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (min(hard, 1) if hard != resource.RLIM_INFINITY else 1, hard))


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
