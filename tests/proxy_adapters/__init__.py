"""The ways out: scripts fed by hand, drivers against fakes, and beds with real proxies."""
