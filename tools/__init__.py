"""What maintains the repository: run by make, part of no process."""
