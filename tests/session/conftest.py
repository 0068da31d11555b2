"""Roles for the tests of sessions."""

from tests.roles import roles

__all__ = ["roles"]
