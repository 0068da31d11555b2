"""Tests of engine.supervisor, with workers that are played by a script."""
