"""Tests mirror the source: engine/x/y.py has tests/x/test_y.py, or stands below with the reason why not."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).parents[2]
ROOMS = ("loop", "session", "gateway", "tunnel", "auth", "routing", "wire", "config", "cli", "carriers", "tracing")

ELSEWHERE = {
    "loop/duplex.py": "a contract: each Duplex keeps it in its own tests",
    "carriers/carrier.py": "a contract: each kind keeps it in its own tests",
    "carriers/plain.py": "node/test_peers.py, where it carries the links of nodes",
    "carriers/call.py": "carriers/test_poll.py, test_opening.py and test_through.py, where requests are answered",
    "carriers/posting.py": "carriers/test_ladder.py and test_kinds.py, where both ends are",
    "wire/yamux.py": "words, which wire/test_mux.py checks against the specification",
    "cli/demo.py": "tests/test_demo.py, where all roles are",
    "cli/bench.py": "tests/test_bench.py, where a node is",
}


def modules() -> set[str]:
    return {
        str(path.relative_to(PROJECT / "engine"))
        for room in ROOMS
        for path in (PROJECT / "engine" / room).rglob("*.py")
        if path.name != "__init__.py"
    }


def has_tests(module: str) -> bool:
    path = Path(module)
    return (PROJECT / "tests" / path.with_name(f"test_{path.name}")).exists()


def test_every_module_has_its_tests() -> None:
    without = {module for module in modules() if not has_tests(module)}
    assert without - set(ELSEWHERE) == set()
    assert set(ELSEWHERE) - without == set(), "these have tests of their own, or are gone"
