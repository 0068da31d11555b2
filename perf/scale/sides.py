"""The two sides of every row, and the programs that stand behind them."""

from collections.abc import Mapping

from perf.contender import Contender, contenders_of
from perf.errors import LabError
from perf.scale.two_nodes import TwoNodes
from perf.topologies.tunnels.piko import PikoLike

SCALED, PLAIN = "scaled", "plain"

Sides = Mapping[str, Contender]


def scale_sides(program: str) -> list[Contender]:
    """What a record of `scale` compares, by the names above its columns. Raises LabError."""
    tunnel = _program(program)
    return [Contender(name=name, tunnel=tunnel) for name in (SCALED, PLAIN)]


def over_a_peer(program: str) -> Sides:
    """A cluster that is asked at the node that has no agent, and one that is asked at the other."""
    tunnel = _program(program)
    return {
        name: Contender(name=name, tunnel=TwoNodes(tunnel, by_peer=by_peer))
        for name, by_peer in ((SCALED, True), (PLAIN, False))
    }


def with_words(program: str, scaled: tuple[str, ...], plain: tuple[str, ...]) -> Sides:
    """A node that is started with some words, and one with others."""
    tunnel = _program(program)
    return {
        name: Contender(name=name, tunnel=PikoLike(tunnel.name, path=tunnel.program(), server=words))
        for name, words in ((SCALED, scaled), (PLAIN, plain))
    }


def _program(name: str) -> PikoLike:
    """Raises LabError for a program that has neither a cluster nor workers."""
    (contender,) = contenders_of((name,))
    if not isinstance(contender.tunnel, PikoLike) or contender.tunnel.name == "piko":
        raise LabError(f"{name} has neither peers nor workers as Trioduct has them: name one of its versions")
    return contender.tunnel
