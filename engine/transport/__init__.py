"""What waits: one wire object, one stream, and the tasks that pump bytes between the two."""
