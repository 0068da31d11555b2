"""The load lab, on itself."""
