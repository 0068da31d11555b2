"""The admin port as its clients see it."""
