"""Priorities of processes that stand for different machines but share one processor."""

import os
from contextlib import suppress
from pathlib import Path

ATTACKERS = 19  # they are elsewhere: what they do may cost the node time, but not the processor that it runs on
VICTIM = -15  # so is the victim, with its agent and its service: what it waits for shall be the node


def prioritize(pid: int, niceness: int) -> None:
    """Set the niceness of a process that leads a session of its own, as far as this user may.

    Linux shares the processor equally among sessions (sched(7), autogroup), whatever their processes' niceness, so
    that of the session is set as well.
    """
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, pid, niceness)
        if os.getsid(pid) == (pid or os.getpid()):
            Path(f"/proc/{pid or 'self'}/autogroup").write_text(str(niceness))
