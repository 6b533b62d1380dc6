"""Settings, Celery's options and the log pipeline: read once by the composition root and handed in."""
