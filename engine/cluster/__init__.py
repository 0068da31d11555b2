"""The registry that several nodes share; a node alone keeps its own in memory and needs nothing from here."""
