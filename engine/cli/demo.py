"""`trioduct demo`: all of it on this machine."""

from __future__ import annotations

from functools import partial

import click

from engine.cli.flags import FlagCommand
from engine.cli.launch import run


@click.command(cls=FlagCommand)
@click.option("--once", is_flag=True, help="End after one request: 0 if it was answered, 1 if not.")
def demo(once: bool) -> int:
    """See it work on this machine.

    Starts a node, an agent, a service and a forward proxy on free ports, asks the service through all of them,
    and shows the answer and where its time went.

    \b
      trioduct demo
    """
    from engine.demo import run_demo

    return run(partial(run_demo, once))
