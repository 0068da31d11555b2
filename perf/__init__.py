"""The load lab: what a user sees from outside, measured, compared and drawn."""
