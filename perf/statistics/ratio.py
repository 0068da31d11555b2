"""A against B: the ratio of paired rounds, how sure it is, and a verdict.

Rounds are interleaved, so round i of A and round i of B saw the same weather; what is compared is the
logarithm of their ratio. The interval is a percentile bootstrap of its mean, with the levels *expanded* for
few rounds (T. Hesterberg, "What Teachers Should Know About the Bootstrap", 2015, section 5.4): the plain
percentile interval of five pairs covers 82 %, not 95 %, and would call every tenth comparison of a program
with itself a change.
"""

import math
import statistics
from collections.abc import Sequence
from enum import StrEnum

import msgspec

CONFIDENCE = 0.95
RESAMPLES = 9999


class Verdict(StrEnum):
    BETTER = "better"
    WORSE = "worse"
    UNSURE = "cannot tell"


class Ratio(msgspec.Struct, frozen=True):
    """A / B: the middle of the rounds and the interval that holds the truth 19 times of 20."""

    middle: float
    low: float
    high: float
    rounds: int

    def verdict(self, *, higher_is_better: bool) -> Verdict:
        """Whether A is better than B; unsure as long as the interval contains 1."""
        if not self.low > 1 and not self.high < 1:
            return Verdict.UNSURE
        return Verdict.BETTER if (self.low > 1) == higher_is_better else Verdict.WORSE


def paired_ratio(a: Sequence[float], b: Sequence[float]) -> Ratio | None:
    """The ratio of two series of the same rounds; None if nothing can be said (no rounds, or a zero)."""
    pairs = [(x, y) for x, y in zip(a, b, strict=True) if x > 0 and y > 0]
    if not pairs:
        return None
    logs = [math.log(x / y) for x, y in pairs]
    middle = math.exp(statistics.median(logs))
    if len(pairs) < 3 or max(logs) == min(logs):
        # Too few for an interval that means anything: everything, or the one value that all rounds agree on.
        spread = (0.0, math.inf) if len(pairs) < 3 else (middle, middle)
        return Ratio(middle, *spread, len(pairs))
    # Imported here: 0.4 s that only a comparison pays.
    import numpy
    from scipy import stats

    count = len(logs)
    tail = stats.norm.cdf(-math.sqrt(count / (count - 1)) * stats.t.ppf((1 + CONFIDENCE) / 2, count - 1))
    interval = stats.bootstrap(
        (logs,),
        numpy.mean,
        confidence_level=1 - 2 * tail,
        n_resamples=RESAMPLES,
        method="percentile",
        rng=numpy.random.default_rng(0),  # the same rounds give the same interval
    ).confidence_interval
    return Ratio(middle, math.exp(interval.low), math.exp(interval.high), count)


def spread_percent(values: Sequence[float]) -> float:
    """Half the distance from the lowest to the highest round, in percent of the median."""
    middle = statistics.median(values)
    return 50 * (max(values) - min(values)) / middle if middle else 0.0
