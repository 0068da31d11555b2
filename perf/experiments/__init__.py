"""Experiments that decided how something is measured here, kept so that they can be done again."""
