"""Measured claims: each file measures one thing against the bar that the architecture sets for it."""
