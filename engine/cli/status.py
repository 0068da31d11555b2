"""`trioduct server status`: what a running node is asked, and how its answer is printed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TypeVar
from urllib.parse import quote

import click
import msgspec

from engine import log
from engine.cli.flags import FlagGroup, takes
from engine.cli.launch import read
from engine.config import StatusConfig, split_url
from engine.errors import Refused, Unreachable

T = TypeVar("T")
STATUS_SECONDS = 15  # Piko's


@takes(StatusConfig)
@click.group(cls=FlagGroup)
def status() -> None:
    """Ask a running node what it sees.

    \b
      trioduct server status upstream endpoints --server.url http://host:8002
      trioduct server status cluster nodes -o json
    """


@takes(StatusConfig)
@status.group()
def upstream() -> None:
    """The agents of a node."""


@takes(StatusConfig)
@upstream.command()
@click.pass_context
def endpoints(ctx: click.Context) -> None:
    """The endpoints of a node, with the number of sessions of each.

    \b
      trioduct server status upstream endpoints
    """
    answer = ask(ctx, "/status/upstream/endpoints", dict[str, int])
    reply(ctx, answer, ["endpoint", "sessions"], sorted(answer.items()))


@takes(StatusConfig)
@status.group()
def cluster() -> None:
    """The nodes of a cluster."""


@takes(StatusConfig)
@cluster.command()
@click.option("--status", type=click.Choice(["active", "unreachable", "left"]), help="Only nodes in this state.")
@click.pass_context
def nodes(ctx: click.Context, status: str | None) -> None:
    """The nodes that a node knows, itself included.

    \b
      trioduct server status cluster nodes --status active
    """
    answer = ask(ctx, "/status/cluster/nodes", list[NodeSummary])
    found = sorted((node for node in answer if status in (None, node.status)), key=lambda node: node.id)
    columns = ["node", "status", "proxy", "admin", "endpoints", "upstreams"]
    reply(ctx, {"nodes": found}, columns, [msgspec.structs.astuple(node) for node in found])


@takes(StatusConfig)
@cluster.command()
@click.argument("id", help="Name of the node; `local` is the one that is asked.")
@click.pass_context
def node(ctx: click.Context, id: str) -> None:
    """One node, with its endpoints.

    \b
      trioduct server status cluster node local
    """
    answer = ask(ctx, f"/status/cluster/nodes/{quote(id, safe='')}", NodeState)
    rows = [(name, value) for name, value in msgspec.structs.asdict(answer).items() if name != "endpoints"]
    rows += [(f"endpoint {name}", count) for name, count in sorted((answer.endpoints or {}).items())]
    reply(ctx, answer, ["", ""], rows)


@takes(StatusConfig)
@status.group()
def gossip() -> None:
    """Not used here: nodes do not gossip."""


@takes(StatusConfig)
@gossip.command("nodes")
def gossip_nodes() -> None:
    """Not used here: nodes do not gossip."""
    raise Refused("gossip is not used here; `trioduct server status cluster nodes` lists the nodes")


@takes(StatusConfig)
@gossip.command("node")
@click.argument("id")
def gossip_node(id: str) -> None:
    """Not used here: nodes do not gossip."""
    raise Refused("gossip is not used here; `trioduct server status cluster node ID` shows a node")


class NodeSummary(msgspec.Struct):
    """What a node knows of one node, as `/status/cluster/nodes` lists them."""

    id: str
    status: str
    proxy_addr: str
    admin_addr: str
    endpoints: int
    upstreams: int


class NodeState(msgspec.Struct):
    """All that a node knows of one node: `/status/cluster/nodes/<id>`. Endpoints map to their sessions."""

    id: str
    status: str
    proxy_addr: str
    admin_addr: str
    endpoints: dict[str, int] | None = None  # Go's nil map


def ask(ctx: click.Context, path: str, shape: type[T]) -> T:
    """GET a status route of the node's admin port. Raises ConfigError, Refused or Unreachable."""
    import http.client

    config = read(ctx, StatusConfig).finish()
    target = split_url(config.server.url)
    host = f"[{target.host}]" if ":" in target.host else target.host
    place = f"{target.scheme}://{host}:{target.port}"
    path = f"{target.path}{path}{'?forward=' + quote(config.forward, safe='') if config.forward else ''}"
    connection = http.client.HTTPConnection(target.host, target.port, timeout=STATUS_SECONDS)
    try:
        connection.connect()
        if target.scheme in ("https", "wss"):
            name = config.tls.server_name or target.host
            connection.sock = config.tls.client_context().wrap_socket(connection.sock, server_hostname=name)
        fields = {"Authorization": f"Bearer {config.token}"} if config.token else {}
        connection.request("GET", path, headers=fields)
        response = connection.getresponse()
        body = response.read()
    except (OSError, http.client.HTTPException) as error:
        problem = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or str(error)
        raise Unreachable(f"{place}: {log.printable(problem)}; --server.url must be a node's admin port") from error
    finally:
        connection.close()
    if response.status == 401:
        raise Refused(f"{place}: it wants a token, or another one; TRIODUCT_TOKEN or --token gives it")
    if response.status == 404:
        raise Refused(f"{place}: it knows no such node, or is no admin port: 404 to {path}")
    if response.status != 200:
        raise Refused(f"{place}: status {response.status} to {path}")
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as error:
        raise Unreachable(f"{place}: no answer of an admin port to {path}: {error}") from error


def reply(ctx: click.Context, answer: object, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print an answer: rows for a person at a terminal, data for a program, or what was asked for."""
    form = read(ctx, StatusConfig).finish().output or ("table" if sys.stdout.isatty() else "yaml")
    if form == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(answer)))
    elif form == "yaml":
        import yaml

        click.echo(yaml.safe_dump(msgspec.to_builtins(answer), sort_keys=False), nl=False)
    else:
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(*columns, box=None, show_header=any(columns))
        for row in rows:
            # Agents choose the names of endpoints, and Text keeps rich from reading markup in them.
            table.add_row(*(Text(log.printable(str(value))) for value in row))
        Console().print(table)
