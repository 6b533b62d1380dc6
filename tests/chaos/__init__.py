"""The whole system under fire: real servers and processes, killed, frozen and cut off while refunds run.

`python -m tests.chaos` starts PostgreSQL (or SQLite), Redis, workers, two beats and the sandbox, sends refunds by three
ways in while faults drawn from a seed strike, then stops the faults, waits, and lets the sandbox's own money ledger
judge. The seed fixes what is submitted, which faults come in which order and their parameters; when exactly a real
process is hit is not in anybody's hands, so a seed repeats the run's plan and not each of its interleavings.
"""
