"""Roles for the tests of carriers."""

from tests.roles import roles

__all__ = ["roles"]
