"""What was measured, as data: the content of a result folder. `record.json` holds every round and every
histogram.
"""

import shlex
import statistics
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path

import msgspec

from perf.errors import LabError
from perf.loads.outcome import Outcome
from perf.probes.calls import Calls
from perf.probes.legs import Usage
from perf.probes.machine import Facts
from perf.statistics.ratio import Ratio, paired_ratio, unpaired_ratio

FORMAT = 1
FILE = "record.json"
BY_WRK, BY_US = "requests/s", "requests/s, ours"  # where the two take turns
PERCENTILES = frozenset(("p50 ms", "p90 ms", "p99 ms", "p99.9 ms"))


class Better(StrEnum):
    HIGHER = "higher"
    LOWER = "lower"


class Goal(msgspec.Struct, frozen=True):
    """A bound for the ratio A / B, or for A itself; from which side follows from what is better."""

    bound: float
    absolute: bool = False


class Figure(msgspec.Struct, frozen=True):
    """A number that a row yields in each round. The name carries the unit."""

    name: str
    better: Better = Better.HIGHER
    goal: Goal | None = None


class Sample(msgspec.Struct):
    """One round of one row on one side."""

    figures: dict[str, float]
    outcomes: list[Outcome] = []
    legs: dict[str, Usage] = {}
    tries: int = 1  # of which this is the last: in those before it the generator was late

    def doubts(self) -> list[str]:
        return [doubt for outcome in self.outcomes for doubt in outcome.doubts()]

    @property
    def invalid(self) -> bool:
        """Whether a generator was too late for the latencies to be the target's."""
        return any(outcome.late for outcome in self.outcomes)

    @property
    def latency(self) -> str:
        """The histogram that the percentiles among the figures were read off, or ""."""
        return self.outcomes[-1].latency if self.outcomes and not PERCENTILES.isdisjoint(self.figures) else ""


class Side(msgspec.Struct):
    """One of the things compared: its samples in a row, the commands of its processes, or why it has none: it
    failed, or is nothing that could do this.
    """

    samples: list[Sample] = []
    commands: dict[str, str] = {}
    failure: str = ""
    unsupported: str = ""
    calls: Calls | None = None  # of a round more, under strace

    def values(self, figure: str) -> list[float]:
        return [sample.figures[figure] for sample in self.samples if figure in sample.figures]


class Row(msgspec.Struct):
    """A line of inquiry: what was asked of each side, in the order of the record's sides."""

    name: str
    title: str
    figures: list[Figure]
    sides: list[Side]
    interleaved: bool = True  # round i of each side was measured at the same time

    def ratio(self, figure: str, a_index: int = 0, b_index: int = 1) -> Ratio | None:
        """One side against another, from the rounds that both finished; None if there are none, and for shares, which
        may be nothing or less.
        """
        if max(a_index, b_index) >= len(self.sides) or figure.endswith("%"):
            return None
        a, b = self.sides[a_index], self.sides[b_index]
        if not self.interleaved:
            return unpaired_ratio(a.values(figure), b.values(figure))
        rounds = zip(a.samples, b.samples, strict=False)
        both = [
            (x.figures[figure], y.figures[figure]) for x, y in rounds if figure in x.figures and figure in y.figures
        ]
        return paired_ratio([x for x, _ in both], [y for _, y in both])

    def reached(self, figure: Figure) -> bool | None:
        """Whether the goal is met by the middle of the rounds; None if there is none or it was not
        measured.
        """
        if figure.goal is None:
            return None
        if figure.goal.absolute:
            values = self.sides[0].values(figure.name)
            middle = statistics.median(values) if values else None
        else:
            ratio = self.ratio(figure.name)
            middle = ratio.middle if ratio else None
        if middle is None:
            return None
        return middle >= figure.goal.bound if figure.better == Better.HIGHER else middle <= figure.goal.bound


class Plan(msgspec.Struct, frozen=True):
    rounds: int = 5
    seconds: float = 4.0
    warmup_seconds: float = 1.0
    strace: bool = False  # one round more per row and side, under strace


class Subject(msgspec.Struct, frozen=True):
    """A side by name: what was started, and what it says of itself."""

    name: str
    version: str = ""


class Kind(StrEnum):
    """The command that measured a record. `BASELINE` is the service alone, and the tunnel."""

    RUN = "run"
    COMPARE = "compare"
    PEERS = "peers"
    WAYOUT = "wayout"
    REACH = "reach"
    SCALE = "scale"
    ATTACK = "attack"
    MICRO = "micro"
    GATE = "gate"
    BASELINE = "gate --write"


EACH_AGAINST_FIRST = frozenset((Kind.RUN, Kind.PEERS, Kind.BASELINE))  # also of two


class Record(msgspec.Struct):
    subjects: list[Subject]
    plan: Plan
    facts: Facts
    command: str
    rows: list[Row] = []
    complete: bool = False  # false: it was interrupted
    format: int = FORMAT
    kind: Kind = Kind.COMPARE

    @property
    def pair(self) -> bool:
        """Whether it is about A against B: ratios are A / B, and have intervals, verdicts and goals.

        Otherwise each side is said to be so many times the first.
        """
        return len(self.subjects) == 2 and self.kind not in EACH_AGAINST_FIRST

    def worse_by(self, percent: float, *, by_the_middle: bool = False) -> dict[tuple[str, str], str]:
        """Of two sides, a sentence for each row and figure in which the first is surely worse by more than so much.

        `by_the_middle`: it is surely worse at all, and by more than so much in the middle of the rounds.
        """
        found = {}
        for row in self.rows:
            for figure in row.figures:
                ratio = row.ratio(figure.name)
                higher_is_better = figure.better == Better.HIGHER
                sure = 0 if by_the_middle else percent
                if (
                    ratio is not None
                    and ratio.worse_by(sure, higher_is_better=higher_is_better)
                    and ratio.middle_worse_by(percent, higher_is_better=higher_is_better)
                ):
                    said = f"{ratio.middle:.2f} [{ratio.low:.2f}–{ratio.high:.2f}]"
                    found[row.name, figure.name] = f"{row.name}: {figure.name} is {said} times the other side's"
        return found

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE).write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))


def load_record(folder: Path) -> Record:
    """Raises LabError for what is not a result folder, or one of another version."""
    path = folder / FILE if folder.is_dir() else folder
    try:
        text = path.read_bytes()
        version = msgspec.json.decode(text, type=_Version).format
        if version != FORMAT:
            raise LabError(f"{path} has format {version}, this version reads {FORMAT}: measure again")
        return msgspec.json.decode(text, type=Record)
    except OSError as error:
        raise LabError(f"no result folder at {folder}: {error.strerror}") from error
    except msgspec.MsgspecError as error:
        raise LabError(f"{path} is not a record: {error}") from error


def load_baseline(folder: Path, rows: Iterable[str]) -> Record:
    """What `gate --write` has left in a folder, if it has those rows. Raises LabError for anything else."""
    record = load_record(folder)
    how = "`trioduct-perf gate --write FOLDER` measures a baseline"
    if record.kind != Kind.BASELINE:
        raise LabError(f"{folder} is no baseline, but what `{record.command}` has measured: {how}")
    if not record.complete:
        raise LabError(f"{folder} is a baseline that was interrupted: {how}")
    present = [row.name for row in record.rows]
    if missing := [name for name in rows if name not in present]:
        raise LabError(f"{folder} has no {', '.join(missing)}, only {', '.join(present)}: {how}, or take --load")
    return record


class _Version(msgspec.Struct):
    format: int


def without_goals(figures: Iterable[Figure], *, absolute_too: bool = False) -> list[Figure]:
    """Figures without the goals that are ratios to Piko: for a comparison with something else."""
    return [
        figure
        if figure.goal is not None and figure.goal.absolute and not absolute_too
        else Figure(figure.name, figure.better)
        for figure in figures
    ]


def against_first(record: Record) -> Record:
    """The second side of every row, in each round, as a multiple of the first: what survives a change of machine."""
    rows = []
    for row in record.rows:
        first, second = row.sides
        samples = [
            Sample({name: b.figures[name] / a.figures[name] for name in b.figures if a.figures.get(name)})
            for a, b in zip(first.samples, second.samples, strict=False)
        ]
        rows.append(Row(row.name, row.title, row.figures, [Side(samples)]))
    name = f"{record.subjects[1].name} / {record.subjects[0].name}"
    return Record([Subject(name)], record.plan, record.facts, record.command, rows, record.complete)


def figures_only(record: Record) -> Record:
    """What a table needs of a record, small enough to be kept beside a page, and nothing that names a path of the
    machine: no histograms of latency, legs or commands.
    """
    words = shlex.split(record.command)[1:]
    if "--output" in words:
        at = words.index("--output")
        del words[at : at + 2]
    command = shlex.join(["trioduct-perf", *words])
    rows = [
        msgspec.structs.replace(
            row,
            sides=[
                msgspec.structs.replace(side, samples=[_small(s) for s in side.samples], commands={})
                for side in row.sides
            ],
        )
        for row in record.rows
    ]
    return msgspec.structs.replace(record, command=command, rows=rows)


def _small(sample: Sample) -> Sample:
    doubtful = [outcome for outcome in sample.outcomes if outcome.doubts()]
    outcomes = [msgspec.structs.replace(one, latency="", legs={}, timeline=[]) for one in doubtful]
    return Sample({name: float(f"{value:.6g}") for name, value in sample.figures.items()}, outcomes)


def side_by_side(a: Record, b: Record) -> Record:
    """Two records as one: what the first subject of each did in the rows that both have. Raises LabError."""
    theirs = {row.name: row for row in b.rows}
    rows = [
        Row(
            row.name,
            row.title,
            without_goals(row.figures, absolute_too=True),
            [row.sides[0], theirs[row.name].sides[0]],
            interleaved=False,
        )
        for row in a.rows
        if row.name in theirs
    ]
    if not rows:
        raise LabError("the two results have no row in common")
    subjects = [Subject(f"{letter}: {one.subjects[0].name}") for letter, one in (("A", a), ("B", b))]
    return Record(subjects, a.plan, a.facts, f"{a.command} | {b.command}", rows, complete=a.complete and b.complete)
