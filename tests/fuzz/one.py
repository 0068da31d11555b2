"""`python -m tests.fuzz.one TARGET …` runs one target under libFuzzer, whose options and folders follow.

libFuzzer ends the process: with 0 after its last run, else with what it has kept of the input that raised.
"""

from __future__ import annotations

import sys

import atheris


def main() -> None:
    name, *options = sys.argv[1:]
    with atheris.instrument_imports(include=["engine", "proxy_adapters"]):
        from tests.fuzz.targets import target

        run = target(name)
    atheris.Setup([name, *options], run)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
