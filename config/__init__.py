"""Settings, Celery's options and the log pipeline: read once by the composition root and handed in."""

#: The version of the program, as `pyproject.toml` has it; the image knows no installed distribution.
RELEASE = "0.1.0"
