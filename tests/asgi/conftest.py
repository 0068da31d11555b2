"""The fixture that starts roles."""

from tests.roles import roles

__all__ = ["roles"]
