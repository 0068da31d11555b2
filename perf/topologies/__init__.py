"""What is between a load and a service: its description, and the processes."""
