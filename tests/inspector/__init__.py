"""The inspector: what it keeps, how it shows it, and its pages over real sockets and in a real browser."""
