"""The rules about bytes: what arrives becomes events, what is said becomes bytes; nothing here waits."""
