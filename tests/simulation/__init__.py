"""The production engine in one process and virtual time, driven by one integer seed."""
