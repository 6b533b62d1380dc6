"""The queue worker: a Celery prefork pool, and beside it a companion that reads streams and keeps the clock."""
