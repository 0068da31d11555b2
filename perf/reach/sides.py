"""The two sides of every row, and the programs that they stand for: one for each carrier."""

from collections.abc import Mapping

from perf.contender import Contender, contenders_of
from perf.errors import LabError, Unsupported
from perf.topologies.tunnels.piko import PikoLike

WEBSOCKET, STREAM, POLL = "websocket", "stream", "poll"
CARRIERS = WEBSOCKET, STREAM, POLL
CARRIER = "carrier"  # the side that is the carrier of the row


def reach_sides(program: str) -> list[Contender]:
    """What a record of `reach` compares, by the names above its columns. Raises LabError."""
    (of_program,) = contenders_of((program,))
    return [Contender(name=name, tunnel=of_program.tunnel) for name in (CARRIER, WEBSOCKET)]


def with_carriers(program: str) -> Mapping[str, Contender]:
    """The program with each carrier, and no other. Raises LabError for a program that has none to choose from."""
    (contender,) = contenders_of((program,))
    tunnel = contender.tunnel
    if not isinstance(tunnel, PikoLike) or tunnel.name == "piko":
        raise LabError(f"{program} has one carrier: a Trioduct is needed to choose another")
    return {
        carrier: Contender(
            name=carrier,
            tunnel=PikoLike(tunnel.name, path=tunnel.program(), connect=("--connect.carriers", carrier)),
        )
        for carrier in CARRIERS
    }


def carrier_of(carrier: str, side: Contender) -> str:
    """The carrier that a side of a row about `carrier` has. Unsupported where both would be the same."""
    if side.name == CARRIER:
        return carrier
    if carrier == WEBSOCKET:
        raise Unsupported(f"it is about {WEBSOCKET} itself")
    return WEBSOCKET
