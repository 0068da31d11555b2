"""Ratios, intervals, verdicts, histograms."""

import random

import pytest

from perf.statistics.histogram import answers_needed, decoded, encoded, histogram_of, merged, percentiles
from perf.statistics.ratio import Verdict, paired_ratio, spread_percent, unpaired_ratio


def noisy(generator: random.Random, rounds: int, middle: float = 1.0) -> list[float]:
    return [middle * generator.lognormvariate(0, 0.1) for _ in range(rounds)]


@pytest.mark.parametrize("ratio", [paired_ratio, unpaired_ratio])
def test_a_program_against_itself_is_called_different_in_about_one_of_a_hundred(ratio: object) -> None:
    generator = random.Random(7)
    assert callable(ratio)
    results = [ratio(noisy(generator, 5), noisy(generator, 5)) for _ in range(200)]
    unsure = [result.verdict(higher_is_better=True) == Verdict.UNSURE for result in results]
    assert sum(unsure) >= 193  # 198 expected, less three standard deviations and a half


def test_a_difference_larger_than_the_noise_is_found_and_named_by_what_is_better() -> None:
    generator = random.Random(8)
    result = paired_ratio(noisy(generator, 5, 2.0), noisy(generator, 5))
    assert result is not None
    assert result.low > 1.5
    assert result.verdict(higher_is_better=True) == Verdict.BETTER
    assert result.verdict(higher_is_better=False) == Verdict.WORSE
    assert result.worse_by(20, higher_is_better=False)
    assert not result.worse_by(20, higher_is_better=True)


def test_a_drift_that_both_sides_share_does_not_widen_the_paired_interval() -> None:
    drift = [1.0, 2.0, 4.0, 8.0, 16.0]
    paired, unpaired = paired_ratio(drift, [x * 2 for x in drift]), unpaired_ratio(drift, [x * 2 for x in drift])
    assert paired is not None
    assert unpaired is not None
    assert (paired.low, paired.high) == pytest.approx((0.5, 0.5))
    assert unpaired.low < 0.2
    assert unpaired.high > 1


def test_the_interval_holds_the_middle_also_where_an_outlier_draws_the_mean_away() -> None:
    result = paired_ratio([1.0, 1.0, 1.0, 1.0, 0.001], [1.0] * 5)
    assert result is not None
    assert result.low <= result.middle <= result.high


def test_two_rounds_exclude_nothing() -> None:
    result = paired_ratio([10.0, 10.0], [1.0, 1.0])
    assert result is not None
    assert result.verdict(higher_is_better=True) == Verdict.UNSURE


def test_nothing_is_said_of_no_rounds_and_of_zeros() -> None:
    assert paired_ratio([], []) is None
    assert paired_ratio([0.0, 0.0], [1.0, 1.0]) is None


def test_the_spread_is_half_the_range_in_percent_of_the_median() -> None:
    assert spread_percent([90.0, 100.0, 130.0]) == pytest.approx(20)


def test_percentiles_of_two_processes_come_from_their_merged_histogram() -> None:
    fast, slow = encoded(histogram_of({100: 990})), encoded(histogram_of({50_000: 10}))
    found = percentiles(merged([fast, slow]))
    assert found.count == 1000
    assert found.p50 == pytest.approx(0.1, rel=0.01)
    assert found.p999 == pytest.approx(50, rel=0.01)
    assert found.maximum == pytest.approx(50, rel=0.01)


@pytest.mark.parametrize(("percent", "needed"), [(50, 2), (90, 10), (99, 100), (99.9, 1000)])
def test_a_percentile_needs_an_answer_that_lies_beyond_it(percent: float, needed: int) -> None:
    assert answers_needed(percent) == needed
    found = histogram_of({100: needed - 1, 50_000: 1})
    assert found.get_value_at_percentile(percent) == pytest.approx(100, rel=0.01)


def test_a_histogram_survives_its_text_and_bounds_what_is_out_of_range() -> None:
    found = percentiles(decoded(encoded(histogram_of({0: 1, 10**12: 1}))))
    assert found.count == 2
    assert found.maximum == pytest.approx(600_000, rel=0.01)
