"""One side of a comparison: a program, a topology or an existing deployment, and the name above its column."""

from collections.abc import Sequence
from pathlib import Path

import msgspec

from perf.loads.target import Target
from perf.topologies.shape import Route, Service, Shape
from perf.topologies.tunnels import Tunnel, tunnel_named

OF_ANY_INSTALLATION = frozenset(("bin", ".venv", "venv"))  # folders that tell no two programs apart


class Contender(msgspec.Struct, frozen=True, kw_only=True):
    """What a contender changes in the shape that a row asks for; None leaves it to the row.

    With a `target`, nothing is started: the load goes there.
    """

    name: str
    tunnel: Tunnel | None = None
    route: Route | None = None
    proxies: tuple[str, ...] = ()
    secure: bool | None = None
    service_options: tuple[str, ...] = ()
    target: Target | None = None

    def shape(self, asked: Shape) -> Shape:
        route = asked.route if self.route is None else self.route
        if asked.service == Service.RAW and route == Route.TUNNEL:
            route = Route.FORWARD  # TCP reaches a tunnel through a forward only
        return msgspec.structs.replace(
            asked,
            route=route,
            proxies=self.proxies or asked.proxies,
            secure=asked.secure if self.secure is None else self.secure,
            service_options=self.service_options or asked.service_options,
        )

    def version(self) -> str:
        return self.tunnel.version() if self.tunnel is not None else ""


def contenders_of(programs: Sequence[str]) -> list[Contender]:
    """Programs as a user has named them, by short names. Raises LabError for a word that names none."""
    tunnels = [tunnel_named(program) for program in programs]
    return [Contender(name=name, tunnel=tunnel) for name, tunnel in zip(short_names(programs), tunnels, strict=True)]


def short_names(programs: Sequence[str]) -> list[str]:
    """The name of each program without its path, and where another has the same name, the folder of its installation.

    Where these are alike, too, it is the whole path.
    """
    names = [_name(program) for program in programs]
    with_folder = [
        f"{name} ({_folder(program)})" if _has_path(program) and names.count(name) > 1 else name
        for name, program in zip(names, programs, strict=True)
    ]
    return [
        program if name != program and _alike(name, program, with_folder, programs) else name
        for name, program in zip(with_folder, programs, strict=True)
    ]


def _alike(name: str, program: str, names: Sequence[str], programs: Sequence[str]) -> bool:
    return any(one == name and other != program for one, other in zip(names, programs, strict=True))


def _has_path(program: str) -> bool:
    return "/" in program and not program.startswith("git:")


def _name(program: str) -> str:
    return Path(program).name if _has_path(program) else program


def _folder(program: str) -> str:
    folders = Path(program).absolute().parts[:-1]
    return next((folder for folder in reversed(folders) if folder not in OF_ANY_INSTALLATION), folders[-1])
