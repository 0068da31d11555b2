"""Statistics of noisy rounds: latency histograms, ratios with intervals, verdicts."""
