"""The Trio drivers: with duplexes in memory where bytes decide, with sockets where the kernel does."""
