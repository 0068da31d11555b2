"""The installed command as users run it: under load, through faults and restarts, and fed with rubbish."""
