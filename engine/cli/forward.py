"""`trioduct forward`: local ports that lead to TCP and UDP endpoints."""

from __future__ import annotations

import os
from functools import partial

import click

from engine.cli.flags import FLAGS, FlagGroup, takes
from engine.cli.launch import add_config_check, expect_some, launch, read_role
from engine.config import ForwardConfig, Invocation, PortConfig


@takes(ForwardConfig, Invocation)
@click.group(cls=FlagGroup)
def forward() -> None:
    """Open local ports that lead to TCP and UDP endpoints.

    Each connection to one of them, and each datagram, is forwarded through the node to a service that an agent offers
    (`agent tcp`, `agent udp`).

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
    return launch_port(ctx, "tcp", addr, endpoint)


@takes(ForwardConfig, Invocation)
@takes(PortConfig, without=("addr", "endpoint_id", "protocol"))
@forward.command("udp")
@click.argument("addr", help="Where to listen: a port of localhost, or host:port.")
@click.argument("endpoint", help="Name of a UDP endpoint.")
@click.pass_context
def forward_udp(ctx: click.Context, addr: str, endpoint: str) -> int:
    """Open one port of UDP.

    \b
      trioduct forward udp 10053 dns --connect.url http://host:8000
      trioduct forward udp 0.0.0.0:19132 game
    """
    return launch_port(ctx, "udp", addr, endpoint)


def launch_port(ctx: click.Context, protocol: str, addr: str, endpoint: str) -> int:
    draft = read_role(ctx, ForwardConfig)
    arguments = {"addr": ("ADDR", addr), "endpoint_id": ("ENDPOINT", endpoint), "protocol": ("", protocol)}
    draft.take_item("ports", PortConfig(), arguments, ctx.meta.get(FLAGS, {}), os.environ)
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
