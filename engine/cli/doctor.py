"""`trioduct doctor`: how an agent gets from here to a node, or what stops it."""

from __future__ import annotations

import sys

import click

from engine.cli.flags import FlagCommand, takes
from engine.cli.launch import checks, read, read_role, run, show
from engine.config import AgentConfig, ExaminationConfig, Invocation, Leaf, ListenerConfig, members
from engine.errors import ConfigError


@takes(AgentConfig, Invocation, without=("server", "log", "grace_period"))
@takes(ExaminationConfig)
@click.command(cls=FlagCommand)
@click.argument("endpoint", required=False, help="Name to register for a moment, as an agent would.")
@click.pass_context
def doctor(ctx: click.Context, endpoint: str | None) -> int:
    """Check whether an agent can connect to a node from here, and if not, what stops it.

    Connects as an agent with the same flags, file and environment would, and reports each step, and what each carrier
    gives: round trip and bytes/s. It ends with a
    verdict and, if something is blocked, a paragraph for those who run the network. While ENDPOINT is registered for
    a moment, a request for it may fail.

    \b
      trioduct doctor --connect.url https://host:8001
      trioduct doctor shop --config.path agent.yaml --measure

    Exit codes: 0 it works · 1 blocked · 2 bad configuration · 3 it works with another setting · 4 the node refuses.
    """
    draft = read_role(ctx, AgentConfig)
    config = draft.finish()
    wanted = read(ctx, ExaminationConfig).finish()
    if checks(ctx):
        return show(draft)
    if endpoint is not None:
        kind = members(ListenerConfig)["endpoint_id"]
        assert isinstance(kind, Leaf)
        try:
            kind.kind.parse(endpoint)
        except ValueError:
            raise ConfigError(f"ENDPOINT: {endpoint!r}: expected {kind.kind.expected}") from None
    elif wanted.patient or wanted.measure:
        flag = "--patient" if wanted.patient else "--measure"
        raise ConfigError(f"{flag}: needs a session; expected ENDPOINT as well")
    from engine.doctor.doctor import run_doctor
    from engine.doctor.report import Machine, Report, Terminal

    report = Machine() if wanted.json else Terminal() if sys.stdout.isatty() else Report()

    async def examine() -> int:
        outcome = await run_doctor(
            config.connect, endpoint or "", report, patient=wanted.patient, measure=wanted.measure
        )
        return outcome.exit_code

    return run(examine)
