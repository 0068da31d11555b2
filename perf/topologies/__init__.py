"""What stands between a load and a service: shapes in words, and the processes that make them real."""
