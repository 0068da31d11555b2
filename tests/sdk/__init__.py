"""Services and clients in Python programs, through a real node."""
