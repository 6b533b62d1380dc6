"""What a team would build instead: one file for each, all doing the same work (work.py, work_async.py).

They import nothing of the project and run in environments of their own. Each reads `PEER_BROKER`, `PEER_DATABASE` and
`PEER_PROVIDER`; run as a module with a first and a last number, each hands in those refunds and ends.
"""
