"""What a load did: counted while it runs (`Watch`), told when it is over (`Outcome`)."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import msgspec

from perf.statistics import histogram

SLICE_SECONDS = 0.1  # of the timeline
PROGRESS_SECONDS = 0.5
LAG_BOUND_SECONDS = 0.001
EXHAUSTED_SHARE = 0.9  # of a core: a generator that needs more is what is being measured


class Outcome(msgspec.Struct):
    """Everything a generator counted between the end of its warm-up and its end. Histograms are in
    microseconds.
    """

    seconds: float
    answers: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    errors: dict[str, int] = {}
    reconnects: int = 0  # connections that were opened in place of closed ones, by a load that counts them
    latency: str = ""  # HdrHistogram, encoded
    lag: str = ""  # how late the generator itself was, against its schedule
    legs: dict[str, str] = {}  # histograms by leg of a new connection: tcp, proxy, tls, first byte, body
    timeline: list[int] = []  # answers per slice of SLICE_SECONDS
    generator_cpu_seconds: float = 0.0
    notes: list[str] = []
    asked_per_second: float = 0.0  # by an open loop; 0 is as fast as answers come
    generators: int = 1  # processes or threads
    others_cpu_seconds: float = 0.0  # of the machine, for nobody in the path
    lag_allowed_ms: float = LAG_BOUND_SECONDS * 1000  # at p99

    def percentiles(self) -> histogram.Percentiles | None:
        return histogram.percentiles(histogram.decoded(self.latency)) if self.latency else None

    def lag_percentiles(self) -> histogram.Percentiles | None:
        return histogram.percentiles(histogram.decoded(self.lag)) if self.lag else None

    @property
    def finished(self) -> bool:
        """Whether anything came of it at all."""
        return bool(self.answers or self.bytes_down or self.bytes_up)

    @property
    def late(self) -> bool:
        """Whether the generator was too late, against its own schedule, for the latencies to be the target's."""
        lag = self.lag_percentiles()
        return lag is not None and lag.p99 > self.lag_allowed_ms

    @property
    def exhausted(self) -> bool:
        """Whether the generators had no time left, so that the target could have done more."""
        return self.generator_cpu_seconds > EXHAUSTED_SHARE * self.seconds * self.generators

    def doubts(self) -> list[str]:
        """Why this outcome should not be believed; empty is well."""
        doubts = list(self.notes)
        lag = self.lag_percentiles()
        if lag is not None and self.late:
            doubts.append(f"invalid, the generator itself was late: p99 {lag.p99:.2f} ms")
        if self.exhausted:
            share = 100 * self.generator_cpu_seconds / self.seconds / self.generators
            doubts.append(f"the generator was the limit: it used {share:.0f} % of its core; the target can do more")
        if self.errors:
            doubts.append("errors: " + ", ".join(f"{kind} {n}" for kind, n in sorted(self.errors.items())))
        if not self.finished:
            doubts.append(f"nothing was finished in {self.seconds:.1f} s")
        return doubts


class Progress(msgspec.Struct, frozen=True):
    """What was answered in the last moments: seconds, and counts by latency in microseconds."""

    seconds: float
    recent: dict[int, int]


class Watch:
    """The counters of one generator process. Moments are of the clock `time.monotonic`."""

    def __init__(self, tell: Callable[[str | Progress], None], measure_from: float) -> None:
        self._tell = tell
        self.measure_from = measure_from
        self._clear()

    def _clear(self) -> None:
        self._begun_at = time.monotonic()
        self._begun_cpu = time.process_time()
        self._told_at = self._begun_at
        self._recent: dict[int, int] = defaultdict(int)  # latencies since the last progress was told
        self._latencies: Counter[int] = Counter()  # those before
        self._legs: dict[str, Counter[int]] = defaultdict(Counter)
        self._lags: dict[int, int] = defaultdict(int)
        self._timeline: dict[int, int] = defaultdict(int)
        self.bytes_down = 0
        self.bytes_up = 0
        self.errors: Counter[str] = Counter()
        self.reconnects = 0
        self.notes: list[str] = []

    def begin(self) -> None:
        """The warm-up is over: what was counted so far is forgotten, and the parent reads its probes."""
        self._tell("begin")
        self._clear()

    def answered(self, since: float, now: float, size: int) -> None:
        """An answer of `size` bytes has come to what was asked, or should have been asked, at `since`."""
        self._recent[int((now - since) * 1e6)] += 1
        self._timeline[int((now - self._begun_at) / SLICE_SECONDS)] += 1
        self.bytes_down += size
        if now - self._told_at > PROGRESS_SECONDS:
            self._tell(Progress(now - self._told_at, self._recent))
            self._told_at = now
            self._pour()

    def took(self, leg: str, seconds: float) -> None:
        """A leg of a new connection took so long."""
        self._legs[leg][int(seconds * 1e6)] += 1

    def late(self, seconds: float) -> None:
        self._lags[int(seconds * 1e6)] += 1

    def end(self) -> Outcome:
        seconds = time.monotonic() - self._begun_at
        cpu_seconds = time.process_time() - self._begun_cpu
        self._tell("end")
        self._pour()
        slices = math.ceil(seconds / SLICE_SECONDS)
        return Outcome(
            seconds=seconds,
            answers=sum(self._latencies.values()),
            bytes_down=self.bytes_down,
            bytes_up=self.bytes_up,
            errors=dict(self.errors),
            reconnects=self.reconnects,
            latency=histogram.encoded(histogram.histogram_of(self._latencies)) if self._latencies else "",
            lag=histogram.encoded(histogram.histogram_of(self._lags)) if self._lags else "",
            legs={leg: histogram.encoded(histogram.histogram_of(c)) for leg, c in self._legs.items()},
            timeline=[self._timeline[i] for i in range(slices)],
            generator_cpu_seconds=cpu_seconds,
            notes=self.notes,
        )

    def _pour(self) -> None:
        self._latencies.update(self._recent)
        self._recent = defaultdict(int)


def together(outcomes: Iterable[Outcome]) -> Outcome:
    """What several processes, which ran at the same time, did together."""
    parts = list(outcomes)
    if len(parts) == 1:
        return parts[0]
    errors: Counter[str] = Counter()
    for part in parts:
        errors.update(part.errors)
    slices = max(len(part.timeline) for part in parts)
    return Outcome(
        seconds=max(part.seconds for part in parts),
        answers=sum(part.answers for part in parts),
        bytes_down=sum(part.bytes_down for part in parts),
        bytes_up=sum(part.bytes_up for part in parts),
        errors=dict(errors),
        reconnects=sum(part.reconnects for part in parts),
        latency=_merged(part.latency for part in parts),
        lag=_merged(part.lag for part in parts),
        legs={leg: _merged(part.legs.get(leg, "") for part in parts) for part in parts for leg in part.legs},
        timeline=[sum(part.timeline[i] for part in parts if i < len(part.timeline)) for i in range(slices)],
        generator_cpu_seconds=sum(part.generator_cpu_seconds for part in parts),
        notes=[note for part in parts for note in part.notes],
        asked_per_second=sum(part.asked_per_second for part in parts),
        generators=len(parts),
    )


def _merged(texts: Iterable[str]) -> str:
    present = [text for text in texts if text]
    return histogram.encoded(histogram.merged(present)) if present else ""
