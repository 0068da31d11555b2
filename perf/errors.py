"""Errors that end a command, each one sentence for the user."""


class LabError(Exception):
    """A sentence for the user, naming the value at fault; the command prints it and exits with 2."""


class MissingProgram(LabError):
    """A program that a topology or a load needs is not installed; the sentence says how to name or get it."""


class Unsupported(LabError):
    """A program cannot have this shape by its nature: a blank in the table, not a failure."""


class LoadFailed(LabError):
    """A load could not be applied at all: nobody answered, or its generator died."""
