"""The command line: which words it takes, what it says, and how it ends."""
