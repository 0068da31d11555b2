"""What the doctor reports: steps as they end, then a verdict. On a terminal, as plain lines, as JSON."""

from __future__ import annotations

import os
import socket
import ssl
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Final, Literal, TextIO

import msgspec
import trio

from engine.log import printable
from proxy_adapters import AuthenticationFailed, TunnelError

TEXT_BYTES: Final = 2000
LETTER_COLUMNS: Final = 79  # where nobody says how wide it is

State = Literal["ok", "note", "failed", "passed over"]
Outcome = Literal["works", "setting", "blocked", "refused"]

EXIT_CODES: Final[dict[Outcome, int]] = {"works": 0, "blocked": 1, "setting": 3, "refused": 4}


class Step(msgspec.Struct):
    """One thing that was tried. `passed over`: it turned out to have no part in this, and is not shown."""

    name: str
    place: str
    state: State = "ok"
    text: str = ""
    seconds: float | None = None


class Failure(msgspec.Struct):
    """What one way to the node, of several, died of."""

    place: str
    leg: str
    status: int | None
    text: str


class Verdict(msgspec.Struct):
    """How it ends.

    `place`, `leg` and `status` say where it is blocked, and what number it answered with, if any; of several ways that
    all failed, the one that somebody can mend, and `failures` has them all, in the order tried. `who` can act, by the
    `advice`. `settings` is one setting that helps, as flags and as lines of a YAML file; `letter` is for
    whoever can open the way, and `curl` the same errand for curl.
    """

    outcome: Outcome
    text: str
    place: str = ""
    leg: str = ""
    status: int | None = None
    who: str = ""
    advice: str = ""
    settings: list[str] = []
    letter: str = ""
    curl: str = ""
    failures: list[Failure] = []

    @property
    def exit_code(self) -> int:
        return EXIT_CODES[self.outcome]

    @property
    def next_step(self) -> str:
        """Who can do what, in one line; empty if nobody has to."""
        title = "Who can act otherwise" if self.settings else "Who can act"
        return f"{title}: {self.who}{f' - {self.advice}' if self.advice else ''}" if self.who else ""

    @property
    def shown_settings(self) -> list[str]:
        """The setting, line by line, with what to do with it."""
        if not self.settings:
            return []
        flags, lines = self.settings
        return [
            "As flags, where no file says otherwise:",
            f"  {flags}",
            "In the YAML file; where connect: is there already, add only the lines below it, and so on inside:",
            *(f"  {line}" for line in lines.splitlines()),
        ]


class Report:
    """Steps on their way to somebody's eyes, one line each."""

    def __init__(self, out: TextIO | None = None) -> None:
        self.steps: list[Step] = []
        self._out = out or sys.stdout

    @contextmanager
    def step(self, name: str, place: str = "") -> Iterator[Step]:
        """A step that lasts as long as the block, and has failed if an exception leaves it."""
        step = Step(name, place)
        since = time.perf_counter()
        try:
            with self.waiting(f"{name} {place}"):
                yield step
        except BaseException as error:
            step.state = "failed"
            step.text = step.text or words(error)
            raise
        finally:
            step.seconds = time.perf_counter() - since
            self.add(step)

    def add(self, step: Step) -> None:
        if step.state != "passed over":
            step.text = printable(step.text, TEXT_BYTES)
            self.steps.append(step)
            self.show(step)

    def add_note(self, name: str, text: str, place: str = "") -> None:
        self.add(Step(name, place, "note", text))

    def waiting(self, what: str) -> AbstractContextManager[object]:
        """What is shown while something is under way."""
        return nullcontext()

    def show(self, step: Step) -> None:
        took = "" if step.seconds is None else f" ({step.seconds * 1000:.0f} ms)"
        self._say(f"{step.state:7}{step.name:18}{f'{step.place}: ' if step.place else ''}{step.text}{took}")

    def conclude(self, verdict: Verdict) -> None:
        """Tell the verdict, which is the end of it."""
        self._say(f"\n{verdict.text}")
        if verdict.settings:
            self._say("\n" + "\n".join(verdict.shown_settings) + "\n")
        if verdict.next_step:
            self._say(verdict.next_step)
        if verdict.letter:
            lines = textwrap.wrap(verdict.letter, LETTER_COLUMNS, break_long_words=False, break_on_hyphens=False)
            self._say("\nFor those who can change it:\n\n" + "\n".join(lines))
        if verdict.curl:
            self._say(f"\nTo compare: {verdict.curl}")

    def _say(self, text: str) -> None:
        print(text, file=self._out, flush=True)


class Terminal(Report):
    """For a person who looks on: what is waited for stands in the last line until it is known."""

    MARKS: Final = {"ok": "[green]✓[/]", "note": "[yellow]•[/]", "failed": "[red]✗[/]"}

    def __init__(self, out: TextIO | None = None) -> None:
        from rich.console import Console
        from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

        super().__init__(out)
        self._console = Console(file=self._out, highlight=False)
        columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
        self._progress = Progress(*columns, console=self._console, transient=True)

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        from rich.markup import escape

        task = self._progress.add_task(escape(what), total=None)
        self._progress.start()
        try:
            yield
        finally:
            self._progress.remove_task(task)
            if not self._progress.tasks:
                self._progress.stop()

    def show(self, step: Step) -> None:
        from rich.markup import escape  # what a proxy says may look like markup
        from rich.table import Table

        took = "" if step.seconds is None else f" [dim]{step.seconds * 1000:.0f} ms[/]"
        place = f"[bold]{escape(step.place)}[/] " if step.place else ""
        line = Table.grid(padding=(0, 1))
        line.add_column()
        line.add_column(width=15)
        line.add_column(overflow="fold")  # a long text goes on below itself
        line.add_row(self.MARKS[step.state], step.name, f"{place}{escape(step.text)}{took}")
        self._console.print(line)

    def conclude(self, verdict: Verdict) -> None:
        from rich.markup import escape

        colour = {"works": "green", "setting": "yellow"}.get(verdict.outcome, "red")
        self._console.print(f"\n[bold {colour}]{escape(verdict.text)}[/]")
        if verdict.settings:
            self._console.print()
            for line in verdict.shown_settings:
                self._console.print(escape(line), soft_wrap=True)
            self._console.print()
        if verdict.next_step:
            self._console.print(escape(verdict.next_step))
        if verdict.letter:  # without a frame, for it is to be copied
            self._console.print(f"\n[bold]For those who can change it:[/]\n\n{escape(verdict.letter)}")
        if verdict.curl:
            self._console.print(f"\n[bold]To compare:[/] {escape(verdict.curl)}", soft_wrap=True)


class Machine(Report):
    """One JSON object at the end, and nothing before."""

    def show(self, step: Step) -> None:
        pass

    def conclude(self, verdict: Verdict) -> None:
        told = {**msgspec.structs.asdict(verdict), "exit_code": verdict.exit_code, "steps": self.steps}
        self._say(msgspec.json.format(msgspec.json.encode(told)).decode())


def words(error: BaseException) -> str:
    """What an exception says to a person."""
    if isinstance(error, trio.Cancelled | trio.TooSlowError):
        return "no answer in time"
    if isinstance(error, BaseExceptionGroup):
        return "; ".join(dict.fromkeys(map(words, error.exceptions)))
    if isinstance(error, AuthenticationFailed):
        return "; ".join(error.attempts) or error.fact
    if isinstance(error, TunnelError):
        return error.fact
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    if isinstance(error, socket.gaierror):
        return error.strerror or str(error)
    if isinstance(error, OSError):
        # trio.open_tcp_stream keeps what each address died of in a group behind its own error.
        group = error.__cause__
        parts = group.exceptions if isinstance(group, BaseExceptionGroup) else [group or error]
        return "; ".join(dict.fromkeys(_of_os(part) for part in parts))
    return str(error) or type(error).__name__


def _of_os(error: BaseException) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number and number > 0 else getattr(error, "strerror", None) or str(error)
