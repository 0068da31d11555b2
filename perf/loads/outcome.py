"""What a load did: counted while it runs (`Watch`), told when it is over (`Outcome`)."""

import math
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable

import msgspec

from perf.statistics import histogram

SLICE_SECONDS = 0.1  # of the timeline
LAG_BOUND_SECONDS = 0.001


class Outcome(msgspec.Struct):
    """Everything a generator counted between the end of its warm-up and its end. Histograms are in
    microseconds.
    """

    seconds: float
    answers: int = 0
    bytes_down: int = 0
    bytes_up: int = 0
    errors: dict[str, int] = {}
    latency: str = ""  # HdrHistogram, encoded
    lag: str = ""  # how late the generator itself was, against its schedule
    timeline: list[int] = []  # answers per slice of SLICE_SECONDS
    generator_cpu_seconds: float = 0.0
    notes: list[str] = []

    def percentiles(self) -> histogram.Percentiles | None:
        return histogram.percentiles(histogram.decoded(self.latency)) if self.latency else None

    def lag_percentiles(self) -> histogram.Percentiles | None:
        return histogram.percentiles(histogram.decoded(self.lag)) if self.lag else None

    def doubts(self) -> list[str]:
        """Why this outcome should not be believed; empty is well."""
        doubts = list(self.notes)
        lag = self.lag_percentiles()
        if lag is not None and lag.p99 > LAG_BOUND_SECONDS * 1000:
            doubts.append(f"the generator was late: p99 {lag.p99:.2f} ms")
        if self.errors:
            doubts.append("errors: " + ", ".join(f"{kind} {n}" for kind, n in sorted(self.errors.items())))
        if not (self.answers or self.bytes_down or self.bytes_up):
            doubts.append("nothing was finished")
        return doubts


class Watch:
    """The counters of one generator process. Moments are of the clock `time.monotonic`."""

    def __init__(self, tell: Callable[[str], None], measure_from: float) -> None:
        self._tell = tell
        self.measure_from = measure_from
        self._clear()

    def _clear(self) -> None:
        self._begun_at = time.monotonic()
        self._begun_cpu = time.process_time()
        self._latencies: dict[int, int] = defaultdict(int)
        self._lags: dict[int, int] = defaultdict(int)
        self._timeline: dict[int, int] = defaultdict(int)
        self.bytes_down = 0
        self.bytes_up = 0
        self.errors: Counter[str] = Counter()
        self.notes: list[str] = []

    def begin(self) -> None:
        """The warm-up is over: what was counted so far is forgotten, and the parent reads its probes."""
        self._tell("begin")
        self._clear()

    def answered(self, since: float, now: float, size: int) -> None:
        """An answer of `size` bytes has come to what was asked, or should have been asked, at `since`."""
        self._latencies[int((now - since) * 1e6)] += 1
        self._timeline[int((now - self._begun_at) / SLICE_SECONDS)] += 1
        self.bytes_down += size

    def late(self, seconds: float) -> None:
        self._lags[int(seconds * 1e6)] += 1

    def end(self) -> Outcome:
        seconds = time.monotonic() - self._begun_at
        cpu_seconds = time.process_time() - self._begun_cpu
        self._tell("end")
        slices = math.ceil(seconds / SLICE_SECONDS)
        return Outcome(
            seconds=seconds,
            answers=sum(self._latencies.values()),
            bytes_down=self.bytes_down,
            bytes_up=self.bytes_up,
            errors=dict(self.errors),
            latency=histogram.encoded(histogram.histogram_of(self._latencies)) if self._latencies else "",
            lag=histogram.encoded(histogram.histogram_of(self._lags)) if self._lags else "",
            timeline=[self._timeline[i] for i in range(slices)],
            generator_cpu_seconds=cpu_seconds,
            notes=self.notes,
        )


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
        latency=_merged(part.latency for part in parts),
        lag=_merged(part.lag for part in parts),
        timeline=[sum(part.timeline[i] for part in parts if i < len(part.timeline)) for i in range(slices)],
        generator_cpu_seconds=sum(part.generator_cpu_seconds for part in parts),
        notes=[note for part in parts for note in part.notes],
    )


def _merged(texts: Iterable[str]) -> str:
    present = [text for text in texts if text]
    return histogram.encoded(histogram.merged(present)) if present else ""
