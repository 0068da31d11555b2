"""The command `trioduct` itself, and where every command ends."""

from __future__ import annotations

from collections.abc import Sequence

import click

from engine import __version__
from engine.cli.agent import agent
from engine.cli.bench import bench
from engine.cli.certs import certs
from engine.cli.completion import completion
from engine.cli.demo import demo
from engine.cli.doctor import doctor
from engine.cli.ending import complain, drop_output
from engine.cli.flags import FlagGroup
from engine.cli.forward import forward
from engine.cli.init import init
from engine.cli.process import forbid_core_files, open_standard_streams, raise_descriptor_limit
from engine.cli.server import server
from engine.cli.token import token
from engine.cli.top import top
from engine.errors import ConfigError, Refused, Unreachable
from engine.wire import mux

BUILD = "pure Python" if mux.__file__.endswith(".py") else "compiled"


@click.group(cls=FlagGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, "-v", "--version", message=f"%(prog)s %(version)s ({BUILD})")
def trioduct() -> None:
    """A reverse tunnel: services behind NAT or a firewall connect out to a public node, and the node forwards
    HTTP, WebSocket and TCP to them through those connections.

    \b
      trioduct server                                                  on a public machine
      trioduct agent http shop 3000 --connect.url http://host:8001     beside the service on port 3000
      curl -H 'x-piko-endpoint: shop' http://host:8000/                from anywhere

    Each flag (--connect.token) is also an environment variable (TRIODUCT_CONNECT_TOKEN), and most are keys of a
    YAML file (connect.token). The file overrides flags, and flags override the environment. Command lines can be
    read by every user of the machine, so keep secrets in the file or in the environment.
    """


for _command in (init, server, agent, forward, top, token, certs, doctor, bench, demo, completion):
    trioduct.add_command(_command)


@trioduct.command("help", hidden=True)
@click.argument("command", nargs=-1, help="A command, such as `agent http`.")
@click.pass_context
def help_(ctx: click.Context, command: tuple[str, ...]) -> int:
    """Show the help of a command, like its --help.

    \b
      trioduct help agent http
    """
    return int(trioduct.main([*command, "--help"], prog_name="trioduct", standalone_mode=False) or 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. What went wrong stands on stderr, on one line."""
    open_standard_streams()
    forbid_core_files()
    raise_descriptor_limit()
    try:
        code = trioduct.main(argv, prog_name="trioduct", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        return 2
    except click.UsageError as error:
        command = error.ctx.command_path if error.ctx else "trioduct"
        return complain(f"{error.format_message().rstrip('.')} ({command} --help)", 2)
    except ConfigError as error:
        return complain(str(error), 2)
    except (Refused, Unreachable) as error:
        return complain(str(error), 1)
    except OSError as error:  # the disk behind stdout is full, say
        drop_output()
        return complain(f"cannot write: {error.strerror or error}", 1)
    except (click.Abort, KeyboardInterrupt):
        return 130
    return code if isinstance(code, int) else 0
