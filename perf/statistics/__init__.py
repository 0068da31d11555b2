"""What many noisy rounds say: histograms of latency, ratios with their interval, verdicts."""
