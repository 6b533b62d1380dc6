import celery
import pytest

# 5.7 has options for what tests/support/short_sweep.py does to 5.6.
QUICK_SWEEP = {"unacked_restore_interval": 0.2, "unacked_restore_throttle": 1}


@pytest.fixture(autouse=True)
def _next_celery():
    """Asked for by its path, this folder would run on the pinned version, too."""
    if celery.__version__.startswith("5.6"):
        pytest.skip("needs Celery 5.7 or later: see README.md")


@pytest.fixture
def worker_arguments():
    return ("--pool=prefork", "--concurrency=1")
