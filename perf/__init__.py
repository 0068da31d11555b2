"""Load tests from a user's point of view: measured, compared, drawn."""
