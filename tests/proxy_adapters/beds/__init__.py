"""Real proxies, each on free ports of 127.0.0.1 with a folder of its own, for the length of the test run."""
