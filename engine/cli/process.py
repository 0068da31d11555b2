"""What a process asks of the kernel before it runs a command."""

from __future__ import annotations

import contextlib
import os
import resource
import sys


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


def raise_descriptor_limit() -> None:
    """Let this process have as many descriptors as it may (the soft RLIMIT_NOFILE becomes the hard one), as Go does.

    The soft limit is as low as 1024 on most machines for the sake of programs that use select(2).
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # more than this kernel allows
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
