"""The declaration of the knobs, and how a configuration is read, checked and shown."""
