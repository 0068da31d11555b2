"""What is read off the machine and the processes in the path while a load runs."""
