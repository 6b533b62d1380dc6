"""Redis, seen from the core: streams, doorbells, limits. Nothing here is the truth; losing it costs time, not money."""
