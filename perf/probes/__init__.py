"""What is measured on the machine and the processes in the path while a load runs."""
