import asyncio
import threading

import pytest

from api.together import Together


class Slow:
    """Doubles numbers when it is let; remembers what it was asked together."""

    def __init__(self):
        self.seen = []
        self.go_on = threading.Event()

    def __call__(self, numbers):
        self.seen.append(list(numbers))
        assert self.go_on.wait(10)
        return [ValueError(str(each)) if each < 0 else 2 * each for each in numbers]


async def asked(together, work, numbers):
    """The answers to a first one and to all the others, which come while it is under way."""
    tasks = [asyncio.ensure_future(together.ask(each)) for each in numbers]
    await asyncio.sleep(0)
    work.go_on.set()
    return await asyncio.gather(*tasks, return_exceptions=True)


def test_what_comes_meanwhile_goes_together_and_each_gets_its_own_answer():
    work = Slow()
    answers = asyncio.run(asked(Together(work, most=3), work, [1, 2, -3, 4, 5]))

    assert work.seen == [[1], [2, -3, 4], [5]]
    assert [answers[0], answers[1], *answers[3:]] == [2, 4, 8, 10]
    assert isinstance(answers[2], ValueError)


def test_an_error_of_the_work_is_everybody_s_and_the_next_are_carried_out():
    calls = []

    def work(numbers):
        calls.append(list(numbers))
        if 2 in numbers:
            raise ConnectionError
        return numbers

    async def run():
        together = Together(work, most=2)
        return await asyncio.gather(*map(together.ask, range(6)), return_exceptions=True)

    answers = asyncio.run(run())
    assert calls == [[0], [1, 2], [3, 4], [5]]
    assert [isinstance(each, ConnectionError) for each in answers] == [False, True, True, False, False, False]


def test_a_client_that_has_gone_holds_nobody_up():
    work = Slow()

    async def run():
        together = Together(work, most=9)
        first, gone, last = (asyncio.ensure_future(together.ask(each)) for each in (1, 2, 3))
        await asyncio.sleep(0)
        gone.cancel()
        work.go_on.set()
        return await first, await last, await together.ask(4)

    assert asyncio.run(run()) == (2, 6, 8)
    assert work.seen == [[1], [2, 3], [4]]


def test_an_answer_too_few_is_a_fault_and_no_silence():
    async def run():
        return await Together(lambda _: [], most=1).ask(1)

    with pytest.raises(ValueError, match="shorter"):
        asyncio.run(asyncio.wait_for(run(), 5))
