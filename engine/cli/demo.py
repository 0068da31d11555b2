"""`trioduct demo`: all of it on this machine."""

from __future__ import annotations

import click

from engine.cli.ending import verdict
from engine.cli.flags import FlagCommand


@click.command(cls=FlagCommand)
@click.option("--once", is_flag=True, help="End after one request: 0 if it was answered, 1 if not.")
def demo(once: bool) -> int:
    """See it work on this machine.

    Starts a node, an agent, a service and a forward proxy on free ports, asks the service through all of them,
    and shows the answer and where its time went.

    \b
      trioduct demo
    """
    import trio

    from engine.demo import run_demo

    try:
        return trio.run(run_demo, once)
    except BaseException as error:
        return verdict(error)
