"""The Celery app and its tasks: a few lines each, for the work is in the engine."""
