"""`trioduct server status`: what a running node is asked, and how its answer is printed."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import quote

import click
import msgspec

from engine import log
from engine.cli.flags import Command, FlagGroup, takes
from engine.cli.launch import checks, read, show, takes_check
from engine.config import StatusConfig, split_url
from engine.errors import ConfigError, Refused, Unreachable

if TYPE_CHECKING:
    import http.client

T = TypeVar("T")
STATUS_SECONDS = 15  # Piko's


def takes_question(command: Command) -> Command:
    """Give a command the flags of a question."""
    return takes_check(takes(StatusConfig)(command))


@takes_question
@click.group(cls=FlagGroup)
def status() -> None:
    """Query a running node.

    \b
      trioduct server status upstream endpoints --server.url http://host:8002
      trioduct server status cluster nodes -o json
    """


@takes_question
@status.group()
def upstream() -> None:
    """Endpoints and sessions of a node."""


@takes_question
@upstream.command()
@click.pass_context
def endpoints(ctx: click.Context) -> None:
    """The endpoints of a node, with the number of sessions of each.

    \b
      trioduct server status upstream endpoints
    """
    answer = ask(ctx, "/status/upstream/endpoints", dict[str, int])
    reply(ctx, answer, ["endpoint", "sessions"], sorted(answer.items()))


@takes_question
@upstream.command()
@click.pass_context
def sessions(ctx: click.Context) -> None:
    """The sessions of a node: whose they are, from where, and what they ride on.

    \b
      trioduct server status upstream sessions
    """
    answer = ask(ctx, "/status/upstream/sessions", list[SessionState])
    columns = ["endpoint", "principal", "client", "seconds", "carrier", "suspended"]
    reply(ctx, {"sessions": answer}, columns, [msgspec.structs.astuple(one) for one in answer])


@takes_question
@status.group()
def cluster() -> None:
    """The nodes of a cluster."""


@takes_question
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


@takes_question
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


@takes_question
@status.group()
def gossip() -> None:
    """Not supported: there is no gossip in this version."""


@takes_question
@gossip.command("nodes")
def gossip_nodes() -> None:
    """Not supported: there is no gossip in this version."""
    raise Refused("there is no gossip in this version; `trioduct server status cluster nodes` lists the nodes")


@takes_question
@gossip.command("node")
@click.argument("id")
def gossip_node(id: str) -> None:
    """Not supported: there is no gossip in this version."""
    raise Refused("there is no gossip in this version; `trioduct server status cluster node ID` shows a node")


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


class SessionState(msgspec.Struct):
    """One session, as `/status/upstream/sessions` lists it."""

    endpoint: str
    principal: str
    client: str
    seconds: int
    carrier: str
    suspended: bool


def ask(ctx: click.Context, path: str, shape: type[T]) -> T:
    """GET a status route of the node's admin port. Raises ConfigError, Refused or Unreachable."""
    draft = read(ctx, StatusConfig)
    config = draft.finish()
    if checks(ctx):
        ctx.exit(show(draft))
    import http.client

    import trio

    target = split_url(config.server.url)
    host = f"[{target.host}]" if ":" in target.host else target.host
    place = f"{target.scheme}://{host}:{target.port}"
    path = f"{target.path}{path}{'?forward=' + quote(config.forward, safe='') if config.forward else ''}"
    try:
        response, body = trio.run(exchange, config, path)
    except (Unreachable, OSError, http.client.HTTPException, trio.TooSlowError) as error:
        # The flags are our own, not an agent's.
        problem = log.printable(str(error)).replace("--connect.", "--") or f"no answer within {STATUS_SECONDS} s"
        problem = problem.removeprefix(f"{host}:{target.port}: ")
        raise Unreachable(f"{place}: {problem}; --server.url must be a node's admin port") from error
    if response.status == 401:
        raise Refused(f"{place}: 401: it requires a valid token; set TRIODUCT_TOKEN or --token")
    if response.status == 404:
        raise Refused(f"{place}: 404 to {path}: no such node, or not an admin port")
    if response.status != 200:
        raise Refused(f"{place}: status {response.status} to {path}")
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.DecodeError as error:
        raise Unreachable(f"{place}: not the response of an admin port to {path}: {error}") from error


async def exchange(config: StatusConfig, path: str) -> tuple[http.client.HTTPResponse, bytes]:
    """GET `path` of the admin port, by whatever way out the environment names: the answer, and its body.

    Raises ConfigError, Unreachable, OSError, trio.TooSlowError, and http.client's errors for what is no answer.
    """
    import http.client

    import trio

    from engine.loop.dial import Server, dial_server
    from engine.loop.reading import Reader
    from engine.loop.run import open_reactor

    url = config.server.url
    context = config.tls.client_context() if url.startswith(("https", "wss")) else None
    server = Server(url, context, config.tls.server_name or None)
    token = f"Authorization: Bearer {config.token}\r\n" if config.token else ""
    request = f"GET {path} HTTP/1.1\r\nHost: {server.authority}\r\n{token}Connection: close\r\n\r\n"
    said, failed = b"", None
    with trio.fail_after(STATUS_SECONDS):
        async with open_reactor():
            try:
                connection = await dial_server(server)
                try:
                    connection.put(request.encode())
                    reader = Reader(connection)
                    while data := await reader.some():
                        said += data
                finally:
                    connection.abort()
            except (ConfigError, Unreachable, OSError) as error:  # not from here: it would be raised in a group
                failed = error
    if failed is not None and not said:  # whether what was said is whole is told by its length
        raise failed
    response = http.client.HTTPResponse(_Said(said))  # type: ignore[arg-type]
    response.begin()
    return response, response.read()


class _Said:
    """What was said, as http.client reads a socket."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> io.BytesIO:
        return io.BytesIO(self._data)


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
