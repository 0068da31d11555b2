"""A word that is in the secrets of tests, and in nothing else: wherever it is found, a secret was written down.

As a plugin of pytest, which tests/conftest.py registers, it looks at the end of a run at what all tests have left: the
files in their temporary folders, the command lines and outputs of the programs that they started (`tests.programs`
keeps them there), and what they wrote themselves to stdout and stderr. Where it finds the word, the run has failed.

A file that only its owner may read may have secrets in it, as it may for users; but for core files.
"""

from __future__ import annotations

import base64
import re
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

CANARY = "c4nary7Q2x"  # letters and digits, which nobody has to quote or escape


def _base64_of(data: bytes) -> Iterator[bytes]:
    """What all texts in base64 have in common that have this in them, by where it begins."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data)
        yield encoded[(8 * before + 5) // 6 : 8 * (before + len(data)) // 6]


def forms_of(word: str) -> list[bytes]:
    """How a word may be written: as it is, as NTLM has it, and both in base64, in hexadecimal and for a URL."""
    forms = []
    for plain in (word.encode(), word.encode("utf-16-le")):
        escaped = "".join(f"%{byte:02x}" for byte in plain)
        hexadecimal = plain.hex()
        forms += [plain, *_base64_of(plain)]
        forms += [text.encode() for written in (escaped, hexadecimal) for text in (written, written.upper())]
    return forms


FORMS = forms_of(CANARY)
_written = re.compile(b"|".join(map(re.escape, FORMS)))


def found_in(data: bytes) -> list[str]:
    """Where the word stands in it: line, and what stands in front of it there."""
    places = []
    if any(form in data for form in FORMS):  # which is faster than the pattern
        for number, line in enumerate(data.splitlines(), 1):
            if match := _written.search(line):
                before = line[max(0, match.start() - 60) : match.start()].decode("ascii", "backslashreplace")
                places.append(f"line {number}, behind {before!r}")
    return places


def found_below(folder: Path) -> Iterator[str]:
    """Where the word stands in what others may read of a folder, and in core files."""
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or not path.is_file():
            continue
        mode = path.stat().st_mode
        if mode & (stat.S_IRWXG | stat.S_IRWXO) or path.name.startswith("core"):
            yield from (f"{path}: {place}" for place in found_in(path.read_bytes()))


# The plugin ---------------------------------------------------------------------------------------------------


class Scan:
    """What has been found in a run, by the process that leads it: pytest-xdist's workers leave all to that one."""

    def __init__(self) -> None:
        self._found: dict[str, None] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        for name, text in report.sections:
            self._found |= dict.fromkeys(f"{report.nodeid}: {name}, {place}" for place in found_in(text.encode()))

    @pytest.hookimpl(tryfirst=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        folders: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        self._found |= dict.fromkeys(found_below(folders.getbasetemp()))  # in which the workers have theirs
        if self._found:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        if self._found:
            terminalreporter.section("secrets that were written down", red=True)
            for place in self._found:
                terminalreporter.line(place)


def watch(config: pytest.Config) -> None:
    """To be called once by a run's pytest_configure."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Scan(), "canary")
