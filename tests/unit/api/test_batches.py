import tracemalloc

import pytest

from api.refunds import MOST_JOBS, _jobs
from domain.errors import InvalidJob


@pytest.mark.parametrize("lines", [False, True])
def test_jobs_come_as_they_were_sent(lines):
    body = b'{"a": 1}\n\n  \r\n{"b":[2]}\r\n' if lines else b' [ {"a": 1} , {"b":[2]} ] '

    assert _jobs(body, lines=lines) == [b'{"a": 1}', b'{"b":[2]}']


@pytest.mark.parametrize("lines", [False, True])
def test_the_most_is_taken(lines):
    assert len(_jobs(batch(MOST_JOBS, lines=lines), lines=lines)) == MOST_JOBS


@pytest.mark.parametrize("lines", [False, True])
def test_a_batch_of_millions_costs_no_memory(lines):
    body = batch(5_000_000, lines=lines)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidJob, match="1 to 10000 jobs"):
            _jobs(body, lines=lines)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert peak < 3_000_000


def batch(count: int, *, lines: bool) -> bytes:
    return b"1\n" * count if lines else b"[" + b"1," * (count - 1) + b"1]"
