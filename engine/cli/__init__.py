"""The command `trioduct`: argv, environment and file become a configuration, which starts one role.

    root       the command itself, and `main`
    server, agent, forward   the commands that run a role, with `config check` below each
    status     `server status …`: what a running node is asked
    init, token, doctor, demo, completion   the commands beside the tunnel
    launch     from a command line to a running role
    ending     exit codes, and the one line that says why a command ended
    flags      knobs as flags, and the help that lists them

Exit codes: 0 done · 1 it failed, and one line says why · 2 what was asked for cannot work (command line,
configuration, a port in use), and one line says where and what would · 130 Ctrl-C. A traceback is a defect of ours.

Whatever takes long to import is imported where it is used, for `trioduct --help` is to answer at once.
"""

from engine.cli.root import main

__all__ = ["main"]
