"""`trioduct server`: a node."""

from __future__ import annotations

import click

from engine.cli.flags import FlagGroup, takes
from engine.cli.launch import add_config_check, launch, read_role
from engine.cli.status import reload, status
from engine.config import Invocation, ServerConfig


@takes(ServerConfig, Invocation)
@click.group(cls=FlagGroup, invoke_without_command=True)
@click.pass_context
def server(ctx: click.Context) -> int | None:
    """Run a node.

    Clients connect to its proxy port, agents to its upstream port. A client names the endpoint in the header
    x-piko-endpoint, or by the first label of the host name. After SIGTERM, requests in flight finish first.

    \b
      trioduct server
      trioduct server --config.path server.yaml --proxy.bind-addr 127.0.0.1:8000
    """
    return launch(ctx, read_role(ctx, ServerConfig)) if ctx.invoked_subcommand is None else None


add_config_check(server, ServerConfig)
server.add_command(status)
server.add_command(reload)
