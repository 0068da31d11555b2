"""`trioduct forward`: local ports that lead to TCP endpoints."""

from __future__ import annotations

from functools import partial

import click

from engine.cli.flags import FlagGroup, takes
from engine.cli.launch import add_config_check, expect_some, launch, read_role
from engine.config import ForwardConfig, Invocation, PortConfig


@takes(ForwardConfig, Invocation)
@click.group(cls=FlagGroup)
def forward() -> None:
    """Open local ports that lead to TCP endpoints.

    Each connection to one of them is forwarded through the node to a service that an agent offers (`agent tcp`).

    \b
      trioduct forward tcp 15432 database --connect.url http://host:8000
      trioduct forward start --config.path forward.yaml
    """


@takes(ForwardConfig, Invocation)
@forward.command("tcp")
@click.argument("addr", help="Where to listen: a port of localhost, or host:port.")
@click.argument("endpoint", help="Name of a TCP endpoint.")
@click.pass_context
def forward_tcp(ctx: click.Context, addr: str, endpoint: str) -> int:
    """Open one port.

    \b
      trioduct forward tcp 15432 database --connect.url http://host:8000
      trioduct forward tcp 0.0.0.0:15432 database
    """
    draft = read_role(ctx, ForwardConfig)
    draft.take_item("ports", PortConfig(), {"addr": ("ADDR", addr), "endpoint_id": ("ENDPOINT", endpoint)})
    return launch(ctx, draft)


@takes(ForwardConfig, Invocation)
@forward.command("start")
@click.pass_context
def start_forward(ctx: click.Context) -> int:
    """Open all ports of the configuration file.

    \b
      trioduct forward start --config.path forward.yaml
    """
    draft = read_role(ctx, ForwardConfig)
    expect_some("ports", draft)
    return launch(ctx, draft)


add_config_check(forward, ForwardConfig, complete=partial(expect_some, "ports"))
